//! All workspaces in memory, by id and by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::WorkspaceName;

use super::workspace::Workspace;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) by_id: BTreeMap<String, Entry>,
    /// A name is free again when its workspace is terminated; the newest has it.
    pub(super) by_name: BTreeMap<WorkspaceName, String>,
    /// Ids of what came, changed or went since somebody took them.
    pub(super) touched: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) workspace: Arc<Workspace>,
    /// In the store.
    pub(super) version: u64,
}

impl Index {
    pub(super) fn set(&mut self, entry: Entry) {
        let Entry { workspace, .. } = &entry;
        let named = self
            .by_name
            .get(&workspace.name)
            .and_then(|id| self.by_id.get(id));
        // Of a name's workspaces at most one is not over, and it is the newest.
        let is_newest = named.is_none_or(|it| it.workspace.created_at <= workspace.created_at);
        if is_newest {
            self.by_name
                .insert(workspace.name.clone(), workspace.id.clone());
        }
        self.touched.insert(workspace.id.clone());
        self.by_id.insert(workspace.id.clone(), entry);
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(Entry { workspace, .. }) = self.by_id.remove(id) else {
            return;
        };
        self.touched.insert(workspace.id.clone());
        if self
            .by_name
            .get(&workspace.name)
            .is_some_and(|newest| newest == id)
        {
            self.by_name.remove(&workspace.name);
        }
    }
}
