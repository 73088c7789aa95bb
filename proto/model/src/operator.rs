//! What the DevWorkspace Operator says: of a workspace that it runs, and of itself.
//!
//! Its words are carried as they are. Phases and conditions are open sets, of which a later version has more; what a
//! person is told does not depend on knowing all of them.

use serde::{Deserialize, Serialize};

use crate::workspace::ActualState;

/// The most conditions that are kept; the operator has ten, and one more for each warning.
pub const MAX_CONDITIONS: usize = 30;
/// The longest of its texts kept, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// A DevWorkspace, as its status and its owner show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorStatus {
    /// `status.phase`.
    pub phase: String,
    /// `status.message`.
    pub message: String,
    /// `status.mainUrl`: the operator's own address of the main endpoint, which leads there inside the cluster only.
    pub main_url: String,
    /// `spec.started`: the operator, and people in the cluster, set it to false by themselves.
    pub started: bool,
    /// Who stopped it, or why, where somebody said so (annotation `controller.devfile.io/stopped-by`).
    pub stopped_by: String,
    /// `status.conditions`, in the operator's order.
    pub conditions: Vec<Condition>,
}

/// A condition of a DevWorkspace. Its time is left out: it would make news of what is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// `type`. Several may have the same: `DevWorkspaceWarning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

impl OperatorStatus {
    /// A condition that holds.
    #[must_use]
    pub fn holding(&self, kind: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|it| it.kind == kind && it.status == "True")
    }
}

/// Whether workspaces of an agent can be run by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorState {
    /// New ones can be made.
    pub available: bool,
    /// Why not, as a stable word: see [`OperatorState::MISSING`] and the others; empty when it is.
    pub code: String,
    /// The same for a person, with what would help; also what its old version does not have.
    pub reason: String,
    /// Fields of a devfile that the cluster's DevWorkspaces do not have, because the operator is old.
    pub missing_fields: Vec<String>,
}

impl OperatorState {
    /// The cluster has no DevWorkspaces.
    pub const MISSING: &str = "operator_missing";
    /// The agent has no right to them.
    pub const FORBIDDEN: &str = "operator_forbidden";
    /// The operator's admission checks cannot be asked, so that the API server takes no DevWorkspace.
    pub const WEBHOOK_DOWN: &str = "operator_webhook_down";
    /// Nothing is known yet.
    pub const UNKNOWN: &str = "operator_unknown";
}

/// The state of a workspace that the operator runs, from its phase. `wants_to_run` is what the server asked for;
/// `started` is `spec.started`, or true while the wish is still on its way there. GitLab has no such table; this one gives
/// the operator's phases GitLab's words.
#[must_use]
pub fn dev_workspace_state(phase: &str, started: bool, wants_to_run: bool) -> ActualState {
    match (phase, wants_to_run, started) {
        ("Running", true, true) => ActualState::Running,
        // A wish to start that the operator has not seen yet leaves the phase of before.
        ("" | "Starting" | "Stopping" | "Stopped" | "Failed", true, true) => ActualState::Starting,
        // Somebody else stopped it: the operator, or a person in the cluster.
        ("Running" | "Starting" | "Stopping", true, false) => ActualState::Stopping,
        ("" | "Stopped", true, false) => ActualState::Stopped,
        ("Failing", true, _) | ("Failed", true, false) => ActualState::Failed,
        ("Running" | "Starting" | "Stopping" | "Failing", false, _) => ActualState::Stopping,
        // The operator stops what failed by itself: to one who wants it stopped, it is.
        ("" | "Stopped" | "Failed", false, _) => ActualState::Stopped,
        // It is being deleted, by somebody else: if it is wanted, it comes back.
        ("Terminating", _, _) => ActualState::Stopping,
        ("Error", _, _) => ActualState::Error,
        _ => ActualState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_phases_get_gitlabs_words() {
        use ActualState as A;
        for (phase, to_run, stopped_by_others, to_stop) in [
            ("", A::Starting, A::Stopped, A::Stopped),
            ("Starting", A::Starting, A::Stopping, A::Stopping),
            ("Running", A::Running, A::Stopping, A::Stopping),
            ("Stopping", A::Starting, A::Stopping, A::Stopping),
            ("Stopped", A::Starting, A::Stopped, A::Stopped),
            ("Failing", A::Failed, A::Failed, A::Stopping),
            ("Failed", A::Starting, A::Failed, A::Stopped),
            ("Terminating", A::Stopping, A::Stopping, A::Stopping),
            ("Error", A::Error, A::Error, A::Error),
            ("Hibernating", A::Unknown, A::Unknown, A::Unknown),
        ] {
            assert_eq!(dev_workspace_state(phase, true, true), to_run, "{phase}");
            assert_eq!(
                dev_workspace_state(phase, false, true),
                stopped_by_others,
                "{phase}"
            );
            for started in [true, false] {
                assert_eq!(
                    dev_workspace_state(phase, started, false),
                    to_stop,
                    "{phase}"
                );
            }
        }
    }

    #[test]
    fn a_record_of_an_older_server_is_read() {
        let read: OperatorStatus = serde_json::from_str("{\"phase\": \"Running\"}").unwrap();
        assert_eq!(read.phase, "Running");
        assert_eq!(read.conditions, []);
    }
}
