//! What a `DevWorkspace` makes of the status of its workspace. Pure.
//!
//! The operator, and people in the cluster, stop a workspace by `spec.started`, which the agent applied before. They are
//! not fought: what was applied stays as it is until the server wishes something else. Here it is told apart from a wish
//! that is still on its way.

use std::time::Duration;

use model::operator::dev_workspace_state;
use model::{ActualState, Failure, FailureCode};

use crate::failures::{DevWorkspaceSeen, EventSeen, Evidence, PodSeen, failures};

/// An operator that is there takes a new `DevWorkspace` up at once.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(20);

/// A workspace's `DevWorkspace`, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operated<'a> {
    pub(super) seen: &'a DevWorkspaceSeen,
    /// What the server asked for, or without a wish what the cluster says.
    pub(super) wants_to_run: bool,
    /// The newest wish is applied, and nobody is working on it: what is seen is what became of it.
    pub(super) is_settled: bool,
}

impl Operated<'_> {
    pub(super) fn state(&self) -> ActualState {
        let status = &self.seen.status;
        dev_workspace_state(
            &status.phase,
            status.started || !self.is_settled,
            self.wants_to_run,
        )
    }

    /// Somebody else stopped it.
    fn is_stopped_by_others(&self) -> bool {
        self.wants_to_run && self.is_settled && !self.seen.status.started
    }

    /// It gave the workspace up, and no newer wish is on its way.
    fn is_given_up(&self) -> bool {
        self.seen.status.phase == "Failed" && self.is_stopped_by_others()
    }
}

/// Why it does not run as asked. `last_words` are what its Pods said: they are kept here, since the operator takes the
/// Pods of what it gives up away. `since` it is not as asked.
pub(super) fn reasons(
    operated: &Operated<'_>,
    pods: &[&PodSeen],
    events: &[EventSeen],
    last_words: &mut Vec<Failure>,
    since: Option<Duration>,
    now: Duration,
) -> Vec<Failure> {
    let DevWorkspaceSeen { name, status } = operated.seen;
    let mut found = failures(Evidence {
        pods,
        events,
        ..Evidence::default()
    });
    if status.phase == "Running" {
        last_words.clear();
    }
    if operated.is_given_up() {
        found.clone_from(last_words);
    } else if !found.is_empty() {
        last_words.clone_from(&found);
        last_words.retain(|failure| failure.code != FailureCode::ImagePulling);
    }
    if operated.is_settled || status.phase != "Failed" {
        let said = failures(Evidence {
            dev_workspace: Some(operated.seen),
            ..Evidence::default()
        });
        // Of a container that has spoken itself the operator knows no more.
        let is_told = |one: &Failure| {
            let is_same = |told: &Failure| told.component == one.component;
            !one.component.is_empty() && found.iter().any(is_same)
        };
        let more: Vec<_> = said.into_iter().filter(|one| !is_told(one)).collect();
        found.extend(more);
    }
    if operated.is_stopped_by_others() && !matches!(status.phase.as_str(), "Failed" | "Failing") {
        let by = match status.stopped_by.as_str() {
            "" => String::new(),
            by => format!(" (it says: {by})"),
        };
        found.push(Failure::new(
            FailureCode::StoppedInCluster,
            name,
            format!("The DevWorkspace was stopped in the cluster, by the operator or by a person{by}; it starts again when somebody starts it."),
            &format!("spec.started is false, phase {}", status.phase),
        ));
    }
    let is_late = since.is_some_and(|since| now.saturating_sub(since) >= TAKEN_UP_WITHIN);
    if operated.wants_to_run && operated.is_settled && status.phase.is_empty() && is_late {
        found.push(Failure::new(
            FailureCode::OperatorUnavailable,
            name,
            format!(
                "The DevWorkspace Operator has not taken this workspace up within {} s: it is not running, or not well.",
                TAKEN_UP_WITHIN.as_secs()
            ),
            "",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use model::operator::OperatorStatus;
    use serde_json::json;

    use super::*;

    fn seen(phase: &str, started: bool) -> DevWorkspaceSeen {
        DevWorkspaceSeen {
            name: "w".into(),
            status: OperatorStatus {
                phase: phase.into(),
                message: "Error creating DevWorkspace deployment: Container tools has state ImagePullBackOff".into(),
                started,
                ..OperatorStatus::default()
            },
        }
    }

    fn told(
        phase: &str,
        started: bool,
        is_settled: bool,
        age: u64,
    ) -> (ActualState, Vec<FailureCode>) {
        let seen = seen(phase, started);
        let operated = Operated {
            seen: &seen,
            wants_to_run: true,
            is_settled,
        };
        let now = Duration::from_secs(age);
        let since = (operated.state() != ActualState::Running).then_some(Duration::ZERO);
        let found = reasons(&operated, &[], &[], &mut Vec::new(), since, now);
        (
            operated.state(),
            found.into_iter().map(|it| it.code).collect(),
        )
    }

    #[test]
    fn who_stopped_it_is_told_apart_from_a_wish_on_its_way() {
        use ActualState as A;
        use FailureCode as C;
        for (phase, started, is_settled, age, state, codes) in [
            ("Running", true, true, 0, A::Running, &[][..]),
            (
                "Running",
                false,
                true,
                0,
                A::Stopping,
                &[C::StoppedInCluster],
            ),
            (
                "Stopping",
                false,
                true,
                0,
                A::Stopping,
                &[C::StoppedInCluster],
            ),
            (
                "Stopped",
                false,
                true,
                0,
                A::Stopped,
                &[C::StoppedInCluster],
            ),
            // The wish to start is not applied yet.
            ("Stopped", false, false, 0, A::Starting, &[]),
            ("Failed", false, false, 0, A::Starting, &[]),
            // It is applied, and the operator has not looked yet.
            ("Failed", true, true, 0, A::Starting, &[]),
            ("Failing", true, true, 0, A::Failed, &[C::ImageUnreachable]),
            ("Failed", false, true, 0, A::Failed, &[C::ImageUnreachable]),
            ("", true, true, 19, A::Starting, &[]),
            ("", true, true, 20, A::Starting, &[C::OperatorUnavailable]),
            ("Starting", true, true, 900, A::Starting, &[]),
        ] {
            assert_eq!(
                told(phase, started, is_settled, age),
                (state, codes.to_vec()),
                "{phase} {started} {is_settled}"
            );
        }
    }

    #[test]
    fn what_the_pods_said_outlives_them() {
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "rpc error: x/y:1: not found"}});
        let pod = PodSeen::from_json(&json!({
            "metadata": {"uid": "u"},
            "spec": {"containers": [{"name": "tools", "image": "x/y:1"}]},
            "status": {"containerStatuses": [{"name": "tools", "state": waiting}]},
        }));
        let mut last_words = Vec::new();
        let mut step = |phase: &str, started, pods: &[&PodSeen]| {
            let seen = seen(phase, started);
            let operated = Operated {
                seen: &seen,
                wants_to_run: true,
                is_settled: true,
            };
            let found = reasons(&operated, pods, &[], &mut last_words, None, Duration::ZERO);
            found.into_iter().map(|it| it.code).collect::<Vec<_>>()
        };
        use FailureCode as C;
        assert_eq!(step("Starting", true, &[&pod]), [C::ImageNotFound]);
        assert_eq!(step("Failing", true, &[&pod]), [C::ImageNotFound]);
        assert_eq!(step("Failed", false, &[]), [C::ImageNotFound]);
    }
}
