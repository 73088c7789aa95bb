//! What outlives a restart: versioned records behind a small trait.
//!
//! A record is a kind, an id and a JSON body; each write names the version it replaces, so that two writers cannot
//! undo each other unseen. The types of the bodies belong to whoever writes them.

pub(crate) mod backup;
mod sqlite;

use std::{fmt, path::PathBuf};

use futures::future::BoxFuture;
use tokio::sync::broadcast;

pub(crate) use sqlite::SqliteStore;

/// The kinds of records there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    User,
    /// Projects with their members.
    Project,
    Agent,
    /// The cluster that an agent runs in.
    AgentCluster,
    /// Tokens of agents and of people.
    Token,
    Session,
    /// Who did what: many entries in each record.
    Audit,
    /// The last good configuration of an agent, and the error of a newer one.
    Configuration,
    /// What changes of a workspace.
    Workspace,
    /// What does not: its devfile and objects.
    WorkspaceContent,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Agent => "agent",
            Self::AgentCluster => "agent_cluster",
            Self::Token => "token",
            Self::Session => "session",
            Self::Audit => "audit",
            Self::Configuration => "configuration",
            Self::Workspace => "workspace",
            Self::WorkspaceContent => "workspace_content",
        }
    }
}

/// A record as it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// 1 for the first write, one more with each.
    pub(crate) version: u64,
    pub(crate) body: String,
}

/// One write of an [`Store::append`].
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// The version that is replaced; 0: there is none yet.
    pub(crate) expected_version: u64,
    /// `None` ends the record.
    pub(crate) body: Option<String>,
}

/// That a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) version: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else wrote the record in between; nothing of the append was written.
    #[error("record {kind} {id} is no longer at version {expected_version}")]
    Conflict {
        kind: &'static str,
        id: String,
        expected_version: u64,
    },
    #[error("open database")]
    Open(#[source] sqlx::Error),
    #[error(
        "the database is of version {found}, and this program knows up to {known}: a newer kas-stub wrote it. Start that one \
         again, or give this one a backup of its own version with `kas-stub restore`; the newer one left such a backup as \
         before-version-….backup in the data folder when it changed the database"
    )]
    TooNew { found: i64, known: i64 },
    #[error("write {} before the database is changed to a newer form", path.display())]
    BackUp {
        path: PathBuf,
        #[source]
        source: Box<backup::Error>,
    },
    #[error("write to database")]
    Append(#[source] sqlx::Error),
    #[error("read from database")]
    Read(#[source] sqlx::Error),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Versioned records. Futures are boxed: the trait is used as an object, and writes are rare.
pub(crate) trait Store: Send + Sync + fmt::Debug + 'static {
    /// Writes all or nothing; each record is then at `expected_version + 1`.
    fn append(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<()>>;

    fn load<'a>(&'a self, kind: Kind, id: &'a str) -> BoxFuture<'a, Result<Option<Record>>>;

    fn list(&self, kind: Kind) -> BoxFuture<'_, Result<Vec<Record>>>;

    /// Every change from now on. A subscriber that falls behind is told so by the channel and lists again.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "part of what a store has to offer; in one process each reader also hears of its own writes"
        )
    )]
    fn subscribe(&self) -> broadcast::Receiver<Change>;

    /// Finishes what is being written.
    fn close(&self) -> BoxFuture<'_, ()>;
}
