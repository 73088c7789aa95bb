//! Module `remote_development`: brings workspaces to what the server wants, and tells the server what they are.
//!
//! ```text
//!  lease ──▶ lead ─┬─ watches ──┐
//!                  ├─ link ─────┼─▶ driver (owns the Reconciler) ──▶ apply (one task per workspace)
//!                  └────────────┘
//! ```
//! Everything is decided by [`agent_core::reconcile::Reconciler`]. `driver` tells it what happens and does what it says;
//! `apply` alone writes to the Kubernetes API (beside the lease, and the agent's rights in its namespaces, `grants`). `link` speaks with the server in one of two languages:
//! `typed`, ours, or where the server does not know it, `gitlab`, GitLab's JSON. Only one Pod of an agent leads; the others
//! wait for the lease.

mod api;
mod apply;
mod assemble;
mod config_maps;
mod driver;
mod gitlab;
mod grants;
mod lease;
mod link;
mod operator;
mod pull_secrets;
mod typed;
mod watches;

use std::time::Duration;

use futures::future::BoxFuture;

use crate::config::{Config, Workspaces};
use crate::kubernetes;
use crate::module::{Context, Module};
use api::Api;
use lease::Lease;

/// Between two terms of one Pod: whatever ended the first, the next does not follow in a tight loop.
const PAUSE: Duration = Duration::from_secs(1);

/// The module.
pub struct RemoteDevelopment {
    client: kube::Client,
    pod_namespace: String,
    pod_name: String,
    workspaces: Workspaces,
}

impl std::fmt::Debug for RemoteDevelopment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteDevelopment").finish_non_exhaustive()
    }
}

impl RemoteDevelopment {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// If the cluster's address or credentials cannot be read.
    pub async fn try_new(config: &Config) -> anyhow::Result<Self> {
        let mut kube_config = kubernetes::kube_config(&config.cluster).await?;
        // Each call has its own deadline and each workspace its own delay.
        kube_config.default_retry = false;
        // The API server's audit log says who wrote.
        let user_agent = http::HeaderValue::try_from(crate::user_agent())?;
        kube_config
            .headers
            .push((http::header::USER_AGENT, user_agent));
        Ok(Self {
            client: kube::Client::try_from(kube_config)?,
            pod_namespace: config.pod.namespace.clone(),
            pod_name: config.pod.name.clone(),
            workspaces: config.workspaces.clone(),
        })
    }
}

impl Module for RemoteDevelopment {
    fn name(&self) -> &'static str {
        "remote_development"
    }

    fn run(&self, context: Context) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let mut section = context.section(|configuration| configuration.agent_id);
            let mut agent_id = section.next().await;
            while let Some(id) = agent_id {
                let lease = Lease::new(
                    Api::new(self.client.clone()),
                    &self.pod_namespace,
                    &format!("agent-{id}-lock"),
                    &self.pod_name,
                );
                agent_id = tokio::select! {
                    biased;
                    next = section.next() => next,
                    () = lead_again_and_again(&lease, self, id, &context) => None,
                };
                // Whoever takes over need not wait for the lease to run out.
                lease.release().await;
            }
            Ok(())
        })
    }
}

/// Leads whenever the lease is held. Dropping it ends everything that leading started.
async fn lead_again_and_again(
    lease: &Lease,
    module: &RemoteDevelopment,
    agent_id: i64,
    context: &Context,
) {
    let RemoteDevelopment {
        client, workspaces, ..
    } = module;
    loop {
        let term = lease.acquire().await;
        tracing::info!(agent_id, term, "leads: reconciles workspaces");
        context.metrics.set_leads(true);
        let not_leading = NotLeading(context);
        tokio::select! {
            biased;
            () = lease.hold() => tracing::warn!("the lease is lost: another Pod may lead now"),
            () = driver::run(client, workspaces, agent_id, term, context) => {}
        }
        drop(not_leading);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Shows, when dropped, that this Pod no longer leads.
struct NotLeading<'a>(&'a Context);

impl Drop for NotLeading<'_> {
    fn drop(&mut self) {
        self.0.metrics.set_leads(false);
    }
}
