//! What the server counts. Labels come from closed sets; no names of agents or people.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::tunnel::TunnelCounts;

/// From a fast answer to the longest wait for a tunnel.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 20.0,
];

/// How a request to the Kubernetes proxy ended, as far as its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Answered,
    Upgraded,
    Unauthenticated,
    Forbidden,
    BadRequest,
    NoTunnel,
    AgentFailed,
    /// The caller went away before there was an answer.
    Abandoned,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Upgraded => "upgraded",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::BadRequest => "bad_request",
            Self::NoTunnel => "no_tunnel",
            Self::AgentFailed => "agent_failed",
            Self::Abandoned => "abandoned",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

/// What is counted elsewhere and shown here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) agents: usize,
    pub(crate) pods: usize,
    pub(crate) tunnels: TunnelCounts,
    pub(crate) configurations_failing: usize,
}

pub(crate) struct Metrics {
    registry: Registry,
    agents: Gauge,
    pods: Gauge,
    tunnels: Family<StateLabel, Gauge>,
    waiting: Gauge,
    configurations_failing: Gauge,
    refused: Family<CodeLabel, Counter>,
    proxied: Family<OutcomeLabel, Counter>,
    find_tunnel: Histogram,
    head: Histogram,
    connections: Family<ListenerLabel, Gauge>,
    connections_refused: Family<ListenerLabel, Counter>,
    retried: Counter<u64, AtomicU64>,
    opened: Family<OutcomeLabel, Counter>,
    certificate_expires: Gauge,
    certificate_bad: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("kas_stub");
        let metrics = Self {
            agents: Gauge::default(),
            pods: Gauge::default(),
            tunnels: Family::default(),
            waiting: Gauge::default(),
            configurations_failing: Gauge::default(),
            refused: Family::default(),
            proxied: Family::default(),
            find_tunnel: Histogram::new(SECONDS),
            head: Histogram::new(SECONDS),
            connections: Family::default(),
            connections_refused: Family::default(),
            retried: Counter::default(),
            opened: Family::default(),
            certificate_expires: Gauge::default(),
            certificate_bad: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "connected_agents",
            "Agents with a connected Pod",
            metrics.agents.clone(),
        );
        registry.register(
            "connected_agent_pods",
            "Connected Pods of all agents",
            metrics.pods.clone(),
        );
        registry.register("tunnels", "Tunnels by state", metrics.tunnels.clone());
        registry.register(
            "tunnel_waiting_requests",
            "Requests that wait for a tunnel",
            metrics.waiting.clone(),
        );
        registry.register(
            "agent_configurations_failing",
            "Agents whose newest configuration is not in force",
            metrics.configurations_failing.clone(),
        );
        registry.register(
            "agent_calls_refused",
            "Calls of agents refused, by gRPC code",
            metrics.refused.clone(),
        );
        registry.register(
            "proxied_requests",
            "Requests to the Kubernetes proxy by outcome",
            metrics.proxied.clone(),
        );
        registry.register(
            "find_tunnel_seconds",
            "Time to find a tunnel",
            metrics.find_tunnel.clone(),
        );
        registry.register(
            "proxied_request_head_seconds",
            "Time to the head of the answer",
            metrics.head.clone(),
        );
        registry.register(
            "connections",
            "Open connections by listener",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed because too many were open, by listener",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "proxied_request_retries",
            "Requests sent again through another tunnel",
            metrics.retried.clone(),
        );
        registry.register(
            "workspace_requests",
            "Requests to hosts of workspaces by outcome",
            metrics.opened.clone(),
        );
        registry.register(
            "certificate_expires_timestamp_seconds",
            "When the server's certificate ends, in seconds since 1970",
            metrics.certificate_expires.clone(),
        );
        registry.register(
            "certificate_files_bad",
            "1 while the files of the certificate hold what cannot be used, so that the one before is served on",
            metrics.certificate_bad.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    pub(crate) fn agent_refused(&self, code: tonic::Code) {
        let code = match code {
            tonic::Code::Unauthenticated => "unauthenticated",
            tonic::Code::PermissionDenied => "permission_denied",
            _ => "other",
        };
        self.refused.get_or_create(&CodeLabel { code }).inc();
    }

    pub(crate) fn proxied(&self, outcome: Outcome) {
        let outcome = outcome.label();
        self.proxied.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a request to a workspace; the outcome is from a closed set.
    pub(crate) fn opened(&self, outcome: &'static str) {
        self.opened.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn found_tunnel(&self, after: Duration) {
        self.find_tunnel.observe(after.as_secs_f64());
    }

    pub(crate) fn got_head(&self, after: Duration) {
        self.head.observe(after.as_secs_f64());
    }

    pub(crate) fn retried(&self) {
        self.retried.inc();
    }

    /// Open connections of a listener.
    pub(crate) fn connections(&self, listener: &'static str) -> Gauge {
        self.connections
            .get_or_create_owned(&ListenerLabel { listener })
    }

    pub(crate) fn connection_refused(&self, listener: &'static str) {
        self.connections_refused
            .get_or_create(&ListenerLabel { listener })
            .inc();
    }

    pub(crate) fn certificate_expires(&self, at: i64) {
        self.certificate_expires.set(at);
    }

    pub(crate) fn certificate_bad(&self, is: bool) {
        self.certificate_bad.set(i64::from(is));
    }

    /// All of it, in the OpenMetrics text format.
    pub(crate) fn text(&self, snapshot: Snapshot) -> String {
        let Snapshot {
            agents,
            pods,
            tunnels:
                TunnelCounts {
                    idle,
                    active,
                    waiting,
                },
            configurations_failing,
        } = snapshot;
        self.agents.set(agents as i64);
        self.pods.set(pods as i64);
        self.waiting.set(waiting as i64);
        self.configurations_failing
            .set(configurations_failing as i64);
        for (state, count) in [("idle", idle), ("active", active)] {
            self.tunnels
                .get_or_create(&StateLabel { state })
                .set(count as i64);
        }
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
