//! Tells the server that this Pod exists.

use std::sync::Arc;
use std::time::Duration;

use agent_core::reconnect::delay_class;
use proto::agent_registrar::rpc::{RegisterRequest, UnregisterRequest};
use proto::entity::AgentMeta;
use tokio::sync::{Notify, watch};

use super::Client;
use super::health::{Health, chain};
use crate::backoff::Delays;
use crate::config::Pod;
use crate::convert;
use crate::drain::Stop;
use crate::kubernetes::KubernetesVersion;

/// GitLab's server forgets a Pod that was silent for longer.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Both calls are small.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A stopping agent does not wait long for a server that may be away.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
const CALL: &str = "register";

/// Who this Pod is. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Presence {
    pod: Pod,
    /// Random, so that a Pod that was replaced under the same name is another.
    pod_id: i64,
    kubernetes: watch::Receiver<Option<KubernetesVersion>>,
}

impl Presence {
    pub(crate) fn new(pod: Pod, kubernetes: watch::Receiver<Option<KubernetesVersion>>) -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        // The standard library seeds this from the system's randomness, once for each process; the counter in it makes
        // two agents of one process differ.
        let random = std::hash::RandomState::new().build_hasher().finish();
        Self {
            pod,
            pod_id: i64::try_from(random >> 1).unwrap_or(i64::MAX),
            kubernetes,
        }
    }

    pub(crate) fn agent_meta(&self) -> AgentMeta {
        convert::configuration::agent_meta(&self.pod, self.kubernetes.borrow().as_ref())
    }
}

/// Registers whenever the server was reached anew (it may have forgotten), when the cluster's version becomes known, and
/// every five minutes; unregisters when the agent drains.
pub(crate) async fn keep_registered(
    client: Client,
    presence: Presence,
    health: Arc<Health>,
    reachable: Arc<Notify>,
    stop: Stop,
) {
    let registering = register_again_and_again(&client, &presence, &health, &reachable);
    stop.until_draining(registering).await;
    let request = UnregisterRequest {
        agent_meta: Some(presence.agent_meta()),
        pod_id: presence.pod_id,
    };
    let unregistered = tokio::time::timeout(UNREGISTER_TIMEOUT, client.unregister(request)).await;
    if let Ok(Err(status)) = unregistered {
        // The server finds out by itself, and an older one does not have this method.
        tracing::debug!(error = chain(&status), "not unregistered");
    }
}

async fn register_again_and_again(
    client: &Client,
    presence: &Presence,
    health: &Health,
    reachable: &Notify,
) {
    let mut delays = Delays::default();
    let mut kubernetes = presence.kubernetes.clone();
    // Before the first answer there is nobody to tell.
    reachable.notified().await;
    loop {
        kubernetes.mark_unchanged();
        let request = RegisterRequest {
            agent_meta: Some(presence.agent_meta()),
            pod_id: presence.pod_id,
        };
        let result = tokio::time::timeout(CALL_TIMEOUT, client.register(request))
            .await
            .unwrap_or_else(|_| Err(tonic::Status::unavailable("no answer to Register")));
        let wait = match result {
            Ok(()) => {
                health.works(CALL);
                delays.reset();
                INTERVAL
            }
            Err(status) => delays.next_delay(delay_class(health.failed(CALL, &status))),
        };
        tokio::select! {
            () = reachable.notified() => {}
            Ok(()) = kubernetes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
