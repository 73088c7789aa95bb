//! What agents hold that this server does not know: told to people, never acted on.
//!
//! A server that was set up anew, or from an old backup, meets workspaces of its past here. Nothing is sent for them, so
//! nothing of them is changed or deleted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use model::ActualState;
use serde::Serialize;

/// Orphans listed per agent; more are counted.
pub(crate) const MAX_ORPHANS: usize = 1_000;

/// A workspace that an agent holds and the server does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Orphan {
    pub(crate) workspace_id: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) actual_state: ActualState,
    /// What the other server had it apply last.
    pub(crate) applied_generation: u64,
    pub(crate) first_seen_at: Timestamp,
}

/// The orphans of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AgentOrphans {
    pub(crate) listed: Vec<Orphan>,
    /// How many more there are.
    pub(crate) left_off: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<HashMap<u64, Kept>>);

#[derive(Debug, Default)]
struct Kept {
    known: BTreeMap<String, Orphan>,
    left_off: usize,
}

impl Orphans {
    pub(crate) fn of(&self, agent_id: u64) -> AgentOrphans {
        let agents = self.agents();
        let Some(kept) = agents.get(&agent_id) else {
            return AgentOrphans::default();
        };
        AgentOrphans {
            listed: kept.known.values().cloned().collect(),
            left_off: kept.left_off,
        }
    }

    /// One of an agent's orphans.
    pub(crate) fn find(&self, agent_id: u64, workspace_id: &str) -> Option<Orphan> {
        self.agents()
            .get(&agent_id)?
            .known
            .get(workspace_id)
            .cloned()
    }

    /// Forgets one that is the server's own now.
    pub(crate) fn forget(&self, agent_id: u64, workspace_id: &str) {
        if let Some(kept) = self.agents().get_mut(&agent_id) {
            kept.known.remove(workspace_id);
        }
    }

    /// What a full poll found is all there is.
    pub(crate) fn replace(&self, agent_id: u64, found: Vec<Orphan>) {
        let mut agents = self.agents();
        if found.is_empty() {
            agents.remove(&agent_id);
            return;
        }
        let kept = agents.entry(agent_id).or_default();
        let before = std::mem::take(kept);
        for mut orphan in found {
            if let Some(known) = before.known.get(&orphan.workspace_id) {
                orphan.first_seen_at = known.first_seen_at;
            }
            kept.add(orphan);
        }
    }

    /// What a partial poll found is more, or has ended.
    pub(crate) fn update(&self, agent_id: u64, found: Vec<Orphan>) {
        if found.is_empty() {
            return;
        }
        let mut agents = self.agents();
        let kept = agents.entry(agent_id).or_default();
        for mut orphan in found {
            if orphan.actual_state == ActualState::Terminated {
                kept.known.remove(&orphan.workspace_id);
                continue;
            }
            if let Some(known) = kept.known.get(&orphan.workspace_id) {
                orphan.first_seen_at = known.first_seen_at;
            }
            kept.add(orphan);
        }
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<u64, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, orphan: Orphan) {
        if self.known.len() < MAX_ORPHANS || self.known.contains_key(&orphan.workspace_id) {
            self.known.insert(orphan.workspace_id.clone(), orphan);
        } else {
            self.left_off += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphan(id: &str, at: i64) -> Orphan {
        Orphan {
            workspace_id: id.into(),
            name: id.into(),
            namespace: "n".into(),
            actual_state: ActualState::Running,
            applied_generation: 1,
            first_seen_at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn a_full_poll_replaces_and_a_partial_one_adds() {
        let orphans = Orphans::default();
        let ids = || {
            let orphans = orphans.of(1);
            let ids = orphans
                .listed
                .iter()
                .map(|o| (o.workspace_id.clone(), o.first_seen_at.as_second()));
            ids.collect::<Vec<_>>()
        };
        orphans.replace(1, vec![orphan("a", 1), orphan("b", 1)]);
        orphans.update(1, vec![orphan("c", 2)]);
        orphans.replace(1, vec![orphan("a", 3), orphan("c", 3)]);
        assert_eq!(ids(), [("a".into(), 1), ("c".into(), 2)]);
        let ended = Orphan {
            actual_state: ActualState::Terminated,
            ..orphan("a", 4)
        };
        orphans.update(1, vec![ended]);
        assert_eq!(ids(), [("c".into(), 2)]);
        orphans.replace(1, vec![]);
        assert_eq!(orphans.of(1), AgentOrphans::default());
    }

    #[test]
    fn many_are_counted() {
        let orphans = Orphans::default();
        orphans.replace(
            1,
            (0..MAX_ORPHANS + 7)
                .map(|n| orphan(&n.to_string(), 1))
                .collect(),
        );
        let all = orphans.of(1);
        assert_eq!((all.listed.len(), all.left_off), (MAX_ORPHANS, 7));
    }
}
