//! The test cluster: start, use, disturb, end.
//!
//! `tests/cluster/README.md` says how it is made. One runs at a time on a machine.

mod life;
mod state;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::tools::Tools;
use crate::wait::wait_until;
use crate::{root, step};
use state::Identity;

/// Host side of the cluster's uplink: where a Pod finds the agent port and the Git server.
pub const HOST_ADDRESS: &str = "10.89.0.1";
/// Cluster side of the uplink; nothing listens for the host there.
pub const CLUSTER_ADDRESS: &str = "10.89.0.2";
/// The first way out of the cluster: the server's port for agents.
pub const AGENT_PORT: u16 = 8150;
/// The second way out: the Git server.
pub const GIT_PORT: u16 = 8180;

/// Where the state is inside the cluster's mount namespace.
const INSIDE: &str = "/run/cluster";
/// The administrator's kubeconfig in there.
pub const ADMIN_KUBECONFIG: &str = "/run/cluster/pki/admin.kubeconfig";
/// How long one of the cluster's programs may take to die or to appear.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// What stays of a cluster that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Nothing at all.
    Nothing,
    /// Its state: logs, etcd's files, volumes. The next cluster removes them.
    State,
}

/// A running cluster. Dropping the value does not end it: [`Cluster::down`] does.
#[derive(Debug, Clone)]
pub struct Cluster {
    tools: Tools,
    state: PathBuf,
    identity: Identity,
}

impl Cluster {
    /// The tools this cluster was started with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The cluster's own kubectl as its administrator, inside the cluster's network.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let kubectl = self.tools.kubectl.to_string_lossy().into_owned();
        self.enter(&[], &[&[kubectl.as_str()], arguments].concat())
    }

    /// Helm as the cluster's administrator.
    pub fn helm(&self, arguments: &[&str]) -> Command {
        let helm = self.tools.helm.to_string_lossy().into_owned();
        // Helm keeps its own caches; they end with the cluster.
        let folders = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
            .map(|name| format!("{name}={INSIDE}/helm"));
        let mut command: Vec<&str> = vec!["env"];
        command.extend(folders.iter().map(String::as_str));
        command.push(&helm);
        command.extend(arguments);
        self.enter(&[], &command)
    }

    /// Any command inside all of the cluster's namespaces, with the administrator's KUBECONFIG.
    /// It is killed when the process that this returns is.
    pub fn run(&self, command: &[&str]) -> Command {
        // nsenter waits for a child in the PID namespace, which would survive it.
        self.enter(
            &["--pid"],
            &[&["setpriv", "--pdeathsig", "KILL"], command].concat(),
        )
    }

    /// A command in the cluster's network, with the administrator's KUBECONFIG, that keeps the process id of what is
    /// spawned: for programs that are measured.
    pub fn beside(&self, command: &[&str]) -> Command {
        self.enter(&[], command)
    }

    /// A command of this host (its files, its processes) in the cluster's network, for programs that measure what runs
    /// there beside them. [`Cluster::kubeconfig_path`] is the administrator's.
    pub fn in_network(&self, command: &[&str]) -> Command {
        let target = self.identity.init.id.to_string();
        let enter = ["--target", &target, "--net", "--"];
        root::command_unchecked("nsenter", &[&enter, command].concat())
    }

    /// The administrator's kubeconfig (JSON), as a path on this host.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.state.join("pki/admin.kubeconfig")
    }

    /// A command in the cluster's mount and network namespaces (and more), in this process's folder.
    ///
    /// Without the PID namespace the command takes the place of nsenter, so that killing it works as usual.
    fn enter(&self, more: &[&str], command: &[&str]) -> Command {
        let target = self.identity.init.id.to_string();
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let kubeconfig = format!("KUBECONFIG={ADMIN_KUBECONFIG}");
        let wd = format!("--wd={}", folder.display());
        let namespaces = [
            "--target", &target, "--mount", "--net", "--uts", "--ipc", &wd,
        ];
        root::command_unchecked(
            "nsenter",
            &[&namespaces, more, &["--", "env", &kubeconfig], command].concat(),
        )
    }

    /// Applies manifests (server-side) as the administrator.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub fn apply(&self, manifests: &Path) -> Result<()> {
        let path = manifests.to_str().context("a path that is not text")?;
        step::run(&mut self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]))
            .map(drop)
    }

    /// Kills a program of the cluster (`kube-apiserver`, `etcd`, `kubelet`, …) and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_program(&self, name: &str) -> Result<()> {
        let pid = self.program_pid(name)?;
        if !self.is_alive(&pid)? {
            bail!("{name} does not run");
        }
        step::run(&mut self.run(&["kill", "-KILL", &pid]))?;
        wait_until(&format!("{name} is gone"), PROGRAM_LIMIT, || {
            Ok(!self.is_alive(&pid)?)
        })
    }

    /// Starts a stopped program again, as it was started first. [`Cluster::wait_ready`] waits for its effect.
    ///
    /// # Errors
    /// When it runs already.
    pub fn start_program(&self, name: &str) -> Result<()> {
        if self.is_alive(&self.program_pid(name)?)? {
            bail!("{name} runs already");
        }
        let start = format!("{INSIDE}/start.sh");
        // The output goes nowhere: the program would keep a pipe open. And without PR_SET_PDEATHSIG,
        // as the program is to stay.
        let mut command = self.enter(&["--pid"], &["bash", &start, name]);
        let status = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()?;
        if !status.success() {
            bail!("cannot start {name}: {status}");
        }
        Ok(())
    }

    /// `kill -9` of a container's first process; the kubelet starts it again.
    ///
    /// # Errors
    /// When there is no such running container.
    pub fn kill_in_pod(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        let id = self.container_id(namespace, pod, container)?;
        let socket = format!("{INSIDE}/containerd.sock");
        step::run(&mut self.run(&[
            "ctr",
            "--address",
            &socket,
            "-n",
            "k8s.io",
            "tasks",
            "kill",
            "--signal",
            "SIGKILL",
            &id,
        ]))
        .map(drop)
    }

    /// The program that made a container, `runc` or `crun`, by the state that each keeps of it.
    ///
    /// # Errors
    /// When there is no such running container.
    pub fn runtime_of(&self, namespace: &str, pod: &str, container: &str) -> Result<&'static str> {
        let id = self.container_id(namespace, pod, container)?;
        let folder = format!("/run/containerd/runc/k8s.io/{id}");
        for (file, runtime) in [("state.json", "runc"), ("status", "crun")] {
            let test = ["test", "-e", &format!("{folder}/{file}")];
            if self.run(&test).status()?.success() {
                return Ok(runtime);
            }
        }
        bail!("{folder} is neither runc's nor crun's")
    }

    fn container_id(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let path = format!(
            "-ojsonpath={{.status.containerStatuses[?(@.name=='{container}')].containerID}}"
        );
        let id = step::run(&mut self.kubectl(&["get", "pod", "-n", namespace, pod, &path]))?;
        let id = id.trim().strip_prefix("containerd://");
        id.map(str::to_owned)
            .with_context(|| format!("{namespace}/{pod} has no container {container}"))
    }

    /// The log of one of the cluster's programs; `audit` is the API server's audit log.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    /// The process id inside the cluster's PID namespace.
    fn program_pid(&self, name: &str) -> Result<String> {
        let file = self.state.join(format!("{name}.pid"));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("the cluster has no program {name}"))?;
        Ok(text.trim().to_owned())
    }

    fn is_alive(&self, pid: &str) -> Result<bool> {
        Ok(self
            .run(&["test", "-e", &format!("/proc/{pid}/exe")])
            .status()?
            .success())
    }
}
