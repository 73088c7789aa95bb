//! Why a workspace is not what was asked: from what the cluster says to [`Failure`]s a person can act on.
//!
//! ```text
//!  Deployment ─▶ DeploymentSeen ──┐
//!  Pod ────────▶ PodSeen ─────────┼─▶ failures ─▶ Vec<Failure>
//!  Event ──────▶ EventSeen ───────┤
//!  DevWorkspace▶ DevWorkspaceSeen ┘
//!  an answer to a write ──────────▶ refusal ─▶ Failure
//! ```
//! The forms on the left are what is kept of the objects: small, with every text cut. Conditions and container statuses
//! come first, and with them the operator's own words for what it gave up (whose Pods are gone by then); events only say
//! what those do not (a pull that goes on, a volume that cannot be mounted).

mod classify;
mod operator;
mod seen;

pub use classify::{Refusal, refusal};
pub use seen::{
    ContainerSeen, ContainerState, DeploymentSeen, DevWorkspaceSeen, EventSeen, PodSeen,
    Termination,
};

use model::{Failure, FailureCode};

use classify::{admission, cannot_start, image_trouble, no_node};

/// The init container that clones projects has a name that starts so (GitLab's name, and the operator's).
const CLONE_CONTAINERS: [&str; 2] = ["gl-project-cloner", "project-clone"];

/// Everything that was seen of a workspace that should run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Its Deployment.
    pub deployment: Option<&'a DeploymentSeen>,
    /// Its `DevWorkspace`.
    pub dev_workspace: Option<&'a DevWorkspaceSeen>,
    /// Its Pods.
    pub pods: &'a [&'a PodSeen],
    /// Events of its Pods; empty while nobody looked.
    pub events: &'a [EventSeen],
}

/// Says why a workspace that should run does not, in a fixed order and each reason once.
#[must_use]
pub fn failures(evidence: Evidence<'_>) -> Vec<Failure> {
    let mut found = Vec::new();
    for pod in evidence.pods.iter().filter(|pod| !pod.terminating) {
        of_pod(pod, evidence.events, &mut found);
    }
    if let Some(deployment) = evidence.deployment {
        of_deployment(deployment, &mut found);
    }
    if let Some(dev_workspace) = evidence.dev_workspace {
        found.extend(operator::failure(dev_workspace));
    }
    found.sort();
    found.dedup_by(|a, b| (a.code, &a.component) == (b.code, &b.component));
    found
}

fn of_deployment(deployment: &DeploymentSeen, found: &mut Vec<Failure>) {
    // The ReplicaSet's condition, carried over: why no Pod could be made.
    if let Some(text) = &deployment.replica_failure {
        found.push(admission(&deployment.name, text).unwrap_or_else(|| {
            Failure::new(
                FailureCode::ObjectRefused,
                &deployment.name,
                "The cluster makes no Pod for this workspace.".to_owned(),
                text,
            )
        }));
    }
    if deployment.facts.progressing.as_deref() == Some("ProgressDeadlineExceeded") {
        found.push(Failure::new(
            FailureCode::ProgressDeadlineExceeded,
            &deployment.name,
            "The workspace did not become ready in time; the other reasons, if any, say why. It still starts if they pass."
                .to_owned(),
            deployment.progress_message.as_deref().unwrap_or_default(),
        ));
    }
}

fn of_pod(pod: &PodSeen, events: &[EventSeen], found: &mut Vec<Failure>) {
    if let Some(text) = &pod.unschedulable {
        let (code, message) = no_node(text);
        found.push(Failure::new(code, "", format!("{message}."), text));
        return;
    }
    let events: Vec<_> = events.iter().filter(|event| event.uid == pod.uid).collect();
    for container in &pod.containers {
        of_container(container, &events, found);
    }
    // A Pod whose containers wait for nothing in particular waits for its volumes or its images.
    if pod.containers.iter().any(ContainerSeen::is_being_created) {
        of_events(pod, &events, found);
    }
}

fn of_container(container: &ContainerSeen, events: &[&EventSeen], found: &mut Vec<Failure>) {
    let name = container.name.as_str();
    if container.is_cloner()
        && let Some(failure) = clone_failure(container)
    {
        found.push(failure);
        return;
    }
    match &container.state {
        ContainerState::Running => {}
        ContainerState::Waiting { reason, message } => match reason.as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => {
                let from_event = || {
                    let is_pull = |event: &&&EventSeen| {
                        event.reason == "Failed" && event.message.contains(&container.image)
                    };
                    events
                        .iter()
                        .rfind(is_pull)
                        .map(|event| event.message.clone())
                };
                // While it backs off, an older kubelet says no more than that.
                let text = match message.contains(": ") {
                    true => message.clone(),
                    false => from_event().unwrap_or_else(|| message.clone()),
                };
                found.push(image_trouble(name, &container.image, reason, &text));
            }
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "PostStartHookError"
            | "PreStartHookError" => {
                found.push(cannot_start(name, &container.image, reason, message));
            }
            "CrashLoopBackOff" => found.extend(crash(container, message)),
            _ => {}
        },
        // Between two starts: said here, so that the reason does not come and go with each attempt.
        ContainerState::Terminated(_) if !container.is_init => found.extend(crash(container, "")),
        ContainerState::Terminated(ended) if ended.exit_code != 0 => {
            found.extend(crash(container, ""));
        }
        ContainerState::Terminated(_) => {}
    }
}

/// A clone that failed ends the init container with an error, or, where the workspace goes on without the project, with
/// success and a message.
fn clone_failure(container: &ContainerSeen) -> Option<Failure> {
    let ended = container.last_end()?;
    if ended.exit_code == 0 && ended.message.trim().is_empty() {
        return None;
    }
    let message = match ended.exit_code {
        0 => "The project could not be cloned; the workspace runs without it.".to_owned(),
        code => format!("The project could not be cloned (exit code {code})."),
    };
    Some(Failure::new(
        FailureCode::CloneFailed,
        &container.name,
        message,
        ended.message.trim(),
    ))
}

fn crash(container: &ContainerSeen, back_off: &str) -> Option<Failure> {
    let name = container.name.as_str();
    let Some(ended) = container.last_end() else {
        let message = "The container ends again and again.".to_owned();
        return Some(Failure::new(
            FailureCode::CrashLoop,
            name,
            message,
            back_off,
        ));
    };
    if ended.reason == "OOMKilled" {
        let message = match &container.memory_limit {
            Some(limit) => format!(
                "The container wanted more memory than its limit of {limit}; raise memoryLimit in the devfile, or use less."
            ),
            None => "The container wanted more memory than there is.".to_owned(),
        };
        return Some(Failure::new(
            FailureCode::OutOfMemory,
            name,
            message,
            &ended.message,
        ));
    }
    if matches!(ended.reason.as_str(), "StartError" | "ContainerCannotRun") {
        return Some(cannot_start(
            name,
            &container.image,
            &ended.reason,
            &ended.message,
        ));
    }
    let message = match ended.exit_code {
        0 => "The container ends by itself, without an error; a workspace's container has to go on running.".to_owned(),
        code => format!(
            "The container ends again and again, last with exit code {code} ({}).",
            exit_code_hint(code)
        ),
    };
    Some(Failure::new(
        FailureCode::CrashLoop,
        name,
        message,
        ended.message.trim(),
    ))
}

fn exit_code_hint(code: i64) -> &'static str {
    match code {
        126 => "its command may not be executed",
        127 => "its command was not found",
        137 => "it was killed",
        139 => "it broke memory protection",
        143 => "it was asked to end",
        _ => "its own",
    }
}

fn of_events(pod: &PodSeen, events: &[&EventSeen], found: &mut Vec<Failure>) {
    let last = |reasons: &[&str]| {
        events
            .iter()
            .rfind(|event| reasons.contains(&event.reason.as_str()))
    };
    if let Some(event) = last(&["FailedMount", "FailedAttachVolume", "FailedMapVolume"]) {
        found.push(Failure::new(
            FailureCode::VolumeNotMounted,
            quoted(&event.message).unwrap_or_default(),
            "A volume cannot be mounted yet; it is tried again.".to_owned(),
            &event.message,
        ));
    }
    if let Some(event) = last(&["FailedCreatePodSandBox"]) {
        found.push(Failure::new(
            FailureCode::ContainerCannotStart,
            "",
            "The node cannot set up the Pod; it is tried again.".to_owned(),
            &event.message,
        ));
    }
    for container in pod
        .containers
        .iter()
        .filter(|container| container.is_being_created())
    {
        let about = |event: &&&EventSeen| event.message.contains(&container.image);
        let last = events
            .iter()
            .filter(|event| matches!(event.reason.as_str(), "Pulling" | "Pulled" | "Failed"))
            .rfind(about);
        if let Some(event) = last
            && event.reason == "Pulling"
        {
            found.push(Failure::new(
                FailureCode::ImagePulling,
                &container.name,
                format!("The image {} is still being pulled.", container.image),
                &event.message,
            ));
        }
    }
}

/// What stands between the first two quotation marks.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

#[cfg(test)]
mod tests;
