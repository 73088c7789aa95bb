use jiff::SignedDuration;
use model::{ActualState as A, DesiredState as D};
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn life(desired: D, actual: A, generation: u64, applied_generation: u64) -> Life {
    Life {
        desired,
        actual,
        generation,
        applied_generation,
        ..Life::new(at(0))
    }
}

fn report(applied_generation: u64, actual: A) -> Report {
    Report {
        applied_generation,
        actual,
        seen_at: at(90),
        failures: Vec::new(),
        operator: None,
        unknown_is_seen: false,
    }
}

fn failure(code: &str, since: i64) -> FailureSeen {
    FailureSeen {
        code: code.into(),
        component: "tools".into(),
        message: format!("{code}, since {since}"),
        evidence: String::new(),
        since: at(since),
        next_try_at: None,
    }
}

/// One line: what there is then, and the steps.
fn readable(decision: Option<Decision>) -> String {
    let Some(Decision { life, steps }) = decision else {
        return "nothing".into();
    };
    let steps: Vec<_> = steps
        .iter()
        .map(|(_, step)| match step {
            Step::Desired {
                state,
                generation,
                reason: None,
            } => format!("desired {state:?} {generation}"),
            Step::Desired {
                state,
                generation,
                reason: Some(reason),
            } => format!("desired {state:?} {generation} ({reason})"),
            Step::Rendered {
                generation, fields, ..
            } => format!("rendered {generation} {fields:?}"),
            Step::Applied { generation } => format!("applied {generation}"),
            Step::Actual { state } => format!("actual {state:?}"),
            Step::Failure { code, .. } => format!("failure {code}"),
            Step::FailureCleared { code, .. } => format!("cleared {code}"),
        })
        .collect();
    let Life {
        desired,
        actual,
        generation,
        applied_generation,
        ..
    } = life;
    format!(
        "{desired:?} {generation} {actual:?} {applied_generation}: {}",
        steps.join(", ")
    )
}

#[test]
fn what_a_report_makes_of_a_workspace() {
    #[rustfmt::skip]
    let rows = [
        // Life, one step at a time.
        (life(D::Running, A::CreationRequested, 1, 0), report(0, A::Unknown), "nothing"),
        (life(D::Running, A::CreationRequested, 1, 0), report(1, A::Unknown), "Running 1 CreationRequested 1: applied 1"),
        (life(D::Running, A::CreationRequested, 1, 0), report(1, A::Starting), "Running 1 Starting 1: applied 1, actual Starting"),
        (life(D::Running, A::Starting, 1, 1), report(1, A::Running), "Running 1 Running 1: actual Running"),
        (life(D::Running, A::Running, 1, 1), report(1, A::Running), "nothing"),
        (life(D::Stopped, A::Running, 2, 1), report(1, A::Running), "nothing"),
        (life(D::Stopped, A::Running, 2, 1), report(2, A::Stopping), "Stopped 2 Stopping 2: applied 2, actual Stopping"),
        (life(D::Stopped, A::Stopping, 2, 2), report(2, A::Stopped), "Stopped 2 Stopped 2: actual Stopped"),
        // A restart runs on when its own stop was seen.
        (life(D::RestartRequested, A::Stopped, 3, 2), report(2, A::Stopped), "nothing"),
        (life(D::RestartRequested, A::Running, 3, 2), report(3, A::Stopping), "RestartRequested 3 Stopping 3: applied 3, actual Stopping"),
        (life(D::RestartRequested, A::Stopping, 3, 3), report(3, A::Stopped), "Running 4 Stopped 3: actual Stopped, desired Running 4"),
        // Termination.
        (life(D::Terminated, A::Running, 4, 3), report(4, A::Terminating), "Terminated 4 Terminating 4: applied 4, actual Terminating"),
        (life(D::Terminated, A::Terminating, 4, 4), report(0, A::Terminated), "Terminated 4 Terminated 0: actual Terminated"),
        (life(D::Terminated, A::Terminated, 4, 0), report(4, A::Running), "nothing"),
        (life(D::Running, A::Running, 1, 1), report(1, A::Terminated), "Running 1 Unknown 1: actual Unknown"),
        // Older and newer than known.
        (life(D::Stopped, A::Stopped, 5, 5), report(4, A::Running), "nothing"),
        (life(D::Running, A::Running, 5, 5), report(0, A::Unknown), "Running 5 Unknown 0: actual Unknown"),
        (life(D::Running, A::Running, 2, 2), report(7, A::Stopped), "Running 8 Stopped 7: actual Stopped, desired Running 8"),
    ];
    for (before, report, expected) in rows {
        let decided = readable(decide(&before, &report, at(100)));
        assert_eq!(decided, expected, "{before:?}\n{report:?}");
    }
}

#[test]
fn what_new_objects_make_of_a_workspace() {
    let running = life(D::Running, A::Running, 3, 3);
    let anew = |wished| {
        let fields = vec!["labels".to_owned()];
        rendered(&running, wished, "abc".into(), fields, at(100))
    };
    let by_file = anew(None);
    assert_eq!(by_file.life.desired_at, running.desired_at, "no new wish");
    assert_eq!(
        readable(Some(by_file)),
        "Running 4 Running 3: rendered 4 [\"labels\"]"
    );
    let wished = anew(wish(&running, D::RestartRequested, at(100)));
    assert_eq!(wished.life.desired_at, at(100));
    assert_eq!(
        readable(Some(wished)),
        "RestartRequested 4 Running 3: rendered 4 [\"labels\"], desired RestartRequested 4"
    );
}

#[test]
fn what_a_wish_makes_of_a_workspace() {
    #[rustfmt::skip]
    let rows = [
        (life(D::Running, A::Running, 1, 1), D::Stopped, "Stopped 2 Running 1: desired Stopped 2"),
        (life(D::Running, A::Running, 1, 1), D::Running, "nothing"),
        (life(D::Running, A::Running, 1, 1), D::RestartRequested, "RestartRequested 2 Running 1: desired RestartRequested 2"),
        (life(D::RestartRequested, A::Stopping, 2, 2), D::Running, "nothing"),
        (life(D::Stopped, A::Stopped, 2, 2), D::RestartRequested, "Running 3 Stopped 2: desired Running 3"),
        (life(D::Stopped, A::Stopped, 2, 1), D::RestartRequested, "RestartRequested 3 Stopped 1: desired RestartRequested 3"),
        (life(D::Running, A::Starting, 1, 1), D::Terminated, "Terminated 2 Starting 1: desired Terminated 2"),
        (life(D::Terminated, A::Running, 2, 1), D::Running, "nothing"),
        (life(D::Terminated, A::Terminated, 2, 1), D::RestartRequested, "nothing"),
    ];
    for (before, desired, expected) in rows {
        assert_eq!(
            readable(wish(&before, desired, at(100))),
            expected,
            "{before:?} {desired:?}"
        );
    }
}

/// What the operator says of a DevWorkspace.
fn operator(started: bool) -> Option<OperatorStatus> {
    Some(OperatorStatus {
        started,
        ..OperatorStatus::default()
    })
}

#[test]
fn what_the_cluster_stopped_is_not_started_against_it() {
    let told = |actual, started| Report {
        operator: operator(started),
        failures: vec![FailureSeen {
            message: "stopped by hand".into(),
            component: String::new(),
            ..failure("StoppedInCluster", 90)
        }],
        ..report(1, actual)
    };
    let running = life(D::Running, A::Running, 1, 1);
    let stopping = decide(&running, &told(A::Stopping, false), at(100)).unwrap();
    assert_eq!(stopping.life.desired, D::Running);
    let stopped = decide(&stopping.life, &told(A::Stopped, false), at(101)).unwrap();
    assert_eq!(
        readable(Some(stopped.clone())),
        "Stopped 2 Stopped 1: actual Stopped, desired Stopped 2 (stopped by hand)"
    );
    assert_eq!(
        stopped.life.desired_reason.as_deref(),
        Some("stopped by hand")
    );
    // Only a person's wish ends that, and its reason with it.
    let started = wish(&stopped.life, D::Running, at(102)).unwrap();
    assert_eq!(started.life.desired_reason, None);
    assert_eq!(
        readable(Some(started)),
        "Running 3 Stopped 1: desired Running 3"
    );

    // Neither a wish that is still on its way, nor one to stop, nor a Deployment's Stopped is followed.
    let on_its_way = life(D::Running, A::Stopped, 2, 1);
    assert_eq!(
        decide(&on_its_way, &told(A::Stopped, false), at(100)).map(|it| it.life.desired),
        Some(D::Running)
    );
    let without = Report {
        operator: None,
        ..told(A::Stopped, false)
    };
    let decided = decide(&running, &without, at(100)).unwrap();
    assert_eq!(decided.life.desired, D::Running);
    let decided = decide(&running, &told(A::Stopped, true), at(100)).unwrap();
    assert_eq!(decided.life.desired, D::Running);
}

#[test]
fn what_the_operator_gave_up_starts_again_when_somebody_says_so() {
    let failed = |started| Life {
        operator: operator(started),
        ..life(D::Running, A::Failed, 1, 1)
    };
    assert_eq!(
        readable(wish(&failed(false), D::Running, at(100))),
        "RestartRequested 2 Failed 1: desired RestartRequested 2"
    );
    assert_eq!(
        readable(wish(&failed(true), D::Running, at(100))),
        "nothing"
    );
    let report = Report {
        operator: operator(false),
        ..report(1, A::Failed)
    };
    assert_eq!(decide(&failed(false), &report, at(100)), None);
    // An agent that has just begun knows no wish yet.
    let mut given_up = failed(false);
    let report = Report {
        operator: Some(OperatorStatus {
            phase: "Failed".into(),
            ..OperatorStatus::default()
        }),
        ..report
    };
    given_up.operator.clone_from(&report.operator);
    let stopped = Report {
        actual: A::Stopped,
        ..report
    };
    assert_eq!(decide(&given_up, &stopped, at(100)), None);
    given_up.desired = D::Stopped;
    let decided = decide(&given_up, &stopped, at(100)).unwrap();
    assert_eq!(decided.life.actual, A::Stopped);
}

#[test]
fn a_failure_that_goes_on_keeps_its_beginning_and_ends_when_it_is_told_no_more() {
    let before = life(D::Running, A::Starting, 1, 1);
    let told = |failures: Vec<FailureSeen>| Report {
        failures,
        ..report(1, A::Starting)
    };
    let first = decide(&before, &told(vec![failure("CrashLoop", 50)]), at(100)).unwrap();
    let life = first.life;
    assert_eq!(life.failures[0].since, at(50));

    let both = vec![failure("CrashLoop", 80), failure("OutOfMemory", 95)];
    let second = decide(&life, &told(both), at(110)).unwrap();
    let since: Vec<_> = second.life.failures.iter().map(|f| f.since).collect();
    assert_eq!(since, [at(50), at(95)]);
    assert_eq!(second.life.failures[0].message, "CrashLoop, since 80");
    assert!(
        matches!(&second.steps[..], [(_, Step::Failure { code, .. })] if code == "OutOfMemory")
    );

    let third = decide(&second.life, &told(vec![]), at(120)).unwrap();
    assert_eq!(third.life.failures, []);
    assert_eq!(third.steps.len(), 2);
    assert_eq!(decide(&third.life, &told(vec![]), at(130)), None);
}

#[test]
fn a_next_try_told_again_with_another_age_is_no_news() {
    let mut told = failure("ImagePulling", 50);
    told.next_try_at = Some(at(140));
    let mut before = life(D::Running, A::Starting, 1, 1);
    before.failures = vec![told.clone()];
    told.next_try_at = Some(at(140) + SignedDuration::from_millis(40));
    let report = Report {
        failures: vec![told],
        ..report(1, A::Starting)
    };
    assert_eq!(decide(&before, &report, at(100)), None);
}

#[test]
fn times_are_never_in_the_future() {
    let late = Report {
        seen_at: at(200),
        failures: vec![failure("CrashLoop", 300)],
        ..report(1, A::Running)
    };
    let decision = decide(&life(D::Running, A::Starting, 1, 1), &late, at(100)).unwrap();
    assert_eq!(decision.life.actual_at, at(100));
    assert_eq!(decision.life.failures[0].since, at(100));
}

fn any_desired() -> impl Strategy<Value = D> {
    prop::sample::select(vec![
        D::Running,
        D::RestartRequested,
        D::Stopped,
        D::Terminated,
    ])
}

fn any_actual() -> impl Strategy<Value = A> {
    prop::sample::select(vec![
        A::CreationRequested,
        A::Starting,
        A::Running,
        A::Stopping,
        A::Stopped,
        A::Terminating,
        A::Terminated,
        A::Failed,
        A::Error,
        A::Unknown,
    ])
}

fn any_failures() -> impl Strategy<Value = Vec<FailureSeen>> {
    let codes = prop::sample::select(vec!["CrashLoop", "OutOfMemory", "CloneFailed"]);
    prop::collection::vec((codes, 0_i64..200), 0..5).prop_map(|failures| {
        failures
            .into_iter()
            .map(|(code, at)| failure(code, at))
            .collect()
    })
}

#[derive(Debug, Clone)]
enum Input {
    Report(Report),
    Wish(D),
}

fn any_input() -> impl Strategy<Value = Input> {
    let any = (
        0_u64..8,
        any_actual(),
        0_i64..200,
        any_failures(),
        any::<bool>(),
    );
    let report = any.prop_map(
        |(applied_generation, actual, seen, failures, unknown_is_seen)| {
            Input::Report(Report {
                applied_generation,
                actual,
                seen_at: at(seen),
                failures,
                operator: None,
                unknown_is_seen,
            })
        },
    );
    prop_oneof![4 => report, 1 => any_desired().prop_map(Input::Wish)]
}

fn next(life: &Life, input: &Input, now: Timestamp) -> Option<Decision> {
    match input {
        Input::Report(report) => decide(life, report, now),
        Input::Wish(desired) => wish(life, *desired, now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn over_any_life(inputs in prop::collection::vec(any_input(), 0..40)) {
        let mut life = Life::new(at(0));
        for (input, second) in inputs.iter().zip(100..) {
            let before = life.clone();
            let Some(decision) = next(&before, input, at(second)) else { continue };
            life = decision.life;

            prop_assert_ne!(&life, &before, "a decision changes something");
            prop_assert!(life.generation >= before.generation);
            let is_new_wish = life.desired != before.desired;
            prop_assert!(!is_new_wish || life.generation > before.generation, "a new wish has a new generation");
            prop_assert!(before.desired != D::Terminated || life.desired == D::Terminated, "terminated is final");
            prop_assert!(life.actual != A::Terminated || life.desired == D::Terminated, "only what was asked");
            prop_assert!(!before.is_over(), "nothing happens after the end");
            prop_assert!(life.failures.len() <= MAX_FAILURES);
            prop_assert!(life.actual_at >= before.actual_at && life.actual_at <= at(second));
            if let Input::Report(report) = input {
                let is_older = report.applied_generation != 0
                    && report.applied_generation < before.applied_generation;
                prop_assert!(!is_older, "an older report changes nothing");
                prop_assert_eq!(life.desired == D::Terminated, before.desired == D::Terminated, "no report terminates");
            }
        }
    }

    #[test]
    fn the_same_report_twice_is_no_news(inputs in prop::collection::vec(any_input(), 0..20), last in any_input()) {
        let mut life = Life::new(at(0));
        for input in inputs.iter().chain([&last]) {
            if let Some(decision) = next(&life, input, at(300)) {
                life = decision.life;
            }
        }
        // A restart that has stopped asks for more once, a lost generation is asserted once: then it is still.
        for _ in 0..2 {
            if let Some(decision) = next(&life, &last, at(301)) {
                life = decision.life;
            }
        }
        prop_assert_eq!(next(&life, &last, at(302)), None);
    }
}
