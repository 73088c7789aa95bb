//! What becomes of a workspace by itself when time passes. Pure: time is an argument.
//!
//! Rules:
//! - The limits are those of the agent's configuration file as it is now, also for workspaces that were made before; they
//!   count only where the file turns `remote_development` on, so that no default of ours, and no file that cannot be
//!   read, ends anything.
//! - What is wished to run is stopped when that wish is older than `max_active_hours_before_stop` (a restart is a new
//!   wish); what is wished to be stopped is terminated when that is older than `max_stopped_hours_before_termination`.
//! - A termination, which takes the volumes, is put off where nobody could have seen it coming: until
//!   [`NOTICE`] after the server started, and after the limit was made shorter. So neither a server that was away for
//!   long, nor a machine that starts with a wrong clock, nor a slip in the file takes everything at once.
//! - Nothing else ends a workspace, but that nobody uses it ([`super::idle`]). (GitLab also terminates what was made a year ago, in use or not.)

use jiff::{SignedDuration, Timestamp};
use model::{DesiredState, configuration::RemoteDevelopment};
use serde::Serialize;

use super::workspace::Life;
use crate::configuration::Good;

/// How long a termination that nobody could see coming is put off. Longer than a night; shorter than a day, so that a server
/// that is started anew each day still ends what it has to.
pub(crate) const NOTICE: SignedDuration = SignedDuration::from_hours(12);

/// What a workspace's life is measured against.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The agent's name.
    pub(crate) agent: String,
    pub(crate) good: Good,
    /// No termination before this.
    pub(crate) notice_until: Timestamp,
}

/// What is to become of a workspace by itself, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NextChange {
    pub(crate) state: DesiredState,
    pub(crate) at: Timestamp,
    pub(crate) reason: String,
    pub(crate) origin: Origin,
}

/// Which setting says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Origin {
    /// Whose setting: `agent`, or `server`.
    level: &'static str,
    /// The agent's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Commit of its configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    field: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<u32>,
}

impl Origin {
    /// An option of the server.
    pub(super) fn of_server(field: &'static str, minutes: u32) -> Self {
        Self {
            level: "server",
            name: None,
            commit: None,
            field,
            hours: None,
            minutes: Some(minutes),
        }
    }
}

/// The next change, come or still to come; `None`: it stays as it is.
pub(crate) fn next_change(life: &Life, rules: &Rules) -> Option<NextChange> {
    let settings = &rules.good.configuration.remote_development;
    if !settings.enabled {
        return None;
    }
    let (state, field, hours, was) = match life.desired {
        DesiredState::Running | DesiredState::RestartRequested => (
            DesiredState::Stopped,
            "max_active_hours_before_stop",
            settings.max_active_hours_before_stop,
            "active",
        ),
        DesiredState::Stopped => (
            DesiredState::Terminated,
            "max_stopped_hours_before_termination",
            settings.max_stopped_hours_before_termination,
            "stopped",
        ),
        DesiredState::Terminated => return None,
    };
    let limit = SignedDuration::from_hours(hours.into());
    // What cannot be counted is far away.
    let mut at = life.desired_at.saturating_add(limit).ok()?;
    let mut reason = format!(
        "{was} for {hours} {}, the limit in the configuration of agent {}",
        if hours == 1 { "hour" } else { "hours" },
        rules.agent
    );
    if state == DesiredState::Terminated && at < rules.notice_until {
        at = rules.notice_until;
        reason.push_str("; put off, so that it can be seen coming");
    }
    Some(NextChange {
        state,
        at,
        reason,
        origin: Origin {
            level: "agent",
            name: Some(rules.agent.clone()),
            commit: Some(rules.good.workspaces_commit().to_owned()),
            field,
            hours: Some(hours),
            minutes: None,
        },
    })
}

/// The change that has come.
pub(crate) fn due(life: &Life, rules: &Rules, now: Timestamp) -> Option<NextChange> {
    next_change(life, rules).filter(|change| change.at <= now)
}

/// Whether `after` lets things be terminated that `before` did not: then nobody could see it coming.
pub(crate) fn ends_sooner(before: &RemoteDevelopment, after: &RemoteDevelopment) -> bool {
    let hours = |settings: &RemoteDevelopment| match settings.enabled {
        true => settings.max_stopped_hours_before_termination,
        false => u32::MAX,
    };
    hours(after) < hours(before)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{ActualState, configuration::ConfigurationFile};

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn settings(enabled: bool, active: u32, stopped: u32) -> RemoteDevelopment {
        RemoteDevelopment {
            enabled,
            max_active_hours_before_stop: active,
            max_stopped_hours_before_termination: stopped,
            ..RemoteDevelopment::default()
        }
    }

    fn rules(settings: RemoteDevelopment, notice_until: i64) -> Rules {
        let configuration = ConfigurationFile {
            remote_development: settings,
            ..ConfigurationFile::default()
        };
        Rules {
            agent: "main".into(),
            good: Good {
                commit: "abc".into(),
                older: Arc::default(),
                configuration: Arc::new(configuration),
                notes: Arc::default(),
                applied_at: at(0),
            },
            notice_until: at(notice_until),
        }
    }

    #[test]
    fn what_becomes_of_a_workspace() {
        use DesiredState as D;
        let on = || settings(true, 36, 744);
        #[rustfmt::skip]
        let rows = [
            // Wished at hour 100.
            (D::Running, on(), 0, Some((D::Stopped, 136, "active for 36 hours, the limit in the configuration of agent main"))),
            (D::RestartRequested, on(), 0, Some((D::Stopped, 136, "active for 36 hours, the limit in the configuration of agent main"))),
            (D::Stopped, on(), 0, Some((D::Terminated, 844, "stopped for 744 hours, the limit in the configuration of agent main"))),
            (D::Stopped, settings(true, 36, 1), 0, Some((D::Terminated, 101, "stopped for 1 hour, the limit in the configuration of agent main"))),
            (D::Terminated, on(), 0, None),
            // Volumes are not taken before it can be seen; a stop takes nothing.
            (D::Stopped, on(), 900, Some((D::Terminated, 900, "stopped for 744 hours, the limit in the configuration of agent main; put off, so that it can be seen coming"))),
            (D::Stopped, on(), 844, Some((D::Terminated, 844, "stopped for 744 hours, the limit in the configuration of agent main"))),
            (D::Running, on(), 900, Some((D::Stopped, 136, "active for 36 hours, the limit in the configuration of agent main"))),
            // Not turned on, or nothing is known.
            (D::Running, settings(false, 1, 1), 0, None),
            (D::Stopped, settings(false, 1, 1), 0, None),
            (D::Running, RemoteDevelopment::default(), 0, None),
        ];
        for (desired, settings, notice_until, expected) in rows {
            let life = Life {
                desired,
                actual: ActualState::Unknown,
                ..Life::new(at(100))
            };
            let rules = rules(settings, notice_until);
            let change = next_change(&life, &rules);
            let seen = change
                .as_ref()
                .map(|it| (it.state, it.at, it.reason.as_str()));
            let expected = expected.map(|(state, hours, reason)| (state, at(hours), reason));
            assert_eq!(seen, expected, "{desired:?} {notice_until}");
            let Some(change) = change else { continue };
            let second = SignedDuration::from_secs(1);
            assert_eq!(due(&life, &rules, change.at - second), None);
            assert_eq!(due(&life, &rules, change.at), Some(change));
        }
    }

    #[test]
    fn a_limit_that_became_shorter_or_began_is_no_surprise() {
        for (before, after, expected) in [
            (settings(true, 36, 744), settings(true, 36, 743), true),
            (settings(true, 36, 744), settings(true, 1, 744), false),
            (settings(true, 36, 744), settings(true, 36, 745), false),
            (settings(false, 36, 744), settings(true, 36, 8000), true),
            (settings(true, 36, 1), settings(false, 36, 1), false),
        ] {
            assert_eq!(ends_sooner(&before, &after), expected, "{after:?}");
        }
    }
}
