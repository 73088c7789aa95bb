//! The Services of the agent's workspaces: watched, and asked for when the watch may be behind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::guard::Policy;
use agent_core::reconcile::AGENT_ID_LABEL;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;

use super::target::{Known, NAME_LABEL, Refused, choose, is_of_workspace};
use crate::convert::access::Target;
use crate::kas::health::chain;
use crate::tunnel::call::{CallError, Code};

/// How long a call waits for the first list of Services after the agent's start.
const FIRST_LIST: Duration = Duration::from_secs(5);
/// For one question to the API server.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Services that are kept: 10,000 workspaces, each with two.
const MAX_KNOWN: usize = 20_000;
/// Services of one workspace that are looked at when the API server is asked.
const MAX_ASKED: u32 = 20;
/// Objects of a list that are in memory at the same time, before they are made small.
const PAGE_SIZE: u32 = 50;
/// Nothing of what is watched may be silent for longer: the watch is then opened again.
const WATCH_SECONDS: u32 = 290;
/// After an error of the watch; doubled up to the second.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(3);

/// Namespace and name of a Service.
type Key = (String, String);

pub(super) struct Services {
    client: kube::Client,
    policy: Policy,
    known: Mutex<HashMap<Key, Known>>,
    /// The agent whose Services are listed; none until the first list is complete.
    listed: watch::Sender<Option<i64>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    pub(super) fn new(client: kube::Client, policy: Policy) -> Self {
        Self {
            client,
            policy,
            known: Mutex::default(),
            listed: watch::Sender::new(None),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the Services with this agent's label, for ever.
    pub(super) async fn follow(&self, agent_id: i64) {
        self.listed.send_if_modified(|it| {
            let other = it.is_some_and(|it| it != agent_id);
            if other {
                *it = None;
            }
            other
        });
        let config = watcher::Config::default()
            .labels(&format!("{AGENT_ID_LABEL}={agent_id},{NAME_LABEL}"))
            .page_size(PAGE_SIZE)
            .timeout(WATCH_SECONDS);
        let services: Api<Service> = match &self.policy.shared_namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut stream = std::pin::pin!(watcher(services, config));
        let mut listing = HashMap::new();
        let mut delay = FIRST_DELAY;
        let mut in_trouble = false;
        loop {
            match stream.try_next().await {
                Ok(Some(Event::Init)) => listing.clear(),
                Ok(Some(Event::InitApply(service))) => keep(&mut listing, &service),
                Ok(Some(Event::InitDone)) => {
                    *self.known() = std::mem::take(&mut listing);
                    self.listed.send_replace(Some(agent_id));
                    delay = FIRST_DELAY;
                    if std::mem::take(&mut in_trouble) {
                        tracing::info!("watches Services of workspaces again");
                    }
                }
                Ok(Some(Event::Apply(service))) => keep(&mut self.known(), &service),
                Ok(Some(Event::Delete(service))) => drop(self.known().remove(&key(&service))),
                Ok(None) => return,
                Err(error) => {
                    if !std::mem::replace(&mut in_trouble, true) {
                        tracing::warn!(
                            error = chain(&error),
                            "cannot watch Services of workspaces, trying again"
                        );
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_DELAY);
                }
            }
        }
    }

    /// The address of what is asked for, if it may be reached.
    pub(super) async fn find(&self, target: &Target) -> Result<SocketAddr, CallError> {
        let mut listed = self.listed.subscribe();
        let listed = tokio::time::timeout(FIRST_LIST, listed.wait_for(Option::is_some)).await;
        let Some(agent_id) = listed.ok().and_then(|it| it.ok().and_then(|it| *it)) else {
            return Err(unavailable("the agent does not know its Services yet"));
        };
        let refused = match self.find_known(agent_id, target) {
            Ok(address) => return Ok(address),
            Err(refused) => refused,
        };
        if !matches!(refused, Refused::NoSuchWorkspace(_)) {
            return Err(refused.into());
        }
        // Made a moment ago, perhaps, or by the DevWorkspace Operator.
        let asked = tokio::time::timeout(ASK_TIMEOUT, self.ask(agent_id, target));
        let found = asked
            .await
            .map_err(|_| unavailable("the API server does not answer"))?
            .map_err(|error| unavailable(&chain(&error)))?;
        choose(found.iter(), agent_id, target).map_err(CallError::from)
    }

    fn find_known(&self, agent_id: i64, target: &Target) -> Result<SocketAddr, Refused> {
        let known = self.known();
        // Under the workspace's own name it is found at once; Pods of their own have other Services.
        let direct = known.get(&(target.namespace.clone(), target.name.clone()));
        choose(direct.into_iter(), agent_id, target).or_else(|_| {
            let in_namespace = known
                .iter()
                .filter(|((namespace, _), _)| *namespace == target.namespace);
            choose(in_namespace.map(|(_, it)| it), agent_id, target)
        })
    }

    async fn ask(&self, agent_id: i64, target: &Target) -> Result<Vec<Known>, kube::Error> {
        if !is_name(&target.namespace) || !is_name(&target.name) {
            return Ok(Vec::new());
        }
        let shared = self.policy.shared_namespace.as_ref();
        if shared.is_some_and(|shared| *shared != target.namespace) {
            return Ok(Vec::new());
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), &target.namespace);
        let selector = format!("{AGENT_ID_LABEL}={agent_id},{NAME_LABEL}={}", target.name);
        let params = ListParams::default().labels(&selector).limit(MAX_ASKED);
        let listed = services.list(&params).await?;
        let found: Vec<Known> = listed.items.iter().filter_map(Known::read).collect();
        if !found.is_empty() || !self.policy.allows("DevWorkspace") {
            return Ok(found);
        }
        Ok(self
            .ask_operator(agent_id, target, &services)
            .await?
            .into_iter()
            .collect())
    }

    /// The Service of a DevWorkspace of ours: the operator names it, and it carries no mark of ours.
    async fn ask_operator(
        &self,
        agent_id: i64,
        target: &Target,
        services: &Api<Service>,
    ) -> Result<Option<Known>, kube::Error> {
        let resource = ApiResource {
            group: "workspace.devfile.io".into(),
            version: "v1alpha2".into(),
            api_version: "workspace.devfile.io/v1alpha2".into(),
            kind: "DevWorkspace".into(),
            plural: "devworkspaces".into(),
        };
        let devworkspaces: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &target.namespace, &resource);
        let devworkspace = match one(&devworkspaces, &target.name).await {
            Ok(Some(found)) if is_of_workspace(&found.metadata, agent_id, target) => found,
            Ok(_) => return Ok(None),
            // The operator is not there.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(id) = devworkspace.data["status"]["devworkspaceId"].as_str() else {
            return Ok(None);
        };
        if !is_name(id) {
            return Ok(None);
        }
        let service = one(services, &format!("{id}-service")).await?;
        Ok(service.and_then(|it| Known::read_of_operator(&it, id, agent_id, target)))
    }
}

/// One object by name. A list, as that is a right which the agent has in namespaces of others too: the server names one.
async fn one<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let listed = api.list(&params.limit(1)).await?;
    let is_it = |object: &K| object.meta().name.as_deref() == Some(name);
    Ok(listed.items.into_iter().find(is_it))
}

fn keep(known: &mut HashMap<Key, Known>, service: &Service) {
    let key = key(service);
    match Known::read(service) {
        Some(small) if known.len() < MAX_KNOWN || known.contains_key(&key) => {
            known.insert(key, small);
        }
        // Beyond the limit the API server is asked each time.
        Some(_) => {}
        None => drop(known.remove(&key)),
    }
}

fn key(service: &Service) -> Key {
    let metadata = &service.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Whether it can stand in a path of the API: a DNS label.
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
}

fn unavailable(why: &str) -> CallError {
    CallError::new(Code::Unavailable, format!("unavailable: {why}"))
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NoSuchWorkspace(_) => Code::NotFound,
            Refused::NotDeclared(_) | Refused::Elsewhere(_) => Code::PermissionDenied,
        };
        Self::new(code, refused.to_string())
    }
}
