//! How the directory's things are written in the store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::agent_name::AgentName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Agent, Error, Identity, PasswordHash, Project, ProjectPath, Result, Session, SignedInBy,
    TokenOwner, User, UserName, UserState,
};
use crate::{
    authorization::{MemberRole, Role, Scopes},
    secret::{Digest, random_id},
    store::{Kind, Store, Write},
};

/// A user. What is optional was not kept at first, when there was the local administrator alone.
#[derive(Serialize, Deserialize)]
pub(super) struct UserRecord {
    name: UserName,
    role: Role,
    #[serde(default)]
    state: UserState,
    #[serde(default = "yes")]
    local: bool,
    #[serde(default)]
    password: Option<PasswordHash>,
    #[serde(default)]
    identities: Vec<Identity>,
    #[serde(default)]
    created_at: Option<Timestamp>,
}

fn yes() -> bool {
    true
}

impl UserRecord {
    pub(super) fn into_user(self, id: u64, version: u64) -> User {
        let Self {
            name,
            role,
            state,
            local,
            password,
            identities,
            created_at,
        } = self;
        User {
            id,
            name,
            role,
            state,
            local,
            password,
            identities,
            created_at,
            version,
        }
    }
}

impl From<&User> for UserRecord {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            role: user.role,
            state: user.state,
            local: user.local,
            password: user.password.clone(),
            identities: user.identities.clone(),
            created_at: user.created_at,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProjectRecord {
    path: ProjectPath,
    members: BTreeMap<u64, MemberRole>,
    created_at: Timestamp,
}

impl ProjectRecord {
    pub(super) fn into_project(self, id: u64, version: u64) -> Project {
        Project {
            id,
            path: self.path,
            members: self.members,
            created_at: self.created_at,
            version,
        }
    }
}

impl From<&Project> for ProjectRecord {
    fn from(project: &Project) -> Self {
        Self {
            path: project.path.clone(),
            members: project.members.clone(),
            created_at: project.created_at,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AgentRecord {
    name: String,
    project_url: Option<String>,
    #[serde(default)]
    project: Option<u64>,
    webhook_sha256: Digest,
}

impl AgentRecord {
    pub(super) fn into_agent(self, id: u64, version: u64) -> Result<Agent> {
        Ok(Agent {
            id,
            name: AgentName::try_from(self.name)
                .map_err(|error| corrupt(Kind::Agent, id, error))?,
            project_url: self.project_url,
            project: self.project,
            webhook: self.webhook_sha256,
            version,
        })
    }
}

impl From<&Agent> for AgentRecord {
    fn from(agent: &Agent) -> Self {
        Self {
            name: agent.name.to_string(),
            project_url: agent.project_url.clone(),
            project: agent.project,
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
    #[serde(default = "Scopes::all")]
    pub(super) scopes: Scopes,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) revoked_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) sha256: Digest,
    #[serde(default = "random_id")]
    pub(super) id: u64,
    pub(super) user_id: u64,
    #[serde(default)]
    pub(super) by: SignedInBy,
    #[serde(default)]
    pub(super) browser: String,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
    pub(super) expires_at: Timestamp,
    #[serde(default)]
    pub(super) last_used_at: Option<Timestamp>,
}

impl SessionRecord {
    pub(super) fn into_session(self, version: u64) -> Session {
        Session::restored(self, version)
    }
}

impl From<&Session> for SessionRecord {
    fn from(session: &Session) -> Self {
        Self {
            sha256: session.digest(),
            id: session.id,
            user_id: session.user_id,
            by: session.by,
            browser: session.browser.clone(),
            created_at: Some(session.created_at),
            expires_at: session.expires_at,
            last_used_at: Some(session.last_used_at()),
        }
    }
}

/// A session's record is found by what is kept of its secret.
pub(super) fn session_id(digest: &Digest) -> String {
    digest.to_text()
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

/// All records of a kind with their id and version. Sessions have no number as id; 0 stands there.
pub(super) async fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    kind: Kind,
) -> Result<Vec<(u64, u64, T)>> {
    let records = store.list(kind).await.map_err(Error::Store)?;
    records
        .into_iter()
        .map(|record| {
            let id = record.id.parse().unwrap_or_default();
            let read = serde_json::from_str(&record.body)
                .map_err(|error| corrupt(kind, &record.id, error))?;
            Ok((id, record.version, read))
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
