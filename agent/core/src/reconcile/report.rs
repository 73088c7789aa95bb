//! What the server is told of a workspace, and when there is something to tell.

use std::time::Duration;

use model::{ActualState, Failure, OperatorStatus};

/// What is reported of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The newest generation that was applied completely; 0: none.
    pub applied_generation: u64,
    /// The state.
    pub actual_state: ActualState,
    /// Why it is not what was asked.
    pub failures: Vec<FailureStatus>,
    /// When this was seen first.
    pub since: Duration,
    /// What the DevWorkspace Operator says of it, where that runs it.
    pub operator: Option<OperatorStatus>,
}

/// A failure and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureStatus {
    /// What failed.
    pub failure: Failure,
    /// When it was seen first.
    pub since: Duration,
    /// When it is tried again.
    pub next_try: Option<Duration>,
}

/// What to tell the server that knows `last_sent`: `None` when nothing differs, times apart.
#[must_use]
pub fn report<'a>(last_sent: Option<&Status>, observed: &'a Status) -> Option<&'a Status> {
    let differs = last_sent.is_none_or(|sent| {
        sent.applied_generation != observed.applied_generation
            || sent.actual_state != observed.actual_state
            || sent.operator != observed.operator
            || !sent
                .failures
                .iter()
                .map(what)
                .eq(observed.failures.iter().map(what))
    });
    differs.then_some(observed)
}

/// A failure without times, and without the evidence, in which the cluster may count attempts or seconds.
fn what(status: &FailureStatus) -> (model::FailureCode, &str, &str) {
    let Failure {
        code,
        component,
        message,
        evidence: _,
    } = &status.failure;
    (*code, component, message)
}

#[cfg(test)]
mod tests {
    use model::FailureCode;

    use super::*;

    #[test]
    fn times_and_evidence_alone_are_no_news() {
        let failure = |evidence: &str, at: u64| FailureStatus {
            failure: Failure::new(FailureCode::CrashLoop, "tools", String::new(), evidence),
            since: Duration::from_secs(at),
            next_try: Some(Duration::from_secs(at)),
        };
        let status = |failures| Status {
            applied_generation: 1,
            actual_state: ActualState::Starting,
            failures,
            since: Duration::ZERO,
            operator: None,
        };
        let sent = status(vec![failure("started 1 times", 1)]);
        assert_eq!(
            report(Some(&sent), &status(vec![failure("started 2 times", 5)])),
            None
        );
        assert!(report(None, &sent).is_some());
        assert!(report(Some(&sent), &status(vec![])).is_some());
        let mut running = sent.clone();
        running.actual_state = ActualState::Running;
        assert!(report(Some(&sent), &running).is_some());
        running = Status {
            applied_generation: 2,
            ..sent.clone()
        };
        assert!(report(Some(&sent), &running).is_some());
        running = Status {
            operator: Some(OperatorStatus::default()),
            ..sent.clone()
        };
        assert!(report(Some(&sent), &running).is_some());
    }
}
