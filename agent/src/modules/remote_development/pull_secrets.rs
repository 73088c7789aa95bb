//! Reads pull secrets where they are. What is made of them is decided by `agent_core`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_core::pull_secrets::{Source, Sources};
use model::configuration::ImagePullSecret;
use tokio::time::Instant;

use super::api::{Api, CallError};

/// What was read is good for so long: a full poll names the same few for every workspace.
const FRESH: Duration = Duration::from_secs(10);

/// What the server wants copied for one workspace, and what was found of it.
#[derive(Debug, Default)]
pub(super) struct PullSecrets {
    pub(super) wanted: Vec<ImagePullSecret>,
    pub(super) sources: Sources,
}

/// Reads, and remembers for a moment.
#[derive(Debug)]
pub(super) struct Reader {
    api: Api,
    read: BTreeMap<ImagePullSecret, (Instant, Source)>,
}

impl Reader {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            read: BTreeMap::new(),
        }
    }

    /// What is found of each.
    pub(super) async fn read(&mut self, wanted: &[ImagePullSecret]) -> Sources {
        self.read.retain(|_, (read, _)| read.elapsed() < FRESH);
        let mut sources = Sources::new();
        for secret in wanted {
            let source = match self.read.get(secret) {
                Some((_, source)) => source.clone(),
                None => {
                    let source = read(&self.api, secret).await;
                    let entry = (Instant::now(), source.clone());
                    self.read.insert(secret.clone(), entry);
                    source
                }
            };
            sources.insert(secret.clone(), source);
        }
        sources
    }
}

/// Reads each of them now.
pub(super) async fn read_all(api: Api, wanted: BTreeSet<ImagePullSecret>) -> Sources {
    let mut sources = Sources::new();
    for secret in wanted {
        let source = read(&api, &secret).await;
        sources.insert(secret, source);
    }
    sources
}

/// The secret as it is.
pub(super) async fn read(api: &Api, secret: &ImagePullSecret) -> Source {
    let ImagePullSecret { name, namespace } = secret;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    match api.get(&path).await {
        Ok(found) => Source::of_secret(&found),
        Err(error) if error.is_not_found() => Source::Missing,
        Err(CallError::Status { code: 403, message }) => Source::NotAllowed(message),
        Err(error) => Source::Unreadable(error.to_string()),
    }
}
