//! One workspace, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::actual_state::{Observed, TerminationProgress, actual_state};
use model::{ActualState, DesiredState, Failure, FailureCode};

use super::super::desired::DesiredWorkspace;
use super::super::inventory::{Inventory, ObjectKey};
use super::super::observed::{Marked, NamespaceSeen, ObservedWorkspace};
use super::super::plan::WaitingOn;
use super::super::report::{FailureStatus, Status};
use super::super::store::{Place, Store};
use super::WorkspaceId;
use super::copies::Copies;
use super::operated::{Operated, reasons};
use crate::failures::{EventSeen, Evidence, failures};

/// Events are read when a workspace has not been what was asked for this long, and again at this interval.
pub(super) const EVENTS_AFTER: Duration = Duration::from_secs(3);
const EVENTS_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) desired: Option<Arc<DesiredWorkspace>>,
    /// The newest generation the server sent, also if it was rejected.
    pub(super) newest: u64,
    /// The newest generation that is there completely, as it was when nobody was working on it.
    pub(super) applied: u64,
    /// Objects are to be applied that are not here.
    pub(super) needs_objects: bool,
    /// The newest wish may not be acted on.
    pub(super) rejected: Option<Failure>,
    /// The API server refused something.
    pub(super) refused: Option<Failure>,
    /// Its pull secrets.
    pub(super) copies: Copies,
    /// The namespace turned out to be somebody else's.
    pub(super) foreign_namespace: bool,
    pub(super) waiting_on: Option<WaitingOn>,
    pub(super) termination: Option<TerminationProgress>,
    pub(super) events: Vec<EventSeen>,
    /// What the Pods of a `DevWorkspace` said last.
    pub(super) last_words: Vec<Failure>,
    pub(super) events_read: Option<Duration>,
    not_as_asked_since: Option<Duration>,
    since: BTreeMap<(FailureCode, String), Duration>,
    pub(super) status: Option<Status>,
    pub(super) sent: Option<Status>,
}

impl Entry {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            desired: None,
            newest: 0,
            applied: 0,
            needs_objects: false,
            rejected: None,
            refused: None,
            copies: Copies::default(),
            foreign_namespace: false,
            waiting_on: None,
            termination: None,
            events: Vec::new(),
            last_words: Vec::new(),
            events_read: None,
            not_as_asked_since: None,
            since: BTreeMap::new(),
            status: None,
            sent: None,
        }
    }

    fn wants_to_run(&self) -> bool {
        self.desired
            .as_ref()
            .is_some_and(|desired| desired.state == DesiredState::Running)
    }

    pub(super) fn look_due(&self) -> Option<Duration> {
        let since = self.not_as_asked_since?;
        let next = self
            .events_read
            .map_or(Duration::ZERO, |read| read + EVENTS_INTERVAL);
        Some((since + EVENTS_AFTER).max(next))
    }

    /// What is to be told of it; `None` while there is nothing to tell.
    pub(super) fn judge(
        &mut self,
        store: &Store,
        id: &WorkspaceId,
        now: Duration,
        is_running: bool,
        next_try: Option<Duration>,
    ) -> Option<Status> {
        let seat = store.seat(&self.place);
        let inventory = seat
            .and_then(|seat| seat.inventory())
            .filter(|inventory| inventory.workspace_id == **id);
        let is_terminated = self
            .desired
            .as_ref()
            .is_some_and(|desired| desired.state == DesiredState::Terminated);
        // While it is worked on, the inventory says "not yet" of what is done in a moment.
        if !is_running {
            self.applied = inventory.map_or(0, Inventory::complete_generation);
        }
        let applied_generation = match &self.desired {
            _ if self.needs_objects => 0,
            Some(desired) if is_terminated && self.termination.is_some() => desired.generation,
            Some(_) | None => self.applied,
        };
        // A place can be another workspace's by now.
        let seat = seat.filter(|_| inventory.is_some() || is_terminated);
        let deployment = seat.and_then(|seat| seat.deployment.as_ref());
        let dev_workspace = seat.and_then(|seat| seat.dev_workspace.as_ref());
        let has_error = self.refused.is_some() || self.rejected.is_some();
        let operated = dev_workspace.map(|seen| Operated {
            seen,
            wants_to_run: match &self.desired {
                Some(_) => self.wants_to_run(),
                None => seen.status.started,
            },
            is_settled: match &self.desired {
                Some(desired) => {
                    !is_running && !self.needs_objects && self.applied == desired.generation
                }
                None => true,
            },
        });
        let actual_state = match &operated {
            Some(operated) if !has_error && !is_terminated => operated.state(),
            Some(_) | None => actual_state(&Observed {
                termination: self.termination.filter(|_| is_terminated),
                has_error,
                deployment: deployment.map(|seen| seen.facts.clone()),
            }),
        };
        let nothing_yet = actual_state == ActualState::Unknown
            && deployment.is_none()
            && dev_workspace.is_none()
            && applied_generation == 0;
        let actual_state = match nothing_yet {
            true => ActualState::CreationRequested,
            false => actual_state,
        };

        let as_asked = !self.wants_to_run() || actual_state == ActualState::Running;
        self.not_as_asked_since = match as_asked {
            true => None,
            false => Some(self.not_as_asked_since.unwrap_or(now)),
        };
        if as_asked {
            self.events.clear();
        }
        let mut found: Vec<_> = self.rejected.iter().chain(&self.refused).cloned().collect();
        found.extend(self.waiting_on.as_ref().and_then(of_waiting));
        if self.wants_to_run() {
            found.extend(self.copies.failures.iter().cloned());
            let pods = seat.map(|seat| seat.pods()).unwrap_or_default();
            found.extend(match &operated {
                Some(operated) => reasons(
                    operated,
                    &pods,
                    &self.events,
                    &mut self.last_words,
                    self.not_as_asked_since,
                    now,
                ),
                None => failures(Evidence {
                    deployment,
                    pods: &pods,
                    events: &self.events,
                    ..Evidence::default()
                }),
            });
        }
        let key = |failure: &Failure| (failure.code, failure.component.clone());
        let before = std::mem::take(&mut self.since);
        self.since = found
            .iter()
            .map(|failure| {
                (
                    key(failure),
                    before.get(&key(failure)).copied().unwrap_or(now),
                )
            })
            .collect();
        let failures = found
            .into_iter()
            .map(|failure| FailureStatus {
                since: self.since.get(&key(&failure)).copied().unwrap_or(now),
                next_try,
                failure,
            })
            .collect::<Vec<_>>();
        if nothing_yet && failures.is_empty() && self.sent.is_none() && !self.needs_objects {
            return None;
        }
        let since = match &self.status {
            Some(before) if before.actual_state == actual_state => before.since,
            Some(_) | None => now,
        };
        Some(Status {
            applied_generation,
            actual_state,
            failures,
            since,
            operator: dev_workspace.map(|seen| seen.status.clone()),
        })
    }
}

pub(super) fn observe(
    store: &Store,
    entry: &Entry,
    desired: &DesiredWorkspace,
) -> ObservedWorkspace {
    let namespace = match (entry.foreign_namespace, desired.own_namespace) {
        (true, _) => NamespaceSeen::Present(Marked::Foreign),
        (false, true) => store.namespace(&desired.namespace, &desired.id),
        // A shared namespace carries no mark of ours, and is not watched.
        (false, false) => NamespaceSeen::Present(Marked::Foreign),
    };
    let inventory = store
        .seat(&entry.place)
        .and_then(|seat| seat.inventory())
        .cloned();
    let recorded = inventory
        .iter()
        .flat_map(|inventory| inventory.objects.keys());
    let keys: BTreeSet<_> = desired.objects.keys().chain(recorded).collect();
    let objects = store.objects(
        &entry.place,
        &desired.id,
        desired.state.replicas(),
        keys.into_iter(),
    );
    ObservedWorkspace {
        namespace,
        inventory,
        objects,
    }
}

fn of_waiting(waiting_on: &WaitingOn) -> Option<Failure> {
    let names = |keys: &[ObjectKey]| {
        let names: Vec<_> = keys
            .iter()
            .take(5)
            .map(|key| format!("{} {}", key.kind, key.name))
            .collect();
        names.join(", ")
    };
    let (code, component, message) = match waiting_on {
        // An ordinary part of stopping and starting; said where it is told how far a termination has come.
        WaitingOn::NamespaceDeletion => (
            FailureCode::WaitingForDeletion,
            String::new(),
            "The namespace is being deleted; what is left in it may have finalizers.".to_owned(),
        ),
        WaitingOn::ObjectDeletion(keys) => (
            FailureCode::WaitingForDeletion,
            String::new(),
            format!("These are being deleted: {}.", names(keys)),
        ),
        WaitingOn::ForeignNamespace => (
            FailureCode::ForeignObject,
            String::new(),
            "The namespace was made by somebody else, so nothing is put there; remove it, or take another name.".to_owned(),
        ),
        WaitingOn::ForeignObjects(keys) => (
            FailureCode::ForeignObject,
            names(keys),
            "An object with this name was made by somebody else and is not overwritten; remove it, or take another name.".to_owned(),
        ),
        WaitingOn::ForeignInventory => (
            FailureCode::ForeignObject,
            "inventory".to_owned(),
            "The inventory in the namespace is another workspace's, so nothing is touched.".to_owned(),
        ),
    };
    Some(Failure::new(code, &component, message, ""))
}
