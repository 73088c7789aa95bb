//! What agents say of the DevWorkspace Operator in their clusters. In memory: an agent says it anew on each stream.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use model::OperatorState;

#[derive(Debug, Default)]
pub(crate) struct Operators(Mutex<HashMap<u64, OperatorState>>);

impl Operators {
    /// Notes what an agent said.
    pub(crate) fn tell(&self, agent_id: u64, state: OperatorState) {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        agents.insert(agent_id, state);
    }

    /// What an agent said last; `None`: nothing, for example because GitLab's agent has no words for it.
    pub(crate) fn of(&self, agent_id: u64) -> Option<OperatorState> {
        let agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        agents.get(&agent_id).cloned()
    }
}
