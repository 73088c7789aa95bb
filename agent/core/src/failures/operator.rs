//! Reading what the DevWorkspace Operator says of a workspace that it gave up. It says so in one sentence of the condition
//! `FailedStart`, and takes the Pods away.

use model::{Failure, FailureCode};

use super::DevWorkspaceSeen;
use super::classify::{admission, cut, no_node};

/// Why a `DevWorkspace` that should run does not, in the operator's words; `None` while it says nothing of the kind.
pub(super) fn failure(dev_workspace: &DevWorkspaceSeen) -> Option<Failure> {
    let DevWorkspaceSeen { name, status } = dev_workspace;
    match status.phase.as_str() {
        "Failing" | "Error" => {}
        // Started again: what the operator says is of the time before.
        "Failed" if !status.started => {}
        _ => return None,
    }
    let condition = status
        .holding("FailedStart")
        .or_else(|| status.holding("Error"));
    let (reason, text) = match condition {
        Some(condition) if !condition.message.is_empty() => {
            (condition.reason.as_str(), condition.message.as_str())
        }
        Some(condition) => (condition.reason.as_str(), status.message.as_str()),
        None => ("", status.message.as_str()),
    };
    Some(admission(name, text).unwrap_or_else(|| classify(name, reason, text)))
}

/// What ends each message: the operator tries nothing again by itself.
const AGAIN: &str = "start it again when the cause is gone";

fn classify(name: &str, reason: &str, text: &str) -> Failure {
    let (code, component, message) = container_state(text)
        .or_else(|| event(text))
        .or_else(|| of_deployment(name, text))
        .or_else(|| of_time(name, text))
        .or_else(|| of_devfile(name, reason, text))
        .unwrap_or_else(|| {
            let message = "The DevWorkspace Operator gave this workspace up".to_owned();
            (FailureCode::DevWorkspaceFailed, name, message)
        });
    Failure::new(code, component, cut(format!("{message}; {AGAIN}.")), text)
}

type Found<'a> = (FailureCode, &'a str, String);

/// `Error creating DevWorkspace deployment: Init Container tools has state CrashLoopBackOff`
fn container_state(text: &str) -> Option<Found<'_>> {
    let (before, state) = text.split_once(" has state ")?;
    let container = before.rsplit(' ').next()?;
    let state = state.split([' ', '.', ',']).next()?;
    let (code, message) = match state {
        "CrashLoopBackOff" => (
            FailureCode::CrashLoop,
            "The container ends again and again, so that the operator gave the workspace up"
                .to_owned(),
        ),
        "CreateContainerError" | "RunContainerError" => (
            FailureCode::ContainerCannotStart,
            "The container cannot be started, so that the operator gave the workspace up"
                .to_owned(),
        ),
        "ImagePullBackOff" | "ErrImagePull" => (
            FailureCode::ImageUnreachable,
            "The container's image cannot be pulled, so that the operator gave the workspace up"
                .to_owned(),
        ),
        other => (
            FailureCode::DevWorkspaceFailed,
            format!("The container is {other}, so that the operator gave the workspace up"),
        ),
    };
    Some((code, container, message))
}

/// `Detected unrecoverable event FailedMount 3 times: MountVolume.SetUp failed for volume "x" : …`
fn event(text: &str) -> Option<Found<'_>> {
    let (_, rest) = text.split_once("Detected unrecoverable event ")?;
    let (event, said) = rest.split_once(": ")?;
    let found = match event.split(' ').next()? {
        "FailedScheduling" => {
            let (code, message) = no_node(said);
            (code, "", message.to_owned())
        }
        "FailedMount" => (
            FailureCode::VolumeNotMounted,
            said.split('"').nth(1).unwrap_or_default(),
            "A volume cannot be mounted".to_owned(),
        ),
        "FailedPostStartHook" => (
            FailureCode::ContainerCannotStart,
            "",
            "A postStart command failed; in the container, /tmp/poststart-stderr.txt has its output"
                .to_owned(),
        ),
        "FailedCreate" | "ReplicaSetCreateError" => (
            FailureCode::ObjectRefused,
            "",
            "The cluster makes no Pod for this workspace".to_owned(),
        ),
        other => (
            FailureCode::DevWorkspaceFailed,
            "",
            format!("The operator gave the workspace up because of the event {other}"),
        ),
    };
    Some(found)
}

/// `Detected unrecoverable deployment condition: FailedCreate …`
fn of_deployment<'a>(name: &'a str, text: &str) -> Option<Found<'a>> {
    let (_, rest) = text.split_once("Detected unrecoverable deployment condition: ")?;
    Some(match rest.split(' ').next()? {
        "ProgressDeadlineExceeded" => (
            FailureCode::ProgressDeadlineExceeded,
            name,
            "The workspace did not become ready in time; the other reasons, if any, say why"
                .to_owned(),
        ),
        _ => (
            FailureCode::ObjectRefused,
            name,
            "The cluster makes no Pod for this workspace".to_owned(),
        ),
    })
}

/// `DevWorkspace failed to progress past step 'Waiting for workspace deployment' for longer than timeout (5m)`
fn of_time<'a>(name: &'a str, text: &str) -> Option<Found<'a>> {
    let (_, rest) = text.split_once("DevWorkspace failed to progress past ")?;
    let step = rest.split('\'').nth(1).unwrap_or_default();
    let message = format!(
        "The workspace did not get past the step '{step}' in the time that the operator gives"
    );
    Some((FailureCode::ProgressDeadlineExceeded, name, message))
}

fn of_devfile<'a>(name: &'a str, reason: &str, text: &str) -> Option<Found<'a>> {
    let says = |start: &str| text.starts_with(start);
    if says("workspace must have creator") || text.contains("must have creator specified") {
        return Some((
            FailureCode::DevWorkspaceFailed,
            name,
            "The DevWorkspace was made while the operator's webhooks were off, and names no creator; delete the workspace and make it again".to_owned(),
        ));
    }
    let is_refused = reason == "BadRequest"
        || says("Error processing devfile")
        || says("Invalid devfile")
        || says("Error provisioning storage: configured storage type");
    is_refused.then(|| {
        let message =
            "The DevWorkspace Operator does not take this devfile; the evidence says what about it"
                .to_owned();
        (FailureCode::DevfileRefused, name, message)
    })
}

#[cfg(test)]
mod tests {
    use FailureCode as C;
    use model::operator::{Condition, OperatorStatus};

    use super::*;

    fn seen(phase: &str, reason: &str, text: &str) -> DevWorkspaceSeen {
        DevWorkspaceSeen {
            name: "w".into(),
            status: OperatorStatus {
                phase: phase.into(),
                message: format!("{text} (1 warnings)"),
                conditions: vec![Condition {
                    kind: "FailedStart".into(),
                    status: "True".into(),
                    reason: reason.into(),
                    message: text.into(),
                }],
                ..OperatorStatus::default()
            },
        }
    }

    /// The operator's own sentences (v0.31.0, `checkDWError`, `CheckPodsState`, `checkForStartTimeout`).
    #[test]
    fn every_kind_of_end_has_its_reason() {
        const INFRA: &str = "InfrastructureFailure";
        for (reason, text, code, component, part) in [
            (
                INFRA,
                "Error creating DevWorkspace deployment: Container tools has state ImagePullBackOff",
                C::ImageUnreachable,
                "tools",
                "cannot be pulled",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Init Container project-clone has state CrashLoopBackOff",
                C::CrashLoop,
                "project-clone",
                "again and again",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Container tools has state CreateContainerError",
                C::ContainerCannotStart,
                "tools",
                "cannot be started",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Container tools has state Odd",
                C::DevWorkspaceFailed,
                "tools",
                "Odd",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable event FailedScheduling 2 times: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
                C::VolumeNotMounted,
                "",
                "waits for its volume",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable event FailedScheduling: 0/1 nodes are available: 1 Insufficient memory.",
                C::Unschedulable,
                "",
                "ask for less",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable event FailedMount 3 times: MountVolume.SetUp failed for volume \"pvc-1\" : timeout.",
                C::VolumeNotMounted,
                "pvc-1",
                "mounted",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable event FailedPostStartHook: PostStartHook failed.",
                C::ContainerCannotStart,
                "",
                "postStart",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable event Odd: x.",
                C::DevWorkspaceFailed,
                "",
                "Odd",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable deployment condition: FailedCreate pods \"w-1\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
                C::QuotaExceeded,
                "w",
                "quota 'q'",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable deployment condition: FailedCreate pods \"w-1\" is forbidden: violates PodSecurity \"restricted:latest\": x",
                C::AdmissionRefused,
                "w",
                "PodSecurity",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable deployment condition: FailedCreate odd",
                C::ObjectRefused,
                "w",
                "no Pod",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Detected unrecoverable deployment condition: ProgressDeadlineExceeded odd",
                C::ProgressDeadlineExceeded,
                "w",
                "in time",
            ),
            (
                INFRA,
                "Error provisioning storage: Failed to sync storage-x PVC to cluster: persistentvolumeclaims \"storage-x\" is forbidden: exceeded quota: q, requested: requests.storage=9Gi, used: requests.storage=0, limited: requests.storage=1Gi",
                C::QuotaExceeded,
                "w",
                "requests.storage=9Gi",
            ),
            (
                INFRA,
                "DevWorkspace failed to progress past step 'Waiting for workspace deployment' for longer than timeout (2m)",
                C::ProgressDeadlineExceeded,
                "w",
                "'Waiting for workspace deployment'",
            ),
            (
                INFRA,
                "Failed to set up networking for workspace: basic routing requires .config.routing.clusterHostSuffix to be set in operator config",
                C::DevWorkspaceFailed,
                "w",
                "gave this workspace up",
            ),
            (
                INFRA,
                "Error creating DevWorkspace deployment: Error while creating workspace deployment: workspace must have creator specified to be run. Recreate it to fix an issue",
                C::DevWorkspaceFailed,
                "w",
                "webhooks were off",
            ),
            (
                "BadRequest",
                "Error processing devfile: plugin x not found",
                C::DevfileRefused,
                "w",
                "does not take",
            ),
            (
                "BadRequest",
                "Error provisioning storage: configured storage type not supported",
                C::DevfileRefused,
                "w",
                "does not take",
            ),
            (
                "",
                "Invalid devfile: found multiple projects with the same name 'a' in: projects",
                C::DevfileRefused,
                "w",
                "does not take",
            ),
        ] {
            let found = failure(&seen("Failed", reason, text)).unwrap();
            assert_eq!(
                (found.code, found.component.as_str()),
                (code, component),
                "{text}"
            );
            assert!(found.message.contains(part), "{}", found.message);
            assert_eq!(found.evidence, text);
        }
    }

    #[test]
    fn it_is_told_from_the_failing_to_the_next_start() {
        let mut seen = seen("Failing", "", "x");
        seen.status.started = true;
        assert!(failure(&seen).is_some());
        seen.status.phase = "Failed".into();
        assert_eq!(failure(&seen), None, "started again");
        seen.status.started = false;
        assert!(failure(&seen).is_some());
        for phase in ["", "Starting", "Running", "Stopping", "Stopped"] {
            seen.status.phase = phase.into();
            assert_eq!(failure(&seen), None, "{phase}");
        }
        // A condition that holds no more is no reason.
        seen.status.phase = "Error".into();
        seen.status.conditions[0].status = "Unknown".into();
        assert_eq!(failure(&seen).unwrap().evidence, "x (1 warnings)");
    }
}
