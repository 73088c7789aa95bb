//! How many workspaces an agent, and a user on it, may have. Pure.
//!
//! Asked when one is made; what is there already is never touched, also when a quota became smaller.

use std::fmt;

use model::{DesiredState, configuration::RemoteDevelopment};

use super::workspace::Workspace;

/// The quotas of one agent; none: any number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quota {
    of_agent: Option<u32>,
    of_user: Option<u32>,
}

/// A quota that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) kind: QuotaKind,
    used: usize,
    limit: u32,
}

/// Whose workspaces are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaKind {
    /// All of the agent.
    Agent,
    /// Those of one user on it.
    User,
}

impl QuotaKind {
    /// The key in the configuration file.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Agent => "workspaces_quota",
            Self::User => "workspaces_per_user_quota",
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, used, limit } = self;
        let has = match kind {
            QuotaKind::Agent => "the agent has",
            QuotaKind::User => "you have on this agent",
        };
        let workspaces = if *used == 1 {
            "workspace"
        } else {
            "workspaces"
        };
        let field = kind.field();
        write!(f, "{has} {used} {workspaces}, and {field} allows {limit}")
    }
}

impl Quota {
    /// As the agent's file says.
    pub(crate) fn of(settings: &RemoteDevelopment) -> Self {
        Self {
            of_agent: settings.workspaces_quota,
            of_user: settings.workspaces_per_user_quota,
        }
    }

    /// Whether one more is allowed. As at GitLab, what is to be terminated does not count.
    pub(super) fn check<'a>(
        &self,
        agent_id: u64,
        owner: u64,
        workspaces: impl Iterator<Item = &'a Workspace>,
    ) -> Result<(), Reached> {
        if self.of_agent.is_none() && self.of_user.is_none() {
            return Ok(());
        }
        let (mut of_agent, mut of_user) = (0, 0);
        let counted = workspaces
            .filter(|it| it.agent_id == agent_id && it.life.desired != DesiredState::Terminated);
        for workspace in counted {
            of_agent += 1;
            of_user += usize::from(workspace.owner == owner);
        }
        for (kind, used, limit) in [
            (QuotaKind::Agent, of_agent, self.of_agent),
            (QuotaKind::User, of_user, self.of_user),
        ] {
            if let Some(limit) = limit
                && used >= limit as usize
            {
                return Err(Reached { kind, used, limit });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspaces::maker::sample;

    #[test]
    fn a_quota_counts_what_is_not_to_be_terminated() {
        let workspace = |agent_id, owner, desired| {
            let mut workspace = sample("one");
            (workspace.agent_id, workspace.owner) = (agent_id, owner);
            workspace.life.desired = desired;
            workspace
        };
        use DesiredState as D;
        let all = [
            workspace(1, 10, D::Running),
            workspace(1, 10, D::Stopped),
            workspace(1, 11, D::RestartRequested),
            workspace(1, 10, D::Terminated),
            workspace(2, 10, D::Running),
        ];
        #[rustfmt::skip]
        let rows = [
            (None, None, 10, None),
            (Some(4), None, 10, None),
            (Some(3), None, 10, Some("the agent has 3 workspaces, and workspaces_quota allows 3")),
            (Some(1), None, 12, Some("the agent has 3 workspaces, and workspaces_quota allows 1")),
            (Some(0), None, 12, Some("the agent has 3 workspaces, and workspaces_quota allows 0")),
            (None, Some(2), 10, Some("you have on this agent 2 workspaces, and workspaces_per_user_quota allows 2")),
            (None, Some(2), 11, None),
            (None, Some(1), 11, Some("you have on this agent 1 workspace, and workspaces_per_user_quota allows 1")),
            (None, Some(0), 12, Some("you have on this agent 0 workspaces, and workspaces_per_user_quota allows 0")),
            (Some(4), Some(2), 10, Some("you have on this agent 2 workspaces, and workspaces_per_user_quota allows 2")),
        ];
        for (of_agent, of_user, owner, expected) in rows {
            let quota = Quota { of_agent, of_user };
            let reached = quota.check(1, owner, all.iter()).err();
            let said = reached.map(|it| it.to_string());
            assert_eq!(said.as_deref(), expected, "{quota:?} {owner}");
        }
    }
}
