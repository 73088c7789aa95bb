//! What is kept of objects that were seen. Whatever has another shape than expected is absent, never an error.

use model::actual_state::DeploymentFacts;
use model::failure::MAX_EVIDENCE_BYTES;
use model::operator::{Condition, MAX_CONDITIONS, MAX_TEXT_BYTES, OperatorStatus};
use serde_json::Value;

use super::CLONE_CONTAINERS;

/// The most containers of a Pod that are looked at.
const MAX_CONTAINERS: usize = 50;
/// Where something in the cluster that stops a `DevWorkspace` says why.
const STOPPED_BY_ANNOTATION: &str = "controller.devfile.io/stopped-by";
/// The longest name or reason kept, in bytes: longer than any that Kubernetes makes.
const MAX_NAME_BYTES: usize = 512;

/// A Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentSeen {
    /// Its name.
    pub name: String,
    /// What its state follows from.
    pub facts: DeploymentFacts,
    /// Why no Pod can be made: the message of the condition `ReplicaFailure`.
    pub replica_failure: Option<String>,
    /// The message of the condition `Progressing`, where the deadline has passed.
    pub progress_message: Option<String>,
}

/// A `DevWorkspace`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevWorkspaceSeen {
    /// Its name.
    pub name: String,
    /// What the operator says of it.
    pub status: OperatorStatus,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodSeen {
    /// Its UID.
    pub uid: String,
    /// It is being deleted.
    pub terminating: bool,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// All its containers, init containers first.
    pub containers: Vec<ContainerSeen>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// It runs before the others, and ends.
    pub is_init: bool,
    /// `resources.limits.memory`.
    pub memory_limit: Option<String>,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended the time before.
    pub last_termination: Option<Termination>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It waits; both are empty where nothing was said.
    Waiting {
        /// Why, in a word.
        reason: String,
        /// Why, at length.
        message: String,
    },
    /// It runs.
    Running,
    /// It ended.
    Terminated(Termination),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Exit code.
    pub exit_code: i64,
    /// Why, in a word: `Error`, `Completed`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Its termination message: by the policy `FallbackToLogsOnError` its last lines.
    pub message: String,
}

/// An event about a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSeen {
    /// UID of the object it is about.
    pub uid: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
}

impl DeploymentSeen {
    /// Reads a Deployment.
    #[must_use]
    pub fn from_json(deployment: &Value) -> Self {
        let facts = DeploymentFacts::from_json(deployment);
        let condition = |kind: &str, status: &str| {
            let conditions = deployment["status"]["conditions"].as_array()?;
            let is_it = |one: &&Value| one["type"] == kind && one["status"] == status;
            Some(text(&conditions.iter().find(is_it)?["message"]))
        };
        Self {
            name: name(&deployment["metadata"]["name"]),
            replica_failure: condition("ReplicaFailure", "True"),
            progress_message: condition("Progressing", "False"),
            facts,
        }
    }
}

impl DevWorkspaceSeen {
    /// Reads a `DevWorkspace`.
    #[must_use]
    pub fn from_json(dev_workspace: &Value) -> Self {
        let (metadata, status) = (&dev_workspace["metadata"], &dev_workspace["status"]);
        let words = |value: &Value| cut(value.as_str().unwrap_or_default(), MAX_TEXT_BYTES);
        let condition = |condition: &Value| Condition {
            kind: name(&condition["type"]),
            status: name(&condition["status"]),
            reason: name(&condition["reason"]),
            message: words(&condition["message"]),
        };
        let conditions = status["conditions"].as_array();
        let conditions = conditions.into_iter().flatten().take(MAX_CONDITIONS);
        Self {
            name: name(&metadata["name"]),
            status: OperatorStatus {
                phase: name(&status["phase"]),
                message: words(&status["message"]),
                main_url: words(&status["mainUrl"]),
                started: dev_workspace["spec"]["started"] == true,
                stopped_by: words(&metadata["annotations"][STOPPED_BY_ANNOTATION]),
                conditions: conditions.map(condition).collect(),
            },
        }
    }
}

impl PodSeen {
    /// Reads a Pod.
    #[must_use]
    pub fn from_json(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let unschedulable = list(&status["conditions"]).into_iter().find(|condition| {
            condition["type"] == "PodScheduled"
                && condition["status"] == "False"
                && condition["reason"] == "Unschedulable"
        });
        let mut containers = Vec::new();
        for (specs, statuses, is_init) in [
            (
                &spec["initContainers"],
                &status["initContainerStatuses"],
                true,
            ),
            (&spec["containers"], &status["containerStatuses"], false),
        ] {
            let statuses = statuses.as_array().map_or(&[][..], Vec::as_slice);
            for container in specs.as_array().into_iter().flatten().take(MAX_CONTAINERS) {
                let status = statuses
                    .iter()
                    .find(|status| status["name"] == container["name"]);
                containers.push(ContainerSeen::from_json(container, status, is_init));
            }
        }
        Self {
            uid: name(&pod["metadata"]["uid"]),
            terminating: pod["metadata"]["deletionTimestamp"].is_string(),
            unschedulable: unschedulable.map(|condition| text(&condition["message"])),
            containers,
        }
    }
}

impl PodSeen {
    /// Something in it waits.
    pub(crate) fn is_pending(&self) -> bool {
        let waits =
            |container: &ContainerSeen| matches!(container.state, ContainerState::Waiting { .. });
        self.containers.iter().any(waits)
    }
}

impl ContainerSeen {
    fn from_json(container: &Value, status: Option<&Value>, is_init: bool) -> Self {
        let status = status.unwrap_or(&Value::Null);
        let state = &status["state"];
        let state = if let Some(ended) = Termination::from_json(&state["terminated"]) {
            ContainerState::Terminated(ended)
        } else if state["running"].is_object() {
            ContainerState::Running
        } else {
            ContainerState::Waiting {
                reason: name(&state["waiting"]["reason"]),
                message: text(&state["waiting"]["message"]),
            }
        };
        Self {
            name: name(&container["name"]),
            image: name(&container["image"]),
            is_init,
            memory_limit: container["resources"]["limits"]["memory"]
                .as_str()
                .map(|limit| cut(limit, MAX_NAME_BYTES)),
            state,
            last_termination: Termination::from_json(&status["lastState"]["terminated"]),
        }
    }

    /// It clones the projects.
    pub(super) fn is_cloner(&self) -> bool {
        self.is_init
            && CLONE_CONTAINERS
                .iter()
                .any(|prefix| self.name.starts_with(prefix))
    }

    /// How it ended: now, or the time before, unless it runs.
    pub(super) fn last_end(&self) -> Option<&Termination> {
        match &self.state {
            ContainerState::Terminated(ended) => Some(ended),
            ContainerState::Waiting { .. } => self.last_termination.as_ref(),
            ContainerState::Running => None,
        }
    }

    /// It waits, and nothing says that this went wrong.
    pub(super) fn is_being_created(&self) -> bool {
        matches!(&self.state, ContainerState::Waiting { reason, .. }
            if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing"))
    }
}

impl Termination {
    fn from_json(terminated: &Value) -> Option<Self> {
        let exit_code = terminated["exitCode"].as_i64()?;
        // The end of a log says more than its beginning.
        let message = terminated["message"].as_str().unwrap_or_default();
        let start = message.len().saturating_sub(MAX_EVIDENCE_BYTES);
        let start = (start..=message.len()).find(|at| message.is_char_boundary(*at));
        Some(Self {
            exit_code,
            reason: name(&terminated["reason"]),
            message: message[start.unwrap_or(0)..].to_owned(),
        })
    }
}

impl EventSeen {
    /// Reads an event (of the core API).
    #[must_use]
    pub fn from_json(event: &Value) -> Self {
        Self {
            uid: name(&event["involvedObject"]["uid"]),
            reason: name(&event["reason"]),
            message: text(&event["message"]),
        }
    }
}

fn text(value: &Value) -> String {
    cut(value.as_str().unwrap_or_default(), MAX_EVIDENCE_BYTES)
}

fn name(value: &Value) -> String {
    cut(value.as_str().unwrap_or_default(), MAX_NAME_BYTES)
}

fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}
