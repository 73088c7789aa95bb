//! How an agent's configuration is kept over a restart.

use jiff::Timestamp;
use model::configuration::parse;
use serde::{Deserialize, Serialize};

use super::{ConfigurationError, Good, State};
use crate::store::{Kind, Store, Write};

/// What is kept, with its version in the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) record: Record,
    version: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The last commit judged, good or not: it need not be fetched again.
    pub(super) seen: Option<String>,
    pub(super) good: Option<GoodRecord>,
    /// What was wrong with the last commit judged.
    pub(super) error: Option<ConfigurationError>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GoodRecord {
    pub(super) commit: String,
    /// The file's text; none when the commit has no file.
    pub(super) text: Option<String>,
    pub(super) applied_at: Timestamp,
}

impl Kept {
    pub(super) fn state(&self) -> State {
        let mut state = State {
            good: self.record.good.as_ref().and_then(GoodRecord::good),
            error: self.record.error.clone(),
        };
        if state.error.is_some() {
            state.ensure_good();
        }
        state
    }

    /// Writes; a failure is logged, and costs no more than reading the project again after a restart.
    pub(super) async fn write(&mut self, store: &dyn Store, agent_id: u64) {
        let Ok(body) = serde_json::to_string(&self.record) else {
            return;
        };
        let write = Write {
            kind: Kind::Configuration,
            id: agent_id.to_string(),
            expected_version: self.version,
            body: Some(body),
        };
        match store.append(vec![write]).await {
            Ok(()) => self.version += 1,
            Err(error) => {
                tracing::warn!(agent = agent_id, error = %chain(&error), "configuration could not be kept");
            }
        }
    }
}

impl GoodRecord {
    fn good(&self) -> Option<Good> {
        let parsed = match &self.text {
            Some(text) => parse(text).ok()?,
            None => super::watcher::without_file(),
        };
        Some(Good {
            commit: self.commit.clone(),
            configuration: parsed.configuration.into(),
            notes: parsed.notes.into(),
            applied_at: self.applied_at,
        })
    }
}

/// What is kept of an agent; nothing when it cannot be read, so that it is read from the project again.
pub(super) async fn load(store: &dyn Store, agent_id: u64) -> Kept {
    let found = store.load(Kind::Configuration, &agent_id.to_string()).await;
    let Some(found) = found.ok().flatten() else {
        return Kept::default();
    };
    let mut record: Record = serde_json::from_str(&found.body).unwrap_or_default();
    if record
        .good
        .as_ref()
        .is_some_and(|good| good.good().is_none())
    {
        // A newer version of this program judges the file otherwise: look at the project again.
        record = Record::default();
    }
    Kept {
        record,
        version: found.version,
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
