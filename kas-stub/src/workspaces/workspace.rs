//! A workspace as the server keeps it.
//!
//! What may be large (the devfile, the rendered objects) is a record of its own, read when it is needed; the rest is small
//! and in memory.

use jiff::Timestamp;
use model::{
    ActualState, DesiredState, OperatorStatus, WorkspaceName, configuration::ImagePullSecret,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    backend::BackendKind, editor::WorkspaceEditor, endpoints::WorkspaceEndpoint, events::Events,
    settings::RenderedWith,
};

/// A workspace: who it is, where it comes from, how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workspace {
    /// Random, so that a new server never matches a stranger's objects.
    pub(crate) id: String,
    pub(crate) name: WorkspaceName,
    /// The user whose it is.
    pub(crate) owner: u64,
    pub(crate) agent_id: u64,
    pub(crate) namespace: String,
    /// The namespace is this workspace's alone.
    pub(crate) own_namespace: bool,
    pub(crate) backend: BackendKind,
    pub(crate) source: Source,
    /// What people can open of it; empty for one that was made before this was kept.
    #[serde(default)]
    pub(crate) endpoints: Vec<WorkspaceEndpoint>,
    /// None: it was made without one.
    #[serde(default)]
    pub(crate) editor: Option<WorkspaceEditor>,
    /// The size it was made in, of the classes of the agent's configuration; none: as its devfile says.
    #[serde(default)]
    pub(crate) class: Option<String>,
    /// Secrets with which its images are pulled; the agent copies them to its namespace.
    #[serde(default)]
    pub(crate) pull_secrets: Vec<ImagePullSecret>,
    /// Its objects, as `Service web`, where other workspaces are in the namespace too; else none.
    #[serde(default)]
    pub(crate) shared_objects: Vec<String>,
    /// What its objects were rendered with; none: it was made before this was kept.
    #[serde(default)]
    pub(crate) rendered_with: Option<RenderedWith>,
    /// Newer settings that it could not be rendered with.
    #[serde(default)]
    pub(crate) not_applied: Option<NotApplied>,
    /// Of its [`Content`] in the store: each rendering is one more.
    #[serde(default = "first_version")]
    pub(crate) content_version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) life: Life,
    pub(crate) events: Events,
}

fn first_version() -> u64 {
    1
}

/// Why a workspace keeps what it was rendered with before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NotApplied {
    /// What it could not be rendered with; it is not tried again with the same until somebody starts it.
    pub(crate) settings: RenderedWith,
    pub(crate) failure: FailureSeen,
}

/// Where the devfile was read; empty for what another server made and this one only ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) repository: String,
    /// As asked for; none: the default branch.
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
    /// What that was at creation.
    pub(crate) commit: String,
    pub(crate) devfile_path: String,
}

/// What changes: the wish, what was seen, and why they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) desired: DesiredState,
    pub(crate) actual: ActualState,
    /// Grows with every change of the wish.
    pub(crate) generation: u64,
    /// The newest generation that the agent applied completely; 0: none.
    pub(crate) applied_generation: u64,
    pub(crate) failures: Vec<FailureSeen>,
    pub(crate) desired_at: Timestamp,
    pub(crate) actual_at: Timestamp,
    /// What the DevWorkspace Operator says of it, where that runs it.
    #[serde(default)]
    pub(crate) operator: Option<OperatorStatus>,
    /// Why that is wished, where nobody asked for it.
    #[serde(default)]
    pub(crate) desired_reason: Option<String>,
}

/// A failure with its times. The code is text: a newer agent may know more of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailureSeen {
    pub(crate) code: String,
    /// Container, volume or object; empty for the workspace as a whole.
    pub(crate) component: String,
    pub(crate) message: String,
    pub(crate) evidence: String,
    pub(crate) since: Timestamp,
    /// None: nothing is tried again by itself.
    pub(crate) next_try_at: Option<Timestamp>,
}

/// What was rendered, and of what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// As it was read.
    pub(crate) devfile: String,
    /// The devfile with all that it draws in, the repository among its projects, so that it can be rendered again without
    /// any network. A value: a later version of this program may know other fields. None: it was not kept yet.
    #[serde(default)]
    pub(crate) flattened: Option<Value>,
    /// As for a workspace that runs.
    pub(crate) objects: Vec<Value>,
    /// What the devfile says that has no effect.
    pub(crate) notes: Vec<Note>,
    /// The same, of what the backend does not do.
    #[serde(default)]
    pub(crate) rendered_notes: Vec<Note>,
}

/// Something in the devfile that is accepted and not honoured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) field: String,
    pub(crate) reason: String,
}

impl Workspace {
    /// Everything that is not as asked.
    pub(crate) fn failures(&self) -> Vec<FailureSeen> {
        let own = self.not_applied.iter().map(|it| &it.failure);
        self.life.failures.iter().chain(own).cloned().collect()
    }
}

impl Content {
    /// Everything in the devfile that has no effect.
    pub(crate) fn all_notes(&self) -> Vec<Note> {
        self.notes
            .iter()
            .chain(&self.rendered_notes)
            .cloned()
            .collect()
    }
}

impl Life {
    /// A workspace that was just asked for.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            desired: DesiredState::Running,
            actual: ActualState::CreationRequested,
            generation: 1,
            applied_generation: 0,
            failures: Vec::new(),
            desired_at: now,
            actual_at: now,
            operator: None,
            desired_reason: None,
        }
    }

    /// Nothing is left to do, ever.
    pub(crate) fn is_over(&self) -> bool {
        (self.desired, self.actual) == (DesiredState::Terminated, ActualState::Terminated)
    }
}
