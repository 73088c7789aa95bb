//! The rules of actual state: from what a cluster shows of a workspace to one word.
//!
//! GitLab's table (`actual_state_calculator.rb` of 18.9), first rule that fits. It looks at the Deployment alone; why a
//! workspace is not what was asked is told by failures, which are laid over this and never change it.

use serde_json::Value;

use crate::workspace::ActualState;

/// What is reported of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// How far its deletion has come, once that began.
    pub termination: Option<TerminationProgress>,
    /// Its objects could not be applied.
    pub has_error: bool,
    /// Its Deployment, when there is one.
    pub deployment: Option<DeploymentFacts>,
}

/// How far a deletion has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminationProgress {
    /// Objects are still there.
    Terminating,
    /// Nothing is left.
    Terminated,
}

/// The few facts of a Deployment that the rules look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentFacts {
    /// `spec.replicas`.
    pub replicas: Option<u64>,
    /// `status.availableReplicas`; absent counts as 0.
    pub available: u64,
    /// `status.unavailableReplicas`; absent counts as 0.
    pub unavailable: u64,
    /// The reason of the condition `Progressing`.
    pub progressing: Option<String>,
    /// The reason of the condition `Available`.
    pub availability: Option<String>,
}

impl DeploymentFacts {
    /// Reads them from a Deployment as the API server writes it. What is missing or has another shape is absent.
    #[must_use]
    pub fn from_json(deployment: &Value) -> Self {
        let status = &deployment["status"];
        let reason = |kind: &str| {
            let conditions = status["conditions"].as_array()?;
            let condition = conditions
                .iter()
                .find(|condition| condition["type"] == kind)?;
            condition["reason"].as_str().map(str::to_owned)
        };
        Self {
            replicas: deployment["spec"]["replicas"].as_u64(),
            available: status["availableReplicas"].as_u64().unwrap_or(0),
            unavailable: status["unavailableReplicas"].as_u64().unwrap_or(0),
            progressing: reason("Progressing"),
            availability: reason("Available"),
        }
    }
}

/// The state that was observed.
#[must_use]
pub fn actual_state(observed: &Observed) -> ActualState {
    match observed.termination {
        Some(TerminationProgress::Terminated) => return ActualState::Terminated,
        _ if observed.has_error => return ActualState::Error,
        Some(TerminationProgress::Terminating) => return ActualState::Terminating,
        None => {}
    }
    observed
        .deployment
        .as_ref()
        .map_or(ActualState::Unknown, deployment_state)
}

fn deployment_state(deployment: &DeploymentFacts) -> ActualState {
    let DeploymentFacts {
        replicas,
        available,
        unavailable,
        progressing,
        availability,
    } = deployment;
    let (Some(replicas), Some(progressing)) = (*replicas, progressing.as_deref()) else {
        return ActualState::Unknown;
    };
    match progressing {
        "ProgressDeadlineExceeded" => return ActualState::Failed,
        "NewReplicaSetCreated" | "FoundNewReplicaSet" | "ReplicaSetUpdated" => match replicas {
            0 => return ActualState::Stopping,
            1 => return ActualState::Starting,
            _ => {}
        },
        _ => {}
    }
    match (progressing, availability.as_deref()) {
        ("NewReplicaSetAvailable", Some("MinimumReplicasAvailable")) => {
            match (replicas, *available, *unavailable) {
                (0, 0, _) => ActualState::Stopped,
                (spec, available, 0) if spec == available => ActualState::Running,
                (0, 1, _) => ActualState::Stopping,
                (1, 0, _) => ActualState::Starting,
                _ => ActualState::Unknown,
            }
        }
        ("NewReplicaSetAvailable", Some("MinimumReplicasUnavailable"))
            if (replicas, *available) == (1, 0) =>
        {
            ActualState::Starting
        }
        _ => ActualState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(
        progressing: &str,
        availability: &str,
        replicas: u64,
        available: u64,
        unavailable: u64,
    ) -> Value {
        json!({
            "spec": {"replicas": replicas},
            "status": {
                "availableReplicas": available, "unavailableReplicas": unavailable,
                "conditions": [
                    {"type": "Available", "reason": availability},
                    {"type": "Progressing", "reason": progressing},
                ],
            },
        })
    }

    fn state_of(deployment: &Value) -> ActualState {
        let facts = DeploymentFacts::from_json(deployment);
        actual_state(&Observed {
            deployment: Some(facts),
            ..Observed::default()
        })
    }

    /// One row per rule of the table.
    #[test]
    fn every_rule_of_the_table() {
        use ActualState as A;
        const AVAILABLE: &str = "MinimumReplicasAvailable";
        const UNAVAILABLE: &str = "MinimumReplicasUnavailable";
        const DONE: &str = "NewReplicaSetAvailable";
        let rows = [
            ("ProgressDeadlineExceeded", UNAVAILABLE, 1, 0, 1, A::Failed),
            ("NewReplicaSetCreated", UNAVAILABLE, 1, 0, 1, A::Starting),
            ("FoundNewReplicaSet", AVAILABLE, 1, 0, 0, A::Starting),
            ("ReplicaSetUpdated", AVAILABLE, 1, 1, 0, A::Starting),
            ("NewReplicaSetCreated", AVAILABLE, 0, 1, 0, A::Stopping),
            ("FoundNewReplicaSet", AVAILABLE, 0, 0, 0, A::Stopping),
            ("ReplicaSetUpdated", AVAILABLE, 0, 1, 0, A::Stopping),
            ("ReplicaSetUpdated", AVAILABLE, 2, 2, 0, A::Unknown),
            (DONE, AVAILABLE, 0, 0, 0, A::Stopped),
            (DONE, AVAILABLE, 1, 1, 0, A::Running),
            (DONE, AVAILABLE, 1, 1, 1, A::Unknown),
            (DONE, AVAILABLE, 0, 1, 0, A::Stopping),
            (DONE, AVAILABLE, 1, 0, 1, A::Starting),
            (DONE, UNAVAILABLE, 1, 0, 1, A::Starting),
            (DONE, UNAVAILABLE, 0, 0, 0, A::Unknown),
            (DONE, "SomethingElse", 1, 1, 0, A::Unknown),
            ("SomethingElse", AVAILABLE, 1, 1, 0, A::Unknown),
        ];
        for (progressing, availability, replicas, available, unavailable, expected) in rows {
            let row = deployment(progressing, availability, replicas, available, unavailable);
            assert_eq!(state_of(&row), expected, "{row}");
        }
    }

    #[test]
    fn what_is_missing_makes_it_unknown() {
        let whole = deployment(
            "NewReplicaSetAvailable",
            "MinimumReplicasAvailable",
            1,
            1,
            0,
        );
        assert_eq!(state_of(&whole), ActualState::Running);
        for missing in [
            "/spec/replicas",
            "/status",
            "/status/conditions",
            "/status/conditions/0/reason",
            "/status/conditions/1/reason",
        ] {
            let mut part = whole.clone();
            *part.pointer_mut(missing).unwrap() = Value::Null;
            assert_eq!(state_of(&part), ActualState::Unknown, "{missing}");
        }
        assert_eq!(actual_state(&Observed::default()), ActualState::Unknown);
    }

    #[test]
    fn absent_counts_are_zero() {
        let stopped = json!({
            "spec": {"replicas": 0},
            "status": {"conditions": [
                {"type": "Available", "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "reason": "NewReplicaSetAvailable"},
            ]},
        });
        assert_eq!(state_of(&stopped), ActualState::Stopped);
    }

    #[test]
    fn termination_and_errors_come_before_the_deployment() {
        let facts = DeploymentFacts::from_json(&deployment(
            "NewReplicaSetAvailable",
            "MinimumReplicasAvailable",
            1,
            1,
            0,
        ));
        let with = |termination, has_error| {
            actual_state(&Observed {
                termination,
                has_error,
                deployment: Some(facts.clone()),
            })
        };
        use TerminationProgress::{Terminated, Terminating};
        assert_eq!(with(Some(Terminated), true), ActualState::Terminated);
        assert_eq!(with(Some(Terminating), true), ActualState::Error);
        assert_eq!(with(Some(Terminating), false), ActualState::Terminating);
        assert_eq!(with(None, true), ActualState::Error);
    }
}
