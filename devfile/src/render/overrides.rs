//! container-overrides and pod-overrides: a strategic merge of the fields that are allowed, and only of values that
//! keep the Pod within the restricted security standard.

use serde_json::{Map, Value};

use super::{Notes, RenderOptions};
use crate::model::{Attributes, Component, Devfile};

pub(super) const CONTAINER: &str = "container-overrides";
pub(super) const POD: &str = "pod-overrides";

/// Lists of a Pod that are merged by a key; all others are replaced.
const KEYED_LISTS: [(&str, &str); 6] = [
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("ports", "containerPort"),
];

/// Applies a component's container-overrides.
pub(super) fn container(
    component: &Component,
    options: &RenderOptions,
    container: &mut Map<String, Value>,
    notes: &mut Notes,
) {
    let path = format!("components[name={}].attributes.{CONTAINER}", component.name);
    let Some(patch) = read(&component.attributes, CONTAINER, &path, notes) else {
        return;
    };
    for (field, value) in patch {
        let path = format!("{path}.{field}");
        if !options.policy.container_fields.contains(&field) {
            notes.add(path, "it is left out", "the field may not be overridden");
            continue;
        }
        merge_field(container, &field, value, &path, notes);
    }
}

/// Applies the pod-overrides of components, in order, and then those of the devfile.
pub(super) fn pod(
    devfile: &Devfile,
    owners: &[&Component],
    options: &RenderOptions,
    spec: &mut Map<String, Value>,
    metadata: &mut Map<String, Value>,
    notes: &mut Notes,
) {
    let of_components = devfile
        .components
        .iter()
        .filter(|component| {
            // Overrides on a component without a container are for every Pod.
            !matches!(component.kind, crate::model::ComponentKind::Container(_))
                || owners.iter().any(|owner| owner.name == component.name)
        })
        .map(|component| {
            let path = format!("components[name={}].attributes.{POD}", component.name);
            (&component.attributes, path)
        });
    let own = (&devfile.attributes, format!("attributes.{POD}"));
    // Labels and annotations of the workspace; those of one override give way to those of a later one.
    let fixed = metadata.clone();
    for (attributes, path) in of_components.chain([own]) {
        let Some(patch) = read(attributes, POD, &path, notes) else {
            continue;
        };
        for (section, value) in patch {
            let path = format!("{path}.{section}");
            match (section.as_str(), value) {
                ("spec", Value::Object(fields)) => {
                    for (field, value) in fields {
                        let path = format!("{path}.{field}");
                        let is_set = field == "runtimeClassName" && options.runtime_class.is_some();
                        if is_set {
                            notes.add(
                                path,
                                "it is left out",
                                "workspaces here have one of their own",
                            );
                        } else if options.policy.pod_fields.contains(&field) {
                            merge_field(spec, &field, value, &path, notes);
                        } else {
                            notes.add(path, "it is left out", "the field may not be overridden");
                        }
                    }
                }
                ("metadata", Value::Object(fields)) => {
                    pod_metadata(fields, &fixed, metadata, &path, notes);
                }
                _ => notes.add(
                    path,
                    "it is left out",
                    "pod-overrides have metadata and spec",
                ),
            }
        }
    }
}

/// Labels and annotations may be added, never changed: objects are found by them.
fn pod_metadata(
    fields: Map<String, Value>,
    fixed: &Map<String, Value>,
    metadata: &mut Map<String, Value>,
    path: &str,
    notes: &mut Notes,
) {
    for (field, value) in fields {
        let path = format!("{path}.{field}");
        let Value::Object(entries) = value else {
            notes.add(
                path,
                "it is left out",
                "only labels and annotations may be set",
            );
            continue;
        };
        if field != "labels" && field != "annotations" {
            notes.add(
                path,
                "it is left out",
                "only labels and annotations may be set",
            );
            continue;
        }
        let fixed = fixed.get(&field).and_then(Value::as_object);
        let known = metadata
            .entry(field)
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(known) = known else {
            continue;
        };
        for (key, value) in entries {
            if fixed.is_some_and(|fixed| fixed.contains_key(&key)) || !value.is_string() {
                notes.add(
                    format!("{path}.{key}"),
                    "it is left out",
                    "it is set by the workspace, or it is no text",
                );
            } else {
                known.insert(key, value);
            }
        }
    }
}

/// An attribute's mapping, also if it is written as JSON in a text.
fn read(
    attributes: &Attributes,
    key: &str,
    path: &str,
    notes: &mut Notes,
) -> Option<Map<String, Value>> {
    let value = match attributes.get(key)? {
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        value => value.clone(),
    };
    match value {
        Value::Object(fields) => Some(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            notes.add(path, "it is left out", "it is no mapping");
            None
        }
    }
}

fn merge_field(
    target: &mut Map<String, Value>,
    field: &str,
    patch: Value,
    path: &str,
    notes: &mut Notes,
) {
    let mut patched = target.get(field).cloned().unwrap_or(Value::Null);
    merge(&mut patched, patch, field);
    if field == "securityContext"
        && let Some(reason) = loosens(&patched, target.get(field))
    {
        notes.add(path, "it is left out", reason);
        return;
    }
    if patched.is_null() {
        target.remove(field);
    } else {
        target.insert(field.to_owned(), patched);
    }
}

/// Why a security context may not become this.
fn loosens(context: &Value, before: Option<&Value>) -> Option<&'static str> {
    let is = |key: &str, value: Value| context.get(key) == Some(&value);
    let kept = |key: &str| {
        before
            .and_then(|before| before.get(key))
            .is_none_or(|value| context.get(key) == Some(value))
    };
    let added = context
        .pointer("/capabilities/add")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    if is("privileged", true.into()) {
        Some("privileged containers are not allowed")
    } else if is("runAsUser", 0.into()) || is("runAsNonRoot", false.into()) {
        Some("containers do not run as root")
    } else if is("allowPrivilegeEscalation", true.into()) {
        Some("containers gain no privileges")
    } else if added || !kept("capabilities") {
        Some("containers have no capabilities")
    } else if context
        .get("procMount")
        .is_some_and(|mount| mount != "Default")
    {
        Some("/proc stays masked")
    } else if context
        .pointer("/seccompProfile/type")
        .is_some_and(|kind| kind == "Unconfined")
        || context
            .pointer("/appArmorProfile/type")
            .is_some_and(|kind| kind == "Unconfined")
    {
        Some("containers stay confined")
    } else if before.is_some()
        && ["runAsNonRoot", "allowPrivilegeEscalation", "seccompProfile"]
            .iter()
            .any(|key| before.and_then(|b| b.get(key)).is_some() && context.get(key).is_none())
    {
        Some("the restricted security standard stays")
    } else if ["sysctls", "windowsOptions", "seLinuxOptions"]
        .iter()
        .any(|key| context.get(key).is_some())
    {
        Some("kernel settings stay as they are")
    } else {
        None
    }
}

/// A strategic merge: mappings by key, some lists by a field, `$patch: replace|delete`, null removes.
fn merge(target: &mut Value, patch: Value, field: &str) {
    match (target, patch) {
        (target, Value::Object(mut patch)) => {
            let directive = patch.remove("$patch");
            match directive.as_ref().and_then(Value::as_str) {
                Some("delete") => {
                    *target = Value::Null;
                    return;
                }
                Some("replace") => *target = Value::Object(Map::new()),
                _ => {}
            }
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Value::Object(target) = target else {
                return;
            };
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                    continue;
                }
                let mut below = target.remove(&key).unwrap_or(Value::Null);
                // The depth of documents is bounded where they are read.
                merge(&mut below, value, &key);
                if !below.is_null() {
                    target.insert(key, below);
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) => {
            match KEYED_LISTS.iter().find(|(list, _)| *list == field) {
                Some((_, key)) => merge_list(target, patch, key),
                None => *target = patch,
            }
        }
        (target, patch) => *target = patch,
    }
}

/// Merges by key in Kubernetes' order: elements of the patch in its order, an untouched one before the first element of
/// the patch that stood behind it, else at the end.
fn merge_list(target: &mut Vec<Value>, patch: Vec<Value>, key: &str) {
    let mut untouched: Vec<(usize, Value)> =
        std::mem::take(target).into_iter().enumerate().collect();
    let mut touched = Vec::with_capacity(patch.len());
    for item in patch {
        let same = untouched
            .iter()
            .position(|(_, own)| own.get(key).is_some() && own.get(key) == item.get(key));
        match same {
            Some(at) => {
                let (position, mut own) = untouched.remove(at);
                merge(&mut own, item, "");
                touched.push((Some(position), own));
            }
            None => touched.push((None, item)),
        }
    }
    let mut untouched = untouched.into_iter().peekable();
    for (position, item) in touched {
        if let Some(position) = position {
            while let Some((_, before)) = untouched.next_if(|(own, _)| *own < position) {
                target.push(before);
            }
        }
        // `$patch: delete` leaves nothing of an element.
        if !item.is_null() {
            target.push(item);
        }
    }
    target.extend(untouched.map(|(_, own)| own));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut target: Value, patch: Value) -> Value {
        merge(&mut target, patch, "spec");
        target
    }

    #[test]
    fn overrides_merge_as_kubernetes_merges() {
        assert_eq!(
            merged(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 3}})),
            json!({"a": {"b": 3, "c": 2}})
        );
        assert_eq!(
            merged(
                json!({"a": {"b": 1}}),
                json!({"a": {"$patch": "replace", "c": 3}})
            ),
            json!({"a": {"c": 3}})
        );
        assert_eq!(
            merged(
                json!({"a": {"b": 1}, "d": 1}),
                json!({"a": {"$patch": "delete"}})
            ),
            json!({"d": 1})
        );
        assert_eq!(
            merged(
                json!({"imagePullSecrets": [{"name": "a"}]}),
                json!({"imagePullSecrets": [{"name": "b"}]})
            ),
            json!({"imagePullSecrets": [{"name": "b"}, {"name": "a"}]})
        );
    }

    #[test]
    fn a_security_context_gets_only_stricter() {
        let before = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        for patch in [
            json!({"privileged": true}),
            json!({"runAsUser": 0}),
            json!({"runAsNonRoot": false}),
            json!({"runAsNonRoot": null}),
            json!({"$patch": "delete"}),
            json!({"$patch": "replace", "runAsUser": 5}),
            json!({"capabilities": {"add": ["NET_ADMIN"]}}),
            json!({"procMount": "Unmasked"}),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            json!({"sysctls": [{"name": "a", "value": "b"}]}),
        ] {
            let after = merged(before.clone(), patch.clone());
            assert!(loosens(&after, Some(&before)).is_some(), "{patch}");
        }
        let after = merged(before.clone(), json!({"runAsUser": 1000}));
        assert_eq!(loosens(&after, Some(&before)), None);
    }
}
