//! Beginning and ending sessions.

use std::sync::Arc;

use super::{
    Directory, Error, Result,
    session::{Session, SignedInBy},
    user::UserState,
};
use crate::secret::{Digest, Secret};

/// Sessions of a person; the oldest ends when one more begins.
const MAX_SESSIONS: usize = 50;

impl Directory {
    /// Sessions of a user, newest first.
    pub(crate) fn sessions_of(&self, user_id: u64) -> Vec<Arc<Session>> {
        let index = self.read();
        let all = index.sessions.values();
        let mut sessions: Vec<_> = all.filter(|it| it.user_id == user_id).cloned().collect();
        sessions.sort_by_key(|it| std::cmp::Reverse((it.created_at, it.id)));
        sessions
    }

    /// Starts a session in place of the one that the browser had, if it had one; the secret goes into the cookie.
    pub(crate) async fn create_session(
        &self,
        user_id: u64,
        by: SignedInBy,
        browser: &str,
        before: Option<&Session>,
    ) -> Result<Secret> {
        let _writing = self.writing.lock().await;
        let user = self.user(user_id);
        let user = user.ok_or_else(|| Error::NoSuchUser(user_id.to_string()))?;
        if user.state == UserState::Suspended {
            return Err(Error::Suspended(user.name.to_string()));
        }
        let secret = Secret::generate("");
        let session = Arc::new(Session::new(secret.digest(), user_id, by, browser));
        let known = |it: &Session| self.read().sessions.get(&it.digest()).cloned();
        let mut over: Vec<_> = before.and_then(known).into_iter().collect();
        let others = self.sessions_of(user_id);
        if others.len() >= MAX_SESSIONS {
            over.extend(others.into_iter().next_back());
        }
        over.sort_by_key(|it| it.id);
        over.dedup_by_key(|it| it.id);
        let mut writes = vec![session.write()];
        writes.extend(over.iter().map(|it| it.end()));
        self.append(writes).await?;
        session.written();
        self.forget_sessions(&over);
        self.write().sessions.insert(session.digest(), session);
        Ok(secret)
    }

    /// Ends a session; one that is over already is fine.
    pub(crate) async fn end_session(&self, digest: &Digest) -> Result<()> {
        let _writing = self.writing.lock().await;
        let session = self.read().sessions.get(digest).cloned();
        if let Some(session) = session {
            self.append(vec![session.end()]).await?;
            self.forget_sessions(&[session]);
        }
        Ok(())
    }

    /// Ends the session of a user that has this id.
    pub(crate) async fn end_session_of(&self, user_id: u64, id: u64) -> Result<()> {
        let sessions = self.sessions_of(user_id);
        let session = sessions.iter().find(|it| it.id == id);
        let session = session.ok_or(Error::NoSuchSession)?;
        self.end_session(&session.digest()).await
    }

    pub(super) fn forget_sessions(&self, over: &[Arc<Session>]) {
        let mut index = self.write();
        for session in over {
            index.sessions.remove(&session.digest());
            session.ended().cancel();
        }
    }
}
