//! Copies of pull secrets: objects of a workspace that the server names and the agent makes.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::configuration::ImagePullSecret;
use model::{DesiredState, Failure, FailureCode};

use super::super::desired::DesiredObject;
use super::super::inventory::ObjectKey;
use super::super::store::Place;
use super::{Reconciler, WorkspaceId};
use crate::gitlab::Marks;
use crate::pull_secrets::{MAX_PULL_SECRETS, Source, Sources};

/// What a workspace wants copied, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Copies {
    wanted: Vec<ImagePullSecret>,
    /// Of its objects, those that are copies.
    keys: BTreeSet<ObjectKey>,
    pub(super) failures: Vec<Failure>,
}

impl Copies {
    /// The objects of the workspace are others by now.
    pub(super) fn forget_made(&mut self) {
        self.keys.clear();
    }
}

impl Reconciler {
    /// The server named the pull secrets of a workspace, together with a wish; `sources` is what was found of them.
    pub fn handle_pull_secrets(
        &mut self,
        id: &WorkspaceId,
        wanted: Vec<ImagePullSecret>,
        sources: &Sources,
    ) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.copies.wanted = wanted;
            self.copy(id, sources);
        }
    }

    /// Every pull secret that a workspace wants.
    #[must_use]
    pub fn pull_secrets(&self) -> BTreeSet<ImagePullSecret> {
        let wanted = self.entries.values().flat_map(|it| &it.copies.wanted);
        wanted.cloned().collect()
    }

    /// The pull secrets were read again: workspaces whose copies differ are brought in step.
    pub fn handle_sources(&mut self, sources: &Sources) {
        let wants = |copies: &Copies| copies.wanted.iter().any(|it| sources.contains_key(it));
        let ids: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| wants(&entry.copies))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.copy(&id, sources);
        }
    }

    fn copy(&mut self, id: &WorkspaceId, sources: &Sources) {
        let agent_id = self.agent_id;
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let Some(desired) = &entry.desired else {
            return;
        };
        if desired.state == DesiredState::Terminated {
            entry.copies = Copies::default();
            return;
        }
        let place = Place {
            namespace: desired.namespace.clone(),
            name: desired.name.clone(),
        };
        let inventory = self.store.seat(&place).and_then(|seat| seat.inventory());
        let recorded = inventory.filter(|it| it.workspace_id == **id);
        let marks = Marks {
            place: &place,
            agent_id,
            id,
        };
        let before = &entry.copies;
        let mut objects = desired.objects.clone();
        objects.retain(|key, _| !before.keys.contains(key));
        let (mut keys, mut failures) = (BTreeSet::new(), Vec::new());
        for secret in before.wanted.iter().take(MAX_PULL_SECRETS) {
            // Where workspaces share a namespace, it is there.
            if secret.namespace == place.namespace {
                continue;
            }
            let key = ObjectKey {
                namespace: place.namespace.clone(),
                name: secret.name.clone(),
                group: String::new(),
                kind: "Secret".to_owned(),
            };
            if objects.get(&key).is_some_and(|it| it.body.is_some()) {
                failures.push(in_the_way(secret));
                continue;
            }
            // One that was not read this time is as it was.
            let source = sources.get(secret).cloned();
            let source = source.unwrap_or_else(|| Source::Unreadable(String::new()));
            let copied = match source.copy(&secret.name, &place.namespace) {
                Some(copy) => {
                    let (_, (hash, text)) = marks.put_on(copy);
                    Some(DesiredObject {
                        hash,
                        body: Some(text),
                    })
                }
                None if matches!(source, Source::Unreadable(_)) => {
                    let known = desired.objects.get(&key).cloned();
                    let recorded = recorded.and_then(|it| it.objects.get(&key)?.clone());
                    known.or(recorded.map(|hash| DesiredObject { hash, body: None }))
                }
                None => None,
            };
            failures.extend(source.failure(secret));
            match copied {
                Some(copied) => {
                    objects.insert(key.clone(), copied);
                    keys.insert(key);
                }
                None => {
                    objects.remove(&key);
                }
            }
        }
        let is_same = objects == desired.objects && failures == entry.copies.failures;
        entry.copies.keys = keys;
        entry.copies.failures = failures;
        if is_same {
            return;
        }
        if objects != desired.objects {
            let mut changed = (**desired).clone();
            changed.objects = objects;
            entry.desired = Some(Arc::new(changed));
            self.schedule.changed(id);
        }
        self.dirty.insert(id.clone());
    }
}

fn in_the_way(secret: &ImagePullSecret) -> Failure {
    let message = format!(
        "The pull secret {} of the namespace {} is not copied: the workspace has a Secret of this name of its own.",
        secret.name, secret.namespace
    );
    Failure::new(FailureCode::PullSecretNotCopied, &secret.name, message, "")
}
