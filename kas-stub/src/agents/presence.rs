//! Which Pods of which agent are connected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use model::version;
use proto::entity::AgentMeta;
use serde::Serialize;
use tokio::sync::watch;
use tonic::Status;

/// Pods of one agent that may be connected at a time.
const MAX_PODS: usize = 100;
/// Longest text kept of what an agent says about itself.
const MAX_TEXT: usize = 253;

/// A connected Pod of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Pod {
    pub(crate) pod_name: String,
    pub(crate) pod_namespace: String,
    pub(crate) version: String,
    pub(crate) kubernetes_version: String,
    pub(crate) connected_at: Timestamp,
    /// What does not fit together: the agent's version and ours, or its and the cluster's.
    pub(crate) warnings: Vec<String>,
}

/// A Pod counts as connected while it has a configuration stream open, which every agent keeps. Registration repeats
/// only every five minutes, too coarse for that; it brings the cluster's version.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    agents: Mutex<HashMap<u64, BTreeMap<PodKey, Connected>>>,
    changes: watch::Sender<u64>,
}

/// Namespace and name.
type PodKey = (String, String);

#[derive(Debug)]
struct Connected {
    pod: Pod,
    streams: usize,
}

/// Keeps a Pod connected until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    presence: Arc<Presence>,
    agent_id: u64,
    key: PodKey,
}

impl Presence {
    pub(crate) fn pods(&self, agent_id: u64) -> Vec<Pod> {
        let agents = self.agents();
        let pods = agents.get(&agent_id).into_iter().flat_map(BTreeMap::values);
        pods.map(|connected| connected.pod.clone()).collect()
    }

    /// Agents with a connected Pod, and those Pods.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let agents = self.agents();
        (agents.len(), agents.values().map(BTreeMap::len).sum())
    }

    /// Changes whenever a Pod comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn connect(
        self: &Arc<Self>,
        agent_id: u64,
        meta: Option<AgentMeta>,
    ) -> Result<Connection, Status> {
        let meta = meta.unwrap_or_default();
        let key = key(&meta);
        let mut agents = self.agents();
        let pods = agents.entry(agent_id).or_default();
        if pods.len() >= MAX_PODS && !pods.contains_key(&key) {
            return Err(Status::resource_exhausted("too many Pods of this agent"));
        }
        let connected = pods.entry(key.clone()).or_insert_with(|| Connected {
            pod: pod(&meta),
            streams: 0,
        });
        connected.streams += 1;
        connected.update(&meta);
        self.changes.send_modify(|count| *count += 1);
        Ok(Connection {
            presence: Arc::clone(self),
            agent_id,
            key,
        })
    }

    /// Takes what a registration says about a Pod that is connected.
    pub(super) fn register(&self, agent_id: u64, meta: Option<AgentMeta>) {
        let meta = meta.unwrap_or_default();
        if let Some(connected) = self
            .agents()
            .get_mut(&agent_id)
            .and_then(|pods| pods.get_mut(&key(&meta)))
        {
            connected.update(&meta);
        }
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<u64, BTreeMap<PodKey, Connected>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// What does not fit together.
    pub(super) fn warnings(&self) -> Vec<String> {
        let agents = self.presence.agents();
        let pod = agents.get(&self.agent_id).and_then(|it| it.get(&self.key));
        pod.map_or_else(Vec::new, |connected| connected.pod.warnings.clone())
    }

    pub(super) fn pod_name(&self) -> &str {
        &self.key.1
    }
}

impl Connected {
    fn update(&mut self, meta: &AgentMeta) {
        let Pod {
            pod_name,
            pod_namespace,
            version,
            kubernetes_version,
            connected_at,
            warnings: _,
        } = pod(meta);
        let known = std::mem::take(&mut self.pod.kubernetes_version);
        self.pod = Pod {
            pod_name,
            pod_namespace,
            version,
            kubernetes_version: if kubernetes_version.is_empty() {
                known
            } else {
                kubernetes_version
            },
            connected_at: connected_at.min(self.pod.connected_at),
            warnings: Vec::new(),
        };
        self.pod.warnings = warnings(&self.pod);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut agents = self.presence.agents();
        let Some(pods) = agents.get_mut(&self.agent_id) else {
            return;
        };
        if let Some(connected) = pods.get_mut(&self.key) {
            connected.streams -= 1;
            if connected.streams == 0 {
                pods.remove(&self.key);
            }
        }
        if pods.is_empty() {
            agents.remove(&self.agent_id);
        }
        drop(agents);
        self.presence.changes.send_modify(|count| *count += 1);
    }
}

fn key(meta: &AgentMeta) -> PodKey {
    (text(&meta.pod_namespace), text(&meta.pod_name))
}

fn pod(meta: &AgentMeta) -> Pod {
    let kubernetes = meta.kubernetes_version.as_ref();
    Pod {
        pod_name: text(&meta.pod_name),
        pod_namespace: text(&meta.pod_namespace),
        version: text(&meta.version),
        kubernetes_version: kubernetes
            .map_or_else(String::new, |version| text(&version.git_version)),
        connected_at: Timestamp::now(),
        warnings: Vec::new(),
    }
}

fn warnings(pod: &Pod) -> Vec<String> {
    let skew = version::skew(&pod.version, env!("CARGO_PKG_VERSION"));
    let cluster = version::kubernetes(&pod.kubernetes_version);
    skew.into_iter().chain(cluster).collect()
}

fn text(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use proto::entity::KubernetesVersion;

    use super::*;

    fn meta(name: &str, kubernetes: Option<&str>) -> Option<AgentMeta> {
        Some(AgentMeta {
            pod_name: name.into(),
            pod_namespace: "ns".into(),
            kubernetes_version: kubernetes.map(|version| KubernetesVersion {
                git_version: version.into(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    #[test]
    fn a_pod_is_connected_while_a_stream_is_open() {
        let presence = Arc::new(Presence::default());
        let first = presence.connect(1, meta("a", None)).unwrap();
        let second = presence.connect(1, meta("a", None)).unwrap();
        presence.register(1, meta("a", Some("v1.33.0")));
        presence.register(1, meta("stranger", None));
        drop(first);
        let pods = presence.pods(1);
        assert_eq!(
            (pods.len(), pods[0].kubernetes_version.as_str()),
            (1, "v1.33.0")
        );
        assert_eq!(presence.counts(), (1, 1));
        drop(second);
        assert_eq!(presence.pods(1), []);
        assert_eq!(presence.counts(), (0, 0));
    }

    #[test]
    fn what_does_not_fit_together_is_shown_with_the_pod() {
        let presence = Arc::new(Presence::default());
        let mut old = meta("a", None).unwrap();
        old.version = "v0.9.0".into();
        let connection = presence.connect(1, Some(old.clone())).unwrap();
        assert!(connection.warnings()[0].contains("upgrade the server"));
        old.kubernetes_version = meta("a", Some("v1.20.0")).unwrap().kubernetes_version;
        presence.register(1, Some(old));
        let warnings = &presence.pods(1)[0].warnings;
        assert!(warnings.len() == 2 && warnings[1].contains("Kubernetes 1.20"));
        let fits = meta("b", Some("v1.33.0")).map(|meta| AgentMeta {
            version: env!("CARGO_PKG_VERSION").into(),
            ..meta
        });
        let fits = presence.connect(1, fits).unwrap();
        assert!(fits.warnings().is_empty());
    }

    #[test]
    fn pods_of_an_agent_are_bounded() {
        let presence = Arc::new(Presence::default());
        let mut open: Vec<_> = (0..MAX_PODS)
            .map(|i| presence.connect(1, meta(&i.to_string(), None)).unwrap())
            .collect();
        assert!(presence.connect(1, meta("more", None)).is_err());
        open.pop();
        presence.connect(1, meta("more", None)).unwrap();
    }
}
