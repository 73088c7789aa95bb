//! Module `observability`: puts the configured log levels in force.

use futures::future::BoxFuture;

use crate::module::{Context, Module};
use crate::telemetry::LogLevels;

/// The module.
#[derive(Debug)]
pub struct Observability {
    log_levels: LogLevels,
}

impl Observability {
    /// Makes it; `log_levels` changes the process's log.
    pub fn new(log_levels: LogLevels) -> Self {
        Self { log_levels }
    }
}

impl Module for Observability {
    fn name(&self) -> &'static str {
        "observability"
    }

    fn run(&self, context: Context) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let mut section =
                context.section(|configuration| configuration.observability.logging.clone());
            while let Some(logging) = section.next().await {
                self.log_levels.set(&logging);
                context.metrics.set_log_level(logging.level);
                // Not `level`: that is each line's own.
                tracing::debug!(
                    log_level = logging.level.as_str(),
                    grpc_level = logging.grpc_level.as_str(),
                    "log level in force"
                );
            }
            Ok(())
        })
    }
}
