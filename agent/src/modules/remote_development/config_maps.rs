//! Lists the ConfigMaps of workspaces, their inventories among them, in each namespace of the agent's.
//!
//! A watch of all of them would need the right to read every ConfigMap of the cluster. So they are listed when a namespace
//! is first seen, and again from time to time; what the agent itself writes it knows from the answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use agent_core::reconcile::{AGENT_ID_LABEL, INVENTORY_ID_LABEL, Item, Source};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::api::{Api, CallError};
use super::grants::{GrantError, Grants};
use super::watches::{Change, config_maps};

/// Namespaces that are listed at the same time.
const CONCURRENT: usize = 8;
/// Each is listed again after so long: somebody may have taken an inventory away.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// After a list that failed; doubled up to the second.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// ConfigMaps of one namespace: an inventory, and what a workspace may have.
const MAX_LISTED: u32 = 500;

/// What becomes of a namespace.
#[derive(Debug)]
pub(super) enum Space {
    /// All that are there are told now.
    Begins,
    /// It is there.
    Seen(String),
    /// It is not, or no longer for long.
    Gone(String),
    /// All that are there were told.
    Complete,
}

/// Lists until it is dropped.
pub(super) async fn follow(
    api: Api,
    grants: Arc<Grants>,
    agent_id: i64,
    mut spaces: mpsc::Receiver<Space>,
    changes: mpsc::Sender<(Source, Change)>,
) {
    let mut lister = Lister::default();
    let mut running: JoinSet<(String, Result<Change, GrantError>)> = JoinSet::new();
    loop {
        while running.len() < CONCURRENT
            && let Some(namespace) = lister.next(Instant::now())
        {
            let (api, grants) = (api.clone(), Arc::clone(&grants));
            running.spawn(async move {
                let listed = list(&api, &grants, agent_id, &namespace).await;
                (namespace, listed)
            });
        }
        if lister.is_complete_now() {
            for source in [Source::Inventories, config_maps()] {
                if changes.send((source, Change::ListComplete)).await.is_err() {
                    return;
                }
            }
        }
        let due = lister.next_due(running.len() < CONCURRENT);
        let at_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        // Cancel-safe: a channel and a join set lose nothing.
        tokio::select! {
            space = spaces.recv() => match space {
                Some(Space::Begins) => lister.unseen = lister.due.keys().cloned().collect(),
                Some(Space::Seen(namespace)) if grants.is_made_here(&namespace) => {
                    lister.known(&namespace, Instant::now() + AGAIN);
                }
                Some(Space::Seen(namespace)) => lister.seen(namespace),
                Some(Space::Gone(namespace)) => {
                    grants.gone(&namespace);
                    lister.gone(&namespace);
                }
                Some(Space::Complete) => {
                    for namespace in lister.all_told() {
                        grants.gone(&namespace);
                    }
                }
                None => return,
            },
            Some(ended) = running.join_next() => {
                let Ok((namespace, listed)) = ended else {
                    tracing::error!("a list of ConfigMaps ended badly");
                    return;
                };
                match listed {
                    Ok(change) => {
                        lister.listed(&namespace, Instant::now());
                        if changes.send((Source::Inventories, change)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let is_new = lister.failed(&namespace, &error, Instant::now());
                        match is_new {
                            true => tracing::warn!(namespace, %error, "cannot list a workspace's inventory, trying again"),
                            false => tracing::debug!(namespace, %error, "cannot list a workspace's inventory, trying again"),
                        }
                    }
                }
            }
            () = at_due => {}
        }
    }
}

/// What is to be listed, and when.
#[derive(Debug, Default)]
struct Lister {
    /// Of each namespace that is there.
    due: BTreeMap<String, Listing>,
    /// Those that were never listed, first come first served.
    waiting: VecDeque<String>,
    /// Namespaces that were not listed once.
    first_left: usize,
    /// Known ones that the list that is being told has not shown yet.
    unseen: BTreeSet<String>,
    all_told: bool,
    told_complete: bool,
}

#[derive(Debug)]
struct Listing {
    /// `None`: it is waiting or under way.
    at: Option<Instant>,
    is_first: bool,
    delay: Duration,
}

impl Lister {
    fn seen(&mut self, namespace: String) {
        self.unseen.remove(&namespace);
        if self.due.contains_key(&namespace) {
            return;
        }
        let listing = Listing {
            at: None,
            is_first: true,
            delay: FIRST_DELAY,
        };
        self.due.insert(namespace.clone(), listing);
        self.waiting.push_back(namespace);
        self.first_left += 1;
    }

    /// Nothing in it is news.
    fn known(&mut self, namespace: &str, next: Instant) {
        self.unseen.remove(namespace);
        self.due.entry(namespace.to_owned()).or_insert(Listing {
            at: Some(next),
            is_first: false,
            delay: FIRST_DELAY,
        });
    }

    fn gone(&mut self, namespace: &str) {
        self.waiting.retain(|it| it != namespace);
        if self.due.remove(namespace).is_some_and(|it| it.is_first) {
            self.first_left -= 1;
        }
    }

    /// What was not shown is gone.
    fn all_told(&mut self) -> BTreeSet<String> {
        self.all_told = true;
        let gone = std::mem::take(&mut self.unseen);
        for namespace in &gone {
            self.gone(namespace);
        }
        gone
    }

    fn next(&mut self, now: Instant) -> Option<String> {
        if let Some(namespace) = self.waiting.pop_front() {
            return Some(namespace);
        }
        let is_due = |(_, it): &(&String, &mut Listing)| it.at.is_some_and(|at| at <= now);
        let (namespace, listing) = self.due.iter_mut().find(is_due)?;
        listing.at = None;
        Some(namespace.clone())
    }

    fn next_due(&self, has_room: bool) -> Option<Instant> {
        let due = self.due.values().filter_map(|it| it.at).min();
        due.filter(|_| has_room)
    }

    fn listed(&mut self, namespace: &str, now: Instant) {
        if let Some(listing) = self.due.get_mut(namespace) {
            listing.at = Some(now + AGAIN);
            listing.delay = FIRST_DELAY;
            if std::mem::take(&mut listing.is_first) {
                self.first_left -= 1;
            }
        }
    }

    /// Whether it is worth a line. What no try can change holds up nothing else.
    fn failed(&mut self, namespace: &str, error: &GrantError, now: Instant) -> bool {
        let Some(listing) = self.due.get_mut(namespace) else {
            return false;
        };
        let is_new = listing.delay == FIRST_DELAY;
        listing.at = Some(now + listing.delay);
        listing.delay = (listing.delay * 2).min(MAX_DELAY);
        let is_away = matches!(error, GrantError::Call(CallError::Transport(_)));
        if !is_away && std::mem::take(&mut listing.is_first) {
            self.first_left -= 1;
        }
        is_new
    }

    fn is_complete_now(&mut self) -> bool {
        let is_complete = self.all_told && self.first_left == 0;
        is_complete && !std::mem::replace(&mut self.told_complete, true)
    }
}

async fn list(
    api: &Api,
    grants: &Grants,
    agent_id: i64,
    namespace: &str,
) -> Result<Change, GrantError> {
    grants.ensure(api, namespace).await?;
    let path = format!(
        "/api/v1/namespaces/{namespace}/configmaps?labelSelector={AGENT_ID_LABEL}%3D{agent_id}&limit={MAX_LISTED}"
    );
    let list = api.get(&path).await.inspect_err(|error| {
        if error.is_forbidden() {
            grants.forget(namespace);
        }
    })?;
    let version = &list["metadata"]["resourceVersion"];
    let version = version.as_str().and_then(|it| it.parse().ok());
    let items = list["items"].as_array().into_iter().flatten();
    let read = |config_map: &Value| {
        let is_inventory = !config_map["metadata"]["labels"][INVENTORY_ID_LABEL].is_null();
        let source = match is_inventory {
            true => Source::Inventories,
            false => config_maps(),
        };
        Item::read(source, config_map)
    };
    Ok(Change::ConfigMaps {
        namespace: namespace.to_owned(),
        version: version.unwrap_or(0),
        items: items.map(read).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_is_listed_once_and_none_holds_up_the_others() {
        let mut lister = Lister::default();
        let now = Instant::now();
        assert!(!lister.is_complete_now(), "nothing was told yet");
        for name in ["a", "b", "c", "a"] {
            lister.seen(name.to_owned());
        }
        lister.all_told();
        let next: Vec<_> = std::iter::from_fn(|| lister.next(now)).collect();
        assert_eq!(next, ["a", "b", "c"]);
        lister.listed("a", now);
        // Away is everything; forbidden is this one.
        let away = GrantError::Call(CallError::Transport("gone".into()));
        assert!(lister.failed("b", &away, now) && !lister.failed("b", &away, now));
        assert!(lister.failed("c", &GrantError::NoEffect, now));
        assert!(!lister.is_complete_now(), "b was not listed");
        assert_eq!(lister.next_due(true), Some(now + FIRST_DELAY));
        lister.listed("b", now);
        assert!(
            lister.is_complete_now() && !lister.is_complete_now(),
            "told once"
        );
        assert_eq!(lister.next(now + FIRST_DELAY), Some("c".to_owned()));
        lister.gone("c");
        assert_eq!(lister.next_due(true), Some(now + AGAIN));
        assert_eq!(lister.next(now + AGAIN), Some("a".to_owned()));
        // A list that is told anew shows what went while nobody watched.
        lister.unseen = lister.due.keys().cloned().collect();
        lister.seen("a".to_owned());
        assert_eq!(lister.all_told(), BTreeSet::from(["b".to_owned()]));
        assert!(!lister.due.contains_key("b"));
    }
}
