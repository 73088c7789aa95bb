//! The log, and its level, which the server's configuration changes while the agent runs.

use std::sync::Arc;

use model::configuration::{LogLevel, Logging};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::config::LogFormat;

/// The libraries that speak gRPC and HTTP: `grpc_level` is theirs.
const LIBRARIES: [&str; 7] = [
    "tonic",
    "h2",
    "hyper",
    "hyper_util",
    "tower",
    "rustls",
    "kube_client",
];

/// Changes the log level. Clones change the same log.
#[derive(Clone)]
pub struct LogLevels(Arc<dyn Fn(&Logging) + Send + Sync>);

impl std::fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogLevels")
    }
}

impl LogLevels {
    /// Calls `set` at each change: for agents that share a process and its log, and for tests.
    pub fn new(set: impl Fn(&Logging) + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    /// Puts levels in force.
    pub fn set(&self, logging: &Logging) {
        (self.0)(logging);
    }
}

/// Starts the process's log on stderr, at the default levels, and returns what changes them.
///
/// # Errors
///
/// If the process already has a log.
pub fn install(format: LogFormat) -> Result<LogLevels, tracing_subscriber::util::TryInitError> {
    let (filter, handle) = reload::Layer::<Targets, Registry>::new(targets(&Logging::default()));
    let layer = match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()?;
    Ok(LogLevels::new(move |logging| {
        if let Err(error) = handle.reload(targets(logging)) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }))
}

/// Which events are written.
fn targets(logging: &Logging) -> Targets {
    Targets::new()
        .with_default(level(logging.level))
        .with_targets(LIBRARIES.map(|library| (library, level(logging.grpc_level))))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    /// The one test of this process that installs a log.
    #[test]
    fn a_changed_level_is_in_force_at_once() {
        let levels = install(LogFormat::Json).unwrap();
        assert!(!tracing::enabled!(Level::DEBUG));
        levels.set(&Logging {
            level: LogLevel::Debug,
            grpc_level: LogLevel::Error,
        });
        assert!(tracing::enabled!(Level::DEBUG));
    }

    #[test]
    fn libraries_have_a_level_of_their_own() {
        let targets = targets(&Logging {
            level: LogLevel::Debug,
            grpc_level: LogLevel::Error,
        });
        assert!(targets.would_enable("agent::tunnel", &Level::DEBUG));
        assert!(!targets.would_enable("agent::tunnel", &Level::TRACE));
        assert!(!targets.would_enable("h2::codec", &Level::WARN));
        assert!(targets.would_enable("h2::codec", &Level::ERROR));
    }
}
