//! The configuration file of `kas-stub serve`: each flag is a key, without its dashes. What it says takes the place of the
//! flags' defaults, so that a flag, or its environment variable, wins over the file.

use std::{fmt, fs, path::Path};

use clap::{Arg, ArgAction, Command};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// A file with every key has a few KiB.
const MAX_BYTES: u64 = 1024 * 1024;
/// How much of another key a wrong one may be, so that it is taken for a slip.
const SIMILAR: f64 = 0.8;
/// Flags that say something about the command line, and one that no server of people's is to have.
const NO_KEYS: [&str; 4] = ["clock-ahead-file", "config", "help", "version"];

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("the file cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the file has {0} bytes, and at most {MAX_BYTES} are read")]
    TooLarge(u64),
    #[error("line {}, column {}: {problem}", place.line(), place.column())]
    At { place: Location, problem: String },
}

/// The command `serve` with the defaults that the file gives it.
///
/// # Errors
/// When the file cannot be read, is no YAML, has a key that is no flag, or a value that its flag does not take.
pub(crate) fn with_defaults_of(path: &Path, serve: Command) -> Result<Command, FileError> {
    let size = fs::metadata(path).map_err(FileError::Read)?.len();
    if size > MAX_BYTES {
        return Err(FileError::TooLarge(size));
    }
    let text = fs::read_to_string(path).map_err(FileError::Read)?;
    with_defaults(&text, serve)
}

fn with_defaults(text: &str, mut serve: Command) -> Result<Command, FileError> {
    for (key, value) in read(text)? {
        let at = |place: Location, problem: String| FileError::At { place, problem };
        let Some(argument) = find(&serve, &key.value) else {
            return Err(at(key.referenced, unknown(&serve, &key.value)));
        };
        let values = texts(&value.value, argument)
            .and_then(|values| check(argument, &values).map(|()| values))
            .map_err(|problem| at(value.referenced, format!("{}: {problem}", key.value)))?;
        let id = argument.get_id().clone();
        serve = serve.mut_arg(id, |argument| {
            argument.required(false).default_values(values)
        });
    }
    Ok(serve)
}

fn find<'a>(serve: &'a Command, key: &str) -> Option<&'a Arg> {
    let mut arguments = serve.get_arguments();
    arguments.find(|argument| argument.get_long() == Some(key) && !NO_KEYS.contains(&key))
}

fn unknown(serve: &Command, key: &str) -> String {
    let keys = serve.get_arguments().filter_map(Arg::get_long);
    let wanted = key.replace('_', "-");
    let nearest = keys
        .filter(|known| !NO_KEYS.contains(known))
        .map(|known| (strsim::jaro_winkler(known, &wanted), known))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((likeness, known)) if likeness >= SIMILAR => {
            format!("there is no key {key}; perhaps {known}")
        }
        Some(_) | None => {
            format!("there is no key {key}; `kas-stub serve --help` lists them, as flags")
        }
    }
}

/// The values as they would be written on a command line.
fn texts(value: &Value, argument: &Arg) -> Result<Vec<String>, String> {
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    match value {
        Value::Array(values) if is_list => values.iter().map(text).collect(),
        Value::Array(_) => Err("a list, where one value is expected".to_owned()),
        value => Ok(vec![text(value)?]),
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(is) => Ok(is.to_string()),
        Value::Number(number) if number.is_f64() => Err(
            "a fraction; if a text is meant, put it in quotes (1.10 would become 1.1)".to_owned(),
        ),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("nothing; leave the key out for its default".to_owned()),
        Value::Array(_) | Value::Object(_) => {
            Err("a list or mapping, where one value is expected".to_owned())
        }
    }
}

/// Asks the flag's own parser.
fn check(argument: &Arg, values: &[String]) -> Result<(), String> {
    let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
    for value in values {
        if is_switch {
            if value.parse::<bool>().is_err() {
                return Err(format!("{value:?}, where true or false is expected"));
            }
            continue;
        }
        let alone = Command::new("file")
            .no_binary_name(true)
            .arg(argument.clone().required(false));
        let flag = format!("--{}={value}", argument.get_long().unwrap_or_default());
        if let Err(error) = alone.try_get_matches_from([flag]) {
            return Err(reason(&error));
        }
    }
    Ok(())
}

/// The part of clap's text that says what is wrong with the value.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// A key and its value, with their places.
type Pair = (Spanned<String>, Spanned<Value>);

/// Keys and values in the order of the file.
fn read(text: &str) -> Result<Vec<Pair>, FileError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // Source lines in an error text could show what should not be shown.
        with_snippet: false,
    };
    let read = serde_saphyr::from_str_with_options::<Option<Entries>>(text, options);
    match read {
        Ok(entries) => Ok(entries.map_or_else(Vec::new, |entries| entries.0)),
        Err(error) => Err(FileError::At {
            place: error.location().unwrap_or(Location::UNKNOWN),
            problem: format!(
                "this is no mapping of keys to values in YAML: {}",
                error.without_snippet()
            ),
        }),
    }
}

struct Entries(Vec<Pair>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mapping;
        impl<'de> Visitor<'de> for Mapping {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of keys to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Mapping)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::config::ServeConfig;

    const EXAMPLE: &str = include_str!("../../config.example.yaml");

    fn serve() -> Command {
        ServeConfig::augment_args(Command::new("serve"))
    }

    fn parsed(text: &str, flags: &[&str]) -> ServeConfig {
        let command = with_defaults(text, serve()).unwrap();
        let flags = ["serve"].iter().chain(flags);
        let matches = command.try_get_matches_from(flags).unwrap();
        ServeConfig::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn keys_are_flags_and_flags_win() {
        let text = "data-dir: /data\nagent-connection-age: 60\nallow-plaintext: true\n\
                    tls-san: [a.example.com, b.example.com]\nworkspaces-domain: ws.example.com\n";
        let config = parsed(text, &["--workspaces-domain=other.example.com"]);
        assert_eq!(config.data_dir.to_str(), Some("/data"));
        assert_eq!(config.agent_connection_age_s, 60);
        assert!(config.allow_plaintext && !config.git_allow_http);
        assert_eq!(config.tls_san, ["a.example.com", "b.example.com"]);
        assert_eq!(config.workspaces_domain.as_str(), "other.example.com");
        let config = parsed(text, &["--tls-san=c.example.com"]);
        assert_eq!(config.tls_san, ["c.example.com"]);
        parsed("", &["--data-dir=/d"]);
    }

    #[test]
    fn a_wrong_file_says_where_and_what_would_be_right() {
        for (text, expected) in [
            (
                "data-dir: /d\nagent-listen-adress: x\n",
                "line 2, column 1: there is no key agent-listen-adress; perhaps agent-listen-address",
            ),
            ("external_url: x", "perhaps external-url"),
            ("xyz: 1", "serve --help"),
            ("config: /other", "there is no key config"),
            (
                "data-dir: /d\n\nagent-listen-address: here\n",
                "line 3, column 23: agent-listen-address: invalid value 'here'",
            ),
            ("allow-plaintext: 1", "where true or false is expected"),
            ("editor-image: 1.10", "put it in quotes"),
            ("data-dir: [a]", "one value is expected"),
            ("tls-san: {a: b}", "one value is expected"),
            ("data-dir:", "leave the key out"),
            ("- a", "no mapping of keys"),
            ("data-dir: a\ndata-dir: b\n", "line 2"),
            ("agent-connection-age: 0", "is not in 1..=2592000"),
        ] {
            let error = with_defaults(text, serve()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_example_names_every_key_and_is_right() {
        let uncommented: String = EXAMPLE
            .lines()
            .filter_map(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                let is_key = line.split_once(':').is_some_and(|(key, _)| {
                    !key.is_empty() && key.bytes().all(|it| it.is_ascii_lowercase() || it == b'-')
                });
                (is_key && !line.starts_with("#")).then(|| format!("{line}\n"))
            })
            .collect();
        with_defaults(&uncommented, serve()).unwrap();
        for key in serve().get_arguments().filter_map(Arg::get_long) {
            let named = uncommented
                .lines()
                .any(|line| line.split_once(':').is_some_and(|(name, _)| name == key));
            assert!(named || NO_KEYS.contains(&key), "{key} is not in it");
        }
        parsed(EXAMPLE, &[]);
    }
}
