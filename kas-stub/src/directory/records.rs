//! How the directory's things are written in the store.

use jiff::Timestamp;
use model::agent_name::AgentName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Agent, Cut, Error, Result, Session, TokenOwner};
use crate::{
    secret::Digest,
    store::{Kind, Store, Write},
};

#[derive(Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub(super) name: String,
    role: String,
}

impl UserRecord {
    pub(super) fn local() -> Self {
        Self {
            name: "administrator".into(),
            role: "administrator".into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AgentRecord {
    name: String,
    project_url: Option<String>,
    webhook_sha256: Digest,
}

impl AgentRecord {
    pub(super) fn into_agent(self, id: u64) -> Result<Agent> {
        Ok(Agent {
            id,
            name: AgentName::try_from(self.name)
                .map_err(|error| corrupt(Kind::Agent, id, error))?,
            project_url: self.project_url,
            webhook: self.webhook_sha256,
        })
    }
}

impl From<&Agent> for AgentRecord {
    fn from(agent: &Agent) -> Self {
        Self {
            name: agent.name.to_string(),
            project_url: agent.project_url.clone(),
            webhook_sha256: agent.webhook,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    #[serde(skip)]
    pub(super) id: u64,
    pub(super) owner: TokenOwner,
    pub(super) name: String,
    pub(super) sha256: Digest,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) revoked_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionRecord {
    sha256: Digest,
    user_id: u64,
    expires_at: Timestamp,
}

impl SessionRecord {
    pub(super) fn into_session(self) -> Session {
        Session {
            digest: self.sha256,
            user_id: self.user_id,
            expires_at: self.expires_at,
            ended: Cut::new(),
        }
    }
}

impl From<&Session> for SessionRecord {
    fn from(session: &Session) -> Self {
        Self {
            sha256: session.digest,
            user_id: session.user_id,
            expires_at: session.expires_at,
        }
    }
}

/// A session has no id of its own.
pub(super) fn session_id(digest: &Digest) -> String {
    serde_json::to_string(digest)
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned()
}

pub(super) fn write(
    kind: Kind,
    id: String,
    expected_version: u64,
    record: &impl Serialize,
) -> Write {
    let body =
        serde_json::to_string(record).expect("records have no map with other keys than strings");
    Write {
        kind,
        id,
        expected_version,
        body: Some(body),
    }
}

/// All records of a kind. Sessions have no number as id; 0 stands there.
pub(super) async fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    kind: Kind,
) -> Result<Vec<(u64, T)>> {
    let records = store.list(kind).await.map_err(Error::Store)?;
    records
        .into_iter()
        .map(|record| {
            let id = record.id.parse().unwrap_or_default();
            let read = serde_json::from_str(&record.body)
                .map_err(|error| corrupt(kind, &record.id, error))?;
            Ok((id, read))
        })
        .collect()
}

pub(super) async fn read_tokens(store: &dyn Store) -> Result<Vec<(TokenRecord, u64)>> {
    let records = store.list(Kind::Token).await.map_err(Error::Store)?;
    records
        .into_iter()
        .map(|record| {
            let mut token: TokenRecord = serde_json::from_str(&record.body)
                .map_err(|error| corrupt(Kind::Token, &record.id, error))?;
            token.id = record
                .id
                .parse()
                .map_err(|error| corrupt(Kind::Token, &record.id, error))?;
            Ok((token, record.version))
        })
        .collect()
}

fn corrupt(
    kind: Kind,
    id: impl ToString,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Corrupt {
        kind,
        id: id.to_string(),
        source: Box::new(source),
    }
}
