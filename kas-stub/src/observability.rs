//! `/liveness`, `/readiness` and `/metrics`, for machines.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Presence,
    configuration::Configurations,
    metrics::{Metrics, Snapshot},
    tunnel::Tunnels,
};

#[derive(Clone, Debug)]
pub(crate) struct Observability {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) configurations: Arc<Configurations>,
    pub(crate) stopping: CancellationToken,
}

impl Observability {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/liveness", get(|| async { "alive\n" }))
            .route("/readiness", get(readiness))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    fn snapshot(&self) -> Snapshot {
        let (agents, pods) = self.presence.counts();
        Snapshot {
            agents,
            pods,
            tunnels: self.tunnels.total(),
            configurations_failing: self.configurations.failing(),
        }
    }
}

/// Ready from the moment it listens until it stops.
async fn readiness(State(observability): State<Observability>) -> Response {
    if observability.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(observability): State<Observability>) -> Response {
    let text = observability.metrics.text(observability.snapshot());
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], text).into_response()
}
