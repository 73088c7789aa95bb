//! From a flattened devfile to what a cluster is given. Pure.
//!
//! Rules of every Pod: the restricted Pod security standard, no token of a service account, a home that outlives a stop,
//! the repository cloned once.

pub(super) mod clone;
pub(super) mod containers;
pub(super) mod devfile;
pub(super) mod events;
pub(super) mod pod;
pub(super) mod volumes;

use model::WorkspaceName;
use serde_json::{Map, Value, json};

use super::workspace::Source;
use crate::config::WorkspaceDefaults;
use clone::Project;

pub(super) use devfile::Flattened;

/// GitLab's label with the id of the agent, on everything.
const AGENT_ID_LABEL: &str = "agent.gitlab.com/id";
/// The workspace's name, on its Pods and what selects them.
const NAME_LABEL: &str = "workspaces.gitlab.com/name";
/// GitLab's annotation with the id of the workspace.
const ID_ANNOTATION: &str = "workspaces.gitlab.com/id";
/// cli-utils' annotation with the id of the inventory.
const INVENTORY_ANNOTATION: &str = "config.k8s.io/owning-inventory";

/// What a workspace's objects are made with, beside the devfile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a WorkspaceName,
    pub(crate) namespace: &'a str,
    pub(crate) agent_id: u64,
    pub(crate) source: &'a Source,
    pub(crate) defaults: &'a WorkspaceDefaults,
}

impl Frame<'_> {
    /// What selects the workspace's Pods.
    pub(super) fn selector(&self) -> Value {
        json!({ AGENT_ID_LABEL: self.agent_id.to_string(), NAME_LABEL: self.name.as_str() })
    }

    /// Puts an object into the workspace's namespace, with the marks by which the agent knows it as its own.
    pub(super) fn mark(&self, mut object: Value) -> Value {
        let metadata = &mut object["metadata"];
        metadata["namespace"] = self.namespace.into();
        metadata["labels"] = self.selector();
        metadata["annotations"] = json!({
            ID_ANNOTATION: self.id,
            INVENTORY_ANNOTATION: format!("{}-workspace-inventory", self.name),
        });
        object
    }

    /// What is cloned: the repository the workspace was made from, and the devfile's own projects.
    pub(super) fn projects(&self, devfile: &Flattened) -> Vec<Project> {
        clone::projects(self.source, devfile)
    }
}

/// A JSON object as a map; empty for anything else.
fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
