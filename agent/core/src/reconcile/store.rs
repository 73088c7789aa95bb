//! What is known of the cluster: fed by watches and by the answers to our own writes, whichever is newer.
//!
//! Every record carries the resource version it was read at: a watch that lags behind our own writes does not undo what
//! their answers said.

mod config_maps;
mod item;

use std::collections::{BTreeMap, BTreeSet};

pub use item::{Detail, Item, Meta, Place, Source};

use super::inventory::{Inventory, ObjectKey};
use super::observed::{Marked, NamespaceSeen, Seen};
use super::reconciler::DeploymentTold;
use crate::failures::{DeploymentSeen, DevWorkspaceSeen, PodSeen};

/// A workspace has one Pod, and while it is replaced two; more than this are not looked at.
const MAX_PODS: usize = 20;

/// One thing that is known.
#[derive(Debug, Clone)]
struct Record<T> {
    resource_version: u64,
    /// Counts events: what a new list does not show is gone, unless it came after the list began.
    stamp: u64,
    /// `None`: it is known to be gone.
    value: Option<T>,
}

/// What is known of an object.
#[derive(Debug, Clone)]
struct Known {
    meta: Meta,
    /// `metadata.generation` in the answer to our last apply.
    applied: Option<u64>,
}

/// What is known of a workspace's place.
#[derive(Debug, Default)]
pub(super) struct Seat {
    inventory: Option<Record<(Meta, Option<Inventory>)>>,
    objects: BTreeMap<ObjectKey, Record<Known>>,
    pub(super) deployment: Option<DeploymentSeen>,
    pub(super) dev_workspace: Option<DevWorkspaceSeen>,
    pods: BTreeMap<String, Record<PodSeen>>,
}

impl Seat {
    pub(super) fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()?.value.as_ref()?.1.as_ref()
    }

    pub(super) fn pods(&self) -> Vec<&PodSeen> {
        self.pods
            .values()
            .filter_map(|pod| pod.value.as_ref())
            .collect()
    }

    fn is_empty(&self) -> bool {
        self.inventory
            .as_ref()
            .is_none_or(|record| record.value.is_none())
            && self.pods.is_empty()
            && self.objects.values().all(|record| record.value.is_none())
    }
}

#[derive(Debug, Default)]
struct Listing {
    complete: bool,
    began_at: Option<u64>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Store {
    namespaces: BTreeMap<String, Record<Meta>>,
    seats: BTreeMap<Place, Seat>,
    listings: BTreeMap<Source, Listing>,
    stamp: u64,
    /// The newest resource version that was seen.
    newest: u64,
    /// Places where something changed since [`Store::take_dirty`].
    dirty: BTreeSet<Place>,
    dirty_namespaces: BTreeSet<String>,
}

impl Store {
    /// Everything that is needed to decide was listed once.
    pub(super) fn is_ready(&self) -> bool {
        let is_complete = |source| {
            self.listings
                .get(&source)
                .is_some_and(|listing| listing.complete)
        };
        Source::all()
            .into_iter()
            .filter(|source| source.is_needed())
            .all(is_complete)
    }

    pub(super) fn seat(&self, place: &Place) -> Option<&Seat> {
        self.seats.get(place)
    }

    /// The Deployment of the workspace `id`, if it is in its place.
    pub(super) fn deployment(&self, place: &Place, id: &str) -> Option<DeploymentTold> {
        let seat = self.seats.get(place)?;
        let seen = seat.deployment.as_ref()?;
        let is_it = |(key, record): &(&ObjectKey, &Record<Known>)| {
            key.kind == "Deployment" && key.name == seen.name && record.value.is_some()
        };
        let (_, record) = seat.objects.iter().find(is_it)?;
        let known = record.value.as_ref()?;
        (known.meta.workspace_id.as_deref() == Some(id)).then(|| DeploymentTold {
            resource_version: record.resource_version,
            facts: seen.facts.clone(),
        })
    }

    pub(super) fn take_dirty(&mut self) -> (BTreeSet<Place>, BTreeSet<String>) {
        (
            std::mem::take(&mut self.dirty),
            std::mem::take(&mut self.dirty_namespaces),
        )
    }

    pub(super) fn begin_list(&mut self, source: Source) {
        let stamp = self.stamp;
        self.listings.entry(source).or_default().began_at = Some(stamp);
    }

    pub(super) fn complete_list(&mut self, source: Source) {
        let listing = self.listings.entry(source).or_default();
        listing.complete = true;
        let Some(began_at) = listing.began_at.take() else {
            return;
        };
        let is_stale = |stamp: u64, is_there: bool| is_there && stamp <= began_at;
        match source {
            Source::Namespaces => {
                let mut gone = Vec::new();
                for (name, record) in &mut self.namespaces {
                    if is_stale(record.stamp, record.value.is_some()) {
                        record.value = None;
                        self.dirty_namespaces.insert(name.clone());
                        gone.push(name.clone());
                    }
                }
                // As old as can be told: all of it was made before the list began.
                let version = self.newest;
                for name in gone {
                    self.forget_unwatched(&name, version);
                }
            }
            Source::Inventories | Source::Pods | Source::Objects(_) => {
                for (place, seat) in &mut self.seats {
                    if seat.sweep(source, began_at) {
                        self.dirty.insert(place.clone());
                    }
                }
            }
        }
    }

    /// Takes in what a watch, or the answer to a call, shows.
    pub(super) fn see(&mut self, item: Item) {
        self.stamp += 1;
        let stamp = self.stamp;
        self.newest = self.newest.max(item.meta().resource_version);
        if let Item::Namespace(meta) = item {
            self.dirty_namespaces.insert(meta.name.clone());
            let name = meta.name.clone();
            let version = meta.resource_version;
            put(self.namespaces.entry(name), version, stamp, meta);
            return;
        }
        let (Item::Inventory(meta, _) | Item::Pod(meta, _) | Item::Object(_, meta, _)) = &item
        else {
            return;
        };
        let Some(place) = place_of(meta) else {
            return;
        };
        let seat = self.seats.entry(place.clone()).or_default();
        if seat.see(item, stamp) {
            self.dirty.insert(place);
        }
    }

    /// Takes in what a watch says is gone.
    pub(super) fn gone(&mut self, item: Item) {
        let (Item::Namespace(meta)
        | Item::Inventory(meta, _)
        | Item::Pod(meta, _)
        | Item::Object(_, meta, _)) = &item;
        let version = meta.resource_version;
        if let Item::Namespace(meta) = item {
            if let Some(record) = self.namespaces.get_mut(&meta.name)
                && record.resource_version <= version
            {
                record.value = None;
                self.dirty_namespaces.insert(meta.name.clone());
                self.forget_unwatched(&meta.name, version);
            }
            return;
        }
        let Some(place) = place_of(meta) else {
            return;
        };
        let Some(seat) = self.seats.get_mut(&place) else {
            return;
        };
        match &item {
            Item::Namespace(_) => {}
            Item::Pod(meta, _) => {
                seat.pods.remove(&meta.uid);
            }
            Item::Inventory(..) => {
                if let Some(record) = &mut seat.inventory
                    && record.resource_version <= version
                {
                    record.value = None;
                    record.resource_version = version;
                }
            }
            Item::Object(key, ..) => seat.absent(key, version),
        }
        self.dirty.insert(place);
    }

    /// An object is not there.
    pub(super) fn absent(&mut self, place: &Place, key: &ObjectKey) {
        if let Some(seat) = self.seats.get_mut(place) {
            let version = seat
                .objects
                .get(key)
                .map_or(0, |record| record.resource_version);
            seat.absent(key, version);
            self.dirty.insert(place.clone());
        }
    }

    /// The inventory is not there.
    pub(super) fn inventory_absent(&mut self, place: &Place) {
        if let Some(record) = self
            .seats
            .get_mut(place)
            .and_then(|seat| seat.inventory.as_mut())
        {
            record.value = None;
            self.dirty.insert(place.clone());
        }
    }

    /// Our own apply led to this generation: a later one is somebody else's.
    pub(super) fn applied(&mut self, place: &Place, key: &ObjectKey, generation: u64) {
        let record = self
            .seats
            .get_mut(place)
            .and_then(|seat| seat.objects.get_mut(key));
        if let Some(known) = record.and_then(|record| record.value.as_mut()) {
            known.applied = Some(generation);
        }
    }

    /// Forgets objects that are somebody else's: nothing tells when those go.
    pub(super) fn forget_foreign(&mut self, place: &Place, id: &str) {
        if let Some(seat) = self.seats.get_mut(place) {
            let is_foreign = |known: &Known| known.meta.workspace_id.as_deref() != Some(id);
            seat.objects
                .retain(|_, record| !record.value.as_ref().is_some_and(is_foreign));
        }
    }

    /// Forgets a place where nothing is left.
    pub(super) fn forget_empty(&mut self, place: &Place) {
        if self.seats.get(place).is_some_and(Seat::is_empty) {
            self.seats.remove(place);
            self.namespaces.retain(|_, record| record.value.is_some());
        }
    }

    pub(super) fn namespace(&self, name: &str, id: &str) -> NamespaceSeen {
        let meta = self
            .namespaces
            .get(name)
            .and_then(|record| record.value.as_ref());
        meta.map_or(NamespaceSeen::Absent, |meta| meta.as_namespace(id))
    }

    /// What is known of the objects `keys` of the workspace `id`. `replicas` is what its Deployment should have.
    pub(super) fn objects<'a>(
        &self,
        place: &Place,
        id: &str,
        replicas: u32,
        keys: impl Iterator<Item = &'a ObjectKey>,
    ) -> BTreeMap<ObjectKey, Seen> {
        let seat = self.seats.get(place);
        let seen = |key: &ObjectKey| {
            let record = seat.and_then(|seat| seat.objects.get(key));
            match record.map(|record| &record.value) {
                Some(Some(known)) => Some(match known.meta.as_object(id) {
                    Seen::Present(Marked::Ours) if is_drifted(key, known, seat, replicas) => {
                        Seen::Drifted
                    }
                    seen
                    @ (Seen::Present(_) | Seen::Absent | Seen::Drifted | Seen::Terminating) => seen,
                }),
                Some(None) => Some(Seen::Absent),
                // A watch that was complete shows everything that is there.
                None => Source::of(key)
                    .and_then(|source| self.listings.get(&source))
                    .is_some_and(|listing| listing.complete)
                    .then_some(Seen::Absent),
            }
        };
        keys.filter_map(|key| Some((key.clone(), seen(key)?)))
            .collect()
    }
}

/// Somebody changed the spec since we applied it. The operator changes its own objects, so only Deployments are compared.
fn is_drifted(key: &ObjectKey, known: &Known, seat: Option<&Seat>, replicas: u32) -> bool {
    let Some(deployment) = seat.and_then(|seat| seat.deployment.as_ref()) else {
        return false;
    };
    if key.kind != "Deployment" || deployment.name != key.name {
        return false;
    }
    match known.applied {
        Some(applied) => known.meta.generation > applied,
        // Applied by an agent before this one.
        None => deployment
            .facts
            .replicas
            .is_some_and(|there| there != u64::from(replicas)),
    }
}

impl Seat {
    fn see(&mut self, item: Item, stamp: u64) -> bool {
        match item {
            Item::Namespace(_) => false,
            Item::Inventory(meta, inventory) => {
                let version = meta.resource_version;
                if let Some(record) = &mut self.inventory
                    && version < record.resource_version
                {
                    record.stamp = stamp;
                    return false;
                }
                self.inventory = Some(Record {
                    resource_version: version,
                    stamp,
                    value: Some((meta, inventory)),
                });
                true
            }
            Item::Pod(meta, pod) => {
                if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&meta.uid) {
                    return false;
                }
                let record = Record {
                    resource_version: meta.resource_version,
                    stamp,
                    value: Some(pod),
                };
                self.pods.insert(meta.uid, record);
                true
            }
            Item::Object(key, meta, detail) => {
                let version = meta.resource_version;
                let applied = match self.objects.get_mut(&key) {
                    Some(record) if version < record.resource_version => {
                        record.stamp = stamp;
                        return false;
                    }
                    Some(Record {
                        value: Some(known), ..
                    }) if known.meta.uid == meta.uid => known.applied,
                    Some(_) | None => None,
                };
                // The details are those of the workspace's own object, not of another of the kind.
                let is_main = meta
                    .workspace
                    .as_ref()
                    .is_some_and(|name| name.as_str() == key.name);
                match detail {
                    Detail::Deployment(seen) if is_main => self.deployment = Some(seen),
                    Detail::DevWorkspace(seen) if is_main => self.dev_workspace = Some(seen),
                    Detail::None | Detail::Deployment(_) | Detail::DevWorkspace(_) => {}
                }
                let value = Some(Known { meta, applied });
                self.objects.insert(
                    key,
                    Record {
                        resource_version: version,
                        stamp,
                        value,
                    },
                );
                true
            }
        }
    }

    fn absent(&mut self, key: &ObjectKey, version: u64) {
        if let Some(record) = self.objects.get_mut(key) {
            if record.resource_version > version {
                return;
            }
            record.value = None;
            record.resource_version = version;
        }
        match key.kind.as_str() {
            "Deployment"
                if self
                    .deployment
                    .as_ref()
                    .is_some_and(|seen| seen.name == key.name) =>
            {
                self.deployment = None;
            }
            "DevWorkspace"
                if self
                    .dev_workspace
                    .as_ref()
                    .is_some_and(|seen| seen.name == key.name) =>
            {
                self.dev_workspace = None;
            }
            _ => {}
        }
    }

    fn sweep(&mut self, source: Source, began_at: u64) -> bool {
        match source {
            Source::Namespaces => false,
            Source::Inventories => match &mut self.inventory {
                Some(record) if record.stamp <= began_at && record.value.is_some() => {
                    record.value = None;
                    true
                }
                Some(_) | None => false,
            },
            Source::Pods => {
                let before = self.pods.len();
                self.pods.retain(|_, pod| pod.stamp > began_at);
                self.pods.len() != before
            }
            Source::Objects(_) => {
                let is_stale = |(key, record): &(&ObjectKey, &Record<Known>)| {
                    Source::of(key) == Some(source)
                        && record.stamp <= began_at
                        && record.value.is_some()
                };
                let stale: Vec<_> = self
                    .objects
                    .iter()
                    .filter(is_stale)
                    .map(|(key, record)| (key.clone(), record.resource_version))
                    .collect();
                for (key, version) in &stale {
                    self.absent(key, *version);
                }
                !stale.is_empty()
            }
        }
    }
}

fn place_of(meta: &Meta) -> Option<Place> {
    let name = meta.workspace.clone()?;
    Some(Place {
        namespace: meta.namespace.clone(),
        name,
    })
}

fn put<K: Ord, T>(
    entry: std::collections::btree_map::Entry<'_, K, Record<T>>,
    resource_version: u64,
    stamp: u64,
    value: T,
) {
    match entry {
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            let record = entry.get_mut();
            record.stamp = stamp;
            if record.resource_version <= resource_version {
                record.resource_version = resource_version;
                record.value = Some(value);
            }
        }
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(Record {
                resource_version,
                stamp,
                value: Some(value),
            });
        }
    }
}
