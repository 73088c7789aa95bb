//! In which cluster each agent runs. One token in two clusters would make one agent of two, so the second is refused.
//!
//! Our agent names its cluster with every call, by a hash of the CA certificate that it was given there, for which it needs no
//! right. GitLab's agent does not, and cannot be told apart. The first cluster stays the agent's until an administrator
//! accepts another. This finds mistakes; it is no defence against somebody who has the token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::HeaderMap;
use jiff::Timestamp;
use proto::CLUSTER_METADATA;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::store::{self, Kind, Store, Write};

/// A SHA-256 in lowercase hexadecimal.
const ID_LENGTH: usize = 64;
/// What people see of it.
const SHOWN: usize = 12;

/// A cluster, by the hash of its CA certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ClusterId(String);

/// The cluster of an agent, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct View {
    pub(crate) id: ClusterId,
    /// Another one that uses a token of the same agent.
    pub(crate) refused: Option<RefusedCluster>,
}

/// A cluster that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RefusedCluster {
    pub(crate) id: ClusterId,
    pub(crate) since: Timestamp,
    pub(crate) last_seen: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no other cluster has asked for this agent")]
    NothingRefused,
    #[error("keep it in the database")]
    Store(#[source] store::Error),
    #[error("cluster of agent {0} in the database cannot be read")]
    Corrupt(String, #[source] serde_json::Error),
}

#[derive(Debug)]
pub(crate) struct Clusters {
    store: Arc<dyn Store>,
    known: Mutex<HashMap<u64, Known>>,
    /// Held over a write to the store and its entry into `known`.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Known {
    id: ClusterId,
    version: u64,
    refused: Option<RefusedCluster>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    cluster: ClusterId,
}

impl Clusters {
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let mut known = HashMap::new();
        for record in store.list(Kind::AgentCluster).await.map_err(Error::Store)? {
            let corrupt = |error| Error::Corrupt(record.id.clone(), error);
            let Record { cluster } = serde_json::from_str(&record.body).map_err(corrupt)?;
            let entry = Known {
                id: cluster,
                version: record.version,
                refused: None,
            };
            known.insert(record.id.parse().unwrap_or_default(), entry);
        }
        Ok(Self {
            store,
            known: Mutex::new(known),
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// The cluster that a call of the agent comes from, if it names one. Refuses every other than the agent's.
    pub(super) fn admit(
        &self,
        agent_id: u64,
        headers: &HeaderMap,
    ) -> Result<Option<ClusterId>, Status> {
        let Some(id) = named(headers) else {
            return Ok(None);
        };
        let mut known = self.known();
        match known.get_mut(&agent_id) {
            Some(known) if known.id.0 != id => Err(known.refuse(agent_id, id)),
            Some(_) | None => Ok(Some(ClusterId(id.to_owned()))),
        }
    }

    /// Takes the first cluster of an agent for its own.
    pub(super) async fn arrived(&self, agent_id: u64, id: &ClusterId) -> Result<(), Status> {
        let is_known = |clusters: &Self| match clusters.known().get_mut(&agent_id) {
            Some(known) if known.id != *id => Err(known.refuse(agent_id, &id.0)),
            Some(_) => Ok(true),
            None => Ok(false),
        };
        if is_known(self)? {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        // Two may have come at once.
        if is_known(self)? {
            return Ok(());
        }
        self.write(agent_id, 0, id.clone()).await.map_err(|error| {
            tracing::error!(agent = agent_id, %error, "an agent's cluster could not be kept");
            Status::unavailable("unavailable")
        })
    }

    /// Makes the cluster that was refused the agent's.
    pub(crate) async fn accept(&self, agent_id: u64) -> Result<View, Error> {
        let _writing = self.writing.lock().await;
        let refused = {
            let known = self.known();
            let known = known.get(&agent_id).ok_or(Error::NothingRefused)?;
            let refused = known.refused.clone().ok_or(Error::NothingRefused)?;
            (refused.id, known.version)
        };
        let (id, version) = refused;
        self.write(agent_id, version, id.clone()).await?;
        Ok(View { id, refused: None })
    }

    pub(crate) fn view(&self, agent_id: u64) -> Option<View> {
        self.known().get(&agent_id).map(|known| View {
            id: known.id.clone(),
            refused: known.refused.clone(),
        })
    }

    async fn write(&self, agent_id: u64, version: u64, id: ClusterId) -> Result<(), Error> {
        let record = Record {
            cluster: id.clone(),
        };
        let write = Write {
            kind: Kind::AgentCluster,
            id: agent_id.to_string(),
            expected_version: version,
            body: serde_json::to_string(&record).ok(),
        };
        self.store.append(vec![write]).await.map_err(Error::Store)?;
        let entry = Known {
            id,
            version: version + 1,
            refused: None,
        };
        self.known().insert(agent_id, entry);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn refuse(&mut self, agent_id: u64, other: &str) -> Status {
        let now = Timestamp::now();
        match &mut self.refused {
            Some(refused) if refused.id.0 == other => refused.last_seen = now,
            refused => {
                let id = ClusterId(other.to_owned());
                tracing::warn!(
                    agent = agent_id,
                    cluster = self.id.short(),
                    refused = id.short(),
                    "a second cluster uses the agent's token; refused"
                );
                *refused = Some(RefusedCluster {
                    id,
                    since: now,
                    last_seen: now,
                });
            }
        }
        Status::already_exists(format!(
            "another cluster uses this agent's token: it has cluster {}, and this is {}",
            self.id.short(),
            &other[..SHOWN]
        ))
    }
}

impl ClusterId {
    fn short(&self) -> &str {
        self.0.get(..SHOWN).unwrap_or(&self.0)
    }
}

/// The cluster that a call names.
fn named(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CLUSTER_METADATA)?.to_str().ok()?;
    let is_hash = text.len() == ID_LENGTH
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then_some(text)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::store::SqliteStore;

    fn headers(letter: char) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = letter.to_string().repeat(ID_LENGTH);
        headers.insert(CLUSTER_METADATA, id.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn the_first_cluster_stays_until_another_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
        let clusters = Clusters::open(Arc::clone(&store)).await.unwrap();
        let (x, y) = (headers('a'), headers('b'));
        assert_eq!(clusters.admit(1, &HeaderMap::new()).unwrap(), None);
        let first = clusters.admit(1, &x).unwrap().unwrap();
        let second = clusters.admit(1, &y).unwrap().unwrap();
        clusters.arrived(1, &first).await.unwrap();
        clusters.arrived(1, &first).await.unwrap();
        // It was not refused yet when it came; now it is.
        let late = clusters.arrived(1, &second).await.unwrap_err();
        assert_eq!(late.code(), Code::AlreadyExists);
        clusters.admit(1, &x).unwrap();
        clusters.admit(2, &y).unwrap();
        let refused = clusters.admit(1, &y).unwrap_err();
        assert!(
            refused.message().contains("bbbbbbbbbbbb"),
            "{}",
            refused.message()
        );
        // An agent that names none, such as GitLab's, is not told apart.
        clusters.admit(1, &HeaderMap::new()).unwrap();

        // The choice outlives a restart, and is changed by an administrator's alone.
        let clusters = Clusters::open(Arc::clone(&store)).await.unwrap();
        assert!(matches!(
            clusters.accept(1).await,
            Err(Error::NothingRefused)
        ));
        clusters.admit(1, &y).unwrap_err();
        let seen = clusters.view(1).unwrap();
        assert_eq!((seen.id, seen.refused.unwrap().id), (first, second.clone()));
        assert_eq!(clusters.accept(1).await.unwrap().id, second);
        clusters.admit(1, &y).unwrap();
        clusters.admit(1, &x).unwrap_err();
    }

    #[test]
    fn what_is_no_hash_names_no_cluster() {
        let upper = "A".repeat(ID_LENGTH);
        for text in ["", "abc", upper.as_str()] {
            let mut headers = HeaderMap::new();
            headers.insert(CLUSTER_METADATA, text.parse().unwrap());
            assert_eq!(named(&headers), None, "{text:?}");
        }
        assert!(named(&headers('0')).is_some());
    }
}
