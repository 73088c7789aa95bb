//! The list of modules. A new one is a folder here and a line in [`all`].

pub mod kubernetes_api;
pub mod observability;
pub mod remote_development;
pub mod workspace_access;

use crate::config::Config;
use crate::module::Module;
use crate::telemetry::LogLevels;

/// Makes all modules of the agent.
///
/// # Errors
///
/// If the cluster's address or credentials cannot be read.
pub async fn all(config: &Config, log_levels: LogLevels) -> anyhow::Result<Vec<Box<dyn Module>>> {
    Ok(vec![
        Box::new(observability::Observability::new(log_levels)),
        Box::new(kubernetes_api::KubernetesApi::try_new(config).await?),
        Box::new(remote_development::RemoteDevelopment::try_new(config).await?),
        Box::new(workspace_access::WorkspaceAccess::try_new(config).await?),
    ])
}
