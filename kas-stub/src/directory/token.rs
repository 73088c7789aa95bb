//! One token: what is known of it, and what ends with it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Cut, records, records::TokenRecord};
use crate::{
    authorization::Scopes,
    secret::{Digest, random_id},
    store::{Kind, Write},
};

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum TokenOwner {
    Agent { id: u64 },
    User { id: u64 },
}

/// A token. Its secret is known to its owner alone.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: u64,
    pub(crate) owner: TokenOwner,
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// Of a person's: what it is for.
    pub(crate) scopes: Scopes,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    revoked_at: Mutex<Option<Timestamp>>,
    /// Milliseconds since 1970, 0 for never; in memory the latest, in the store coarser, so that a call does not write.
    last_used_ms: AtomicI64,
    written_last_used_ms: AtomicI64,
    version: AtomicU64,
    cut: Cut,
}

impl Token {
    pub(super) fn new(
        owner: TokenOwner,
        name: String,
        digest: Digest,
        expires_at: Option<Timestamp>,
        scopes: Scopes,
    ) -> Self {
        let record = TokenRecord {
            id: random_id(),
            owner,
            name,
            sha256: digest,
            scopes,
            created_at: Timestamp::now(),
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        Self::restored(record, 0)
    }

    pub(super) fn restored(record: TokenRecord, version: u64) -> Self {
        let TokenRecord {
            id,
            owner,
            name,
            sha256,
            scopes,
            created_at,
            expires_at,
            last_used_at,
            revoked_at,
        } = record;
        let last_used_ms = last_used_at.map_or(0, Timestamp::as_millisecond);
        Self {
            id,
            owner,
            name,
            digest: sha256,
            scopes,
            created_at,
            expires_at,
            revoked_at: Mutex::new(revoked_at),
            last_used_ms: AtomicI64::new(last_used_ms),
            written_last_used_ms: AtomicI64::new(last_used_ms),
            version: AtomicU64::new(version),
            cut: Cut::new(),
        }
    }

    /// The same with a cut of its own: what went on by the one before ends, and it does not.
    pub(super) fn renewed(&self) -> Self {
        Self::restored(self.record(self.revoked_at()), self.version.load(Relaxed))
    }

    /// Ends with the token's revocation or expiry: whatever runs by the token ends with it.
    pub(crate) fn cancelled(&self) -> &Cut {
        &self.cut
    }

    pub(crate) fn revoked_at(&self) -> Option<Timestamp> {
        *self
            .revoked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_used_at(&self) -> Option<Timestamp> {
        match self.last_used_ms.load(Relaxed) {
            0 => None,
            ms => Timestamp::from_millisecond(ms).ok(),
        }
    }

    pub(crate) fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at().is_none() && self.expires_at.is_none_or(|at| at > now)
    }

    pub(super) fn touch(&self, now: Timestamp) {
        self.last_used_ms.store(now.as_millisecond(), Relaxed);
    }

    pub(super) fn is_used_since_written(&self) -> bool {
        self.last_used_ms.load(Relaxed) > self.written_last_used_ms.load(Relaxed)
    }

    pub(super) fn write(&self) -> Write {
        self.write_with(self.revoked_at())
    }

    pub(super) fn write_revoked(&self, now: Timestamp) -> Write {
        self.write_with(Some(now))
    }

    fn record(&self, revoked_at: Option<Timestamp>) -> TokenRecord {
        TokenRecord {
            id: self.id,
            owner: self.owner,
            name: self.name.clone(),
            sha256: self.digest,
            scopes: self.scopes,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at(),
            revoked_at,
        }
    }

    fn write_with(&self, revoked_at: Option<Timestamp>) -> Write {
        let version = self.version.load(Relaxed);
        let record = self.record(revoked_at);
        records::write(Kind::Token, self.id.to_string(), version, &record)
    }

    pub(super) fn end(&self) -> Write {
        Write {
            kind: Kind::Token,
            id: self.id.to_string(),
            expected_version: self.version.load(Relaxed),
            body: None,
        }
    }

    /// The store has what `write` gave.
    pub(super) fn written(&self) {
        self.version.fetch_add(1, Relaxed);
        self.written_last_used_ms
            .store(self.last_used_ms.load(Relaxed), Relaxed);
    }

    /// The store has what `write_revoked` gave: everything by the token ends now.
    pub(super) fn revoked(&self) {
        self.written();
        *self
            .revoked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Timestamp::now());
        self.cut.cancel();
    }
}
