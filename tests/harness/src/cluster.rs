//! The test cluster: start, use, disturb, end.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::Tools;

/// Host side of the cluster's uplink: where a Pod finds the agent port and the Git server.
pub const HOST_ADDRESS: &str = "10.89.0.1";
/// Cluster side of the uplink; nothing listens for the host there.
pub const CLUSTER_ADDRESS: &str = "10.89.0.2";
/// The first way out of the cluster: the server's port for agents.
pub const AGENT_PORT: u16 = 8150;
/// The second way out: the Git server.
pub const GIT_PORT: u16 = 8180;

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    tools: Tools,
    state: PathBuf,
}

impl Cluster {
    /// Starts a cluster, or takes the running one if it is made of the same inputs.
    ///
    /// # Errors
    /// When there is no root, another cluster runs, or something does not become ready.
    pub fn up(options: &Options) -> anyhow::Result<Self> {
        let _ = options;
        anyhow::bail!("not yet")
    }

    /// The running cluster, if there is one.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn attach() -> anyhow::Result<Option<Self>> {
        anyhow::bail!("not yet")
    }

    /// Ends the cluster and removes everything it left.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn down(&self) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }

    /// Says in a few lines what runs.
    ///
    /// # Errors
    /// When the cluster's state cannot be read.
    pub fn status() -> anyhow::Result<String> {
        anyhow::bail!("not yet")
    }

    /// The tools this cluster was started with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The cluster's own kubectl as its administrator, inside the cluster's network.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        self.run(arguments)
    }

    /// Helm as the cluster's administrator.
    pub fn helm(&self, arguments: &[&str]) -> Command {
        self.run(arguments)
    }

    /// Any command inside the cluster's namespaces, with the administrator's KUBECONFIG.
    pub fn run(&self, command: &[&str]) -> Command {
        let _ = command;
        Command::new("false")
    }

    /// Applies manifests (server-side) as the administrator.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub fn apply(&self, manifests: &Path) -> anyhow::Result<()> {
        let _ = manifests;
        anyhow::bail!("not yet")
    }

    /// Kills a program of the cluster (`kube-apiserver`, `etcd`, `kubelet`, …) and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_program(&self, name: &str) -> anyhow::Result<()> {
        let _ = name;
        anyhow::bail!("not yet")
    }

    /// Starts a stopped program again, as it was started first.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start_program(&self, name: &str) -> anyhow::Result<()> {
        let _ = name;
        anyhow::bail!("not yet")
    }

    /// `kill -9` of a container's first process; the kubelet starts it again.
    ///
    /// # Errors
    /// When there is no such running container.
    pub fn kill_in_pod(&self, namespace: &str, pod: &str, container: &str) -> anyhow::Result<()> {
        let _ = (namespace, pod, container);
        anyhow::bail!("not yet")
    }

    /// The log of one of the cluster's programs; `audit` is the API server's audit log.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    /// Waits until the API server and the node are ready, and DNS and storage run.
    ///
    /// # Errors
    /// When that takes too long, with what was not ready.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }
}
