//! ConfigMaps, inventories among them, are not watched where workspaces have namespaces of their own: they are listed in
//! each namespace, and go with it.

use super::{Item, Place, Seat, Store, place_of};

impl Store {
    /// Takes in a list of all of a namespace's ConfigMaps that carry the agent's label, as of this resource version.
    pub(in super::super) fn see_config_maps(
        &mut self,
        namespace: &str,
        version: u64,
        items: Vec<Item>,
    ) {
        let mut listed: Vec<_> = Vec::new();
        for item in items {
            if let Item::Inventory(meta, _) | Item::Object(_, meta, _) = &item {
                listed.extend(place_of(meta).map(|place| (place, meta.name.clone())));
            }
            self.see(item);
        }
        let is_listed = |place: &Place, name: &str| {
            listed
                .iter()
                .any(|(there, its)| there == place && its == name)
        };
        for (place, seat) in self
            .seats
            .iter_mut()
            .filter(|(it, _)| it.namespace == namespace)
        {
            if seat.forget(&["ConfigMap"], version, |name| is_listed(place, name)) {
                self.dirty.insert(place.clone());
            }
        }
    }

    /// A namespace is gone: nothing else tells of what was in it and is not watched.
    pub(super) fn forget_unwatched(&mut self, namespace: &str, version: u64) {
        for (place, seat) in self
            .seats
            .iter_mut()
            .filter(|(it, _)| it.namespace == namespace)
        {
            if seat.forget(&["ConfigMap", "Secret"], version, |_| false) {
                self.dirty.insert(place.clone());
            }
        }
    }
}

impl Seat {
    /// Forgets the inventory and objects of these kinds that are not there at this version, and says whether there were any.
    fn forget(&mut self, kinds: &[&str], version: u64, is_there: impl Fn(&str) -> bool) -> bool {
        let mut forgot = false;
        if let Some(record) = &mut self.inventory
            && record.resource_version <= version
            && let Some((meta, _)) = &record.value
            && !is_there(&meta.name)
        {
            record.value = None;
            record.resource_version = version;
            forgot = true;
        }
        let gone: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, record)| {
                kinds.contains(&key.kind.as_str())
                    && record.value.is_some()
                    && record.resource_version <= version
                    && !is_there(&key.name)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.absent(key, version);
        }
        forgot || !gone.is_empty()
    }
}
