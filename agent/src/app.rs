//! Puts the agent together, starts it, and stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::reconnect::DelayClass;
use anyhow::Context as _;
use futures::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::backoff::Delays;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::drain::Stop;
use crate::kas::health::{Health, chain};
use crate::kas::{Connector, Credentials, Follow, Presence, follow_configuration, keep_registered};
use crate::kubernetes::{self, ApiServer, KubernetesVersion};
use crate::metrics::Metrics;
use crate::module::{Context, Control, Module};
use crate::readiness::Readiness;
use crate::tunnel::services::Services;
use crate::tunnel::{self, Tunnel};
use crate::{admin, drain};

/// How often the cluster's version is asked for again: it changes with an upgrade of the cluster.
const VERSION_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Tasks that were told to end now need no longer.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A running agent. Dropping it ends it at once.
#[derive(Debug)]
pub struct Agent {
    /// Where liveness, readiness and metrics are served.
    pub observability: SocketAddr,
    stop: Stop,
    readiness: Readiness,
    /// Lives on while the others drain.
    admin: TaskTracker,
    drain_timeout: Duration,
}

impl Agent {
    /// Stops softly: calls that are under way may finish, until the time of `--drain-timeout-seconds` is over.
    pub async fn stop(self) {
        self.readiness.set_draining();
        self.stop.drain();
        self.stop.tasks.close();
        let drained = tokio::time::timeout(self.drain_timeout, self.stop.tasks.wait()).await;
        if drained.is_err() {
            tracing::warn!("calls were still under way at the end of the drain timeout; ended");
        }
        self.stop.abort();
        self.admin.close();
        let ended = async {
            self.stop.tasks.wait().await;
            self.admin.wait().await;
        };
        if tokio::time::timeout(ABORT_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some tasks did not end");
        }
    }

    /// Ends everything at once, as if the process were killed.
    pub fn abort(&self) {
        self.stop.abort();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

/// Starts an agent. It then lives by itself: a server or cluster that is away is waited for.
///
/// # Errors
///
/// If its token, certificates or cluster credentials cannot be read, or its observability address is taken.
pub async fn start(config: Config, modules: Vec<Box<dyn Module>>) -> anyhow::Result<Agent> {
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let stop = Stop::default();
    let health = Arc::new(Health::new(metrics.clone()));
    let cluster = kubernetes::cluster_id(&config.cluster).await?;
    // In a WebSocket they go with its handshake: what is inside, no proxy reads.
    let call_headers = if config.kas_address.is_websocket() {
        &[][..]
    } else {
        &config.kas_headers[..]
    };
    let credentials = Credentials::try_new(config.token.clone(), call_headers, cluster)
        .context("the agent's token")?;
    let connector = Connector::try_new(&config, Arc::new(credentials))
        .context("the connection to the server")?;
    let services = Arc::new(Services::try_new(&modules)?);
    let api_server = ApiServer::try_new(&config.cluster).await?;

    let admin_stop = stop.beside();
    let observability = admin::start(
        config.observability_address,
        readiness.clone(),
        metrics.clone(),
        &admin_stop,
    )
    .await
    .with_context(|| format!("the observability address {}", config.observability_address))?;

    let (configuration, configuration_watch) = watch::channel(None::<Arc<Configuration>>);
    let (version, version_watch) = watch::channel(None);
    let presence = Presence::new(config.pod.clone(), version_watch);
    let control = connector.connect();
    let reachable_tunnel = Arc::new(Notify::new());
    let reachable_registration = Arc::new(Notify::new());

    let module_control = Arc::new(Control {
        client: control.clone(),
        presence: presence.clone(),
        health: Arc::clone(&health),
    });

    let tasks = &stop.tasks;
    tasks.spawn(ask_version(api_server, version, stop.clone()));
    tasks.spawn(keep_registered(
        control.clone(),
        presence.clone(),
        Arc::clone(&health),
        Arc::clone(&reachable_registration),
        stop.clone(),
    ));
    tasks.spawn(follow_configuration(Follow {
        client: control,
        presence,
        configuration,
        health: Arc::clone(&health),
        keepalive: config.keepalive,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        reachable: vec![Arc::clone(&reachable_tunnel), reachable_registration],
        stop: stop.clone(),
    }));
    tasks.spawn(tunnel::run(Tunnel {
        connector,
        services,
        health,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        reachable: reachable_tunnel,
        max: config.max_tunnels,
        stop: stop.clone(),
    }));
    for module in modules {
        let context = Context {
            configuration: configuration_watch.clone(),
            control: Arc::clone(&module_control),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(run_module(module, context));
    }
    Ok(Agent {
        observability,
        stop,
        readiness,
        admin: admin_stop.tasks,
        drain_timeout: config.drain_timeout,
    })
}

/// Runs a module's task, again and again if it fails.
async fn run_module(module: Box<dyn Module>, context: Context) {
    let name = module.name();
    let stop = context.stop.clone();
    let mut delays = Delays::default();
    let running = async {
        loop {
            let run = std::panic::AssertUnwindSafe(async { module.run(context.clone()).await });
            match run.catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(
                        module = name,
                        error = chain(error.as_ref()),
                        "module failed"
                    );
                }
                Err(_) => tracing::error!(module = name, "module panicked"),
            }
            let delay = delays.next_delay(DelayClass::Refused);
            if stop
                .until_draining(tokio::time::sleep(delay))
                .await
                .is_none()
            {
                return;
            }
        }
    };
    context.stop.until_aborted(running).await;
}

/// Asks for the cluster's version until it is known, and seldom later.
async fn ask_version(
    api_server: ApiServer,
    version: watch::Sender<Option<KubernetesVersion>>,
    stop: drain::Stop,
) {
    let mut delays = Delays::default();
    let asking = async {
        loop {
            let wait = match api_server.version().await {
                Ok(known) => {
                    delays.reset();
                    if let Some(warning) = model::version::kubernetes(&known.git_version) {
                        tracing::error!(warning, "this cluster is too old for the agent");
                    }
                    version.send_if_modified(|present| {
                        let known = Some(known);
                        let changed = *present != known;
                        *present = known;
                        changed
                    });
                    VERSION_INTERVAL
                }
                Err(error) => {
                    tracing::debug!(error = chain(error.as_ref()), "cluster version not known");
                    delays.next_delay(DelayClass::Outage)
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    stop.until_draining(asking).await;
}
