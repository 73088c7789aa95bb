//! One attempt at one workspace: what it starts from, and what it learns on its way.

use std::sync::Arc;

use model::Failure;

use super::desired::DesiredWorkspace;
use super::inventory::ObjectKey;
use super::observed::{Marked, NamespaceSeen, ObservedWorkspace, Seen};
use super::plan::{Plan, plan};
use super::store::{Item, Meta};

/// Plans in a row within one attempt. Each but the last has learnt something (an object that was somebody else's, one that
/// is gone at last); a handful is enough.
const MAX_ROUNDS: u32 = 10;

/// An attempt at a workspace.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What is wanted.
    pub desired: Arc<DesiredWorkspace>,
    observed: ObservedWorkspace,
    agent_id: i64,
    facts: Vec<Fact>,
    rounds: u32,
    /// This attempt made the namespace: nobody else's objects are in it.
    namespace_is_new: bool,
}

/// Something that a call of an attempt told.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An object, as the answer shows it.
    Seen(Item),
    /// The namespace, as we made it now.
    NamespaceCreated(Item),
    /// An object as it is after our apply.
    Applied(Item),
    /// An object is not there.
    Absent(ObjectKey),
    /// The inventory is not there.
    InventoryAbsent,
    /// The namespace is not there.
    NamespaceAbsent,
    /// The namespace is somebody else's.
    NamespaceForeign,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its last plan was empty.
    Planned,
    /// The API server refused something, and says so again next time.
    Refused(Failure),
    /// It could not go on: the API server is away, or things changed under its hands.
    Broken,
}

/// What an attempt came to.
#[derive(Debug)]
pub struct Outcome {
    pub(super) desired: Arc<DesiredWorkspace>,
    pub(super) facts: Vec<Fact>,
    pub(super) ended: Ended,
}

impl Outcome {
    /// How it ended, in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.ended {
            Ended::Planned => "succeeded",
            Ended::Refused(_) => "refused",
            Ended::Broken => "failed",
        }
    }
}

impl Attempt {
    pub(super) fn new(
        desired: Arc<DesiredWorkspace>,
        observed: ObservedWorkspace,
        agent_id: i64,
    ) -> Self {
        Self {
            desired,
            observed,
            agent_id,
            facts: Vec::new(),
            rounds: 0,
            namespace_is_new: false,
        }
    }

    /// Objects to read before planning: they were being deleted, and may be gone by now.
    #[must_use]
    pub fn to_look_at(&self) -> Vec<ObjectKey> {
        // What is left in a namespace that goes is the namespace controller's.
        if self.observed.namespace == NamespaceSeen::Terminating {
            return Vec::new();
        }
        let is_dying = |(_, seen): &(&ObjectKey, &Seen)| **seen == Seen::Terminating;
        self.observed
            .objects
            .iter()
            .filter(is_dying)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Whether the workspace's namespace is there, with its mark where it is its own.
    #[must_use]
    pub fn has_namespace(&self) -> bool {
        let marked = match self.desired.own_namespace {
            true => Marked::Ours,
            false => Marked::Foreign,
        };
        self.observed.namespace == NamespaceSeen::Present(marked)
    }

    /// What to do next; `None` when there is nothing (more) to do now.
    pub fn next_plan(&mut self) -> Option<Plan> {
        let plan = plan(&self.desired, &self.observed, self.agent_id);
        self.rounds += 1;
        (!plan.actions.is_empty() && self.rounds <= MAX_ROUNDS).then_some(plan)
    }

    /// Whether an object can be written without reading its marks first: it is ours, or cannot be there.
    #[must_use]
    pub fn may_write(&self, key: &ObjectKey) -> bool {
        // Kubernetes itself puts these into every namespace.
        let is_common = matches!(key.name.as_str(), "default" | "kube-root-ca.crt");
        let is_ours = matches!(
            self.observed.objects.get(key),
            Some(Seen::Present(Marked::Ours) | Seen::Drifted)
        );
        is_ours || (self.namespace_is_new && !is_common)
    }

    /// The same of the inventory.
    #[must_use]
    pub fn may_write_inventory(&self) -> bool {
        self.namespace_is_new || self.observed.inventory.is_some()
    }

    /// Takes in what a call told.
    pub fn note(&mut self, fact: Fact) {
        let id = self.desired.id.as_str();
        let observed = &mut self.observed;
        match &fact {
            Fact::Seen(item) | Fact::Applied(item) | Fact::NamespaceCreated(item) => match item {
                Item::Namespace(meta) => observed.namespace = meta.as_namespace(id),
                Item::Inventory(_, inventory) => observed.inventory.clone_from(inventory),
                Item::Object(key, meta, _) => {
                    observed.objects.insert(key.clone(), meta.as_object(id));
                }
                Item::Pod(..) => {}
            },
            Fact::Absent(key) => {
                observed.objects.insert(key.clone(), Seen::Absent);
            }
            Fact::InventoryAbsent => observed.inventory = None,
            Fact::NamespaceAbsent => observed.namespace = NamespaceSeen::Absent,
            Fact::NamespaceForeign => observed.namespace = NamespaceSeen::Present(Marked::Foreign),
        }
        self.namespace_is_new |= matches!(fact, Fact::NamespaceCreated(_));
        self.facts.push(fact);
    }

    /// Whether an object with this metadata was made for this workspace.
    #[must_use]
    pub fn is_ours(&self, meta: &Meta) -> bool {
        meta.workspace_id.as_deref() == Some(self.desired.id.as_str())
    }

    /// The end.
    #[must_use]
    pub fn finish(self, ended: Ended) -> Outcome {
        Outcome {
            desired: self.desired,
            facts: self.facts,
            ended,
        }
    }
}
