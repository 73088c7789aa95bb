//! `devfile convert`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use devfile::convert::{devcontainer, to_version};
use devfile::diagnostic::has_errors;
use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::schema::Version;
use devfile::text::decode;

use super::Failure;
use super::input::{self, Input};
use super::output::{self, Format};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// File, folder, http(s) address, or - for standard input.
    #[arg(default_value = ".")]
    input: String,
    /// What is read; by default a file called devcontainer.json is one.
    #[arg(long, value_enum)]
    from: Option<Kind>,
    /// The schemaVersion of the result.
    #[arg(long, default_value = Version::NEWEST.name(), value_parser = super::version())]
    to: Version,
    /// The image to use instead of the one that a devcontainer.json names or builds.
    #[arg(long)]
    image: Option<String>,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Devfile,
    Devcontainer,
}

impl Kind {
    fn of(name: &str) -> Self {
        let file = Path::new(name).file_name().and_then(|name| name.to_str());
        match file {
            Some("devcontainer.json" | ".devcontainer.json") => Self::Devcontainer,
            _ => Self::Devfile,
        }
    }
}

/// Prints the converted devfile, and what is told about it to standard error.
pub(super) fn run(arguments: &Arguments) -> Result<(String, ExitCode), Failure> {
    let Input { name, bytes } = input::read(&arguments.input)?;
    let text = decode(bytes).map_err(|error| format!("{name}: {error}"))?;
    let converted = match arguments.from.unwrap_or_else(|| Kind::of(&name)) {
        Kind::Devfile => to_version(&name, &text, arguments.to),
        Kind::Devcontainer => devcontainer(&name, &text, arguments.image.as_deref(), arguments.to),
    };
    let (text, diagnostics, notes) = match converted {
        Ok(converted) => {
            // The places in what is told are those of the result.
            let written = devfile::yaml_text(&converted.devfile);
            let alone = FlattenOptions {
                imports: false,
                inline_uris: false,
                ..FlattenOptions::default()
            };
            let checked = flatten("(converted)", &written, &alone, &mut NoFetch);
            let text = output::value(&converted.devfile, arguments.output);
            (text, checked.diagnostics, converted.notes)
        }
        Err(diagnostics) => (String::new(), diagnostics, Vec::new()),
    };
    let told = output::beside(&diagnostics, &notes, arguments.output, false);
    let _ = std::io::stderr().write_all(told.as_bytes());
    let code = u8::from(has_errors(&diagnostics));
    Ok((text, ExitCode::from(code)))
}
