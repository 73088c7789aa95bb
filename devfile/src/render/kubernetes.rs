//! Kubernetes and OpenShift components: the devfile's own objects.

use serde_json::{Map, Value};

use super::lifecycle::Plan;
use super::{Notes, RenderError, RenderOptions};
use crate::model::{ComponentKind, Devfile, KubernetesSource};
use crate::yaml;

/// The objects in a text of one or several YAML documents; lists are taken apart.
pub(crate) fn kubernetes_objects(text: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for node in yaml::read_embedded(text)? {
        add(node.to_json(), &mut objects)?;
    }
    Ok(objects)
}

fn add(value: Value, objects: &mut Vec<Value>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = objects.len() + 1;
    let (Some(kind), false) = (
        Some(text("kind")).filter(|kind| !kind.is_empty()),
        text("apiVersion").is_empty(),
    ) else {
        return Err(format!("object {number} has no apiVersion or kind"));
    };
    if kind.ends_with("List")
        && let Some(items) = value.get("items")
    {
        for item in items.as_array().into_iter().flatten() {
            // A list in a list is no object; the reader bounds the depth.
            add(item.clone(), objects)?;
        }
        return Ok(());
    }
    let named = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty());
    if !named {
        return Err(format!("object {number} ({kind}) has no metadata.name"));
    }
    objects.push(value);
    Ok(())
}

pub(super) fn render(
    devfile: &Devfile,
    options: &RenderOptions,
    plan: &Plan<'_>,
    notes: &mut Notes,
) -> Result<Vec<Value>, RenderError> {
    let mut objects = Vec::new();
    for component in &devfile.components {
        let (ComponentKind::Kubernetes(own) | ComponentKind::Openshift(own)) = &component.kind
        else {
            continue;
        };
        let path = format!(
            "components[name={}].{}",
            component.name,
            component.kind.name()
        );
        let applied = plan.applied.contains(component.name.as_str());
        if own.deploy_by_default != Some(true) && !applied {
            notes.add(
                path,
                "its objects are not applied",
                "deployByDefault is not true and no preStart event applies it",
            );
            continue;
        }
        let text = match &own.source {
            KubernetesSource::Inlined(text) => text,
            KubernetesSource::Uri(_) => {
                notes.add(
                    format!("{path}.uri"),
                    "its objects are not applied",
                    "the content of the uri was not put in when the devfile was flattened",
                );
                continue;
            }
        };
        let found = kubernetes_objects(text).map_err(|reason| RenderError::KubernetesObjects {
            component: component.name.clone(),
            reason,
        })?;
        for object in found {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if options.policy.kinds.contains(&kind) {
                objects.push(owned(object, options, &path, notes));
            } else {
                notes.add(
                    format!("{path}.inlined"),
                    format!("an object of kind {kind} is left out"),
                    "workspaces may not bring objects of this kind",
                );
            }
        }
    }
    Ok(objects)
}

/// Puts an object into the workspace's namespace, with its labels and annotations.
fn owned(mut object: Value, options: &RenderOptions, path: &str, notes: &mut Notes) -> Value {
    if let Value::Object(fields) = &mut object {
        if fields.remove("status").is_some() {
            notes.add(
                format!("{path}.inlined"),
                "status is left out",
                "the cluster writes it",
            );
        }
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            let other = metadata
                .get("namespace")
                .and_then(Value::as_str)
                .filter(|namespace| *namespace != options.namespace);
            if let Some(other) = other {
                notes.add(
                    format!("{path}.inlined"),
                    format!("the namespace {other} is not used"),
                    "all objects of a workspace are in its own namespace",
                );
            }
            metadata.insert("namespace".into(), options.namespace.clone().into());
            for key in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "uid",
            ] {
                if metadata.remove(key).is_some() {
                    notes.add(
                        format!("{path}.inlined"),
                        format!("metadata.{key} is left out"),
                        "objects of a workspace are applied and removed together",
                    );
                }
            }
            for (key, ours) in [
                ("labels", &options.labels),
                ("annotations", &options.annotations),
            ] {
                if ours.is_empty() {
                    continue;
                }
                let mut values = match metadata.remove(key) {
                    Some(Value::Object(values)) => values,
                    _ => Map::new(),
                };
                for (name, value) in ours {
                    let theirs = values.insert(name.clone(), value.clone().into());
                    if theirs.is_some_and(|theirs| theirs != value.as_str()) {
                        notes.add(
                            format!("{path}.inlined"),
                            format!("metadata.{key} {name:?} gets another value"),
                            "the objects of a workspace are found by it",
                        );
                    }
                }
                metadata.insert(key.into(), Value::Object(values));
            }
        }
    }
    object
}
