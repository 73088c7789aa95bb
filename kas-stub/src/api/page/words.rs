//! What the page says of a workspace, in words.

use jiff::Timestamp;
use model::{ActualState, DesiredState, OperatorStatus, configuration::ApplyChanges};

use crate::{
    configuration::NO_COMMIT,
    workspaces::{
        events::{Event, Step},
        limits::NextChange,
        settings::Against,
    },
};

/// Characters of a commit that tell it apart.
const SHORT_COMMIT: usize = 12;

pub(super) struct EventRow {
    pub(super) at: Timestamp,
    pub(super) text: String,
}

impl From<&Event> for EventRow {
    fn from(event: &Event) -> Self {
        let text = match &event.step {
            Step::Desired {
                state,
                reason: None,
                ..
            } => format!("Asked: {}", wish(*state)),
            Step::Desired {
                state,
                reason: Some(reason),
                ..
            } => format!("By itself: {} ({reason})", wish(*state)),
            Step::Rendered { commit, fields, .. } => rendered(commit, fields),
            Step::Applied { .. } => "The agent has given it to the cluster".to_owned(),
            Step::Actual { state } => in_words(*state).to_owned(),
            Step::Failure {
                code,
                component,
                message,
            } if component.is_empty() => format!("{code}: {message}"),
            Step::Failure {
                code,
                component,
                message,
            } => format!("{code} in {component}: {message}"),
            Step::FailureCleared { code, component } if component.is_empty() => {
                format!("{code} is over")
            }
            Step::FailureCleared { code, component } => format!("{code} in {component} is over"),
        };
        Self { at: event.at, text }
    }
}

/// What becomes of it by itself.
pub(super) struct Next {
    pub(super) what: &'static str,
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) takes_files: bool,
}

impl From<NextChange> for Next {
    fn from(change: NextChange) -> Self {
        let NextChange {
            state, at, reason, ..
        } = change;
        let takes_files = state == DesiredState::Terminated;
        Self {
            what: if takes_files {
                "Deleted, with its files,"
            } else {
                "Stopped"
            },
            at,
            reason,
            takes_files,
        }
    }
}

/// What it was rendered with, in words.
pub(super) fn against(against: &Against) -> String {
    let Against {
        commit,
        current,
        differs,
        applies,
    } = against;
    let of = commit.as_deref().map_or_else(
        || "no configuration file".to_owned(),
        |commit| format!("commit {}", short(commit)),
    );
    if *current {
        return format!("{of}, as it is now");
    }
    let when = match applies {
        ApplyChanges::Now => "applied at once",
        ApplyChanges::OnRestart => "applied when it is started or restarted",
        ApplyChanges::Never => "not applied to it",
    };
    match differs.as_slice() {
        [] => format!("not known; what the file says now is {when}"),
        fields => format!("{of}; changed since: {}; {when}", fields.join(", ")),
    }
}

fn rendered(commit: &str, fields: &[String]) -> String {
    let of = match commit {
        NO_COMMIT => "without a configuration file".to_owned(),
        commit => format!("with the configuration of commit {}", short(commit)),
    };
    match fields {
        [] => format!("Rendered again, {of}"),
        fields => format!("Rendered again, {of}: {}", fields.join(", ")),
    }
}

/// Its phase and message in one line; warnings with it, which nothing else tells.
pub(super) fn of_operator(status: &OperatorStatus) -> String {
    let warnings = status.conditions.iter();
    let warnings = warnings.filter(|it| it.kind == "DevWorkspaceWarning" && it.status == "True");
    let mut line = format!("{} – {}", status.phase, status.message);
    for warning in warnings {
        line.push_str("; ");
        line.push_str(&warning.message);
    }
    line
}

pub(super) fn short(commit: &str) -> String {
    commit.get(..SHORT_COMMIT).unwrap_or(commit).to_owned()
}

pub(super) fn in_words(state: ActualState) -> &'static str {
    match state {
        ActualState::CreationRequested => "Waiting for the agent",
        ActualState::Starting => "Starting",
        ActualState::Running => "Running",
        ActualState::Stopping => "Stopping",
        ActualState::Stopped => "Stopped",
        ActualState::Terminating => "Being deleted",
        ActualState::Terminated => "Deleted",
        ActualState::Failed => "Failed",
        ActualState::Error => "Refused by the cluster",
        ActualState::Unknown => "Unknown",
    }
}

pub(super) fn tone(state: ActualState) -> &'static str {
    match state {
        ActualState::Running => "good",
        ActualState::Failed | ActualState::Error => "bad",
        ActualState::CreationRequested
        | ActualState::Starting
        | ActualState::Stopping
        | ActualState::Terminating => "busy",
        ActualState::Stopped | ActualState::Terminated | ActualState::Unknown => "",
    }
}

fn wish(desired: DesiredState) -> &'static str {
    match desired {
        DesiredState::Running => "run",
        DesiredState::RestartRequested => "restart",
        DesiredState::Stopped => "stop",
        DesiredState::Terminated => "delete it",
    }
}

/// What it is on the way to, when it is not there.
pub(super) fn waits_for(desired: DesiredState, actual: ActualState) -> Option<&'static str> {
    match (desired, actual) {
        (DesiredState::Running, ActualState::Running)
        | (DesiredState::Stopped, ActualState::Stopped)
        | (DesiredState::Terminated, ActualState::Terminated) => None,
        (DesiredState::Running, _) => Some("it is to run"),
        (DesiredState::RestartRequested, _) => Some("it is to stop and start again"),
        (DesiredState::Stopped, _) => Some("it is to stop"),
        (DesiredState::Terminated, _) => Some("it is to be deleted with its files"),
    }
}
