//! Overrides: a strategic merge of what stands beside a parent or plugin into its content.

use std::collections::HashSet;

use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::node::{Entry, Node, Trail, Value};
use crate::schema::nearest;

pub(super) const IMPORTED_FROM: &str = "api.devfile.io/imported-from";
pub(super) const PARENT_OVERRIDE_FROM: &str = "api.devfile.io/parent-override-from";
pub(super) const PLUGIN_OVERRIDE_FROM: &str = "api.devfile.io/plugin-override-from";
pub(super) const ORIGINAL_URI: &str = "api.devfile.io/k8sLikeComponent-originalURI";

/// The lists whose elements are told apart by a key.
pub(super) const LISTS: [(&str, &str); 5] = [
    ("components", "name"),
    ("commands", "id"),
    ("projects", "name"),
    ("starterProjects", "name"),
    ("dependentProjects", "name"),
];

/// Lists inside of elements that are merged by name. All others are replaced.
const NAMED_LISTS: [&str; 3] = ["env", "volumeMounts", "endpoints"];

/// Of each of these an element has one; giving another one replaces it.
const UNIONS: [&[&str]; 6] = [
    &[
        "container",
        "kubernetes",
        "openshift",
        "volume",
        "image",
        "plugin",
        "custom",
    ],
    &[
        "exec",
        "apply",
        "composite",
        "custom",
        "vscodeTask",
        "vscodeLaunch",
    ],
    &["git", "github", "zip", "custom"],
    &["uri", "inlined"],
    &["uri", "devfileRegistry", "git"],
    &["uri", "id", "kubernetes"],
];

/// Writes an attribute onto every element of the content.
pub(super) fn mark(content: &mut Node, attribute: &str, value: &str, with_projects: bool) {
    let lists = if with_projects {
        &LISTS[..4]
    } else {
        &LISTS[..2]
    };
    for (list, _) in lists {
        let Some(Node {
            value: Value::List(items),
            ..
        }) = content.get_mut(list)
        else {
            continue;
        };
        for item in items {
            let place = item.place;
            set_attribute(item, attribute, Node::text(place, value));
        }
    }
}

/// Writes one attribute of an element.
pub(super) fn set_attribute(element: &mut Node, attribute: &str, value: Node) {
    let place = element.place;
    match element.get_mut("attributes") {
        Some(attributes) => attributes.set(attribute, value),
        None => {
            let mut attributes = Node::new(place, Value::Mapping(Vec::new()));
            attributes.set(attribute, value);
            element.set("attributes", attributes);
        }
    }
}

/// Applies overrides. `None` if one of them has nothing to override.
pub(super) fn apply(
    mut content: Node,
    patch: Node,
    at: &Trail<'_>,
    role: &str,
    reporter: &mut Reporter<'_>,
) -> Option<Node> {
    let mut known = true;
    for (list, key) in LISTS {
        let have: HashSet<&str> = content
            .items_at(list)
            .iter()
            .filter_map(|item| item.text_at(key))
            .collect();
        let list_at = at.key(list);
        for (index, item) in patch.items_at(list).iter().enumerate() {
            let name = item.text_at(key).unwrap_or_default();
            if !have.contains(name) {
                known = false;
                let item_at = list_at.index(index);
                reporter.add(
                    Code::OverrideUnknown,
                    item.get(key).map_or(item.place, |node| node.place),
                    &item_at.key(key),
                    format!("the {role} has no {name:?} in its {list}"),
                    nearest(name, have.iter().copied()).map_or_else(
                        || {
                            Some(format!(
                                "a new element belongs into the main body, not below {role}"
                            ))
                        },
                        |near| Some(format!("did you mean {near}?")),
                    ),
                );
            }
        }
    }
    for map in ["variables", "attributes"] {
        let map_at = at.key(map);
        for entry in patch.get(map).map_or(&[][..], Node::entries) {
            let exists = content
                .get(map)
                .is_some_and(|have| have.get(&entry.key).is_some());
            if !exists {
                known = false;
                reporter.add(
                    Code::OverrideUnknown,
                    entry.place,
                    &map_at.key(&entry.key),
                    format!("the {role} has no {:?} in its {map}", entry.key),
                    Some(format!(
                        "a new one belongs into the main body, not below {role}"
                    )),
                );
            }
        }
    }
    if !known {
        return None;
    }
    merge_mapping(&mut content, patch, at, reporter);
    Some(content)
}

/// A strategic merge of one value into another.
pub(super) fn merge_mapping(
    original: &mut Node,
    patch: Node,
    at: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) {
    let Value::Mapping(entries) = patch.value else {
        return;
    };
    for union in UNIONS {
        let given = entries
            .iter()
            .any(|entry| union.contains(&entry.key.as_str()));
        // `custom` alone does not say which union is meant; the element's other keys do.
        if given {
            for member in union {
                let replaced = !entries.iter().any(|entry| entry.key == *member)
                    && belongs(original, &entries, union);
                if replaced {
                    original.remove(member);
                }
            }
        }
    }
    for entry in entries {
        merge_entry(original, entry, at, reporter);
    }
}

/// Whether both sides speak of this union: a project's `git` is none of a Dockerfile's.
fn belongs(original: &Node, patch: &[Entry], union: &[&str]) -> bool {
    let in_union = |key: &str| union.contains(&key);
    original.entries().iter().any(|entry| in_union(&entry.key))
        && patch.iter().any(|entry| in_union(&entry.key))
}

fn merge_entry(original: &mut Node, entry: Entry, at: &Trail<'_>, reporter: &mut Reporter<'_>) {
    let Entry { key, place, node } = entry;
    let below = at.key(&key);
    if key == "attributes" {
        merge_attributes(original, node);
        return;
    }
    let ignored = match &node.value {
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Mapping(_) => false,
    };
    if ignored {
        reporter.add(
            Code::OverrideEmpty,
            node.place,
            &below,
            format!("this empty {key} changes nothing"),
            None,
        );
        return;
    }
    let list_key = LISTS
        .iter()
        .find(|(list, _)| *list == key)
        .map(|(_, key)| *key)
        .or_else(|| NAMED_LISTS.contains(&key.as_str()).then_some("name"));
    match (original.get_mut(&key), node.value, list_key) {
        (Some(have), Value::List(items), Some(list_key))
            if matches!(have.value, Value::List(_))
                && items
                    .iter()
                    .all(|item| matches!(item.value, Value::Mapping(_))) =>
        {
            if let Value::List(original) = &mut have.value {
                *original = merge_list(std::mem::take(original), items, list_key, &below, reporter);
            }
        }
        (Some(have), Value::Mapping(entries), _) if matches!(have.value, Value::Mapping(_)) => {
            let patch = Node::new(node.place, Value::Mapping(entries));
            merge_mapping(have, patch, &below, reporter);
        }
        (have, value, _) => {
            let node = Node::new(node.place, value);
            match have {
                Some(have) => *have = node,
                None => {
                    if let Value::Mapping(entries) = &mut original.value {
                        entries.push(Entry { key, place, node });
                    }
                }
            }
        }
    }
}

/// Attributes are free-form: each one is replaced whole.
fn merge_attributes(original: &mut Node, patch: Node) {
    let Value::Mapping(entries) = patch.value else {
        return;
    };
    for entry in entries {
        set_attribute(original, &entry.key, entry.node);
    }
}

/// Merges lists by key. Elements of the patch come in the patch's order; an untouched one comes before the first
/// element of the patch that stood behind it, else at the end. This is Kubernetes' order.
fn merge_list(
    original: Vec<Node>,
    patch: Vec<Node>,
    key: &str,
    at: &Trail<'_>,
    reporter: &mut Reporter<'_>,
) -> Vec<Node> {
    let name = |node: &Node| node.text_at(key).unwrap_or_default().to_owned();
    let mut untouched: Vec<(usize, Node)> = original.into_iter().enumerate().collect();
    let mut touched: Vec<(Option<usize>, Node)> = Vec::with_capacity(patch.len());
    for (index, item) in patch.into_iter().enumerate() {
        let wanted = name(&item);
        match untouched.iter().position(|(_, node)| name(node) == wanted) {
            Some(found) => {
                let (position, mut node) = untouched.remove(found);
                merge_mapping(&mut node, item, &at.index(index), reporter);
                touched.push((Some(position), node));
            }
            None => touched.push((None, item)),
        }
    }
    let mut result = Vec::with_capacity(untouched.len() + touched.len());
    let mut untouched = untouched.into_iter().peekable();
    for (position, node) in touched {
        if let Some(position) = position {
            while let Some((_, before)) = untouched.next_if(|(own, _)| *own < position) {
                result.push(before);
            }
        }
        result.push(node);
    }
    result.extend(untouched.map(|(_, node)| node));
    result
}
