//! Keys whose value is a list, or a mapping with free keys.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{
    document::{Node, Value},
    reader::{Reader, shorten},
    syntax,
};
use super::super::{Class, ImagePullSecret};
use super::{read_formed, resources::read_resources};

/// What one of them may have as JSON: GitLab keeps each in a column of this size.
const MAX_COLUMN_BYTES: usize = 64 * 1024;
/// Most editors, classes and pull secrets: people choose from the first, and each of the last is read again and again.
const MAX_CHOICES: usize = 50;

pub(super) fn read_pull_secrets(
    reader: &mut Reader,
    node: &Node,
    field: &str,
) -> Vec<ImagePullSecret> {
    let mut secrets = Vec::new();
    let mut names = BTreeSet::new();
    let items = reader.list(node, field, "a list of {name, namespace}");
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let entries = reader.mapping(item, &field, &["name", "namespace"]);
        let mut read = |key: &str, expected: &str, right: fn(&str) -> bool| {
            let Some(entry) = entries.iter().find(|entry| entry.key == key) else {
                let reason = format!("the key {key} is missing");
                reader.problem(item.place, &field, reason, &format!("{key}: {expected}"));
                return None;
            };
            let field = format!("{field}.{key}");
            let text = read_formed(reader, &entry.node, &field, expected, |text| {
                right(text).then(|| text.to_owned())
            })?;
            Some((text, entry.node.place))
        };
        let name = read("name", syntax::DNS_NAME, syntax::is_dns_name);
        let namespace = read("namespace", syntax::DNS_LABEL, syntax::is_dns_label);
        let (Some((name, place)), Some((namespace, _))) = (name, namespace) else {
            continue;
        };
        if !names.insert(name.clone()) {
            reader.problem(
                place,
                &format!("{field}.name"),
                format!("'{name}' stands in the list already"),
                "names that differ: both would be the same Secret in a workspace's namespace",
            );
        }
        secrets.push(ImagePullSecret { name, namespace });
    }
    check_number(reader, node, field, secrets.len());
    check_size(reader, node, field, &secrets);
    secrets
}

/// A mapping of free keys to texts, on objects of the cluster.
pub(super) fn read_texts(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    right: impl Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let entries = match &node.value {
        Value::Mapping(entries) => entries.as_slice(),
        Value::Null => &[],
        other => {
            let reason = format!("this is {}", other.kind());
            reader.problem(node.place, field, reason, "a mapping of names to texts");
            &[]
        }
    };
    let mut texts = BTreeMap::new();
    for entry in entries {
        let field = format!("{field}.{}", shorten(&entry.key));
        if let Some(domain) = syntax::reserved(&entry.key) {
            let reason = format!("keys of {domain} have a meaning of their own");
            let expected = "another domain before the '/', such as example.com, or none";
            reader.problem(entry.place, &field, reason, expected);
        } else if !syntax::is_key(&entry.key) {
            reader.problem(
                entry.place,
                &field,
                "the key is not that".into(),
                syntax::KEY,
            );
        }
        let in_quotes = "a text; write it in quotes";
        let Some(text) = reader.text(&entry.node, &field, in_quotes) else {
            continue;
        };
        if !right(text) {
            let reason = format!("'{}' is no value of a label", shorten(text));
            reader.problem(entry.node.place, &field, reason, syntax::LABEL_VALUE);
        }
        texts.insert(entry.key.clone(), text.to_owned());
    }
    check_size(reader, node, field, &texts);
    texts
}

pub(super) fn read_editors(reader: &mut Reader, node: &Node, field: &str) -> Vec<String> {
    let mut editors = Vec::new();
    let items = reader.list(node, field, "a list of editors' names");
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let name = read_formed(reader, item, &field, syntax::DNS_LABEL, |text| {
            syntax::is_dns_label(text).then(|| text.to_owned())
        });
        let Some(name) = name else { continue };
        if editors.contains(&name) {
            let reason = format!("'{name}' stands in the list already");
            reader.problem(item.place, &field, reason, "each editor once");
        }
        editors.push(name);
    }
    check_number(reader, node, field, editors.len());
    editors
}

pub(super) fn read_classes(reader: &mut Reader, node: &Node, field: &str) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    let items = reader.list(node, field, "a list of {name, resources}");
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let entries = reader.mapping(item, &field, &["name", "resources"]);
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        let mut missing = |key: &str, expected: &str| {
            let reason = format!("the key {key} is missing");
            reader.problem(item.place, &field, reason, expected);
        };
        let (name, resources) = match (find("name"), find("resources")) {
            (Some(name), Some(resources)) => (name, resources),
            (None, _) => {
                missing("name", "name: what people choose, such as large");
                continue;
            }
            (_, None) => {
                missing("resources", "resources: {limits, requests}");
                continue;
            }
        };
        let read = read_resources(reader, &resources.node, &format!("{field}.resources"));
        let name_field = format!("{field}.name");
        let text = read_formed(reader, &name.node, &name_field, syntax::DNS_LABEL, |text| {
            syntax::is_dns_label(text).then(|| text.to_owned())
        });
        let Some(text) = text else { continue };
        if classes.iter().any(|class| class.name == text) {
            let reason = format!("'{text}' stands in the list already");
            reader.problem(name.node.place, &name_field, reason, "names that differ");
        }
        classes.push(Class {
            name: text,
            resources: read,
        });
    }
    check_number(reader, node, field, classes.len());
    classes
}

fn check_number(reader: &mut Reader, node: &Node, field: &str, number: usize) {
    if number > MAX_CHOICES {
        let expected = format!("at most {MAX_CHOICES}");
        reader.problem(node.place, field, format!("there are {number}"), &expected);
    }
}

pub(super) fn check_size<T: serde::Serialize>(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    value: &T,
) {
    let bytes = serde_json::to_string(value).map_or(0, |json| json.len());
    if bytes > MAX_COLUMN_BYTES {
        let expected = format!("at most {MAX_COLUMN_BYTES} bytes as JSON");
        reader.problem(
            node.place,
            field,
            format!("it has {bytes} bytes as JSON"),
            &expected,
        );
    }
}
