//! Who did what, allowed or refused.
//!
//! Every decision is a line of the log. What changed something and what was refused is kept here too, for administrators
//! to look at: the newest [`MAX_SEGMENTS`] times [`SEGMENT`] entries, in the store in segments, so that one write carries
//! many. What was not written yet when the server dies is lost here and stands in the log.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    authorization::{Action, Principal},
    configuration::chain,
    store::{self, Kind, Store, Write},
};

/// Entries in one record.
const SEGMENT: usize = 128;
/// Records; the oldest makes room.
const MAX_SEGMENTS: usize = 160;
/// Characters of what an entry is about.
const MAX_TARGET: usize = 200;
/// The same again within this time is counted on the entry that there is, so that nobody fills the log by repeating it.
const REPEATED: Duration = Duration::from_secs(60);
/// How many entries back that is looked for.
const LOOK_BACK: usize = 64;

/// Something that somebody did, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Grows; the page before a page ends before its smallest.
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    /// The person, if it was one that is known.
    pub(crate) user_id: Option<u64>,
    /// Who, and by which credential.
    pub(crate) who: String,
    pub(crate) action: String,
    /// On what, when there is more to say than the action does.
    pub(crate) target: String,
    pub(crate) allowed: bool,
    /// Where the request came from; none by the socket.
    pub(crate) from: Option<IpAddr>,
    /// How often, when it was repeated at once.
    pub(crate) times: u64,
}

/// What is asked of the log; everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<u64>,
    pub(crate) action: Option<String>,
    pub(crate) allowed: Option<bool>,
    /// Only entries with smaller ids.
    pub(crate) before: Option<u64>,
}

/// A decision.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) action: Action,
    pub(crate) target: &'a str,
    pub(crate) allowed: bool,
    pub(crate) from: Option<IpAddr>,
}

#[derive(Debug)]
pub(crate) struct Audit {
    store: Arc<dyn Store>,
    segments: Mutex<VecDeque<Segment>>,
    /// Held over a write to the store.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Segment {
    entries: Vec<Entry>,
    /// In the store; 0: not yet.
    version: u64,
    /// Grows with each change; what was written of them.
    changes: u64,
    written: u64,
}

impl Segment {
    fn id(&self) -> String {
        let first = self.entries.first().map_or(0, |entry| entry.id);
        format!("{first:020}")
    }
}

impl Audit {
    /// Reads the store. A record that cannot be read is left out: it must not keep anybody from working.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<Self, store::Error> {
        let mut segments = VecDeque::new();
        for record in store.list(Kind::Audit).await? {
            match serde_json::from_str::<Vec<Entry>>(&record.body) {
                Ok(entries) if !entries.is_empty() => segments.push_back(Segment {
                    entries,
                    version: record.version,
                    ..Segment::default()
                }),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(record = record.id, %error, "audit record cannot be read");
                }
            }
        }
        Ok(Self {
            store,
            segments: Mutex::new(segments),
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// Takes a decision down.
    pub(crate) fn record(&self, event: &Event<'_>) {
        self.log(event);
        let Event {
            principal,
            action,
            target,
            allowed,
            from,
        } = *event;
        if allowed && action.is_routine() {
            return;
        }
        let target: String = target.chars().take(MAX_TARGET).collect();
        self.add(
            Entry {
                id: 0,
                at: Timestamp::now(),
                user_id: principal.user_id(),
                who: principal.label(),
                action: action.name().to_owned(),
                target,
                allowed,
                from,
                times: 1,
            },
            Timestamp::now(),
        );
    }

    /// Writes a decision into the log alone.
    pub(crate) fn log(&self, event: &Event<'_>) {
        tracing::info!(
            target: "audit",
            who = event.principal.label(),
            action = event.action.name(),
            on = event.target,
            allowed = event.allowed,
            from = event.from.map(|it| it.to_string()),
        );
    }

    fn add(&self, entry: Entry, now: Timestamp) {
        let mut segments = self.segments();
        let same = |it: &Entry| {
            let who =
                (&it.who, &it.action, it.allowed) == (&entry.who, &entry.action, entry.allowed);
            // Whoever is refused may try many names: they are one.
            who && (!entry.allowed || it.target == entry.target) && it.at + REPEATED > now
        };
        let mut looked_at = 0;
        for segment in segments.iter_mut().rev() {
            for old in segment.entries.iter_mut().rev() {
                if looked_at == LOOK_BACK {
                    break;
                }
                looked_at += 1;
                if same(old) {
                    old.times += 1;
                    segment.changes += 1;
                    return;
                }
            }
        }
        let newest = segments.back().and_then(|it| it.entries.last());
        let id = newest.map_or(1, |it| it.id + 1);
        if segments.back().is_none_or(|it| it.entries.len() >= SEGMENT) {
            segments.push_back(Segment::default());
        }
        if let Some(last) = segments.back_mut() {
            last.entries.push(Entry { id, ..entry });
            last.changes += 1;
        }
    }

    /// The newest entries that fit, newest first.
    pub(crate) fn list(&self, filter: &Filter, limit: usize) -> Vec<Entry> {
        let Filter {
            user_id,
            action,
            allowed,
            before,
        } = filter;
        let fits = |it: &&Entry| {
            before.is_none_or(|before| it.id < before)
                && user_id.is_none_or(|id| it.user_id == Some(id))
                && action.as_ref().is_none_or(|action| it.action == *action)
                && allowed.is_none_or(|allowed| it.allowed == allowed)
        };
        let segments = self.segments();
        let newest_first = segments.iter().rev().flat_map(|it| it.entries.iter().rev());
        newest_first.filter(fits).take(limit).cloned().collect()
    }

    /// Writes what is new, and ends what is too old; called every few seconds.
    pub(crate) async fn write(&self) {
        let _writing = self.writing.lock().await;
        let (writes, written) = self.to_write();
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.store.append(writes).await {
            tracing::warn!(error = chain(&error), "audit log cannot be kept");
            return;
        }
        let mut segments = self.segments();
        let too_many = segments.len().saturating_sub(MAX_SEGMENTS);
        segments.drain(..too_many);
        for (id, changes) in written {
            let mut all = segments.iter_mut();
            if let Some(segment) = all.find(|it| it.id() == id) {
                segment.version += 1;
                segment.written = changes;
            }
        }
    }

    fn to_write(&self) -> (Vec<Write>, Vec<(String, u64)>) {
        let segments = self.segments();
        let too_many = segments.len().saturating_sub(MAX_SEGMENTS);
        let mut writes = Vec::new();
        let mut written = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            let is_over = place < too_many;
            let is_new = segment.changes > segment.written;
            if (is_over && segment.version > 0) || (!is_over && is_new) {
                let body = || serde_json::to_string(&segment.entries).unwrap_or_default();
                writes.push(Write {
                    kind: Kind::Audit,
                    id: segment.id(),
                    expected_version: segment.version,
                    body: (!is_over).then(body),
                });
            }
            if !is_over && is_new {
                written.push((segment.id(), segment.changes));
            }
        }
        (writes, written)
    }

    fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SqliteStore;

    async fn audit(folder: &tempfile::TempDir) -> Audit {
        let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        Audit::open(Arc::new(store)).await.unwrap()
    }

    fn record(audit: &Audit, agent_id: u64, action: Action, target: &str, allowed: bool) {
        audit.record(&Event {
            principal: &Principal::Agent { agent_id },
            action,
            target,
            allowed,
            from: None,
        });
    }

    #[tokio::test]
    async fn what_changed_or_was_refused_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = audit(&folder).await;
        record(&first, 1, Action::CreateAgent, "one", true);
        record(&first, 1, Action::ListAgents, "", true);
        record(&first, 1, Action::ListAgents, "", false);
        first.write().await;
        record(&first, 1, Action::CreateAgent, "two", true);
        first.write().await;
        first.write().await;
        first.store.close().await;
        let second = audit(&folder).await;
        let targets = |filter: &Filter, limit| -> Vec<_> {
            let entries = second.list(filter, limit).into_iter();
            entries.map(|it| (it.id, it.target, it.allowed)).collect()
        };
        let all = [
            (3, "two".to_owned(), true),
            (2, String::new(), false),
            (1, "one".to_owned(), true),
        ];
        assert_eq!(targets(&Filter::default(), 9), all);
        assert_eq!(targets(&Filter::default(), 2), all[..2]);
        let before = Filter {
            before: Some(2),
            ..Filter::default()
        };
        assert_eq!(targets(&before, 9), all[2..]);
        let refused = Filter {
            allowed: Some(false),
            ..Filter::default()
        };
        assert_eq!(targets(&refused, 9), all[1..2]);
        // It goes on where it was.
        record(&second, 2, Action::CreateAgent, "three", true);
        assert_eq!(second.list(&Filter::default(), 1)[0].id, 4);
    }

    #[tokio::test]
    async fn what_is_repeated_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(&folder).await;
        for guess in 0..100 {
            record(&audit, 1, Action::ReadAgent, &guess.to_string(), false);
        }
        record(&audit, 2, Action::ReadAgent, "0", false);
        for target in ["one", "two", "one"] {
            record(&audit, 1, Action::CreateAgent, target, true);
        }
        let times: Vec<_> = audit
            .list(&Filter::default(), 9)
            .iter()
            .map(|it| it.times)
            .collect();
        assert_eq!(times, [1, 2, 1, 100]);
    }

    #[tokio::test]
    async fn the_oldest_make_room_in_memory_and_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(&folder).await;
        for round in 0..3 {
            for number in 0..MAX_SEGMENTS * SEGMENT / 2 {
                record(
                    &audit,
                    number as u64,
                    Action::CreateAgent,
                    &round.to_string(),
                    true,
                );
            }
            audit.write().await;
        }
        let kept = audit.store.list(Kind::Audit).await.unwrap();
        assert_eq!(kept.len(), MAX_SEGMENTS);
        let all = audit.list(&Filter::default(), usize::MAX);
        assert_eq!(all.len(), MAX_SEGMENTS * SEGMENT);
        let again = Audit::open(Arc::clone(&audit.store)).await.unwrap();
        assert_eq!(again.list(&Filter::default(), usize::MAX), all);
    }
}
