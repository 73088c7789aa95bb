//! What was seen of a workspace in the cluster.

use std::collections::BTreeMap;

use super::inventory::{Inventory, ObjectKey};

/// A workspace as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedWorkspace {
    /// Its namespace.
    pub namespace: NamespaceSeen,
    /// Its inventory, when there is one that can be read.
    pub inventory: Option<Inventory>,
    /// What is known of its objects beyond the inventory. An object that nobody looked at is not in here.
    pub objects: BTreeMap<ObjectKey, Seen>,
}

/// A namespace as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceSeen {
    /// It is not there.
    #[default]
    Absent,
    /// It is there.
    Present(Marked),
    /// It is being deleted.
    Terminating,
}

/// Whether something carries the mark of this workspace, that is its id and this agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It does: we made it.
    Ours,
    /// It does not: somebody else's.
    Foreign,
}

/// An object as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is not there.
    Absent,
    /// It is there.
    Present(Marked),
    /// It is there, and somebody changed it since we applied it.
    Drifted,
    /// It is being deleted and waits for a finalizer.
    Terminating,
}
