//! The tree, section by section, to what it means. Every `read_*` function knows one mapping of the file and nothing of its
//! neighbours, so that a problem in one section never hides what is wrong in another.

use super::document::{Entry, Node, Place, Value};
use super::{
    AccessAs, ConfigurationFile, LogLevel, Logging, Note, Observability, Parsed, Problem,
    UserAccess,
};

/// Sections that GitLab's agent knows and this version has no module for.
const SECTIONS_WITHOUT_EFFECT: [&str; 5] = [
    "ci_access",
    "container_scanning",
    "flux",
    "gitops",
    "remote_development",
];

const SECTIONS: [&str; 7] = [
    "ci_access",
    "container_scanning",
    "flux",
    "gitops",
    "observability",
    "remote_development",
    "user_access",
];

/// What a file means, and what is wrong with it.
pub(super) fn read(root: &Node) -> (Parsed, Vec<Problem>) {
    let mut reader = Reader::default();
    let mut configuration = ConfigurationFile::default();
    for entry in reader.mapping(root, "", &SECTIONS) {
        match entry.key.as_str() {
            "observability" => {
                configuration.observability = read_observability(&mut reader, &entry.node)
            }
            "user_access" => {
                configuration.user_access = Some(read_user_access(&mut reader, &entry.node))
            }
            section if SECTIONS_WITHOUT_EFFECT.contains(&section) => {
                reader.note(
                    section,
                    "this version has no module for it: accepted, without effect",
                );
            }
            _ => {}
        }
    }
    (
        Parsed {
            configuration,
            notes: reader.notes,
        },
        reader.problems,
    )
}

fn read_observability(reader: &mut Reader, node: &Node) -> Observability {
    let mut observability = Observability::default();
    for entry in reader.mapping(node, "observability", &["logging", "google_profiler"]) {
        match entry.key.as_str() {
            "logging" => observability.logging = read_logging(reader, &entry.node),
            "google_profiler" => {
                reader.note(
                    "observability.google_profiler",
                    "not supported: accepted, without effect",
                );
            }
            _ => {}
        }
    }
    observability
}

fn read_logging(reader: &mut Reader, node: &Node) -> Logging {
    let mut logging = Logging::default();
    for entry in reader.mapping(node, "observability.logging", &["level", "grpc_level"]) {
        let (field, place) = match entry.key.as_str() {
            "level" => ("observability.logging.level", &mut logging.level),
            "grpc_level" => ("observability.logging.grpc_level", &mut logging.grpc_level),
            _ => continue,
        };
        if let Some(level) = read_level(reader, &entry.node, field) {
            *place = level;
        }
    }
    logging
}

fn read_level(reader: &mut Reader, node: &Node, field: &str) -> Option<LogLevel> {
    const EXPECTED: &str = "one of debug, info, warn, error";
    let name = reader.text(node, field, EXPECTED)?;
    let level = LogLevel::ALL
        .into_iter()
        .find(|level| level.as_str() == name);
    if level.is_none() {
        reader.problem(
            node.place,
            field,
            format!("'{}' is no log level", shorten(name)),
            EXPECTED,
        );
    }
    level
}

fn read_user_access(reader: &mut Reader, node: &Node) -> UserAccess {
    let mut access = UserAccess::default();
    for entry in reader.mapping(node, "user_access", &["access_as", "projects", "groups"]) {
        match entry.key.as_str() {
            "access_as" => access.access_as = read_access_as(reader, &entry.node),
            "projects" => access.projects = read_ids(reader, &entry.node, "user_access.projects"),
            "groups" => access.groups = read_ids(reader, &entry.node, "user_access.groups"),
            _ => {}
        }
    }
    access
}

fn read_access_as(reader: &mut Reader, node: &Node) -> AccessAs {
    const FIELD: &str = "user_access.access_as";
    let entries = reader.mapping(node, FIELD, &["agent", "user"]);
    match entries.as_slice() {
        [] => AccessAs::default(),
        [only] => {
            let _ = reader.mapping(&only.node, &format!("{FIELD}.{}", only.key), &[]);
            match only.key.as_str() {
                "user" => AccessAs::User,
                _ => AccessAs::Agent,
            }
        }
        _ => {
            reader.problem(
                node.place,
                FIELD,
                "only one way of access can be chosen".into(),
                "agent: {} (the rights of userAccess.rules in the agent's chart) or user: {} (the rights of gitlab:user:<name>)",
            );
            AccessAs::default()
        }
    }
}

fn read_ids(reader: &mut Reader, node: &Node, field: &str) -> Vec<String> {
    const EXPECTED: &str = "a list of {id: full path}";
    let mut ids = Vec::new();
    for (index, item) in reader.list(node, field, EXPECTED).iter().enumerate() {
        let field = format!("{field}[{index}]");
        let entries = reader.mapping(item, &field, &["id"]);
        match entries.iter().find(|entry| entry.key == "id") {
            Some(entry) => {
                let field = format!("{field}.id");
                if let Some(id) =
                    reader.text(&entry.node, &field, "the full path of a project or group")
                {
                    ids.push(id.to_owned());
                }
            }
            None => reader.problem(
                item.place,
                &field,
                "the id is missing".into(),
                "id: full path",
            ),
        }
    }
    ids
}

/// Collects what is found on the way.
#[derive(Debug, Default)]
struct Reader {
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl Reader {
    /// The entries of a mapping whose keys are known; the others become problems. Nothing (`key:`) is an empty mapping.
    fn mapping<'a>(&mut self, node: &'a Node, field: &str, known: &[&str]) -> Vec<&'a Entry> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let reason = format!("this is {}", other.kind());
                self.problem(node.place, field, reason, &expected_keys(known));
                &[]
            }
        };
        let (good, bad): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| known.contains(&entry.key.as_str()));
        for entry in bad {
            let field = if field.is_empty() {
                entry.key.clone()
            } else {
                format!("{field}.{}", entry.key)
            };
            self.problem(
                entry.place,
                &shorten(&field),
                "the key is not known".into(),
                &nearest(&entry.key, known),
            );
        }
        good
    }

    fn list<'a>(&mut self, node: &'a Node, field: &str, expected: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            other => {
                self.problem(
                    node.place,
                    field,
                    format!("this is {}", other.kind()),
                    expected,
                );
                &[]
            }
        }
    }

    fn text<'a>(&mut self, node: &'a Node, field: &str, expected: &str) -> Option<&'a str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Number | Value::Bool | Value::Null | Value::List(_) | Value::Mapping(_) => {
                self.problem(
                    node.place,
                    field,
                    format!("this is {}", node.value.kind()),
                    expected,
                );
                None
            }
        }
    }

    fn problem(&mut self, place: Place, field: &str, reason: String, expected: &str) {
        self.problems.push(Problem {
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            reason,
            expected: expected.to_owned(),
        });
    }

    fn note(&mut self, field: &str, reason: &str) {
        self.notes.push(Note {
            field: field.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

/// The known key that was probably meant, or all of them.
fn nearest(key: &str, known: &[&str]) -> String {
    /// Two slips of the keyboard.
    const NEAR: usize = 2;
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&shorten(key), candidate),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= NEAR)
        .min()
        .map_or_else(
            || expected_keys(known),
            |(_, candidate)| format!("'{candidate}' (did you mean that?)"),
        )
}

fn expected_keys(known: &[&str]) -> String {
    if known.is_empty() {
        "{}".into()
    } else {
        format!("a mapping with the keys {}", known.join(", "))
    }
}

/// A value for an error text: the file's author may have put anything there.
fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    text.chars().take(MOST).collect()
}
