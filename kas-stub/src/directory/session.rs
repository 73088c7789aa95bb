//! One signed-in browser.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Cut, records, records::SessionRecord};
use crate::{
    secret::{Digest, random_id},
    store::{Kind, Write},
};

/// How long a browser stays signed in at most.
pub(crate) const SESSION_LENGTH: Duration = Duration::from_secs(24 * 3600);
/// How long it stays so without asking for anything.
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(8 * 3600);
/// Of what a browser calls itself.
const MAX_BROWSER: usize = 200;

/// How somebody signed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SignedInBy {
    #[default]
    Link,
    Password,
    /// The provider of OpenID Connect.
    Provider,
}

/// A session. Its secret is known to the browser alone.
#[derive(Debug)]
pub(crate) struct Session {
    /// To name it by; says nothing of the secret.
    pub(crate) id: u64,
    digest: Digest,
    pub(crate) user_id: u64,
    pub(crate) by: SignedInBy,
    /// What the browser calls itself.
    pub(crate) browser: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// Milliseconds since 1970; in memory the latest, in the store coarser.
    last_used_ms: AtomicI64,
    written_last_used_ms: AtomicI64,
    version: AtomicU64,
    /// Cancelled when it ends, or when its user may less.
    ended: Cut,
}

impl Session {
    pub(super) fn new(digest: Digest, user_id: u64, by: SignedInBy, browser: &str) -> Self {
        let now = Timestamp::now();
        let printable = browser.chars().filter(|it| !it.is_control());
        Self::restored(
            SessionRecord {
                sha256: digest,
                id: random_id(),
                user_id,
                by,
                browser: printable.take(MAX_BROWSER).collect(),
                created_at: Some(now),
                expires_at: now + SESSION_LENGTH,
                last_used_at: Some(now),
            },
            0,
        )
    }

    pub(super) fn restored(record: SessionRecord, version: u64) -> Self {
        let SessionRecord {
            sha256,
            id,
            user_id,
            by,
            browser,
            created_at,
            expires_at,
            last_used_at,
        } = record;
        let created_at = created_at.unwrap_or_else(Timestamp::now);
        let last_used_ms = last_used_at.unwrap_or_else(Timestamp::now).as_millisecond();
        Self {
            id,
            digest: sha256,
            user_id,
            by,
            browser,
            created_at,
            expires_at,
            last_used_ms: AtomicI64::new(last_used_ms),
            written_last_used_ms: AtomicI64::new(last_used_ms),
            version: AtomicU64::new(version),
            ended: Cut::new(),
        }
    }

    /// The same with a cut of its own: what went on by the one before ends, and it does not.
    pub(super) fn renewed(&self) -> Self {
        Self::restored(SessionRecord::from(self), self.version.load(Relaxed))
    }

    /// What is kept of its secret.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Ends when the session does.
    pub(crate) fn ended(&self) -> &Cut {
        &self.ended
    }

    pub(crate) fn last_used_at(&self) -> Timestamp {
        let ms = self.last_used_ms.load(Relaxed);
        Timestamp::from_millisecond(ms).unwrap_or(self.created_at)
    }

    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.expires_at > now && self.last_used_at() + SESSION_IDLE > now
    }

    pub(super) fn touch(&self, now: Timestamp) {
        self.last_used_ms.store(now.as_millisecond(), Relaxed);
    }

    pub(super) fn is_used_since_written(&self) -> bool {
        self.last_used_ms.load(Relaxed) > self.written_last_used_ms.load(Relaxed)
    }

    pub(super) fn write(&self) -> Write {
        let version = self.version.load(Relaxed);
        let id = records::session_id(&self.digest);
        records::write(Kind::Session, id, version, &SessionRecord::from(self))
    }

    /// The store has what `write` gave.
    pub(super) fn written(&self) {
        self.version.fetch_add(1, Relaxed);
        let last_used_ms = self.last_used_ms.load(Relaxed);
        self.written_last_used_ms.store(last_used_ms, Relaxed);
    }

    pub(super) fn end(&self) -> Write {
        Write {
            kind: Kind::Session,
            id: records::session_id(&self.digest),
            expected_version: self.version.load(Relaxed),
            body: None,
        }
    }
}
