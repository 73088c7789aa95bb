//! The tree, section by section, to what it means. Every `read_*` function knows one mapping of the file and nothing of its
//! neighbours, so that a problem in one section never hides what is wrong in another.

use std::collections::BTreeSet;

use super::{
    AccessAs, ConfigurationFile, Judged, LogLevel, Logging, Observability, Section, UserAccess,
    document::Node,
    reader::{Reader, shorten},
    remote_development,
};

/// Those of [`Section`], and what GitLab's agent knows and this version has no module for.
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
pub(super) fn read(root: &Node) -> Judged {
    read_with(&mut Reader::default(), root)
}

pub(super) fn read_with(reader: &mut Reader, root: &Node) -> Judged {
    let mut configuration = ConfigurationFile::default();
    let mut wrong = BTreeSet::new();
    let entries = reader.mapping(root, "", &SECTIONS);
    if !reader.problems.is_empty() {
        let is_absent =
            |section: &Section| !entries.iter().any(|entry| entry.key == section.as_str());
        wrong.extend(Section::ALL.into_iter().filter(is_absent));
    }
    for entry in entries {
        let known = Section::ALL
            .into_iter()
            .find(|section| section.as_str() == entry.key);
        let Some(section) = known else {
            reader.note(
                &entry.key,
                "this version has no module for it: accepted, without effect",
            );
            continue;
        };
        let (problems, notes) = (reader.problems.len(), reader.notes.len());
        read_section(reader, section, &entry.node, &mut configuration);
        if reader.problems.len() > problems {
            wrong.insert(section);
            reader.notes.truncate(notes);
            configuration.take(section, &ConfigurationFile::default());
        }
    }
    Judged {
        configuration,
        notes: std::mem::take(&mut reader.notes),
        problems: std::mem::take(&mut reader.problems),
        wrong,
    }
}

fn read_section(
    reader: &mut Reader,
    section: Section,
    node: &Node,
    configuration: &mut ConfigurationFile,
) {
    match section {
        Section::Observability => configuration.observability = read_observability(reader, node),
        Section::RemoteDevelopment => {
            configuration.remote_development = remote_development::read(reader, node);
        }
        Section::UserAccess => configuration.user_access = Some(read_user_access(reader, node)),
    }
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
