//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use model::DesiredState;
use serde_json::{Map, Value, json};

use super::{Backend, set};
use crate::workspaces::render::{Flattened, Frame};

/// Where a volume of its own is asked for: the operator's default is one for all workspaces of a namespace, which it
/// cleans up by a job before it lets the workspace go.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, devfile: &Flattened) -> Vec<Value> {
        let mut template: Map<String, Value> = devfile.content().clone();
        // These are a devfile's alone; what a parent gave is in already.
        for key in ["schemaVersion", "metadata", "parent"] {
            template.remove(key);
        }
        let attributes = template.entry("attributes").or_insert_with(|| json!({}));
        if let Some(attributes) = attributes.as_object_mut() {
            attributes.entry(STORAGE_TYPE).or_insert_with(|| json!("per-workspace"));
        }
        let projects: Vec<_> = frame.projects(devfile).iter().map(|it| it.to_devfile()).collect();
        if !projects.is_empty() {
            // Projects of other kinds than Git stay as they are.
            let others = devfile.list("projects").iter().filter(|it| it["git"].is_null());
            let projects: Vec<_> = projects.into_iter().chain(others.cloned()).collect();
            template.insert("projects".into(), projects.into());
        }
        let object = json!({
            "apiVersion": "workspace.devfile.io/v1alpha2",
            "kind": "DevWorkspace",
            "metadata": { "name": frame.name.as_str() },
            "spec": { "started": true, "routingClass": "basic", "template": template },
        });
        vec![frame.mark(object)]
    }

    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value> {
        set(objects, "DevWorkspace", "/spec/started", &json!(desired.replicas() > 0))
    }
}
