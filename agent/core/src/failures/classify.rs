//! Reading the texts that clusters write.

use model::{Failure, FailureCode};

/// Why an image cannot be had, from what the container runtime says of it.
pub(super) fn image_trouble(container: &str, image: &str, reason: &str, text: &str) -> Failure {
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (code, message) = if reason == "InvalidImageName" {
        (
            FailureCode::ImageInvalid,
            format!("'{image}' is not the name of an image."),
        )
    } else if says(&[
        "401 unauthorized",
        "403 forbidden",
        "authorization failed",
        "authentication required",
        "unauthorized",
        "access denied",
        "no basic auth credentials",
        "denied:",
    ]) {
        (
            FailureCode::ImageUnauthorized,
            format!(
                "The registry does not give {image} to this cluster: either it needs credentials, or there is no such image."
            ),
        )
    } else if says(&[
        "no such host",
        "connection refused",
        "i/o timeout",
        "deadline exceeded",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "tls handshake",
        "x509:",
        "503 service",
        "502 bad gateway",
        "500 internal server",
        "unexpected eof",
        "429 too many",
        "toomanyrequests",
        "server gave http response",
    ]) {
        (
            FailureCode::ImageUnreachable,
            format!(
                "The registry of {image} cannot be reached or does not answer well; it is tried again."
            ),
        )
    } else if says(&[
        "not found",
        "manifest unknown",
        "notfound",
        "name unknown",
        "does not exist",
    ]) {
        (
            FailureCode::ImageNotFound,
            format!("There is no image {image} at its registry; check its name and tag."),
        )
    } else {
        (
            FailureCode::ImageUnreachable,
            format!("The image {image} cannot be pulled; it is tried again."),
        )
    };
    Failure::new(code, container, message, text)
}

/// Why a container cannot even be started.
pub(super) fn cannot_start(container: &str, image: &str, reason: &str, text: &str) -> Failure {
    let missing = ["no such file or directory", "executable file not found"]
        .iter()
        .any(|word| text.contains(word));
    let of_shell = text.contains("/bin/sh\"") || text.contains("exec: \"sh\"");
    let message = match (missing, of_shell, reason) {
        (true, true, _) => format!(
            "The image {image} has no /bin/sh, which a workspace needs; use an image with a POSIX shell."
        ),
        (true, false, _) => format!("The command of the container is not in the image {image}."),
        (false, _, "CreateContainerConfigError") => {
            "The container is not made: something it refers to is missing or not allowed."
                .to_owned()
        }
        (false, _, "PostStartHookError") => "The container's postStart hook failed.".to_owned(),
        (false, _, _) => "The container cannot be started.".to_owned(),
    };
    Failure::new(FailureCode::ContainerCannotStart, container, message, text)
}

/// The names of the DevWorkspace Operator's admission checks end so.
const OPERATOR_WEBHOOKS: &str = ".devworkspace-controller.svc";

/// Why no node takes a Pod, from what the scheduler says of it.
pub(super) fn no_node(text: &str) -> (FailureCode, &'static str) {
    // "pod has unbound immediate PersistentVolumeClaims", "persistentvolumeclaim \"x\" not found"
    match text.to_ascii_lowercase().contains("persistentvolumeclaim") {
        true => (
            FailureCode::VolumeNotMounted,
            "The workspace waits for its volume: the cluster makes none of this storage class, or has no room for it",
        ),
        false => (
            FailureCode::Unschedulable,
            "No node takes this workspace: ask for less, or wait for room",
        ),
    }
}

/// A quota or an admission check that said no; `None` when the text tells of neither.
pub(super) fn admission(component: &str, text: &str) -> Option<Failure> {
    if let Some(quota) = Quota::parse(text) {
        let Quota {
            name,
            asked,
            used,
            limited,
        } = quota;
        let message = format!(
            "The quota '{name}' of the namespace is used up: asked {asked}, used {used}, limit {limited}."
        );
        return Some(Failure::new(
            FailureCode::QuotaExceeded,
            component,
            message,
            text,
        ));
    }
    if let Some((webhook, said)) = webhook_denial(text) {
        let message = format!("The admission check '{webhook}' refused it: {said}");
        return Some(Failure::new(
            FailureCode::AdmissionRefused,
            component,
            cut(message),
            text,
        ));
    }
    if let Some((_, rest)) = text.split_once("failed calling webhook \"") {
        let webhook = rest.split('"').next().unwrap_or_default();
        let (code, whose) = match webhook.ends_with(OPERATOR_WEBHOOKS) {
            true => (
                FailureCode::OperatorUnavailable,
                "DevWorkspace Operator's admission check",
            ),
            false => (FailureCode::AdmissionRefused, "admission check"),
        };
        let message = format!("The {whose} '{webhook}' could not be asked; it is tried again.");
        return Some(Failure::new(code, component, message, text));
    }
    let policies = [
        "violates PodSecurity",
        "ValidatingAdmissionPolicy",
        "must specify limits",
    ];
    let limits = [
        "maximum memory usage per",
        "maximum cpu usage per",
        "minimum memory usage per",
        "minimum cpu usage per",
    ];
    if policies
        .iter()
        .chain(&limits)
        .any(|word| text.contains(word))
    {
        let message = format!("A rule of the namespace refused it: {text}");
        return Some(Failure::new(
            FailureCode::AdmissionRefused,
            component,
            cut(message),
            text,
        ));
    }
    None
}

/// `exceeded quota: w, requested: pods=1, used: pods=1, limited: pods=1`
struct Quota<'a> {
    name: &'a str,
    asked: &'a str,
    used: &'a str,
    limited: &'a str,
}

impl<'a> Quota<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some((_, rest)) = text.split_once("failed quota: ") {
            // `failed quota: w: must specify limits.memory`
            let (name, limited) = rest.split_once(": ")?;
            return Some(Self {
                name,
                asked: "nothing stated",
                used: "-",
                limited,
            });
        }
        let (_, rest) = text.split_once("exceeded quota: ")?;
        let (name, rest) = rest.split_once(", requested: ")?;
        let (asked, rest) = rest.split_once(", used: ")?;
        let (used, limited) = rest.split_once(", limited: ")?;
        Some(Self {
            name,
            asked,
            used,
            limited,
        })
    }
}

/// `admission webhook "a.b.c" denied the request: why`
fn webhook_denial(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("admission webhook \"")?;
    let (webhook, rest) = rest.split_once('"')?;
    let said = rest
        .split_once("denied the request: ")
        .map_or("no reason given", |(_, said)| said);
    Some((webhook, said))
}

/// The longest message for people, in bytes: the evidence beside it has the rest.
const MAX_MESSAGE_BYTES: usize = 1024;

pub(super) fn cut(mut message: String) -> String {
    if let Some(end) = (0..=MAX_MESSAGE_BYTES.min(message.len()))
        .rev()
        .find(|end| message.is_char_boundary(*end))
    {
        message.truncate(end);
    }
    message
}

/// What an unsuccessful write means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The API server will say the same again until something changes: it is told, and tried again with a growing delay.
    Refused(Failure),
    /// The object, or what it lives in, changed or went meanwhile: look again.
    LookAgain,
    /// It will pass: the API server is away or busy.
    Transient,
}

/// Reads the answer to a write: HTTP status and message of the API server.
#[must_use]
pub fn refusal(component: &str, code: u16, text: &str) -> Refusal {
    let refused = |failure_code, message: &str| {
        Refusal::Refused(Failure::new(
            failure_code,
            component,
            message.to_owned(),
            text,
        ))
    };
    if let Some(failure) = admission(component, text)
        && (code < 500 || failure.code != FailureCode::QuotaExceeded)
    {
        return Refusal::Refused(failure);
    }
    // Server-side apply says so with one status or another.
    if text.contains("field not declared in schema") {
        return refused(
            FailureCode::ObjectRefused,
            "The cluster's objects of this kind have no such field; for a DevWorkspace: its operator is too old for this devfile.",
        );
    }
    if code == 404 && text.contains("could not find the requested resource") {
        return refused(
            FailureCode::OperatorUnavailable,
            "The cluster has no objects of this kind; for a DevWorkspace: the DevWorkspace Operator is not installed.",
        );
    }
    match code {
        404 | 409 | 410 => Refusal::LookAgain,
        408 | 429 | 500.. => Refusal::Transient,
        403 => refused(
            FailureCode::ObjectRefused,
            "The cluster does not let the agent write this; its role, or a rule of the cluster, forbids it.",
        ),
        400 | 413 | 422 => refused(
            FailureCode::ObjectRefused,
            "The cluster does not take this object; the evidence says which field.",
        ),
        // The agent's own credentials: no fault of this workspace.
        401 => Refusal::Transient,
        _ => refused(
            FailureCode::ObjectRefused,
            "The cluster does not take this object.",
        ),
    }
}
