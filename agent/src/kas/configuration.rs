//! Follows the configuration stream: the control connection's main call, and the measure of whether the server is there.

use std::sync::Arc;
use std::time::Duration;

use agent_core::reconnect::{DelayClass, MIN_SPACING, Outcome, delay_class};
use model::version;
use proto::agent_configuration::rpc::ConfigurationRequest;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Status;

use super::health::{Health, chain};
use super::registration::Presence;
use super::{Client, Opened};
use crate::backoff::Delays;
use crate::config::{Keepalive, VERSION};
use crate::configuration::Configuration;
use crate::convert;
use crate::drain::Stop;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// While the token is refused, its file is looked at this often: a new one is taken up without waiting for the next try.
const TOKEN_CHECK: Duration = Duration::from_secs(2);
/// Beyond the time in which a frozen server is noticed.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);
const CALL: &str = "configuration";

/// What the loop needs.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) client: Client,
    pub(crate) presence: Presence,
    pub(crate) configuration: watch::Sender<Option<Arc<Configuration>>>,
    pub(crate) health: Arc<Health>,
    pub(crate) keepalive: Keepalive,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Whom to tell that the server answers: tunnel and registration.
    pub(crate) reachable: Vec<Arc<Notify>>,
    pub(crate) stop: Stop,
}

/// Follows the stream until the agent drains, opening it again whenever it ends.
pub(crate) async fn follow_configuration(follow: Follow) {
    let stop = follow.stop.clone();
    stop.until_draining(follow.run()).await;
}

impl Follow {
    async fn run(self) {
        let mut delays = Delays::default();
        loop {
            match self.client.credentials().reload() {
                Ok(true) => tracing::info!("the agent's token was replaced"),
                Ok(false) => {}
                // The present token may still be good.
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the token file cannot be read");
                }
            }
            let opened = Instant::now();
            let outcome = match self.stream_to_its_end().await {
                Ok(()) => Outcome::Ended,
                Err(status) => match self.health.failed(CALL, &status) {
                    // The method is as old as GitLab's agent. Whoever answers so is a proxy whose server is away.
                    Outcome::Unsupported => Outcome::Unavailable,
                    outcome => outcome,
                },
            };
            self.metrics.set_connected(false);
            let lived = opened.elapsed();
            match delay_class(outcome) {
                DelayClass::AtOnce if lived >= MIN_SPACING => {}
                class @ (DelayClass::Refused | DelayClass::OtherCluster) => {
                    self.wait_for_token(delays.after(class, lived)).await;
                }
                class @ (DelayClass::AtOnce | DelayClass::Outage | DelayClass::Unsupported) => {
                    tokio::time::sleep(delays.after(class, lived)).await;
                }
            }
        }
    }

    async fn stream_to_its_end(&self) -> Result<(), Status> {
        let commit_id = self
            .configuration
            .borrow()
            .as_ref()
            .map(|configuration| configuration.commit.clone())
            .unwrap_or_default();
        let request = ConfigurationRequest {
            commit_id,
            agent_meta: Some(self.presence.agent_meta()),
            skip_register: true,
        };
        let mut call = std::pin::pin!(self.client.get_configuration(request));
        let opened = tokio::select! {
            biased;
            opened = &mut call => {
                let opened = opened?;
                self.answered();
                opened
            }
            () = tokio::time::sleep(self.silent_answer()) => {
                self.answered();
                call.await?
            }
        };
        let Opened {
            server_version,
            date: _,
            mut responses,
        } = opened;
        let server = server_version.unwrap_or_default();
        if let Some(warning) = version::skew(VERSION, &server) {
            tracing::warn!(warning, server, "versions do not fit together");
        }
        while let Some(response) = responses.message().await? {
            match convert::configuration::from_response(response) {
                Some(configuration) => self.take(configuration),
                None => tracing::warn!("the server sent an incomplete configuration; ignored"),
            }
        }
        Ok(())
    }

    /// GitLab's server sends even its headers only with a changed configuration. A call that lived until now has survived a
    /// ping, which a frozen server does not answer; a shorter time would only show that its machine accepts connections.
    fn silent_answer(&self) -> Duration {
        self.keepalive.interval + self.keepalive.timeout + SILENCE_MARGIN
    }

    fn answered(&self) {
        self.health.all_work();
        self.metrics.set_connected(true);
        for reachable in &self.reachable {
            reachable.notify_one();
        }
    }

    fn take(&self, configuration: Configuration) {
        tracing::info!(
            commit = configuration.commit,
            agent_id = configuration.agent_id,
            project = configuration.project_path,
            "configuration received"
        );
        self.metrics.set_configuration(&configuration.commit);
        self.configuration
            .send_replace(Some(Arc::new(configuration)));
        self.readiness.set_configured();
    }

    async fn wait_for_token(&self, delay: Duration) {
        let until = Instant::now() + delay;
        while Instant::now() < until {
            let next = (Instant::now() + TOKEN_CHECK).min(until);
            tokio::time::sleep_until(next).await;
            if let Ok(true) = self.client.credentials().reload() {
                tracing::info!("the agent's token was replaced");
                return;
            }
        }
    }
}
