//! What GitLab's agent was told, and so what it is told next: GitLab's rules of partial and full answers. Pure.
//!
//! GitLab keeps in its database when it last answered about a workspace. Here that is in memory: a server that starts anew
//! tells everything once more, which changes nothing in a cluster.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use model::{ActualState, DesiredState};

use super::super::workspace::Workspace;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Everything that is not over.
    Full,
    /// What changed.
    Partial,
}

/// What `config_to_apply` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Config {
    /// Nothing: what is there stays.
    Nothing,
    /// What a changed wish can change. It is the whole of its inventory, since agents prune what an inventory lost.
    Partial,
    /// All objects.
    All,
    /// The inventories alone, which ends everything that they list.
    Inventories,
}

/// What an agent was told of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    generation: u64,
    content_version: u64,
    actual: ActualState,
}

/// What one agent was told, from its first request on.
#[derive(Debug, Default)]
pub(super) struct Session {
    told: BTreeMap<String, Told>,
    /// The resource version of each Deployment as it was reported last.
    versions: BTreeMap<String, String>,
    /// Workspaces whose name is another's in the cluster: to tell the agent of them would take what is not theirs.
    in_the_way: BTreeSet<String>,
    /// The namespace that the agent was told its workspaces share; empty: none, or it did not ask (before GitLab 18.0).
    shared_namespace: String,
}

impl Session {
    /// A request begins. A full one says again what is in the way.
    pub(super) fn begins(&mut self, update: Update) {
        if update == Update::Full {
            self.in_the_way.clear();
        }
    }

    /// The agent asked whether its workspaces share a namespace.
    pub(super) fn knows_shared_namespace(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.shared_namespace);
    }

    /// The agent knows that this namespace is not one workspace's alone.
    pub(super) fn shares(&self, namespace: &str) -> bool {
        self.shared_namespace == namespace
    }

    /// Another's Deployment was reported under this workspace's name.
    pub(super) fn reported_other(&mut self, id: &str) {
        self.in_the_way.insert(id.to_owned());
    }

    /// This workspace's own was reported.
    pub(super) fn reported_own(&mut self, id: &str) {
        self.in_the_way.remove(id);
    }

    /// The generation that the agent was told last; 0: none.
    pub(super) fn told_generation(&self, id: &str) -> u64 {
        self.told.get(id).map_or(0, |told| told.generation)
    }

    /// The agent reported a Deployment of this version.
    pub(super) fn reported_version(&mut self, id: &str, version: String) {
        self.versions.insert(id.to_owned(), version);
    }

    /// The version of the Deployment that was reported last.
    pub(super) fn version(&self, id: &str) -> Option<&str> {
        self.versions.get(id).map(String::as_str)
    }

    /// What to answer of the agent's workspaces, after its reports were taken in.
    pub(super) fn due(
        &self,
        update: Update,
        workspaces: impl Iterator<Item = Arc<Workspace>>,
        reported: &BTreeSet<String>,
    ) -> VecDeque<(Arc<Workspace>, Config)> {
        workspaces
            .filter_map(|workspace| {
                let config = self.due_of(update, &workspace, reported.contains(&workspace.id))?;
                Some((workspace, config))
            })
            .collect()
    }

    fn due_of(&self, update: Update, workspace: &Workspace, is_reported: bool) -> Option<Config> {
        let life = &workspace.life;
        let told = self.told.get(&workspace.id);
        let is_new = told.is_none();
        let has_wish = told.is_none_or(|told| told.generation != life.generation);
        let has_state = told.is_none_or(|told| told.actual != life.actual);
        // Rendered again: also what no wish changes may be another.
        let has_content =
            told.is_some_and(|told| told.content_version != workspace.content_version);
        let is_terminating = life.desired == DesiredState::Terminated;
        if self.in_the_way.contains(&workspace.id) {
            return None;
        }
        let is_wanted = match update {
            Update::Full => !life.is_over(),
            Update::Partial => {
                is_reported || !life.is_over() && (has_wish || has_state || is_terminating)
            }
        };
        is_wanted.then_some(match update {
            _ if is_terminating => Config::Inventories,
            Update::Full => Config::All,
            Update::Partial if is_new || has_state || has_content => Config::All,
            Update::Partial if has_wish => Config::Partial,
            Update::Partial => Config::Nothing,
        })
    }

    /// The agent has the answer: it was told these.
    pub(super) fn tells(&mut self, workspace: &Workspace) {
        let life = &workspace.life;
        if life.is_over() {
            self.told.remove(&workspace.id);
            self.versions.remove(&workspace.id);
            return;
        }
        let told = Told {
            generation: life.generation,
            content_version: workspace.content_version,
            actual: life.actual,
        };
        self.told.insert(workspace.id.clone(), told);
    }

    /// Forgets what is no workspace of the agent any more.
    pub(super) fn keep_only(&mut self, known: &BTreeSet<String>) {
        self.told.retain(|id, _| known.contains(id));
        self.versions.retain(|id, _| known.contains(id));
        self.in_the_way.retain(|id| known.contains(id));
    }
}
