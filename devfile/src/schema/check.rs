//! Walks a tree beside a schema and tells everything that does not fit.

use std::collections::HashSet;

use super::{Additional, Kind, Schema, Version};
use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::limits::MAX_ELEMENTS;
use crate::node::{Entry, Node, Trail, Value};

/// Checks a value and everything below it.
pub(crate) fn check(schema: &Schema, node: &Node, trail: &Trail<'_>, reporter: &mut Reporter<'_>) {
    if !type_fits(schema, node, trail, reporter) {
        return;
    }
    match &node.value {
        Value::Mapping(entries) => mapping(schema, node, entries, trail, reporter),
        Value::List(items) => list(schema, node, items, trail, reporter),
        Value::Text(text) => text_fits(schema, node, text, trail, reporter),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn type_fits(schema: &Schema, node: &Node, trail: &Trail<'_>, reporter: &mut Reporter<'_>) -> bool {
    let Some(kind) = schema.kind else {
        return true;
    };
    let fits = match (kind, &node.value) {
        (Kind::Object, Value::Mapping(_))
        | (Kind::Array, Value::List(_))
        | (Kind::String, Value::Text(_))
        | (Kind::Boolean, Value::Bool(_)) => true,
        (Kind::Integer, Value::Number(number)) => !number.is_f64(),
        _ => false,
    };
    if !fits {
        let written = reporter.sources().written(node.place);
        reporter.add(
            Code::WrongType,
            node.place,
            trail,
            format!("expected {}, found {}", kind.name(), node.value.kind()),
            type_hint(kind, &node.value, written.as_deref()),
        );
    }
    fits
}

/// What to write instead, with the reason where YAML is surprising.
fn type_hint(kind: Kind, value: &Value, written: Option<&str>) -> Option<String> {
    let written = written.unwrap_or_default();
    match (kind, value) {
        (Kind::String, Value::Bool(_)) if !matches!(written, "true" | "false") => Some(format!(
            "{written} without quotes is a boolean in YAML 1.1; write \"{written}\""
        )),
        (Kind::String, Value::Number(number)) if number.to_string() != written => Some(format!(
            "{written} without quotes is the number {number}; write \"{written}\""
        )),
        (Kind::String, Value::Bool(_) | Value::Number(_)) => {
            Some(format!("put quotes around it: \"{written}\""))
        }
        (Kind::String, Value::Null) => Some("write \"\" for an empty text".into()),
        (Kind::String, Value::Mapping(_)) if written.starts_with('{') => {
            Some("put quotes around a text that starts with {".into())
        }
        (Kind::Integer, Value::Text(text)) if text.trim().parse::<i64>().is_ok() => {
            Some(format!("write {} without quotes", text.trim()))
        }
        (Kind::Boolean, Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some("write true without quotes".into()),
            "false" | "no" | "off" => Some("write false without quotes".into()),
            _ => None,
        },
        (Kind::Object, Value::Null) => {
            Some("nothing is written after the colon; leave the key away or write {}".into())
        }
        (Kind::Array, Value::Null) => {
            Some("nothing is written after the colon; leave the key away or write []".into())
        }
        (Kind::Array, Value::Mapping(_) | Value::Text(_)) => {
            Some("put a hyphen and a space in front of each element".into())
        }
        _ => None,
    }
}

fn mapping(
    schema: &Schema,
    node: &Node,
    entries: &[Entry],
    trail: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) {
    for name in &schema.required {
        if !entries.iter().any(|entry| entry.key == *name) {
            let near = nearest(name, entries.iter().map(|entry| entry.key.as_str()))
                .filter(|key| !schema.properties.contains_key(*key));
            reporter.add(
                Code::MissingField,
                node.place,
                trail,
                format!("{name} is missing"),
                near.map(|near| format!("did you mean {name} by {near}?")),
            );
        }
    }
    one_of(schema, node, entries, trail, reporter);
    for entry in entries {
        let below = trail.key(&entry.key);
        match (
            schema.properties.get(&entry.key),
            &schema.additional_properties,
        ) {
            (Some(property), _) => check(property, &entry.node, &below, reporter),
            (None, Some(Additional::Schema(other))) => {
                ambiguous_key(entry, &below, reporter);
                check(other, &entry.node, &below, reporter);
            }
            (None, Some(Additional::Allowed(false))) => {
                unknown_field(schema, entry, trail, reporter);
            }
            (None, Some(Additional::Allowed(true)) | None) => {
                ambiguous_key(entry, &below, reporter);
            }
        }
    }
}

fn one_of(
    schema: &Schema,
    node: &Node,
    entries: &[Entry],
    trail: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) {
    if schema.one_of.is_empty() {
        return;
    }
    let given: Vec<&Entry> = entries
        .iter()
        .filter(|entry| schema.one_of_names().any(|name| name == entry.key))
        .collect();
    match given[..] {
        [_] => {}
        [] => {
            let near = schema.one_of_names().find_map(|name| {
                nearest(name, entries.iter().map(|entry| entry.key.as_str()))
                    .filter(|key| !schema.properties.contains_key(*key))
                    .map(|key| (name, key))
            });
            reporter.add(
                Code::OneOfMissing,
                node.place,
                trail,
                format!(
                    "one of {} is needed",
                    schema.one_of_names().collect::<Vec<_>>().join(", ")
                ),
                near.map(|(name, near)| format!("did you mean {name} by {near}?")),
            );
        }
        [_, second, ..] => {
            let names: Vec<&str> = given.iter().map(|entry| entry.key.as_str()).collect();
            reporter.add(
                Code::OneOfSeveral,
                second.place,
                trail,
                format!(
                    "{} are given, but only one of {} is allowed",
                    names.join(" and "),
                    schema.one_of_names().collect::<Vec<_>>().join(", ")
                ),
                None,
            );
        }
    }
}

fn unknown_field(schema: &Schema, entry: &Entry, trail: &Trail<'_>, reporter: &mut Reporter<'_>) {
    let near = nearest(&entry.key, schema.properties.keys().map(String::as_str));
    let hint = near
        .map(|near| format!("did you mean {near}?"))
        .or_else(|| newer_version(&entry.key, trail));
    reporter.add(
        Code::UnknownField,
        entry.place,
        &trail.key(&entry.key),
        format!("there is no field {:?} here", entry.key),
        hint,
    );
}

/// The first version that has a field, for the fields that came later.
fn newer_version(key: &str, trail: &Trail<'_>) -> Option<String> {
    let place = trail.nearest_key().unwrap_or_default();
    let version = match (place, key) {
        ("", "variables" | "attributes") => Version::V2_1_0,
        ("container", "cpuLimit" | "cpuRequest" | "memoryRequest") => Version::V2_1_0,
        ("volume", "ephemeral") => Version::V2_1_0,
        ("components", "image") | ("container", "annotation") => Version::V2_2_0,
        ("kubernetes" | "openshift", "deployByDefault") => Version::V2_2_0,
        ("endpoints", "annotation") | ("parent", "version") => Version::V2_2_0,
        ("" | "parent", "dependentProjects") => Version::V2_2_2,
        ("components", "plugin") => {
            return Some(
                "plugins are part of schemaVersion 2.0.0 and of DevWorkspace templates only".into(),
            );
        }
        ("components" | "commands", "custom") => {
            return Some("custom elements are part of DevWorkspace templates only".into());
        }
        _ => return None,
    };
    Some(format!(
        "schemaVersion {} and later have this field",
        version.name()
    ))
}

fn ambiguous_key(entry: &Entry, trail: &Trail<'_>, reporter: &mut Reporter<'_>) {
    let written = reporter.sources().written(entry.place);
    if written.as_deref() == Some(entry.key.as_str()) && crate::yaml::reads_differently(&entry.key)
    {
        reporter.add(
            Code::AmbiguousKey,
            entry.place,
            trail,
            format!(
                "other readers take the key {} for a boolean, a number or nothing",
                entry.key
            ),
            Some(format!("write \"{}\"", entry.key)),
        );
    }
}

fn list(
    schema: &Schema,
    node: &Node,
    items: &[Node],
    trail: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) {
    if items.len() > MAX_ELEMENTS {
        reporter.add(
            Code::TooManyElements,
            node.place,
            trail,
            format!(
                "the list has {} elements, at most {MAX_ELEMENTS} are allowed",
                items.len()
            ),
            None,
        );
        return;
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let below = trail.index(index);
        if let Some(items) = &schema.items {
            check(items, item, &below, reporter);
        }
        if let (true, Some(text)) = (schema.unique_items, item.as_text())
            && !seen.insert(text)
        {
            reporter.add(
                Code::RepeatedItem,
                item.place,
                &below,
                format!("{text:?} is in the list already"),
                None,
            );
        }
    }
}

fn text_fits(
    schema: &Schema,
    node: &Node,
    text: &str,
    trail: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) {
    if !schema.allows(text) {
        let near = nearest(text, schema.allowed.iter().map(String::as_str));
        reporter.add(
            Code::ValueNotAllowed,
            node.place,
            trail,
            format!("{text:?} is not one of {}", schema.allowed.join(", ")),
            near.map(|near| format!("did you mean {near}?")),
        );
    }
    let length = text.chars().count();
    if let Some(most) = schema.max_length
        && length > most
    {
        reporter.add(
            Code::TextTooLong,
            node.place,
            trail,
            format!("the text has {length} characters, at most {most} are allowed"),
            None,
        );
    }
    if let Some(pattern) = schema.pattern
        && !pattern.matches(text)
    {
        let repaired = pattern.repair(text);
        reporter.add(
            Code::PatternMismatch,
            node.place,
            trail,
            format!(
                "{text:?} does not have the form it needs: {}",
                pattern.wanted()
            ),
            repaired.map(|repaired| format!("did you mean {repaired}?")),
        );
    }
}

/// The candidate that is nearest to what was written, if it is near enough to be meant.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase();
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= allowed && candidate.len() > 1)
        .min()
        .map(|(_, candidate)| candidate)
}
