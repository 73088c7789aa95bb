//! Which Pods of which agent are connected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
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
        };
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
    }
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
