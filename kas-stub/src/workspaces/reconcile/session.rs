//! What one stream's agent was told, and so what it is still to be told. Pure.
//!
//! There is no queue of changes that could grow: what is due is the difference between the workspaces as they are and
//! what was told, looked at whenever something may have changed.

use std::collections::BTreeMap;

use model::{ActualState, DesiredState};

use super::super::workspace::Workspace;

/// How to tell a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// With all objects.
    Whole,
    /// The agent has applied this generation: only that it is wanted.
    Unchanged,
}

/// What an agent was told of a workspace.
#[derive(Clone, Copy, Debug)]
struct Told {
    generation: u64,
    /// The agent said that it has applied it.
    is_acknowledged: bool,
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Session {
    told: BTreeMap<String, Told>,
    /// What the running full poll has reported, from its first page to its last.
    full: Option<BTreeMap<String, Reported>>,
    /// Until what the agent holds is known, everything would have to be told whole.
    is_full_poll_answered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    applied_generation: u64,
    actual: ActualState,
}

impl Session {
    /// A page of a full poll; the first one forgets what was told.
    pub(super) fn full_poll_page(&mut self) {
        self.full.get_or_insert_default();
    }

    /// Reports in the running full poll.
    pub(super) fn full_poll_reports(&self) -> usize {
        self.full.as_ref().map_or(0, BTreeMap::len)
    }

    /// What the agent said of a workspace that is known.
    pub(super) fn reported(&mut self, id: &str, applied_generation: u64, actual: ActualState) {
        if let Some(full) = &mut self.full {
            let reported = Reported {
                applied_generation,
                actual,
            };
            full.insert(id.to_owned(), reported);
            return;
        }
        let Some(told) = self.told.get_mut(id) else {
            return;
        };
        if applied_generation >= told.generation {
            told.is_acknowledged = true;
        } else if told.is_acknowledged && actual != ActualState::Terminated {
            // It had this generation and has it no more, for example because the namespace was deleted by hand.
            self.told.remove(id);
        }
    }

    /// What is to be told at the end of a full poll: everything.
    pub(super) fn end_full_poll<'a>(
        &mut self,
        workspaces: impl Iterator<Item = &'a Workspace>,
    ) -> Vec<(String, Telling)> {
        let reported = self.full.take().unwrap_or_default();
        self.told.clear();
        self.is_full_poll_answered = true;
        workspaces
            .filter_map(|workspace| {
                let reported = reported.get(&workspace.id);
                let life = &workspace.life;
                let is_gone = reported.is_none_or(|it| it.actual == ActualState::Terminated);
                if life.is_over() && is_gone {
                    return None;
                }
                let is_applied =
                    reported.is_some_and(|it| it.applied_generation == life.generation);
                let telling = if is_applied && life.desired != DesiredState::Terminated {
                    Telling::Unchanged
                } else {
                    Telling::Whole
                };
                Some((workspace.id.clone(), telling))
            })
            .collect()
    }

    /// What is to be told now: what changed since it was told.
    pub(super) fn due<'a>(
        &self,
        workspaces: impl Iterator<Item = &'a Workspace>,
    ) -> Vec<(String, Telling)> {
        if !self.is_full_poll_answered {
            return Vec::new();
        }
        workspaces
            .filter(|workspace| !workspace.life.is_over())
            .filter(|workspace| {
                let told = self.told.get(&workspace.id);
                told.is_none_or(|told| told.generation != workspace.life.generation)
            })
            .map(|workspace| (workspace.id.clone(), Telling::Whole))
            .collect()
    }

    /// Notes that a workspace is told now.
    pub(super) fn tells(&mut self, id: &str, generation: u64, telling: Telling) {
        let told = Told {
            generation,
            is_acknowledged: telling == Telling::Unchanged,
        };
        self.told.insert(id.to_owned(), told);
    }
}
