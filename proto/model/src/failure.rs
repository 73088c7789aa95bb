//! Why a workspace is not what was asked.

use serde::{Deserialize, Serialize};

/// The longest evidence kept, in bytes: what a cluster says can be as long as a hostile webhook likes.
pub const MAX_EVIDENCE_BYTES: usize = 2048;

/// One reason why a workspace is not what was asked. Times stand beside it where it is kept, since this crate knows none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of trouble.
    pub code: FailureCode,
    /// Container, volume or object that it concerns; empty when it is the workspace as a whole.
    pub component: String,
    /// For a person: what happened and what to do about it.
    pub message: String,
    /// What the cluster said, word for word, cut at [`MAX_EVIDENCE_BYTES`].
    pub evidence: String,
}

/// What kind of trouble. The names are stable: programs match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureCode {
    /// There is no such image at its registry.
    ImageNotFound,
    /// The registry does not give the image to this cluster.
    ImageUnauthorized,
    /// The registry cannot be reached.
    ImageUnreachable,
    /// The image is still being pulled; a warning, not an end.
    ImagePulling,
    /// The image name is none.
    ImageInvalid,
    /// A container ends again and again.
    CrashLoop,
    /// A container was ended because it wanted more memory than it may have.
    OutOfMemory,
    /// A container cannot be started, for example because its command is not there.
    ContainerCannotStart,
    /// A quota of the namespace is used up.
    QuotaExceeded,
    /// An admission check refused an object.
    AdmissionRefused,
    /// No node takes the Pod.
    Unschedulable,
    /// A volume cannot be mounted yet.
    VolumeNotMounted,
    /// The project could not be cloned.
    CloneFailed,
    /// The API server did not take an object.
    ObjectRefused,
    /// What the server asked for may not be applied.
    NotAllowed,
    /// A Secret with which images are pulled is not there, or may not be copied.
    PullSecretNotCopied,
    /// The Deployment did not become available in time.
    ProgressDeadlineExceeded,
    /// The DevWorkspace Operator says that the workspace failed.
    DevWorkspaceFailed,
    /// The DevWorkspace Operator does not take the devfile.
    DevfileRefused,
    /// Somebody in the cluster stopped the workspace, not one who asked the server.
    StoppedInCluster,
    /// The DevWorkspace Operator is not there, or does not answer.
    OperatorUnavailable,
    /// Something is in the way that belongs to somebody else.
    ForeignObject,
    /// It waits for something that is being deleted.
    WaitingForDeletion,
    /// The server could not render it with the agent's configuration as it is now; it runs with what it had.
    SettingsNotApplied,
}

impl FailureCode {
    /// It may pass by itself, or keeps nothing from running: shown as a warning while the start goes on.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::ImagePulling
                | Self::ImageUnreachable
                | Self::Unschedulable
                | Self::VolumeNotMounted
                | Self::OperatorUnavailable
                | Self::WaitingForDeletion
                | Self::PullSecretNotCopied
                | Self::SettingsNotApplied
        )
    }

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageNotFound => "ImageNotFound",
            Self::ImageUnauthorized => "ImageUnauthorized",
            Self::ImageUnreachable => "ImageUnreachable",
            Self::ImagePulling => "ImagePulling",
            Self::ImageInvalid => "ImageInvalid",
            Self::CrashLoop => "CrashLoop",
            Self::OutOfMemory => "OutOfMemory",
            Self::ContainerCannotStart => "ContainerCannotStart",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::AdmissionRefused => "AdmissionRefused",
            Self::Unschedulable => "Unschedulable",
            Self::VolumeNotMounted => "VolumeNotMounted",
            Self::CloneFailed => "CloneFailed",
            Self::ObjectRefused => "ObjectRefused",
            Self::NotAllowed => "NotAllowed",
            Self::PullSecretNotCopied => "PullSecretNotCopied",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::DevWorkspaceFailed => "DevWorkspaceFailed",
            Self::DevfileRefused => "DevfileRefused",
            Self::StoppedInCluster => "StoppedInCluster",
            Self::OperatorUnavailable => "OperatorUnavailable",
            Self::ForeignObject => "ForeignObject",
            Self::WaitingForDeletion => "WaitingForDeletion",
            Self::SettingsNotApplied => "SettingsNotApplied",
        }
    }
}

impl Failure {
    /// A failure with its evidence cut to the limit.
    #[must_use]
    pub fn new(code: FailureCode, component: &str, message: String, evidence: &str) -> Self {
        let end = (0..=MAX_EVIDENCE_BYTES.min(evidence.len()))
            .rev()
            .find(|end| evidence.is_char_boundary(*end));
        Self {
            code,
            component: component.to_owned(),
            message,
            evidence: evidence[..end.unwrap_or(0)].to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_cut_between_characters() {
        let failure = Failure::new(
            FailureCode::AdmissionRefused,
            "w",
            String::new(),
            &"ä".repeat(5000),
        );
        assert_eq!(failure.evidence.len(), MAX_EVIDENCE_BYTES);
    }

    #[test]
    fn the_name_in_json_is_the_name_for_people() {
        assert_eq!(
            serde_json::to_value(FailureCode::CrashLoop).unwrap(),
            FailureCode::CrashLoop.as_str()
        );
    }
}
