//! Mounts to volumes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Parts, no_form, references};
use crate::render::{Notes, cut_name, slug};

/// Longest name of a component.
const MAX_NAME: usize = 63;

/// The names that Docker has for the fields of a mount.
const TARGET: &[&str] = &["target", "destination", "dst"];
const SOURCE: &[&str] = &["source", "src"];
const TYPE: &[&str] = &["type"];

/// Named volumes become volume components, and memory file systems ephemeral ones.
pub(super) fn mounts(value: &Value, parts: &mut Parts, notes: &mut Notes) {
    let Some(mounts) = value.as_array() else {
        return no_form("mounts", "a list", notes);
    };
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("mounts[{index}]");
        let Some(fields) = fields(mount) else {
            no_form(&path, "a text or an object of texts", notes);
            continue;
        };
        let field = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
        let is_read = |key: &str| [TARGET, SOURCE, TYPE].concat().contains(&key);
        for option in fields.keys().filter(|key| !is_read(key)) {
            notes.add(
                path.as_str(),
                format!("{option} has no effect"),
                "a mount of a devfile has a name and a path",
            );
        }
        let Some(target) = field(TARGET) else {
            notes.add(path, "it is left out", "it has no target");
            continue;
        };
        let target = references::in_text(target, &path, notes);
        let source = field(SOURCE).map(|text| references::in_text(text, &path, notes));
        let kind = field(TYPE).map_or("volume", String::as_str);
        let name = match (kind, &source) {
            ("volume", Some(source)) => slug(source),
            ("volume" | "tmpfs", _) => slug(&target),
            _ => {
                notes.add(
                    path,
                    "it is left out",
                    "only volumes are mounted: a cluster has nothing of the machine in front of people",
                );
                continue;
            }
        };
        let name = if name.is_empty() || name == super::CONTAINER {
            format!("volume-{index}")
        } else {
            cut_name(&name, MAX_NAME)
        };
        let is_known = parts.volumes.iter().any(|it| it["name"] == name.as_str());
        if !is_known {
            let volume = match kind {
                "tmpfs" => json!({"ephemeral": true}),
                _ => json!({}),
            };
            parts.volumes.push(json!({"name": name, "volume": volume}));
        }
        parts.mounts.push(json!({"name": name, "path": target}));
    }
}

/// The fields of a mount, from an object or from Docker's `key=value,key=value`.
fn fields(mount: &Value) -> Option<BTreeMap<String, String>> {
    match mount {
        Value::String(text) => Some(
            text.split(',')
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                .collect(),
        ),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        _ => None,
    }
}
