//! Which Pod of an agent may reconcile: one at a time, and never an older leader after a newer one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The newest leader of each agent. Kept in memory: a restart of the server ends every stream anyway, and the agents'
/// own lease decides who opens the next.
#[derive(Debug)]
pub(crate) struct Leaders {
    clock: Clock,
    agents: Mutex<HashMap<u64, Newest>>,
    /// When agents that open no stream were answered last, and until when they count as there.
    polled: Mutex<HashMap<u64, (Timestamp, Timestamp)>>,
    /// Nothing was heard of anybody before.
    made_at: Timestamp,
}

#[derive(Debug)]
struct Newest {
    token: u64,
    /// Ends the stream; none while no stream is open.
    open: Option<(CancellationToken, Leader)>,
    /// When the last stream ended.
    closed_at: Timestamp,
}

/// Who reconciles, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Leader {
    pub(crate) pod_name: String,
    pub(crate) since: Timestamp,
}

/// A stream's right to reconcile; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lead {
    leaders: Arc<Leaders>,
    agent_id: u64,
    fenced: CancellationToken,
}

impl Leaders {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            agents: Mutex::default(),
            polled: Mutex::default(),
            made_at: clock.now(),
            clock,
        }
    }

    /// Lets a stream lead, and ends the one before; `None` when a newer leader was seen.
    pub(crate) fn lead(
        self: &Arc<Self>,
        agent_id: u64,
        token: u64,
        leader: Leader,
    ) -> Option<Lead> {
        let fenced = CancellationToken::new();
        let mut agents = self.agents();
        let newest = agents.entry(agent_id).or_insert(Newest {
            token,
            open: None,
            closed_at: self.made_at,
        });
        if token < newest.token {
            return None;
        }
        newest.token = token;
        if let Some((older, _)) = newest.open.replace((fenced.clone(), leader)) {
            older.cancel();
        }
        Some(Lead {
            leaders: Arc::clone(self),
            agent_id,
            fenced,
        })
    }

    /// Who reconciles now.
    pub(crate) fn leader(&self, agent_id: u64) -> Option<Leader> {
        let agents = self.agents();
        let (_, leader) = agents.get(&agent_id)?.open.as_ref()?;
        Some(leader.clone())
    }

    /// An agent that opens no stream is answered, and is there for so long.
    pub(crate) fn polled(&self, agent_id: u64, heard_for: Duration) {
        let now = self.clock.now();
        let heard_until = now.saturating_add(heard_for).unwrap_or(now);
        let mut polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        polled.insert(agent_id, (now, heard_until));
    }

    /// Since when nothing is heard of the agent's workspaces; `None` while somebody reconciles.
    pub(crate) fn unknown_since(&self, agent_id: u64) -> Option<Timestamp> {
        let closed_at = match self.agents().get(&agent_id) {
            Some(newest) if newest.open.is_some() => return None,
            Some(newest) => newest.closed_at,
            None => self.made_at,
        };
        let polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        match polled.get(&agent_id) {
            Some((_, until)) if self.clock.now() < *until => None,
            Some((at, _)) => Some(closed_at.max(*at)),
            None => Some(closed_at),
        }
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<u64, Newest>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// Ends when a newer leader came.
    pub(crate) fn fenced(&self) -> &CancellationToken {
        &self.fenced
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Whoever was replaced leaves the newer one's place alone.
        if !self.fenced.is_cancelled()
            && let Some(newest) = self.leaders.agents().get_mut(&self.agent_id)
        {
            newest.open = None;
            newest.closed_at = self.leaders.clock.now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(leaders: &Arc<Leaders>, token: u64) -> Option<Lead> {
        let leader = Leader {
            pod_name: token.to_string(),
            since: Timestamp::UNIX_EPOCH,
        };
        leaders.lead(1, token, leader)
    }

    #[test]
    fn a_newer_leader_ends_the_older_and_an_older_one_is_refused() {
        let leaders = Arc::new(Leaders::new(Clock::default()));
        let first = lead(&leaders, 5).unwrap();
        assert!(lead(&leaders, 4).is_none());
        assert!(!first.fenced().is_cancelled());
        let second = lead(&leaders, 6).unwrap();
        assert!(first.fenced().is_cancelled());
        drop(first);
        assert_eq!(leaders.leader(1).unwrap().pod_name, "6");
        assert_eq!(leaders.unknown_since(1), None);
        // The same Pod on a new connection, the old one half open.
        let third = lead(&leaders, 6).unwrap();
        assert!(second.fenced().is_cancelled());
        drop((second, third));
        assert_eq!(leaders.leader(1), None);
        assert!(leaders.unknown_since(1) > leaders.unknown_since(2));
        // One that polls is there for a while.
        leaders.polled(2, Duration::from_secs(30));
        assert_eq!(leaders.unknown_since(2), None);
        let before = Timestamp::now();
        leaders.polled(2, Duration::ZERO);
        assert!(
            leaders
                .unknown_since(2)
                .is_some_and(|since| since >= before)
        );
        assert!(
            lead(&leaders, 5).is_none(),
            "the newest token outlives its stream"
        );
    }
}
