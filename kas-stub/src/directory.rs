//! Users, agents and credentials: an in-memory index over the store.
//!
//! Everything is read at the start; a write goes to the store first and then into the index, under one lock, so the
//! index is never ahead. Authenticating a call is one look-up in memory.

mod records;
mod token;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use model::agent_name::AgentName;
use tokio_util::sync::CancellationToken;

use crate::{
    secret::{Digest, Secret, random_id},
    store::{self, Kind, Store, Write},
};
use records::{AgentRecord, SessionRecord, UserRecord};
pub(crate) use token::{Token, TokenOwner};

/// GitLab allows two, too: one in use, one to rotate to.
const MAX_ACTIVE_AGENT_TOKENS: usize = 2;
const MAX_AGENTS: usize = 10_000;
/// Active tokens of a person.
const MAX_PERSONAL_TOKENS: usize = 1_000;
/// Sessions of a person; the oldest ends when one more begins.
const MAX_SESSIONS: usize = 100;
/// Longest name of a personal token.
const MAX_TOKEN_NAME: usize = 200;
/// How long a browser stays signed in.
pub(crate) const SESSION_LENGTH: Duration = Duration::from_secs(24 * 3600);

const AGENT_TOKEN_PREFIX: &str = "glagent-";
const PERSONAL_TOKEN_PREFIX: &str = "rdpat-";
const WEBHOOK_SECRET_PREFIX: &str = "rdhook-";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("an agent named {0} exists already")]
    AgentExists(String),
    #[error("the server keeps at most {MAX_AGENTS} agents")]
    TooManyAgents,
    #[error(
        "agent {0} has {MAX_ACTIVE_AGENT_TOKENS} active tokens already, which is the most; revoke one first"
    )]
    TooManyAgentTokens(String),
    #[error(
        "there are {MAX_PERSONAL_TOKENS} active tokens already, which is the most; revoke one first"
    )]
    TooManyPersonalTokens,
    #[error("the name of a token has 1 to {MAX_TOKEN_NAME} characters")]
    TokenName,
    #[error("it is no token of an agent: {AGENT_TOKEN_PREFIX} and what follows")]
    ImportedToken,
    #[error("an agent's id is a number from 1 to 2^53 - 1")]
    ImportedId,
    #[error("an agent with this id or token exists already")]
    ImportedTwice,
    #[error("there is no such token")]
    NoSuchToken,
    #[error("keep it in the database")]
    Store(#[source] store::Error),
    #[error("{kind:?} {id} in the database cannot be read")]
    Corrupt {
        kind: Kind,
        id: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An agent as it was made.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: u64,
    pub(crate) name: AgentName,
    /// The Git project with the agent's configuration file.
    pub(crate) project_url: Option<String>,
    webhook: Digest,
}

impl Agent {
    /// Whether this is the secret that the project's push hook was given.
    pub(crate) fn webhook_matches(&self, secret: &str) -> bool {
        self.webhook.matches(&Digest::of(secret))
    }
}

/// A signed-in browser.
#[derive(Debug)]
pub(crate) struct Session {
    digest: Digest,
    pub(crate) user_id: u64,
    expires_at: Timestamp,
    /// Cancelled when it ends, by signing out or by its age.
    ended: Cut,
}

/// What `create_agent` gives, once.
#[derive(Debug)]
pub(crate) struct CreatedAgent {
    pub(crate) agent: Arc<Agent>,
    pub(crate) token: Secret,
    pub(crate) webhook_secret: Secret,
}

#[derive(Debug, Default)]
struct Index {
    agents: BTreeMap<String, Arc<Agent>>,
    agents_by_id: HashMap<u64, Arc<Agent>>,
    tokens: HashMap<Digest, Arc<Token>>,
    sessions: HashMap<Digest, Arc<Session>>,
}

#[derive(Debug)]
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    administrator: u64,
    administrator_name: String,
    index: RwLock<Index>,
    /// Held over a write to the store and its entry into the index.
    writing: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Reads the store; makes the local administrator when there is none. Also says whether it was made.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<(Self, bool)> {
        let mut index = Index::default();
        for (id, record) in records::read_all::<AgentRecord>(&*store, Kind::Agent).await? {
            index.add_agent(Arc::new(record.into_agent(id)?));
        }
        for (token, version) in records::read_tokens(&*store).await? {
            let token = Arc::new(Token::restored(token, version));
            index.tokens.insert(token.digest, token);
        }
        for (_, record) in records::read_all::<SessionRecord>(&*store, Kind::Session).await? {
            let session = Arc::new(record.into_session());
            index.sessions.insert(session.digest, session);
        }
        let users = records::read_all::<UserRecord>(&*store, Kind::User).await?;
        let (administrator, user, made) = match users.into_iter().next() {
            Some((id, user)) => (id, user, false),
            None => {
                let (id, user) = (random_id(), UserRecord::local());
                let write = records::write(Kind::User, id.to_string(), 0, &user);
                store.append(vec![write]).await.map_err(Error::Store)?;
                (id, user, true)
            }
        };
        let directory = Self {
            store,
            administrator,
            administrator_name: user.name,
            index: RwLock::new(index),
            writing: tokio::sync::Mutex::new(()),
        };
        Ok((directory, made))
    }

    /// The one user there is so far.
    pub(crate) fn administrator(&self) -> u64 {
        self.administrator
    }

    /// What a user is called; of the one there is.
    pub(crate) fn user_name(&self, id: u64) -> Option<&str> {
        (id == self.administrator).then_some(&*self.administrator_name)
    }

    pub(crate) fn agents(&self) -> Vec<Arc<Agent>> {
        self.read().agents.values().cloned().collect()
    }

    pub(crate) fn agent(&self, name: &str) -> Option<Arc<Agent>> {
        self.read().agents.get(name).cloned()
    }

    pub(crate) fn agent_by_id(&self, id: u64) -> Option<Arc<Agent>> {
        self.read().agents_by_id.get(&id).cloned()
    }

    /// The token, when it is one and may be used now.
    pub(crate) fn authenticate(&self, presented: &str) -> Option<Arc<Token>> {
        let digest = Digest::of(presented);
        let token = self.read().tokens.get(&digest).cloned()?;
        let now = Timestamp::now();
        (token.digest.matches(&digest) && token.is_active(now)).then(|| {
            token.touch(now);
            token
        })
    }

    pub(crate) fn session(&self, presented: &str) -> Option<Arc<Session>> {
        let digest = Digest::of(presented);
        let session = self.read().sessions.get(&digest).cloned()?;
        (session.digest.matches(&digest) && session.expires_at > Timestamp::now())
            .then_some(session)
    }

    /// A session by what is kept of its secret, for what was derived from it.
    pub(crate) fn session_by_digest(&self, digest: &Digest) -> Option<Arc<Session>> {
        let session = self.read().sessions.get(digest).cloned()?;
        (session.expires_at > Timestamp::now()).then_some(session)
    }

    /// All tokens of an owner, revoked ones too, oldest first.
    pub(crate) fn tokens(&self, owner: TokenOwner) -> Vec<Arc<Token>> {
        let mut tokens: Vec<_> = self
            .read()
            .tokens
            .values()
            .filter(|token| token.owner == owner)
            .cloned()
            .collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    pub(crate) async fn create_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
    ) -> Result<CreatedAgent> {
        let token = Secret::generate(AGENT_TOKEN_PREFIX);
        self.add_agent(name, project_url, random_id(), token).await
    }

    /// Takes over an agent that another server made: it goes on with its id, by which it knows what is its own in its
    /// cluster, and its token.
    pub(crate) async fn import_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
        id: u64,
        token: &str,
    ) -> Result<CreatedAgent> {
        let token = Secret::imported(AGENT_TOKEN_PREFIX, token).ok_or(Error::ImportedToken)?;
        if !(1..1 << 53).contains(&id) {
            return Err(Error::ImportedId);
        }
        let is_taken = {
            let index = self.read();
            index.agents_by_id.contains_key(&id) || index.tokens.contains_key(&token.digest())
        };
        if is_taken {
            return Err(Error::ImportedTwice);
        }
        self.add_agent(name, project_url, id, token).await
    }

    async fn add_agent(
        &self,
        name: AgentName,
        project_url: Option<String>,
        id: u64,
        secret: Secret,
    ) -> Result<CreatedAgent> {
        let _writing = self.writing.lock().await;
        if self.agent(name.as_str()).is_some() {
            return Err(Error::AgentExists(name.to_string()));
        }
        if self.read().agents.len() >= MAX_AGENTS {
            return Err(Error::TooManyAgents);
        }
        let webhook_secret = Secret::generate(WEBHOOK_SECRET_PREFIX);
        let agent = Arc::new(Agent {
            id,
            name,
            project_url,
            webhook: webhook_secret.digest(),
        });
        let owner = TokenOwner::Agent { id: agent.id };
        let token = Arc::new(Token::new(owner, String::new(), secret.digest(), None));
        let writes = vec![
            records::write(
                Kind::Agent,
                agent.id.to_string(),
                0,
                &AgentRecord::from(&*agent),
            ),
            token.write(),
        ];
        self.append(writes).await?;
        token.written();
        let mut index = self.write();
        index.add_agent(Arc::clone(&agent));
        index.tokens.insert(token.digest, token);
        Ok(CreatedAgent {
            agent,
            token: secret,
            webhook_secret,
        })
    }

    pub(crate) async fn create_agent_token(&self, agent: &Agent) -> Result<(Arc<Token>, Secret)> {
        let _writing = self.writing.lock().await;
        let owner = TokenOwner::Agent { id: agent.id };
        if self.active_tokens(owner) >= MAX_ACTIVE_AGENT_TOKENS {
            return Err(Error::TooManyAgentTokens(agent.name.to_string()));
        }
        self.add_token(owner, String::new(), AGENT_TOKEN_PREFIX, None)
            .await
    }

    pub(crate) async fn create_personal_token(
        &self,
        user_id: u64,
        name: String,
        expires_at: Option<Timestamp>,
    ) -> Result<(Arc<Token>, Secret)> {
        let _writing = self.writing.lock().await;
        if !(1..=MAX_TOKEN_NAME).contains(&name.chars().count()) {
            return Err(Error::TokenName);
        }
        let owner = TokenOwner::User { id: user_id };
        if self.active_tokens(owner) >= MAX_PERSONAL_TOKENS {
            return Err(Error::TooManyPersonalTokens);
        }
        self.add_token(owner, name, PERSONAL_TOKEN_PREFIX, expires_at)
            .await
    }

    async fn add_token(
        &self,
        owner: TokenOwner,
        name: String,
        prefix: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(Arc<Token>, Secret)> {
        let secret = Secret::generate(prefix);
        let token = Arc::new(Token::new(owner, name, secret.digest(), expires_at));
        self.append(vec![token.write()]).await?;
        token.written();
        self.write().tokens.insert(token.digest, Arc::clone(&token));
        Ok((token, secret))
    }

    /// Revokes a token; everything that runs by it ends at once. Revoking twice is fine.
    pub(crate) async fn revoke_token(&self, owner: TokenOwner, id: u64) -> Result<Arc<Token>> {
        let _writing = self.writing.lock().await;
        let token = self
            .tokens(owner)
            .into_iter()
            .find(|token| token.id == id)
            .ok_or(Error::NoSuchToken)?;
        if token.revoked_at().is_none() {
            self.append(vec![token.write_revoked(Timestamp::now())])
                .await?;
            token.revoked();
        }
        Ok(token)
    }

    /// Starts a session; the secret goes into the cookie.
    pub(crate) async fn create_session(&self, user_id: u64) -> Result<Secret> {
        let _writing = self.writing.lock().await;
        let secret = Secret::generate("");
        let session = Arc::new(Session {
            digest: secret.digest(),
            user_id,
            expires_at: Timestamp::now() + SESSION_LENGTH,
            ended: Cut::new(),
        });
        let mut writes = vec![records::write(
            Kind::Session,
            records::session_id(&session.digest),
            0,
            &SessionRecord::from(&*session),
        )];
        let oldest = {
            let index = self.read();
            (index.sessions.len() >= MAX_SESSIONS)
                .then(|| {
                    index
                        .sessions
                        .values()
                        .min_by_key(|s| s.expires_at)
                        .cloned()
                })
                .flatten()
        };
        writes.extend(oldest.iter().map(|session| session.end()));
        self.append(writes).await?;
        let mut index = self.write();
        if let Some(oldest) = oldest {
            oldest.ended.cancel();
            index.sessions.remove(&oldest.digest);
        }
        index.sessions.insert(session.digest, session);
        Ok(secret)
    }

    pub(crate) async fn end_session(&self, session: &Session) -> Result<()> {
        let _writing = self.writing.lock().await;
        if self.read().sessions.contains_key(&session.digest) {
            self.append(vec![session.end()]).await?;
            session.ended.cancel();
            self.write().sessions.remove(&session.digest);
        }
        Ok(())
    }

    /// Ends what has expired, and writes down when tokens were last used; called every few seconds.
    pub(crate) async fn maintain(&self, now: Timestamp, write_last_used: bool) -> Result<()> {
        let _writing = self.writing.lock().await;
        let (tokens, sessions): (Vec<_>, Vec<_>) = {
            let index = self.read();
            (
                index.tokens.values().cloned().collect(),
                index
                    .sessions
                    .values()
                    .filter(|session| session.expires_at <= now)
                    .cloned()
                    .collect(),
            )
        };
        for token in &tokens {
            if !token.is_active(now) {
                token.cancelled().cancel();
            }
        }
        let used: Vec<_> = if write_last_used {
            tokens
                .into_iter()
                .filter(|token| token.is_used_since_written())
                .collect()
        } else {
            Vec::new()
        };
        let mut writes: Vec<Write> = used.iter().map(|token| token.write()).collect();
        writes.extend(sessions.iter().map(|session| session.end()));
        if writes.is_empty() {
            return Ok(());
        }
        self.append(writes).await?;
        for token in used {
            token.written();
        }
        let mut index = self.write();
        for session in sessions {
            session.ended.cancel();
            index.sessions.remove(&session.digest);
        }
        Ok(())
    }

    fn active_tokens(&self, owner: TokenOwner) -> usize {
        let now = Timestamp::now();
        self.read()
            .tokens
            .values()
            .filter(|token| token.owner == owner && token.is_active(now))
            .count()
    }

    async fn append(&self, writes: Vec<Write>) -> Result<()> {
        self.store.append(writes).await.map_err(Error::Store)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Index {
    fn add_agent(&mut self, agent: Arc<Agent>) {
        self.agents
            .insert(agent.name.to_string(), Arc::clone(&agent));
        self.agents_by_id.insert(agent.id, agent);
    }
}

impl Session {
    /// What is kept of its secret.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Ends when the session does.
    pub(crate) fn ended(&self) -> &Cut {
        &self.ended
    }

    fn end(&self) -> Write {
        Write {
            kind: Kind::Session,
            id: records::session_id(&self.digest),
            expected_version: 1,
            body: None,
        }
    }
}

/// What ends when a credential does.
pub(crate) type Cut = CancellationToken;

#[cfg(test)]
mod tests;
