//! What the agent counts. Labels come from closed sets, except the commit, of which only the present one is shown.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::configuration::LogLevel;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: from an agent with a few workspaces to one with as many as there may be.
const FULL_POLL_BUCKETS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// All metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    registry: Registry,
    configuration: Family<CommitLabel, Gauge>,
    log_level: Family<LevelLabel, Gauge>,
    tunnel_idle: Gauge,
    tunnel_active: Gauge,
    tunnel_calls: Family<CallLabels, Counter>,
    kas_connected: Gauge,
    leads: Gauge,
    workspaces: Gauge,
    attempts: Family<AttemptLabel, Counter>,
    full_polls: Histogram,
    kas_failures: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabel {
    commit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    service: &'static str,
    outcome: CallOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabel {
    outcome: &'static str,
}

/// How a call through the tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the label's values")]
pub enum CallOutcome {
    /// The handler answered to the end.
    succeeded,
    /// The handler answered with an error.
    failed,
    /// The server, or its caller, went away.
    cancelled,
    /// The handler panicked: a defect of the agent.
    panicked,
    /// Nothing serves this method.
    unknown_method,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("agent");
        let configuration = Family::default();
        registry.register(
            "configuration_info",
            "The configuration in force, by the commit it was read from",
            configuration.clone(),
        );
        let log_level = Family::default();
        registry.register(
            "log_level_info",
            "The agent's log level in force",
            log_level.clone(),
        );
        let tunnels: Family<StateLabel, Gauge> = Family::default();
        registry.register(
            "tunnel_connections",
            "Tunnel connections that have reached the server, by state",
            tunnels.clone(),
        );
        let tunnel_calls = Family::default();
        registry.register(
            "tunnel_calls",
            "Calls that came through the tunnel, by service and how they ended",
            tunnel_calls.clone(),
        );
        let kas_connected = Gauge::default();
        registry.register(
            "kas_connected",
            "1 while the server answers on the configuration stream",
            kas_connected.clone(),
        );
        let kas_failures = Family::default();
        registry.register(
            "kas_failures",
            "Calls to the server that failed, by call",
            kas_failures.clone(),
        );
        let leads = Gauge::default();
        registry.register(
            "leads",
            "1 while this Pod leads and reconciles workspaces",
            leads.clone(),
        );
        let workspaces = Gauge::default();
        registry.register(
            "workspaces",
            "Workspaces that the leading Pod knows",
            workspaces.clone(),
        );
        let attempts = Family::default();
        registry.register(
            "workspace_attempts",
            "Attempts to bring a workspace to what is wanted, by how they ended",
            attempts.clone(),
        );
        let full_polls = Histogram::new(FULL_POLL_BUCKETS);
        registry.register(
            "full_poll_seconds",
            "Time of a look at all workspaces: judged, reported, and the server's answer taken in",
            full_polls.clone(),
        );
        Self(Arc::new(Parts {
            leads,
            workspaces,
            attempts,
            full_polls,
            tunnel_idle: tunnels.get_or_create_owned(&StateLabel { state: "idle" }),
            tunnel_active: tunnels.get_or_create_owned(&StateLabel { state: "active" }),
            registry,
            configuration,
            log_level,
            tunnel_calls,
            kas_connected,
            kas_failures,
        }))
    }
}

impl Metrics {
    /// Shows the configuration in force.
    pub fn set_configuration(&self, commit: &str) {
        self.0.configuration.clear();
        self.0
            .configuration
            .get_or_create(&CommitLabel {
                commit: commit.to_owned(),
            })
            .set(1);
    }

    /// Shows the log level in force.
    pub fn set_log_level(&self, level: LogLevel) {
        self.0.log_level.clear();
        let level = level.as_str();
        self.0.log_level.get_or_create(&LevelLabel { level }).set(1);
    }

    /// Shows how many tunnel connections there are.
    pub fn set_tunnels(&self, idle: usize, active: usize) {
        self.0
            .tunnel_idle
            .set(i64::try_from(idle).unwrap_or(i64::MAX));
        self.0
            .tunnel_active
            .set(i64::try_from(active).unwrap_or(i64::MAX));
    }

    /// Counts a call through the tunnel.
    pub fn count_call(&self, service: &'static str, outcome: CallOutcome) {
        self.0
            .tunnel_calls
            .get_or_create(&CallLabels { service, outcome })
            .inc();
    }

    /// Shows whether the server answers.
    pub fn set_connected(&self, connected: bool) {
        self.0.kas_connected.set(i64::from(connected));
    }

    /// Shows whether this Pod leads.
    pub fn set_leads(&self, leads: bool) {
        self.0.leads.set(i64::from(leads));
        if !leads {
            self.set_workspaces(0);
        }
    }

    /// Shows how many workspaces are known.
    pub fn set_workspaces(&self, count: usize) {
        self.0
            .workspaces
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an attempt at a workspace.
    pub fn count_attempt(&self, outcome: &'static str) {
        self.0
            .attempts
            .get_or_create(&AttemptLabel { outcome })
            .inc();
    }

    /// Notes a look at all workspaces and how long it took.
    pub fn observe_full_poll(&self, took: Duration) {
        self.0.full_polls.observe(took.as_secs_f64());
    }

    /// Counts a failed call to the server.
    pub fn count_failure(&self, call: &'static str) {
        self.0
            .kas_failures
            .get_or_create(&OutcomeLabel { call })
            .inc();
    }

    /// All metrics in the OpenMetrics text form.
    ///
    /// # Errors
    ///
    /// If a value cannot be written, which would be a defect.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_as_documented() {
        let metrics = Metrics::default();
        metrics.set_configuration("old");
        metrics.set_configuration("abc");
        metrics.set_log_level(LogLevel::Debug);
        metrics.set_tunnels(2, 1);
        metrics.count_call("service", CallOutcome::succeeded);
        let text = metrics.encode().unwrap();
        for line in [
            "agent_configuration_info{commit=\"abc\"} 1",
            "agent_log_level_info{level=\"debug\"} 1",
            "agent_tunnel_connections{state=\"idle\"} 2",
            "agent_tunnel_connections{state=\"active\"} 1",
            "agent_tunnel_calls_total{service=\"service\",outcome=\"succeeded\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("old"));
    }
}
