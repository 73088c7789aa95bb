//! Users, projects, agents and credentials: an in-memory index over the store.
//!
//! Everything is read at the start; a write goes to the store first and then into the index, under one lock, so the
//! index is never ahead. Authenticating a call is one look-up in memory.
//!
//! What a person may changes while streams of theirs are open. Whoever takes rights away ends these streams too
//! (`cut_user`), in the same moment in which new calls are judged anew: both happen under the index's lock.

mod agents;
mod error;
mod password;
mod projects;
mod records;
mod session;
mod sessions;
mod token;
mod tokens;
mod user;
mod users;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    authorization::{Principal, Proof},
    secret::{Digest, random_id},
    store::{Kind, Store, Write},
};
pub(crate) use agents::Agent;
pub(crate) use error::{Error, Result};
pub(crate) use password::{Busy, Password, PasswordHash, Passwords};
pub(crate) use projects::{Project, ProjectPath};
use records::{AgentRecord, ProjectRecord, SessionRecord, UserRecord};
pub(crate) use session::{SESSION_LENGTH, Session, SignedInBy};
pub(crate) use token::{Token, TokenOwner};
pub(crate) use user::{Identity, User, UserName, UserState};
pub(crate) use users::NewUser;

/// What ends when a credential does, or when its person may less than before.
pub(crate) type Cut = CancellationToken;

/// Somebody who showed who they are.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    pub(crate) principal: Principal,
    /// Whatever goes on for them goes on no longer than this.
    pub(crate) cut: Cut,
}

#[derive(Debug, Default)]
struct Index {
    users: BTreeMap<u64, Arc<User>>,
    users_by_name: HashMap<UserName, u64>,
    users_by_identity: HashMap<Identity, u64>,
    projects: HashMap<u64, Arc<Project>>,
    projects_by_path: BTreeMap<ProjectPath, u64>,
    agents: BTreeMap<String, Arc<Agent>>,
    agents_by_id: HashMap<u64, Arc<Agent>>,
    tokens: HashMap<Digest, Arc<Token>>,
    sessions: HashMap<Digest, Arc<Session>>,
}

#[derive(Debug)]
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    /// The one whom the server's own machine acts as; there from the first start, and never suspended.
    administrator: u64,
    index: RwLock<Index>,
    /// Held over a write to the store and its entry into the index.
    writing: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Reads the store; makes the local administrator when there is none. Also says whether it was made.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<(Self, bool)> {
        let mut index = Index::default();
        for (id, version, record) in records::read_all::<UserRecord>(&*store, Kind::User).await? {
            index.set_user(Arc::new(record.into_user(id, version)));
        }
        for (id, version, record) in
            records::read_all::<ProjectRecord>(&*store, Kind::Project).await?
        {
            index.set_project(Arc::new(record.into_project(id, version)));
        }
        for (id, version, record) in records::read_all::<AgentRecord>(&*store, Kind::Agent).await? {
            index.set_agent(Arc::new(record.into_agent(id, version)?));
        }
        for (token, version) in records::read_tokens(&*store).await? {
            let token = Arc::new(Token::restored(token, version));
            index.tokens.insert(token.digest, token);
        }
        for (_, version, record) in
            records::read_all::<SessionRecord>(&*store, Kind::Session).await?
        {
            let session = Arc::new(record.into_session(version));
            index.sessions.insert(session.digest(), session);
        }
        let local = index.users.values().find(|user| user.local);
        let (administrator, made) = match local.map(|user| user.id) {
            Some(id) => (id, false),
            None => {
                let user = User::local_administrator(random_id());
                let write =
                    records::write(Kind::User, user.id.to_string(), 0, &UserRecord::from(&user));
                store.append(vec![write]).await.map_err(Error::Store)?;
                let id = user.id;
                index.set_user(Arc::new(user));
                (id, true)
            }
        };
        let directory = Self {
            store,
            administrator,
            index: RwLock::new(index),
            writing: tokio::sync::Mutex::new(()),
        };
        Ok((directory, made))
    }

    /// The local administrator.
    pub(crate) fn administrator(&self) -> u64 {
        self.administrator
    }

    /// Who a token is, when it is one and may be used now.
    pub(crate) fn authenticate(&self, presented: &str) -> Option<Authenticated> {
        let digest = Digest::of(presented);
        let now = Timestamp::now();
        let index = self.read();
        let token = index.tokens.get(&digest)?;
        if !(token.digest.matches(&digest) && token.is_active(now)) {
            return None;
        }
        let principal = match token.owner {
            TokenOwner::Agent { id } => Principal::Agent { agent_id: id },
            TokenOwner::User { id } => {
                let proof = Proof::Token {
                    token_id: token.id,
                    scopes: token.scopes,
                };
                index.person(id, proof)?
            }
        };
        token.touch(now);
        let cut = token.cancelled().clone();
        Some(Authenticated { principal, cut })
    }

    /// Who a session's cookie is, and the session.
    pub(crate) fn session(&self, presented: &str) -> Option<(Authenticated, Arc<Session>)> {
        self.session_by_digest(&Digest::of(presented))
    }

    /// The same by what is kept of the cookie, for what was derived from it.
    pub(crate) fn session_by_digest(
        &self,
        digest: &Digest,
    ) -> Option<(Authenticated, Arc<Session>)> {
        let now = Timestamp::now();
        let index = self.read();
        let session = index.sessions.get(digest)?;
        if !(session.digest().matches(digest) && session.is_active(now)) {
            return None;
        }
        let principal = index.person(session.user_id, Proof::Session)?;
        session.touch(now);
        let cut = session.ended().clone();
        Some((Authenticated { principal, cut }, Arc::clone(session)))
    }

    /// Who is at the socket: the local administrator, whatever became of anybody's rights.
    pub(crate) fn at_the_socket(&self) -> Principal {
        Principal::Person {
            user_id: self.administrator,
            role: crate::authorization::Role::Administrator,
            by: Proof::Socket,
        }
    }

    /// Ends what has expired, and writes down when credentials were last used; called every few seconds.
    pub(crate) async fn maintain(&self, now: Timestamp, write_last_used: bool) -> Result<()> {
        let _writing = self.writing.lock().await;
        let (tokens, sessions): (Vec<_>, Vec<_>) = {
            let index = self.read();
            (
                index.tokens.values().cloned().collect(),
                index.sessions.values().cloned().collect(),
            )
        };
        for token in tokens.iter().filter(|token| !token.is_active(now)) {
            token.cancelled().cancel();
        }
        let (sessions, over): (Vec<_>, Vec<_>) =
            sessions.into_iter().partition(|it| it.is_active(now));
        let mut writes: Vec<Write> = over.iter().map(|session| session.end()).collect();
        let mut used_tokens = Vec::new();
        let mut used_sessions = Vec::new();
        if write_last_used {
            used_tokens.extend(tokens.into_iter().filter(|it| it.is_used_since_written()));
            used_sessions.extend(sessions.into_iter().filter(|it| it.is_used_since_written()));
            writes.extend(used_tokens.iter().map(|token| token.write()));
            writes.extend(used_sessions.iter().map(|session| session.write()));
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.append(writes).await?;
        for token in used_tokens {
            token.written();
        }
        for session in used_sessions {
            session.written();
        }
        self.forget_sessions(&over);
        Ok(())
    }

    /// Ends every stream of a user that goes on, by whatever credential. Their credentials stay.
    fn cut_user(&self, index: &mut Index, user_id: u64) {
        let owner = TokenOwner::User { id: user_id };
        for token in index.tokens.values_mut().filter(|it| it.owner == owner) {
            let renewed = Arc::new(token.renewed());
            std::mem::replace(token, renewed).cancelled().cancel();
        }
        let sessions = index.sessions.values_mut();
        for session in sessions.filter(|it| it.user_id == user_id) {
            let renewed = Arc::new(session.renewed());
            std::mem::replace(session, renewed).ended().cancel();
        }
    }

    async fn append(&self, writes: Vec<Write>) -> Result<()> {
        self.store.append(writes).await.map_err(Error::Store)
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// A user as who asks, when they are not suspended.
    fn person(&self, user_id: u64, by: Proof) -> Option<Principal> {
        let user = self.users.get(&user_id)?;
        (user.state == UserState::Active).then_some(Principal::Person {
            user_id,
            role: user.role,
            by,
        })
    }

    fn set_user(&mut self, user: Arc<User>) {
        self.users_by_name.insert(user.name.clone(), user.id);
        for identity in &user.identities {
            self.users_by_identity.insert(identity.clone(), user.id);
        }
        self.users.insert(user.id, user);
    }

    fn set_project(&mut self, project: Arc<Project>) {
        self.projects_by_path
            .insert(project.path.clone(), project.id);
        self.projects.insert(project.id, project);
    }

    fn set_agent(&mut self, agent: Arc<Agent>) {
        self.agents
            .insert(agent.name.to_string(), Arc::clone(&agent));
        self.agents_by_id.insert(agent.id, agent);
    }
}

#[cfg(test)]
mod tests;
