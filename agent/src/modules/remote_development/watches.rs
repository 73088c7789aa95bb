//! Watches what carries this agent's label, and makes it small before anything is kept.

use std::time::Duration;

use agent_core::reconcile::{AGENT_ID_LABEL, INVENTORY_ID_LABEL, Item, KINDS, Kind, Source};
use futures::TryStreamExt as _;
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{DynamicResourceScope, PartialObjectMeta};
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::config_maps::Space;

/// Objects of a list that are in memory at the same time, before they are made small.
const PAGE_SIZE: u32 = 50;
/// Nothing of what is watched may be silent for longer: the watch is then opened again.
const WATCH_SECONDS: u32 = 290;

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Change {
    ListBegins,
    Seen(Item),
    Gone(Item),
    ListComplete,
    /// A namespace's ConfigMaps, all of them, at a resource version.
    ConfigMaps {
        namespace: String,
        version: u64,
        items: Vec<Item>,
    },
    /// The cluster does not have this kind.
    NoSuchKind,
    /// The agent may not read this kind.
    Forbidden,
}

/// What is watched, and where.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) agent_id: i64,
    /// The namespace that workspaces share; `None`: each has its own, and the watches are the cluster's.
    pub(super) shared_namespace: Option<String>,
    /// Also DevWorkspaces.
    pub(super) dev_workspaces: bool,
}

/// Where ConfigMaps that are no inventories come from.
pub(super) fn config_maps() -> Source {
    let place = KINDS.iter().position(|kind| kind.kind == "ConfigMap");
    Source::Objects(place.unwrap_or_default())
}

/// Starts all watches; they end with the returned set, and send as fast as they are read.
///
/// Namespaces go to `spaces` too: in each of them ConfigMaps are listed. Where there is only one, they are watched.
pub(super) fn start(
    client: &kube::Client,
    scope: &Scope,
    changes: &mpsc::Sender<(Source, Change)>,
    spaces: &mpsc::Sender<Space>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let is_shared = scope.shared_namespace.is_some();
    for source in Source::all() {
        match source {
            // Nobody made the shared one, and nobody takes it away.
            Source::Namespaces if is_shared => {
                let changes = changes.clone();
                tasks.spawn(async move {
                    changes.send((source, Change::ListComplete)).await.ok();
                    std::future::pending::<()>().await;
                });
            }
            Source::Inventories if !is_shared => {}
            _ if source == config_maps() && !is_shared => {}
            // Whoever installed the agent wants none of them.
            _ if is_of_operator(source) && !scope.dev_workspaces => {
                let changes = changes.clone();
                tasks.spawn(async move {
                    changes.send((source, Change::Forbidden)).await.ok();
                    std::future::pending::<()>().await;
                });
            }
            _ => {
                let spaces = (source == Source::Namespaces).then(|| spaces.clone());
                let tell = Tell {
                    changes: changes.clone(),
                    spaces,
                };
                tasks.spawn(follow(client.clone(), scope.clone(), source, tell));
            }
        }
    }
    tasks
}

/// Who is told what a watch shows.
struct Tell {
    changes: mpsc::Sender<(Source, Change)>,
    spaces: Option<mpsc::Sender<Space>>,
}

impl Tell {
    /// False when nobody listens any more.
    async fn tell(&self, source: Source, change: Change) -> bool {
        if let Some(spaces) = &self.spaces
            && let Some(space) = space_of(&change)
            && spaces.send(space).await.is_err()
        {
            return false;
        }
        self.changes.send((source, change)).await.is_ok()
    }
}

fn space_of(change: &Change) -> Option<Space> {
    match change {
        Change::Seen(Item::Namespace(meta)) if !meta.terminating => {
            Some(Space::Seen(meta.name.clone()))
        }
        Change::Seen(Item::Namespace(meta)) | Change::Gone(Item::Namespace(meta)) => {
            Some(Space::Gone(meta.name.clone()))
        }
        Change::ListBegins => Some(Space::Begins),
        Change::ListComplete => Some(Space::Complete),
        Change::Seen(_)
        | Change::Gone(_)
        | Change::ConfigMaps { .. }
        | Change::NoSuchKind
        | Change::Forbidden => None,
    }
}

async fn follow(client: kube::Client, scope: Scope, source: Source, tell: Tell) {
    let Scope {
        agent_id,
        shared_namespace,
        dev_workspaces: _,
    } = scope;
    let resource = resource_of(source);
    let selector = match source {
        Source::Inventories => format!("{AGENT_ID_LABEL}={agent_id},{INVENTORY_ID_LABEL}"),
        Source::Objects(place) if KINDS[place].kind == "ConfigMap" => {
            format!("{AGENT_ID_LABEL}={agent_id},!{INVENTORY_ID_LABEL}")
        }
        Source::Namespaces | Source::Pods | Source::Objects(_) => {
            format!("{AGENT_ID_LABEL}={agent_id}")
        }
    };
    let config = watcher::Config::default()
        .labels(&selector)
        .page_size(PAGE_SIZE)
        .timeout(WATCH_SECONDS);
    if is_whole(source) {
        let api = place::<DynamicObject>(client, shared_namespace.as_deref(), &resource);
        forward(watch(api, config), source, tell).await;
    } else {
        let api = place::<PartialObjectMeta<DynamicObject>>(
            client,
            shared_namespace.as_deref(),
            &resource,
        );
        forward(watch(api, config), source, tell).await;
    }
}

fn place<K>(client: kube::Client, namespace: Option<&str>, resource: &ApiResource) -> kube::Api<K>
where
    K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    match namespace {
        Some(namespace) => kube::Api::namespaced_with(client, namespace, resource),
        None => kube::Api::all_with(client, resource),
    }
}

async fn forward<K>(
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    source: Source,
    tell: Tell,
) where
    K: kube::Resource + Serialize + DeserializeOwned + Clone + Send + 'static,
{
    let mut stream = std::pin::pin!(stream);
    let mut delay = Delay::new(source);
    let mut in_trouble = false;
    loop {
        let change = match stream.try_next().await {
            Ok(Some(Event::Init)) => Change::ListBegins,
            Ok(Some(Event::InitApply(object) | Event::Apply(object))) => {
                Change::Seen(small(source, object))
            }
            Ok(Some(Event::Delete(object))) => Change::Gone(small(source, object)),
            Ok(Some(Event::InitDone)) => {
                // Not before: each attempt at a list begins with an event that says no more than that.
                delay.reset();
                if std::mem::take(&mut in_trouble) {
                    tracing::info!(kind = name_of(source), "watches again");
                }
                Change::ListComplete
            }
            Ok(None) => return,
            Err(error) => {
                // An expired watch (410) is no trouble: it lists again by itself.
                let is_new = !std::mem::replace(&mut in_trouble, true);
                if let Some(change) = whether_there(&error)
                    && !tell.tell(source, change).await
                {
                    return;
                }
                let error = crate::kas::health::chain(&error);
                match is_new && is_needed_of(source) {
                    true => {
                        tracing::warn!(kind = name_of(source), error, "cannot watch, trying again")
                    }
                    false => {
                        tracing::debug!(kind = name_of(source), error, "cannot watch, trying again")
                    }
                }
                tokio::time::sleep(delay.next_delay()).await;
                continue;
            }
        };
        if !tell.tell(source, change).await {
            return;
        }
    }
}

fn small<K: kube::Resource + Serialize>(source: Source, mut object: K) -> Item {
    object.meta_mut().managed_fields = None;
    // What cannot be written as JSON was never read from it.
    let value = serde_json::to_value(&object).unwrap_or_default();
    Item::read(source, &value)
}

/// What a failed list says of a kind as a whole.
fn whether_there(error: &watcher::Error) -> Option<Change> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else {
        return None;
    };
    match status.code {
        404 => Some(Change::NoSuchKind),
        403 => Some(Change::Forbidden),
        _ => None,
    }
}

/// Only these are read whole; of the others their metadata is enough.
fn is_whole(source: Source) -> bool {
    match source {
        Source::Inventories | Source::Pods => true,
        Source::Namespaces => false,
        Source::Objects(place) => matches!(KINDS[place].kind, "Deployment" | "DevWorkspace"),
    }
}

/// The DevWorkspace Operator need not be there.
fn is_needed_of(source: Source) -> bool {
    !is_of_operator(source)
}

/// Whether it shows `DevWorkspace`s.
pub(super) fn is_of_operator(source: Source) -> bool {
    matches!(source, Source::Objects(place) if KINDS[place].kind == "DevWorkspace")
}

fn name_of(source: Source) -> &'static str {
    match source {
        Source::Namespaces => "Namespace",
        Source::Inventories => "inventory",
        Source::Pods => "Pod",
        Source::Objects(place) => KINDS[place].kind,
    }
}

fn resource_of(source: Source) -> ApiResource {
    let (group, version, kind, plural) = match source {
        Source::Namespaces => ("", "v1", "Namespace", "namespaces"),
        Source::Inventories => ("", "v1", "ConfigMap", "configmaps"),
        Source::Pods => ("", "v1", "Pod", "pods"),
        Source::Objects(place) => {
            let Kind {
                group,
                version,
                kind,
                plural,
                ..
            } = KINDS[place];
            (group, version, kind, plural)
        }
    };
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Delays after errors of a watch. Short, since nothing can be judged without it; the ten watches of an agent are no load.
#[derive(Debug)]
struct Delay {
    next: Duration,
    max: Duration,
}

impl Delay {
    const FIRST: Duration = Duration::from_millis(200);

    fn new(source: Source) -> Self {
        // A kind that the cluster does not have is asked for less often; once it is there, people wait for it.
        let max = Duration::from_secs(if is_needed_of(source) { 3 } else { 10 });
        Self {
            next: Self::FIRST,
            max,
        }
    }

    fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        delay
    }

    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    const DEPLOYMENTS: Source = Source::Objects(7);
    const OF_DEPLOYMENTS: &str = "/apis/apps/v1/deployments?";

    /// Serves one Deployment. The first watch ends with "410 Gone", in the way of an API server whose history is too
    /// short; others are silent. Each list shows a change that no watch told.
    fn client(asked: Arc<Mutex<Vec<String>>>) -> kube::Client {
        let watches = Arc::new(AtomicUsize::new(0));
        let lists = Arc::new(AtomicUsize::new(0));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let uri = request.uri().to_string();
            let body = match uri.starts_with(OF_DEPLOYMENTS) {
                false => silence(),
                true if !uri.contains("watch=true") => whole(&json!({
                    "apiVersion": "apps/v1", "kind": "DeploymentList",
                    "metadata": {"resourceVersion": "7"}, "items": [deployment(lists.fetch_add(1, Ordering::Relaxed))],
                })),
                true if watches.fetch_add(1, Ordering::Relaxed) == 0 => whole(&json!({
                    "type": "ERROR", "object": {
                        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
                        "message": "too old resource version: 7 (12)",
                    },
                })),
                true => silence(),
            };
            asked.lock().unwrap().push(uri);
            std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
        });
        kube::Client::new(service, "default")
    }

    fn deployment(generation: usize) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "w", "namespace": "gl-rd-ns-w", "uid": "u", "resourceVersion": "5", "generation": generation,
                "labels": {AGENT_ID_LABEL: "1", "workspaces.gitlab.com/name": "w"},
            },
        })
    }

    fn whole(value: &Value) -> BoxBody<Bytes, Infallible> {
        Full::new(Bytes::from(format!("{value}\n"))).boxed()
    }

    fn silence() -> BoxBody<Bytes, Infallible> {
        BodyExt::boxed(StreamBody::new(futures::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn b01_an_expired_watch_lists_again_and_sees_what_changed_in_between() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (changes, mut changed) = mpsc::channel(16);
        let scope = Scope {
            agent_id: 1,
            shared_namespace: None,
            dev_workspaces: true,
        };
        let (spaces, _spaces) = mpsc::channel(16);
        let _tasks = start(&client(Arc::clone(&asked)), &scope, &changes, &spaces);
        let mut seen = Vec::new();
        while seen.len() < 6 {
            let next = tokio::time::timeout(Duration::from_secs(10), changed.recv());
            let (source, change) = next.await.expect("it lists again").unwrap();
            if source == DEPLOYMENTS {
                seen.push(change);
            }
        }
        let is_list = |part: &[Change]| {
            matches!(
                part,
                [Change::ListBegins, Change::Seen(_), Change::ListComplete]
            )
        };
        assert!(is_list(&seen[..3]) && is_list(&seen[3..]), "{seen:?}");
        assert_ne!(format!("{:?}", seen[1]), format!("{:?}", seen[4]));
        // Nothing but reading: a list, the watch that ended, a list.
        let asked = asked.lock().unwrap();
        let of_deployments = asked.iter().filter(|uri| uri.starts_with(OF_DEPLOYMENTS));
        let watches: Vec<_> = of_deployments
            .map(|uri| uri.contains("watch=true"))
            .take(3)
            .collect();
        assert_eq!(watches, [false, true, false]);
    }
}
