//! What a report, or a person's wish, makes of a workspace. Pure: time is an argument.
//!
//! Rules:
//! - What is seen is taken as the agent says it: it and nobody else judges the cluster (`model::actual_state`).
//! - A report about an older generation than one already reported as applied changes nothing; 0 ("nothing is applied")
//!   is news, for example after the namespace was deleted by hand.
//! - A restart goes on to Running when the stop that it asked for was seen, not an earlier one.
//! - What the cluster itself stopped (the DevWorkspace Operator, or a person there) is not started against it: the wish
//!   follows, with the reason, and a person's next wish starts it again. What the operator gave up stays wished, and is
//!   Failed, until somebody says so.
//! - Terminated is final, and only where it was asked for.
//! - An agent that applied a newer generation than there is has been told by a server whose database was newer than this
//!   one: the wish is given again under a number that the agent takes for news.

use jiff::Timestamp;
use model::{ActualState, DesiredState, FailureCode, OperatorStatus};

use super::{
    events::Step,
    limits::NextChange,
    workspace::{FailureSeen, Life},
};

/// Failures kept per workspace; an agent reports a few.
pub(crate) const MAX_FAILURES: usize = 20;

/// What the agent says of a workspace, times already by the server's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) applied_generation: u64,
    pub(crate) actual: ActualState,
    pub(crate) seen_at: Timestamp,
    pub(crate) failures: Vec<FailureSeen>,
    /// What the DevWorkspace Operator says, where that runs it.
    pub(crate) operator: Option<OperatorStatus>,
    /// `Unknown` is what somebody saw, also of a workspace of which nothing was seen before (GitLab's table). Otherwise it
    /// says no more of such a one than that it was asked for.
    pub(crate) unknown_is_seen: bool,
}

/// What becomes of a workspace, and the steps that led there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) life: Life,
    /// Steps and when each happened.
    pub(crate) steps: Vec<(Timestamp, Step)>,
}

/// What a report makes of a workspace; `None`: nothing that is worth a write.
pub(crate) fn decide(before: &Life, report: &Report, now: Timestamp) -> Option<Decision> {
    if before.is_over() || is_older(before, report) {
        return None;
    }
    let seen_at = report.seen_at.clamp(before.actual_at.min(now), now);
    let mut life = before.clone();
    let mut steps = Vec::new();

    life.applied_generation = report.applied_generation;
    if report.applied_generation == before.generation
        && before.applied_generation != before.generation
    {
        let generation = before.generation;
        steps.push((now, Step::Applied { generation }));
    }
    let actual = actual_after(before, report);
    if actual != before.actual {
        life.actual = actual;
        life.actual_at = seen_at;
        steps.push((seen_at, Step::Actual { state: actual }));
    }
    life.failures = merge_failures(&before.failures, &report.failures, now, &mut steps);
    life.operator.clone_from(&report.operator);

    if report.applied_generation > before.generation {
        life.generation = report.applied_generation + 1;
        let (state, generation) = (life.desired, life.generation);
        let reason = None;
        steps.push((
            now,
            Step::Desired {
                state,
                generation,
                reason,
            },
        ));
    } else if report.applied_generation == before.generation {
        if let Some(reason) = stopped_in_cluster(before, report, actual) {
            change_desired(
                &mut life,
                DesiredState::Stopped,
                Some(reason),
                now,
                &mut steps,
            );
        }
        let desired = life.desired.after_seeing(actual);
        change_desired(&mut life, desired, None, now, &mut steps);
    }
    (life != *before).then_some(Decision { life, steps })
}

/// What a person's wish makes of a workspace; `None`: it is wished already, or it is terminated.
pub(crate) fn wish(before: &Life, desired: DesiredState, now: Timestamp) -> Option<Decision> {
    let mut life = before.clone();
    let mut steps = Vec::new();
    let is_at_rest =
        before.actual == ActualState::Stopped && before.applied_generation == before.generation;
    let desired = match (before.desired, desired) {
        // What is stopped needs no stop before it runs again.
        (DesiredState::Stopped, DesiredState::RestartRequested) if is_at_rest => {
            DesiredState::Running
        }
        // What the operator gave up is at rest in the cluster, too.
        (DesiredState::Running, DesiredState::Running)
            if before.actual == ActualState::Failed && is_stopped_by_operator(before) =>
        {
            DesiredState::RestartRequested
        }
        // A restart is on its way to running already.
        (DesiredState::RestartRequested, DesiredState::Running) => DesiredState::RestartRequested,
        (_, desired) => desired,
    };
    let desired = before.desired.changed_to(desired);
    change_desired(&mut life, desired, None, now, &mut steps);
    (!steps.is_empty()).then_some(Decision { life, steps })
}

/// What the time that has passed makes of a workspace.
pub(crate) fn by_time(before: &Life, change: NextChange, now: Timestamp) -> Option<Decision> {
    let mut life = before.clone();
    let mut steps = Vec::new();
    let desired = before.desired.changed_to(change.state);
    change_desired(&mut life, desired, Some(change.reason), now, &mut steps);
    (!steps.is_empty()).then_some(Decision { life, steps })
}

/// What new objects make of a workspace: the agent has to hear of them. `wished`: somebody's wish of the same moment.
pub(crate) fn rendered(
    before: &Life,
    wished: Option<Decision>,
    commit: String,
    fields: Vec<String>,
    now: Timestamp,
) -> Decision {
    let Decision { life, steps } = wished.unwrap_or_else(|| Decision {
        life: Life {
            generation: before.generation + 1,
            ..before.clone()
        },
        steps: Vec::new(),
    });
    let rendered = Step::Rendered {
        generation: life.generation,
        commit,
        fields,
    };
    Decision {
        life,
        steps: [(now, rendered)].into_iter().chain(steps).collect(),
    }
}

fn change_desired(
    life: &mut Life,
    desired: DesiredState,
    reason: Option<String>,
    now: Timestamp,
    steps: &mut Vec<(Timestamp, Step)>,
) {
    if life.desired == desired {
        return;
    }
    life.desired = desired;
    life.desired_at = now;
    life.desired_reason.clone_from(&reason);
    life.generation += 1;
    let generation = life.generation;
    steps.push((
        now,
        Step::Desired {
            state: desired,
            generation,
            reason,
        },
    ));
}

/// Why it stopped, though it was wished to run and the agent has applied that.
fn stopped_in_cluster(before: &Life, report: &Report, actual: ActualState) -> Option<String> {
    let was_to_run = before.desired == DesiredState::Running && actual == ActualState::Stopped;
    let by_others = report.operator.as_ref().is_some_and(|it| !it.started);
    if !was_to_run || !by_others {
        return None;
    }
    let mut failures = report.failures.iter();
    let told = failures.find(|it| it.code == FailureCode::StoppedInCluster.as_str());
    Some(match told {
        Some(failure) => failure.message.clone(),
        None => "The DevWorkspace was stopped in the cluster.".to_owned(),
    })
}

fn is_given_up(report: &Report) -> bool {
    let operator = report.operator.as_ref();
    operator.is_some_and(|it| !it.started && it.phase == "Failed")
}

fn is_stopped_by_operator(life: &Life) -> bool {
    life.applied_generation == life.generation
        && life.operator.as_ref().is_some_and(|it| !it.started)
}

fn is_older(before: &Life, report: &Report) -> bool {
    report.applied_generation != 0 && report.applied_generation < before.applied_generation
}

fn actual_after(before: &Life, report: &Report) -> ActualState {
    match (report.actual, before.desired) {
        (ActualState::Terminated, DesiredState::Terminated) => ActualState::Terminated,
        (
            ActualState::Terminated,
            DesiredState::Running | DesiredState::RestartRequested | DesiredState::Stopped,
        ) => ActualState::Unknown,
        // An agent that has not heard of the wish yet takes what the operator gave up for stopped.
        (ActualState::Stopped, DesiredState::Running)
            if report.applied_generation == before.generation && is_given_up(report) =>
        {
            ActualState::Failed
        }
        // Before anything was seen, "unknown" says no more than "asked for".
        (ActualState::Unknown | ActualState::CreationRequested, _)
            if before.actual == ActualState::CreationRequested && !report.unknown_is_seen =>
        {
            ActualState::CreationRequested
        }
        (actual, _) => actual,
    }
}

/// The failures as reported; one that goes on keeps its beginning.
fn merge_failures(
    before: &[FailureSeen],
    reported: &[FailureSeen],
    now: Timestamp,
    steps: &mut Vec<(Timestamp, Step)>,
) -> Vec<FailureSeen> {
    let mut merged: Vec<FailureSeen> = Vec::new();
    for failure in reported {
        if merged.len() == MAX_FAILURES || merged.iter().any(|known| is_same(known, failure)) {
            continue;
        }
        let mut failure = failure.clone();
        match before.iter().find(|known| is_same(known, &failure)) {
            Some(known) => {
                failure.since = known.since;
                let drift =
                    |at: Timestamp| known.next_try_at.map(|was| was.duration_since(at).abs());
                // The same moment, told again with another age: no news.
                if let Some(at) = failure.next_try_at
                    && drift(at).is_some_and(|drift| drift < NEXT_TRY_DRIFT)
                {
                    failure.next_try_at = known.next_try_at;
                }
            }
            None => {
                failure.since = failure.since.min(now);
                steps.push((
                    failure.since,
                    Step::Failure {
                        code: failure.code.clone(),
                        component: failure.component.clone(),
                        message: failure.message.clone(),
                    },
                ));
            }
        }
        merged.push(failure);
    }
    for gone in before {
        if !merged.iter().any(|failure| is_same(failure, gone)) {
            let (code, component) = (gone.code.clone(), gone.component.clone());
            steps.push((now, Step::FailureCleared { code, component }));
        }
    }
    merged
}

/// How far two tellings of one moment may be apart: ages are measured at one end and received at the other.
const NEXT_TRY_DRIFT: jiff::SignedDuration = jiff::SignedDuration::from_millis(500);

fn is_same(one: &FailureSeen, other: &FailureSeen) -> bool {
    (&one.code, &one.component) == (&other.code, &other.component)
}

#[cfg(test)]
mod tests;
