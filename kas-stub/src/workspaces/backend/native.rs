//! A Deployment, its Service, volumes and ServiceAccount.

use model::DesiredState;
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::{Flattened, Frame, containers, pod, volumes};

#[derive(Debug)]
pub(super) struct Native;

impl Backend for Native {
    fn objects(&self, frame: &Frame<'_>, devfile: &Flattened) -> Vec<Value> {
        let name = frame.name.as_str();
        let mut objects = vec![json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": name },
            "automountServiceAccountToken": false,
        })];
        objects.extend(volumes::claims(frame, devfile));
        let ports = containers::service_ports(devfile);
        if !ports.is_empty() {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": name },
                "spec": { "selector": frame.selector(), "ports": ports },
            }));
        }
        objects.push(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": DesiredState::Running.replicas(),
                // Volumes that one node may mount: the old Pod goes first.
                "strategy": { "type": "Recreate" },
                "revisionHistoryLimit": 1,
                "selector": { "matchLabels": frame.selector() },
                "template": pod::template(frame, devfile),
            },
        }));
        objects.into_iter().map(|object| frame.mark(object)).collect()
    }

    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value> {
        set(objects, "Deployment", "/spec/replicas", &json!(desired.replicas()))
    }
}
