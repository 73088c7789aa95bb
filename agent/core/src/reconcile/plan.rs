//! The decision.

use std::collections::BTreeMap;

use model::DesiredState;
use model::actual_state::TerminationProgress;

use super::desired::{DesiredObject, DesiredWorkspace};
use super::inventory::{Inventory, ObjectKey};
use super::kind::{KINDS, kind_of};
use super::observed::{Marked, NamespaceSeen, ObservedWorkspace, Seen};

/// What to do for one workspace, in this order, and why not more.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Steps; a step that fails ends the plan, and the next plan starts from what was reached.
    pub actions: Vec<Action>,
    /// What has to happen by itself before the rest can be planned.
    pub waiting_on: Option<WaitingOn>,
    /// How far the deletion has come, when the workspace is to be terminated.
    pub termination: Option<TerminationProgress>,
}

/// One write to the Kubernetes API.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Creates the workspace's own namespace, with its mark.
    CreateNamespace,
    /// Writes the inventory (server-side apply).
    WriteInventory(Inventory),
    /// Applies an object (server-side apply).
    Apply(ObjectKey, DesiredObject),
    /// Deletes an object that carries this workspace's mark; one that does not is left alone and counts as gone.
    Delete(ObjectKey),
    /// Deletes the inventory's ConfigMap.
    DeleteInventory,
    /// Deletes the workspace's own namespace, if it carries the mark.
    DeleteNamespace,
}

/// What a plan waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The namespace is being deleted; it can be made again when it is gone.
    NamespaceDeletion,
    /// These objects are being deleted.
    ObjectDeletion(Vec<ObjectKey>),
    /// The namespace belongs to somebody else, so nothing is put there.
    ForeignNamespace,
    /// These objects belong to somebody else, so they are not overwritten.
    ForeignObjects(Vec<ObjectKey>),
    /// The inventory names another workspace or agent, so nothing is touched.
    ForeignInventory,
}

/// Decides the next steps for one workspace of the agent `agent_id`.
#[must_use]
pub fn plan(desired: &DesiredWorkspace, observed: &ObservedWorkspace, agent_id: i64) -> Plan {
    if let Some(inventory) = &observed.inventory
        && (inventory.workspace_id != desired.id || inventory.agent_id != agent_id)
    {
        return waiting(WaitingOn::ForeignInventory, desired.state);
    }
    match desired.state {
        DesiredState::Terminated => plan_termination(desired, observed),
        DesiredState::Running | DesiredState::RestartRequested | DesiredState::Stopped => {
            plan_presence(desired, observed, agent_id)
        }
    }
}

fn plan_presence(desired: &DesiredWorkspace, observed: &ObservedWorkspace, agent_id: i64) -> Plan {
    let mut actions = Vec::new();
    match observed.namespace {
        NamespaceSeen::Terminating => return waiting(WaitingOn::NamespaceDeletion, desired.state),
        NamespaceSeen::Present(Marked::Foreign) if desired.own_namespace => {
            return waiting(WaitingOn::ForeignNamespace, desired.state);
        }
        NamespaceSeen::Absent if desired.own_namespace => actions.push(Action::CreateNamespace),
        NamespaceSeen::Absent | NamespaceSeen::Present(_) => {}
    }
    // What was recorded died with a namespace that is gone.
    let recorded = match (&observed.inventory, observed.namespace) {
        (Some(inventory), NamespaceSeen::Present(_)) => inventory.objects.clone(),
        (Some(_) | None, _) => BTreeMap::new(),
    };
    let seen = |key: &ObjectKey| observed.objects.get(key).copied();

    let is_foreign = |key: &&ObjectKey| seen(key) == Some(Seen::Present(Marked::Foreign));
    let foreign: Vec<_> = desired.objects.keys().filter(is_foreign).cloned().collect();
    let dying: Vec<_> = desired
        .objects
        .keys()
        .filter(|key| seen(key) == Some(Seen::Terminating))
        .cloned()
        .collect();
    let blocked = |key: &ObjectKey| foreign.contains(key) || dying.contains(key);

    let is_applied = |key: &ObjectKey, object: &DesiredObject| {
        recorded.get(key) == Some(&Some(object.hash.clone()))
            && !matches!(seen(key), Some(Seen::Absent | Seen::Drifted))
    };
    let mut to_apply: Vec<_> = desired
        .objects
        .iter()
        .filter(|(key, object)| !blocked(key) && !is_applied(key, object))
        .collect();
    to_apply.sort_by_key(|(key, _)| {
        kind_of(&key.group, &key.kind).map_or(KINDS.len(), |(order, _)| order)
    });
    let to_prune = in_order_of_deletion(
        recorded
            .keys()
            .filter(|key| !desired.objects.contains_key(key)),
    )
    .into_iter()
    // Volumes outlive everything but termination: one that is wanted no more stays on record until then.
    .filter(|key| !kind_of(&key.group, &key.kind).is_some_and(|(_, kind)| kind.holds_data))
    .collect::<Vec<_>>();

    let recorded_generation = match &observed.inventory {
        Some(inventory) if !recorded.is_empty() => inventory.generation,
        Some(_) | None => 0,
    };
    let generation = match foreign.is_empty() && dying.is_empty() {
        true => desired.generation,
        false => recorded_generation,
    };
    // The union before, with no hash where an apply is still to succeed.
    let mut union = recorded.clone();
    for (key, _) in &to_apply {
        union.insert((*key).clone(), None);
    }
    if union != recorded || (observed.inventory.is_none() && !desired.objects.is_empty()) {
        actions.push(Action::WriteInventory(inventory_of(
            desired,
            agent_id,
            recorded_generation,
            union.clone(),
        )));
    }
    for (key, object) in &to_apply {
        actions.push(Action::Apply((*key).clone(), (*object).clone()));
    }
    let still_there = |key: &&ObjectKey| seen(key) != Some(Seen::Absent);
    actions.extend(
        to_prune
            .iter()
            .filter(still_there)
            .cloned()
            .map(Action::Delete),
    );

    // Exactly what is there, after.
    let mut exact = union.clone();
    for (key, object) in to_apply {
        exact.insert(key.clone(), Some(object.hash.clone()));
    }
    for key in to_prune
        .iter()
        .filter(|key| seen(key) == Some(Seen::Absent))
    {
        exact.remove(key);
    }
    if exact != union || (generation != recorded_generation && !exact.is_empty()) {
        actions.push(Action::WriteInventory(inventory_of(
            desired, agent_id, generation, exact,
        )));
    }
    let waiting_on = match (foreign.is_empty(), dying.is_empty()) {
        (false, _) => Some(WaitingOn::ForeignObjects(foreign)),
        (true, false) => Some(WaitingOn::ObjectDeletion(dying)),
        (true, true) => None,
    };
    Plan {
        actions,
        waiting_on,
        termination: None,
    }
}

/// Deletes what the inventory lists, then the inventory, then the namespace. Without an inventory nothing is known to be
/// ours but a marked namespace.
fn plan_termination(desired: &DesiredWorkspace, observed: &ObservedWorkspace) -> Plan {
    let terminating = |actions, waiting_on| Plan {
        actions,
        waiting_on,
        termination: Some(TerminationProgress::Terminating),
    };
    let gone = Plan {
        termination: Some(TerminationProgress::Terminated),
        ..Plan::default()
    };
    match observed.namespace {
        NamespaceSeen::Absent => return gone,
        NamespaceSeen::Terminating => {
            return terminating(Vec::new(), Some(WaitingOn::NamespaceDeletion));
        }
        NamespaceSeen::Present(_) => {}
    }
    if let Some(inventory) = &observed.inventory {
        let is_left = |key: &&ObjectKey| {
            !matches!(
                observed.objects.get(key),
                Some(Seen::Absent | Seen::Present(Marked::Foreign))
            )
        };
        let left = in_order_of_deletion(inventory.objects.keys().filter(is_left));
        if left.is_empty() {
            return terminating(vec![Action::DeleteInventory], None);
        }
        let is_dying = |key: &&ObjectKey| observed.objects.get(key) == Some(&Seen::Terminating);
        let dying: Vec<_> = left.iter().filter(is_dying).cloned().collect();
        let actions = left
            .into_iter()
            .filter(|key| !dying.contains(key))
            .map(Action::Delete)
            .collect();
        let waiting_on = (!dying.is_empty()).then_some(WaitingOn::ObjectDeletion(dying));
        return terminating(actions, waiting_on);
    }
    match (desired.own_namespace, observed.namespace) {
        (true, NamespaceSeen::Present(Marked::Ours)) => {
            terminating(vec![Action::DeleteNamespace], None)
        }
        _ => gone,
    }
}

/// Dependants before what they depend on.
fn in_order_of_deletion<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> Vec<ObjectKey> {
    let mut keys: Vec<_> = keys.cloned().collect();
    keys.sort_by_key(|key| {
        std::cmp::Reverse(kind_of(&key.group, &key.kind).map(|(order, _)| order))
    });
    keys
}

fn inventory_of(
    desired: &DesiredWorkspace,
    agent_id: i64,
    generation: u64,
    objects: BTreeMap<ObjectKey, Option<String>>,
) -> Inventory {
    Inventory {
        workspace: desired.name.clone(),
        namespace: desired.namespace.clone(),
        agent_id,
        workspace_id: desired.id.clone(),
        generation,
        objects,
    }
}

fn waiting(on: WaitingOn, state: DesiredState) -> Plan {
    let termination =
        (state == DesiredState::Terminated).then_some(TerminationProgress::Terminating);
    Plan {
        actions: Vec::new(),
        waiting_on: Some(on),
        termination,
    }
}
