//! The state of all workspaces of an agent, as one value: told of everything that happens, asked what to do.
//!
//! ```text
//!  server ──handle_wish──┐                      ┌─▶ next_attempt ─▶ (apply) ─▶ handle_ended
//!  watches ─handle_*─────┼─▶ Reconciler(decide) ┼─▶ take_reports ─▶ (server) ─▶ answered
//!  clock ───`now`────────┘                      └─▶ next_look    ─▶ (events) ─▶ handle_events
//! ```
//! Level-triggered: whatever happens only marks a workspace, and [`Reconciler::decide`] then judges it from all that is
//! known, the same way after a start, a change, or an hour.

mod copies;
mod entry;
mod operated;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::actual_state::{DeploymentFacts, TerminationProgress};
use model::{ActualState, DesiredState, Failure, FailureCode, OperatorState};

use super::attempt::{Attempt, Ended, Fact, Outcome};
use super::desired::DesiredWorkspace;
use super::observed::NamespaceSeen;
use super::operator::{Definition, operator_state};
use super::plan::{Action, plan};
use super::report::{Status, report};
use super::schedule::{End, Schedule};
use super::store::{Item, Place, Source, Store};
use crate::failures::EventSeen;
use crate::guard::{Policy, check_namespace};
use entry::{Entry, observe};

/// The most workspaces of one agent. A larger server is a mistake, or hostile.
pub const MAX_WORKSPACES: usize = 10_000;
/// How many terminated workspaces are remembered, so that a late answer does not make one again.
const MAX_TERMINATED: usize = 10_000;
/// Events kept of one workspace.
const MAX_EVENTS: usize = 50;
/// A workspace without its objects asks for them by a full poll, but not more often than this.
const FULL_POLL_SPACING: Duration = Duration::from_secs(5);

/// A workspace's id at the server.
pub type WorkspaceId = Arc<str>;

/// What the server sent of a workspace beside its description.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// What the agent reported as applied is what should be there.
    Unchanged,
    /// The complete set of objects: hash and JSON.
    Objects(Vec<(String, Arc<str>)>),
    /// They came broken.
    Broken(String),
}

/// What became of an answer of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is acted on.
    New,
    /// It says what is known.
    Known,
    /// It is older than what is known, or the workspace is terminated.
    Older,
    /// It may not be acted on.
    Rejected,
}

/// A report for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Where it lives.
    pub place: Place,
    /// What is told.
    pub status: Status,
    /// Its Deployment, where there is one: servers that judge the state themselves are told it.
    pub deployment: Option<DeploymentTold>,
}

/// A workspace's Deployment, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentTold {
    /// Its resource version.
    pub resource_version: u64,
    /// What its state follows from.
    pub facts: DeploymentFacts,
}

/// Events to read: of a Pod, by its UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The workspace's id.
    pub id: WorkspaceId,
    /// Namespace.
    pub namespace: String,
    /// UIDs of its Pods.
    pub uids: Vec<String>,
}

/// All workspaces of an agent.
#[derive(Debug)]
pub struct Reconciler {
    agent_id: i64,
    policy: Policy,
    store: Store,
    entries: BTreeMap<WorkspaceId, Entry>,
    by_place: BTreeMap<Place, BTreeSet<WorkspaceId>>,
    schedule: Schedule<WorkspaceId>,
    dirty: BTreeSet<WorkspaceId>,
    unsent: BTreeSet<WorkspaceId>,
    terminated: (BTreeSet<WorkspaceId>, VecDeque<WorkspaceId>),
    wants_full: bool,
    last_full: Option<Duration>,
    was_ready: bool,
    /// What the cluster says of DevWorkspaces.
    definition: Definition,
    /// What follows for the server, as of the last decision.
    operator: OperatorState,
    operator_told: Option<OperatorState>,
}

impl Reconciler {
    /// Starts knowing nothing.
    #[must_use]
    pub fn new(agent_id: i64, policy: Policy) -> Self {
        Self {
            agent_id,
            policy,
            store: Store::default(),
            entries: BTreeMap::new(),
            by_place: BTreeMap::new(),
            schedule: Schedule::default(),
            dirty: BTreeSet::new(),
            unsent: BTreeSet::new(),
            terminated: (BTreeSet::new(), VecDeque::new()),
            wants_full: false,
            last_full: None,
            was_ready: false,
            definition: Definition::default(),
            operator: operator_state(&Definition::default(), std::iter::empty()),
            operator_told: None,
        }
    }

    /// Everything that is needed was listed once: from now on it decides and reports.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    /// How many workspaces there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A watch begins a list.
    pub fn handle_list_begins(&mut self, source: Source) {
        self.store.begin_list(source);
    }

    /// A watch's list is complete.
    pub fn handle_list_complete(&mut self, source: Source) {
        self.store.complete_list(source);
        if self.store.is_ready() && !self.was_ready {
            self.was_ready = true;
            self.mark_all();
        }
        // A kind that is known at last changes what is known of every workspace.
        if matches!(source, Source::Objects(_)) && self.was_ready {
            self.mark_all();
        }
        self.mark_seen();
    }

    /// A namespace's ConfigMaps were listed, inventories among them, at this resource version.
    pub fn handle_config_maps(&mut self, namespace: &str, version: u64, items: Vec<Item>) {
        self.store.see_config_maps(namespace, version, items);
        self.mark_seen();
    }

    /// A watch shows something.
    pub fn handle_seen(&mut self, item: Item) {
        self.store.see(item);
        self.mark_seen();
    }

    /// A watch shows that something is gone.
    pub fn handle_gone(&mut self, item: Item) {
        self.store.gone(item);
        self.mark_seen();
    }

    /// The server says what it wants. `desired` comes without objects.
    pub fn handle_wish(
        &mut self,
        desired: DesiredWorkspace,
        content: Content,
        now: Duration,
    ) -> Taken {
        let id: WorkspaceId = desired.id.as_str().into();
        if self.terminated.0.contains(&id) {
            if desired.state == DesiredState::Terminated {
                self.tell_terminated(id, desired, now);
                return Taken::Known;
            }
            return Taken::Older;
        }
        let place = Place {
            namespace: desired.namespace.clone(),
            name: desired.name.clone(),
        };
        if !self.entries.contains_key(&id) {
            if self.entries.len() >= MAX_WORKSPACES {
                return Taken::Rejected;
            }
            self.insert(id.clone(), place.clone());
        }
        let inventory = self
            .store
            .seat(&place)
            .and_then(|seat| seat.inventory())
            .cloned();
        let agent_id = self.agent_id;
        let policy = &self.policy;
        let Some(entry) = self.entries.get_mut(&id) else {
            return Taken::Rejected;
        };
        let is_terminated =
            |desired: &Arc<DesiredWorkspace>| desired.state == DesiredState::Terminated;
        let undoes = entry.desired.as_ref().is_some_and(is_terminated)
            && desired.state != DesiredState::Terminated;
        if desired.generation < entry.newest || undoes {
            return Taken::Older;
        }
        let (generation, state) = (desired.generation, desired.state);
        let is_newer = generation > entry.newest;
        self.dirty.insert(id.clone());
        let checked = if entry.place != place {
            Err("the server gave the workspace another name or namespace".to_owned())
        } else if let Err(reason) =
            check_namespace(&desired.namespace, desired.own_namespace, policy)
        {
            Err(reason)
        } else {
            match content {
                Content::Broken(reason) => Err(reason),
                // Nothing of it may be there any more, so nothing has to be known to take it away.
                _ if state == DesiredState::Terminated => Ok(Some(desired)),
                Content::Objects(objects) => {
                    match desired.with_objects(agent_id, policy, objects) {
                        Ok(desired) => Ok(Some(desired)),
                        Err(reason) => Err(reason.to_string()),
                    }
                }
                Content::Unchanged
                    if !is_newer && entry.desired.is_some() && !entry.needs_objects =>
                {
                    return Taken::Known;
                }
                Content::Unchanged => Ok(inventory
                    .filter(|inventory| {
                        inventory.workspace_id == *id
                            && inventory.complete_generation() == generation
                    })
                    .map(|inventory| desired.unchanged(&inventory))),
            }
        };
        entry.newest = generation;
        match checked {
            Ok(Some(desired)) => {
                let is_same =
                    entry.desired.as_deref() == Some(&desired) && entry.rejected.is_none();
                entry.rejected = None;
                entry.needs_objects = false;
                if is_same {
                    return Taken::Known;
                }
                entry.desired = Some(Arc::new(desired));
                entry.copies.forget_made();
                entry.refused = None;
                entry.last_words.clear();
                self.schedule.changed(&id);
                Taken::New
            }
            // The server takes for applied what is not: it is told so, and sends all.
            Ok(None) => {
                entry.needs_objects = true;
                self.wants_full = true;
                Taken::New
            }
            Err(reason) => {
                let message =
                    format!("The server asked for something that may not be applied: {reason}.");
                entry.rejected = Some(Failure::new(FailureCode::NotAllowed, "", message, &reason));
                Taken::Rejected
            }
        }
    }

    /// What the cluster says of DevWorkspaces.
    pub fn handle_definition(&mut self, definition: Definition) {
        self.definition = definition;
        self.judge_operator();
    }

    /// Whether DevWorkspaces can be run here, for the server, which then knows it.
    pub fn take_operator_state(&mut self) -> OperatorState {
        self.operator_told = Some(self.operator.clone());
        self.operator.clone()
    }

    fn judge_operator(&mut self) {
        let refused = self.entries.values().filter_map(|it| it.refused.as_ref());
        self.operator = operator_state(&self.definition, refused);
    }

    /// Judges every workspace anew.
    pub fn mark_all(&mut self) {
        self.dirty.extend(self.entries.keys().cloned());
    }

    /// Judges what is marked.
    pub fn decide(&mut self, now: Duration) {
        if !self.store.is_ready() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        for id in &dirty {
            self.decide_one(id, now);
            self.update_status(id, now);
        }
        if !dirty.is_empty() {
            self.judge_operator();
        }
    }

    /// The next attempt to make, if there is one. It is over when [`Reconciler::handle_ended`] is called.
    pub fn next_attempt(&mut self, now: Duration) -> Option<(WorkspaceId, Attempt)> {
        loop {
            let id = self.schedule.next(now)?;
            let Some(entry) = self.entries.get_mut(&id) else {
                self.schedule.ended(&id, End::Settled, now);
                continue;
            };
            // What was somebody else's may be gone; nothing would tell.
            entry.foreign_namespace = false;
            self.store.forget_foreign(&entry.place, &id);
            let Some(desired) = entry.desired.clone() else {
                self.schedule.ended(&id, End::Settled, now);
                continue;
            };
            let observed = observe(&self.store, entry, &desired);
            return Some((id, Attempt::new(desired, observed, self.agent_id)));
        }
    }

    /// An attempt is over. Without an outcome it broke.
    pub fn handle_ended(&mut self, id: &WorkspaceId, outcome: Option<Outcome>, now: Duration) {
        let Some(entry) = self.entries.get_mut(id) else {
            self.schedule.ended(id, End::Settled, now);
            return;
        };
        let place = entry.place.clone();
        let mut end = End::Failed;
        if let Some(Outcome {
            desired,
            facts,
            ended,
        }) = outcome
        {
            let mut is_foreign = false;
            for fact in facts {
                match fact {
                    Fact::Applied(item) => {
                        if let Item::Object(key, meta, _) = &item {
                            let (key, generation) = (key.clone(), meta.generation);
                            self.store.see(item);
                            self.store.applied(&place, &key, generation);
                        } else {
                            self.store.see(item);
                        }
                    }
                    Fact::Seen(Item::Object(key, mut meta, _)) => {
                        // Also what is somebody else's is known under this workspace's place, until the next attempt.
                        // Only its marks were read.
                        meta.workspace = Some(place.name.clone());
                        self.store
                            .see(Item::Object(key, meta, super::store::Detail::None));
                    }
                    Fact::Seen(item) | Fact::NamespaceCreated(item) => self.store.see(item),
                    Fact::Absent(key) => self.store.absent(&place, &key),
                    Fact::InventoryAbsent => self.store.inventory_absent(&place),
                    Fact::NamespaceAbsent => {}
                    Fact::NamespaceForeign => is_foreign = true,
                }
            }
            entry.foreign_namespace = is_foreign;
            // A newer wish makes what this one met no longer true.
            let is_current = entry
                .desired
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &desired));
            end = match ended {
                Ended::Planned => {
                    entry.refused = None;
                    End::Settled
                }
                Ended::Refused(failure) => {
                    if is_current {
                        entry.refused = Some(failure);
                    }
                    End::Failed
                }
                Ended::Broken => End::Failed,
            };
            if end == End::Settled {
                let observed = observe(&self.store, entry, &desired);
                if plan(&desired, &observed, self.agent_id)
                    .waiting_on
                    .is_some()
                {
                    end = End::Waiting;
                }
            }
        }
        self.schedule.ended(id, end, now);
        self.dirty.insert(id.clone());
        self.mark_seen();
    }

    /// Reports that the server has not got: only news, or (`full`) everything there is.
    pub fn take_reports(&mut self, full: bool, now: Duration) -> Vec<Report> {
        if full {
            self.wants_full = false;
            self.last_full = Some(now);
            self.unsent = self.entries.keys().cloned().collect();
        }
        let mut reports = Vec::new();
        for id in std::mem::take(&mut self.unsent) {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let Some(status) = &entry.status else {
                continue;
            };
            if full || report(entry.sent.as_ref(), status).is_some() {
                entry.sent = Some(status.clone());
                reports.push(Report {
                    place: entry.place.clone(),
                    status: status.clone(),
                    deployment: self.store.deployment(&entry.place, &id),
                    id,
                });
            }
        }
        reports
    }

    /// Whether there is news for the server.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        !self.unsent.is_empty() || self.has_operator_news()
    }

    /// Whether the server does not know yet whether DevWorkspaces can be run here.
    #[must_use]
    pub fn has_operator_news(&self) -> bool {
        self.operator_told.as_ref() != Some(&self.operator)
    }

    /// When the server should be asked for everything, if objects are missing here.
    #[must_use]
    pub fn full_poll_due(&self) -> Option<Duration> {
        let due = self
            .last_full
            .map_or(Duration::ZERO, |last| last + FULL_POLL_SPACING);
        self.wants_full.then_some(due)
    }

    /// What was taken by [`Reconciler::take_reports`] has arrived: who is reported as terminated can be forgotten.
    pub fn handle_answered(&mut self) {
        let is_over = |entry: &Entry| {
            entry
                .sent
                .as_ref()
                .is_some_and(|sent| sent.actual_state == ActualState::Terminated)
        };
        let over: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_over(entry))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.remove(&id);
            let (known, order) = &mut self.terminated;
            if known.insert(id.clone()) {
                order.push_back(id);
            }
            if order.len() > MAX_TERMINATED
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
    }

    /// The stream ended: nothing counts as told.
    pub fn forget_sent(&mut self) {
        for entry in self.entries.values_mut() {
            entry.sent = None;
        }
        self.operator_told = None;
        self.unsent = self.entries.keys().cloned().collect();
    }

    /// Events to read now, if any.
    pub fn next_look(&mut self, now: Duration) -> Option<Look> {
        for (id, entry) in &mut self.entries {
            let Some(seat) = self.store.seat(&entry.place) else {
                continue;
            };
            if entry.look_due().is_none_or(|due| due > now) {
                continue;
            }
            entry.events_read = Some(now);
            // The rights in it go with the rest of it.
            if self.store.namespace(&entry.place.namespace, id.as_ref())
                == NamespaceSeen::Terminating
            {
                continue;
            }
            // How long it has been so may be a reason of its own.
            self.dirty.insert(id.clone());
            let pods = seat.pods();
            let pending = pods
                .iter()
                .filter(|pod| !pod.terminating && pod.is_pending());
            let uids: Vec<_> = pending.map(|pod| pod.uid.clone()).collect();
            if !uids.is_empty() {
                return Some(Look {
                    id: id.clone(),
                    namespace: entry.place.namespace.clone(),
                    uids,
                });
            }
        }
        None
    }

    /// Events were read.
    pub fn handle_events(&mut self, id: &WorkspaceId, mut events: Vec<EventSeen>) {
        if let Some(entry) = self.entries.get_mut(id) {
            let surplus = events.len().saturating_sub(MAX_EVENTS);
            events.drain(..surplus);
            entry.events = events;
            self.dirty.insert(id.clone());
        }
    }

    /// When something falls due by itself.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let looks = self.entries.values().filter_map(Entry::look_due).min();
        [self.schedule.next_wake(), looks]
            .into_iter()
            .flatten()
            .min()
    }

    fn insert(&mut self, id: WorkspaceId, place: Place) {
        self.by_place
            .entry(place.clone())
            .or_default()
            .insert(id.clone());
        self.entries.insert(id, Entry::new(place));
    }

    fn remove(&mut self, id: &WorkspaceId) {
        self.schedule.forget(id);
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        if let Some(ids) = self.by_place.get_mut(&entry.place) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_place.remove(&entry.place);
            }
        }
        self.store.forget_empty(&entry.place);
    }

    /// The server has not heard, or has forgotten, that it is over.
    fn tell_terminated(&mut self, id: WorkspaceId, desired: DesiredWorkspace, now: Duration) {
        let place = Place {
            namespace: desired.namespace.clone(),
            name: desired.name.clone(),
        };
        self.insert(id.clone(), place);
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.newest = desired.generation;
        entry.status = Some(Status {
            applied_generation: desired.generation,
            actual_state: ActualState::Terminated,
            failures: Vec::new(),
            since: now,
            operator: None,
        });
        entry.termination = Some(TerminationProgress::Terminated);
        entry.desired = Some(Arc::new(desired));
        self.unsent.insert(id);
    }

    /// Marks the workspaces of which something was seen, and takes up those that only their inventory tells of.
    fn mark_seen(&mut self) {
        let (places, namespaces) = self.store.take_dirty();
        for place in places {
            if let Some(inventory) = self.store.seat(&place).and_then(|seat| seat.inventory())
                && inventory.agent_id == self.agent_id
            {
                let id: WorkspaceId = inventory.workspace_id.as_str().into();
                if !self.entries.contains_key(&id)
                    && !self.terminated.0.contains(&id)
                    && self.entries.len() < MAX_WORKSPACES
                {
                    self.insert(id, place.clone());
                }
            }
            self.dirty
                .extend(self.by_place.get(&place).into_iter().flatten().cloned());
            if !self.by_place.contains_key(&place) {
                self.store.forget_empty(&place);
            }
        }
        if !namespaces.is_empty() {
            let lives_there = |place: &Place| namespaces.contains(&place.namespace);
            let ids = self.by_place.iter().filter(|(place, _)| lives_there(place));
            self.dirty.extend(ids.flat_map(|(_, ids)| ids).cloned());
        }
    }

    fn decide_one(&mut self, id: &WorkspaceId, now: Duration) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let Some(desired) = entry.desired.clone() else {
            // Nobody wants it: as long as its inventory is there, it is shown, and left alone.
            let is_there = self
                .store
                .seat(&entry.place)
                .and_then(|seat| seat.inventory());
            if entry.rejected.is_none()
                && !entry.needs_objects
                && is_there.is_none_or(|inventory| inventory.workspace_id != **id)
            {
                self.remove(id);
            }
            return;
        };
        if self.schedule.is_running(id) {
            return;
        }
        let observed = observe(&self.store, entry, &desired);
        let plan = plan(&desired, &observed, self.agent_id);
        entry.termination = plan.termination;
        entry.waiting_on.clone_from(&plan.waiting_on);
        let lacks_object =
            |action: &Action| matches!(action, Action::Apply(_, object) if object.body.is_none());
        if plan.actions.iter().any(lacks_object) {
            entry.needs_objects = true;
            self.wants_full = true;
            self.schedule.rest(id);
        } else if !plan.actions.is_empty() {
            self.schedule.want(id, now);
        } else if plan.waiting_on.is_some() {
            self.schedule.look_later(id, now);
        } else {
            entry.refused = None;
            self.schedule.rest(id);
        }
    }

    fn update_status(&mut self, id: &WorkspaceId, now: Duration) {
        let next_try = self.schedule.due(id);
        let is_running = self.schedule.is_running(id);
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let status = entry.judge(&self.store, id, now, is_running, next_try);
        let is_news = status
            .as_ref()
            .is_some_and(|status| report(entry.sent.as_ref(), status).is_some());
        entry.status = status;
        if is_news {
            self.unsent.insert(id.clone());
        }
    }
}

#[cfg(test)]
mod tests;
