//! Pull secrets: what becomes of a Secret that workspaces' images are pulled with, and of their copies of it.

use std::collections::BTreeMap;

use model::configuration::ImagePullSecret;
use model::{Failure, FailureCode};
use serde_json::{Value, json};

/// Secrets of these types are for pulling images; no other is copied, whoever asks.
pub const PULL_SECRET_TYPES: [&str; 2] =
    ["kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"];
/// The most of one workspace; the configuration file can have no more.
pub const MAX_PULL_SECRETS: usize = 50;
/// The largest, as JSON. Credentials of some registries take a few hundred bytes.
const MAX_BYTES: usize = 256 * 1024;

/// What was found where a pull secret should be.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// It can be copied: its type and data.
    Found {
        /// Its type, one of [`PULL_SECRET_TYPES`].
        kind: String,
        /// Its `data`.
        data: Value,
    },
    /// There is none.
    Missing,
    /// It is of another type.
    OtherType(String),
    /// It is larger than any.
    TooLarge,
    /// The agent has no right to read it.
    NotAllowed(String),
    /// It could not be read now; what was copied before stays.
    Unreadable(String),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never its data.
        f.write_str(match self {
            Self::Found { .. } => "Found",
            Self::Missing => "Missing",
            Self::OtherType(_) => "OtherType",
            Self::TooLarge => "TooLarge",
            Self::NotAllowed(_) => "NotAllowed",
            Self::Unreadable(_) => "Unreadable",
        })
    }
}

/// What was found of each.
pub type Sources = BTreeMap<ImagePullSecret, Source>;

impl Source {
    /// Judges a Secret.
    #[must_use]
    pub fn of_secret(secret: &Value) -> Self {
        let kind = secret["type"].as_str().unwrap_or_default();
        if !PULL_SECRET_TYPES.contains(&kind) {
            return Self::OtherType(kind.to_owned());
        }
        let data = secret["data"].clone();
        if data.to_string().len() > MAX_BYTES {
            return Self::TooLarge;
        }
        Self::Found {
            kind: kind.to_owned(),
            data,
        }
    }

    /// The copy of it in a namespace, without marks.
    #[must_use]
    pub fn copy(&self, name: &str, namespace: &str) -> Option<Value> {
        let Self::Found { kind, data } = self else {
            return None;
        };
        Some(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": kind,
            "data": data,
        }))
    }

    /// Why it is not copied.
    #[must_use]
    pub fn failure(&self, secret: &ImagePullSecret) -> Option<Failure> {
        let ImagePullSecret { name, namespace } = secret;
        let (reason, evidence) = match self {
            Self::Found { .. } => return None,
            Self::Missing => (
                "it does not exist; make it there, and it is copied by itself".to_owned(),
                "",
            ),
            Self::OtherType(kind) => (
                format!(
                    "its type is {kind:?}; only {} are copied",
                    PULL_SECRET_TYPES.join(" and ")
                ),
                "",
            ),
            Self::TooLarge => (format!("it has more than {MAX_BYTES} bytes"), ""),
            Self::NotAllowed(said) => (
                format!(
                    "the agent may not read it; name {namespace} in workspaces.pullSecretNamespaces of the agent's chart"
                ),
                said.as_str(),
            ),
            Self::Unreadable(said) => (
                "it could not be read, and is tried again".to_owned(),
                said.as_str(),
            ),
        };
        let message =
            format!("The pull secret {name} of the namespace {namespace} is not copied: {reason}.");
        let code = FailureCode::PullSecretNotCopied;
        Some(Failure::new(code, name, message, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_for_pulling_images_are_copied() {
        let secret = |kind: &str| json!({"type": kind, "data": {".dockerconfigjson": "e30="}, "metadata": {"labels": {"a": "b"}}});
        for kind in PULL_SECRET_TYPES {
            let copy = Source::of_secret(&secret(kind)).copy("registry", "gl-rd-ns-one");
            let expected = json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind,
                "metadata": {"name": "registry", "namespace": "gl-rd-ns-one"},
                "data": {".dockerconfigjson": "e30="},
            });
            assert_eq!(copy, Some(expected));
        }
        for kind in [
            "Opaque",
            "kubernetes.io/service-account-token",
            "kubernetes.io/tls",
            "",
        ] {
            let source = Source::of_secret(&secret(kind));
            assert_eq!(source, Source::OtherType(kind.to_owned()));
            assert_eq!(source.copy("registry", "n"), None);
        }
        let large = json!({"type": PULL_SECRET_TYPES[0], "data": {"a": "x".repeat(MAX_BYTES)}});
        assert_eq!(Source::of_secret(&large), Source::TooLarge);
        assert_eq!(
            format!("{:?}", Source::of_secret(&secret(PULL_SECRET_TYPES[0]))),
            "Found"
        );
    }

    #[test]
    fn each_failure_says_which_secret_and_what_to_do() {
        let secret = ImagePullSecret {
            name: "registry".into(),
            namespace: "images".into(),
        };
        for (source, part) in [
            (Source::Missing, "make it there"),
            (
                Source::OtherType("Opaque".into()),
                "only kubernetes.io/dockercfg and",
            ),
            (Source::TooLarge, "more than 262144 bytes"),
            (
                Source::NotAllowed("no".into()),
                "name images in workspaces.pullSecretNamespaces",
            ),
            (Source::Unreadable("broken".into()), "tried again"),
        ] {
            let failure = source.failure(&secret).unwrap();
            assert!(failure.message.contains("registry of the namespace images"));
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        let found = Source::Found {
            kind: PULL_SECRET_TYPES[0].into(),
            data: json!({}),
        };
        assert_eq!(found.failure(&secret), None);
    }
}
