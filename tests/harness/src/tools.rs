//! The programs that the cluster and its tests need, built from source or taken from Debian, and cached.

use std::path::PathBuf;
use std::process::Command;

/// Paths of the tools.
#[derive(Debug, Clone)]
pub struct Tools {
    /// All programs of Kubernetes in one.
    pub testcluster: PathBuf,
    /// Small helpers: certificates, images, registry, Git server.
    pub toolbox: PathBuf,
    /// The real Helm.
    pub helm: PathBuf,
    /// The cluster's own kubectl (WebSocket).
    pub kubectl: PathBuf,
    /// Debian's old kubectl (SPDY).
    pub kubectl_old: PathBuf,
}

impl Tools {
    /// Builds what is not in the cache yet.
    ///
    /// # Errors
    /// When a build or a download fails.
    pub fn ensure() -> anyhow::Result<Self> {
        anyhow::bail!("not yet")
    }

    /// The cluster's own kubectl, run on this host.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments);
        command
    }
}
