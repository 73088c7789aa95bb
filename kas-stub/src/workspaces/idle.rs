//! When a workspace that nobody uses is stopped. Pure: time is an argument.
//!
//! A workspace is idle while no connection to its ports is opened and no byte passes on one. It counts from when it ran, was
//! wished to, or was used last. DevWorkspace Operator has such a timeout too, and only tells it to its workspaces: what is
//! to stop them has to be somebody else.

use jiff::{SignedDuration, Timestamp};
use model::{ActualState, DesiredState};

use super::{
    backend::BackendKind,
    limits::{NextChange, Origin},
    workspace::Life,
};

/// After how many minutes, by how a workspace is run; 0: never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleLimits {
    pub(crate) native: u32,
    pub(crate) devworkspace: u32,
}

/// The stop of a workspace that was used last at `used_at`; `None`: it does not run, or is never stopped for that.
pub(crate) fn next_stop(
    life: &Life,
    backend: BackendKind,
    limits: IdleLimits,
    used_at: Timestamp,
) -> Option<NextChange> {
    let (minutes, field) = match backend {
        BackendKind::Native => (limits.native, "workspace-idle-timeout"),
        BackendKind::Devworkspace => (limits.devworkspace, "devworkspace-idle-timeout"),
    };
    let runs = life.desired == DesiredState::Running && life.actual == ActualState::Running;
    if minutes == 0 || !runs {
        return None;
    }
    let since = used_at.max(life.desired_at).max(life.actual_at);
    let limit = SignedDuration::from_mins(minutes.into());
    Some(NextChange {
        state: DesiredState::Stopped,
        // What cannot be counted is far away.
        at: since.saturating_add(limit).ok()?,
        reason: format!("not used for {minutes} minutes, the server's limit"),
        origin: Origin::of_server(field, minutes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn what_nobody_uses_is_stopped() {
        use {ActualState as A, BackendKind as B, DesiredState as D};
        let limits = |native, devworkspace| IdleLimits {
            native,
            devworkspace,
        };
        #[rustfmt::skip]
        let rows = [
            // Wished at minute 100, runs since 105.
            (D::Running, A::Running, B::Devworkspace, limits(0, 30), 0, Some(135)),
            (D::Running, A::Running, B::Devworkspace, limits(0, 30), 105, Some(135)),
            (D::Running, A::Running, B::Devworkspace, limits(0, 30), 120, Some(150)),
            (D::Running, A::Running, B::Devworkspace, limits(5, 0), 120, None),
            (D::Running, A::Running, B::Native, limits(0, 30), 120, None),
            (D::Running, A::Running, B::Native, limits(5, 30), 120, Some(125)),
            // It is on its way, or not wished to run.
            (D::Running, A::Starting, B::Devworkspace, limits(0, 30), 120, None),
            (D::Running, A::Failed, B::Devworkspace, limits(0, 30), 120, None),
            (D::RestartRequested, A::Running, B::Devworkspace, limits(0, 30), 120, None),
            (D::Stopped, A::Running, B::Devworkspace, limits(0, 30), 120, None),
            (D::Terminated, A::Running, B::Devworkspace, limits(0, 30), 120, None),
        ];
        for (desired, actual, backend, limits, used, expected) in rows {
            let life = Life {
                desired,
                actual,
                actual_at: at(105),
                ..Life::new(at(100))
            };
            let stop = next_stop(&life, backend, limits, at(used));
            let seen = stop.as_ref().map(|it| (it.state, it.at));
            let expected = expected.map(|minutes| (D::Stopped, at(minutes)));
            assert_eq!(seen, expected, "{desired:?} {actual:?} {limits:?} {used}");
        }
    }
}
