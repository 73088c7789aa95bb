//! What a workspace is asked to be, and what it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest workspace name in bytes: it becomes a label value, a Service name, part of a host name
/// (`<port>-<workspace>`), and is extended for the names of its objects.
pub const MAX_WORKSPACE_NAME_BYTES: usize = 40;

/// A workspace's name: lowercase letters, digits and `-`, a letter first, a letter or digit last, at most 40 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceName(String);

impl WorkspaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of a workspace that has one of its own.
    #[must_use]
    pub fn own_namespace(&self) -> String {
        format!("gl-rd-ns-{}", self.0)
    }
}

/// Why a text is no workspace name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a workspace name: {reason}; use at most 40 lowercase letters, digits and '-', with a letter first and a letter or digit last"
)]
pub struct InvalidWorkspaceName {
    name: String,
    reason: &'static str,
}

impl FromStr for WorkspaceName {
    type Err = InvalidWorkspaceName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidWorkspaceName {
            // A hostile name is not echoed at full length.
            name: name.chars().take(80).collect(),
            reason,
        };
        if name.len() > MAX_WORKSPACE_NAME_BYTES {
            return Err(invalid("it is longer than 40 characters"));
        }
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(invalid("it does not start with a lowercase letter"));
        }
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(invalid("it has another character"));
        }
        if name.ends_with('-') {
            return Err(invalid("it ends with '-'"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for WorkspaceName {
    type Error = InvalidWorkspaceName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<WorkspaceName> for String {
    fn from(name: WorkspaceName) -> Self {
        name.0
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the server asks a workspace to be (GitLab's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DesiredState {
    /// It should run.
    Running,
    /// It should stop and, once stopped, run again.
    RestartRequested,
    /// It should not run; its volumes stay.
    Stopped,
    /// Everything of it should go, volumes too. Final.
    Terminated,
}

impl DesiredState {
    /// How many Pods the workspace's Deployment should have.
    #[must_use]
    pub fn replicas(self) -> u32 {
        match self {
            Self::Running => 1,
            Self::RestartRequested | Self::Stopped | Self::Terminated => 0,
        }
    }

    /// What is desired once `actual` is seen: a restart that has stopped is a wish to run.
    #[must_use]
    pub fn after_seeing(self, actual: ActualState) -> Self {
        match (self, actual) {
            (Self::RestartRequested, ActualState::Stopped) => Self::Running,
            (Self::Running | Self::RestartRequested | Self::Stopped | Self::Terminated, _) => self,
        }
    }

    /// What a wish of `next` makes of this one: Terminated is final.
    #[must_use]
    pub fn changed_to(self, next: Self) -> Self {
        match self {
            Self::Terminated => Self::Terminated,
            Self::Running | Self::RestartRequested | Self::Stopped => next,
        }
    }
}

/// What a workspace is (GitLab's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ActualState {
    /// Asked for, and not yet seen in a cluster.
    CreationRequested,
    /// Its Pod is being made.
    Starting,
    /// It can be used.
    Running,
    /// Its Pod is going.
    Stopping,
    /// It has no Pod; its volumes stay.
    Stopped,
    /// Its objects are being deleted.
    Terminating,
    /// Nothing of it is left.
    Terminated,
    /// It did not come up in time.
    Failed,
    /// It could not be applied.
    Error,
    /// The cluster says something that no rule covers, or nothing.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels_and_hosts() {
        let longest = "a".repeat(40);
        for good in ["a", "my-workspace-1", longest.as_str()] {
            assert_eq!(good.parse::<WorkspaceName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(41);
        for bad in ["", "-a", "1a", "a-", "A", "a.b", "a_b", too_long.as_str()] {
            assert!(bad.parse::<WorkspaceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_restart_becomes_a_wish_to_run_only_when_stopped() {
        use ActualState as A;
        use DesiredState as D;
        assert_eq!(
            D::RestartRequested.after_seeing(A::Stopping),
            D::RestartRequested
        );
        assert_eq!(D::RestartRequested.after_seeing(A::Stopped), D::Running);
        assert_eq!(D::Stopped.after_seeing(A::Stopped), D::Stopped);
    }

    #[test]
    fn terminated_is_final() {
        for next in [
            DesiredState::Running,
            DesiredState::Stopped,
            DesiredState::RestartRequested,
        ] {
            assert_eq!(
                DesiredState::Terminated.changed_to(next),
                DesiredState::Terminated
            );
        }
    }
}
