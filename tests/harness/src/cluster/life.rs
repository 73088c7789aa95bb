//! Begin and end of a cluster.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::state::{self, Identity};
use super::{Cluster, Leave, Options};
use crate::hash::Inputs;
use crate::images;
use crate::tools::Tools;
use crate::wait::{wait_for, wait_until};
use crate::{paths, process, root, step};

/// From nothing to namespaces.
const NAMESPACES_LIMIT: Duration = Duration::from_secs(20);
/// From namespaces to a ready API server; seconds on an idle machine.
const API_SERVER_LIMIT: Duration = Duration::from_secs(180);
/// Until the node, DNS and storage are ready.
const NODE_LIMIT: Duration = Duration::from_secs(180);
/// For everything to end.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The host's end of the uplink, as in `outside.sh`.
const UPLINK: &str = "rda-uplink";

impl Cluster {
    /// Starts a cluster, or takes the running one if it is made of the same inputs.
    ///
    /// If this process ends before, also by Ctrl-C, so does the cluster.
    ///
    /// # Errors
    /// When there is no root, another cluster runs, or something does not become ready.
    pub fn up(options: &Options) -> Result<Self> {
        let Options {} = options;
        root::acquire("for the cluster's namespaces, mounts and containers")?;
        let tools = Tools::ensure()?;
        images::ensure_base(&tools)?;
        let inputs = inputs(&tools)?;
        let state = state::folder();
        let _lock = lock()?;
        if let Some(cluster) = Self::attach()? {
            let same =
                fs::read_to_string(state.join("inputs")).is_ok_and(|running| running == inputs);
            ensure!(
                same,
                "a cluster of an older version of its sources runs: end it with `cargo xtask cluster down`"
            );
            step::step("use the cluster that runs", || cluster.wait_ready())?;
            return Ok(cluster);
        }
        check_uplink(&state)?;
        step::step("start the cluster", || {
            remove_leftovers(&state)?;
            lay_out(&state, &inputs)?;
            let mut starting = Starting::begin(&state, &tools)?;
            let identity = starting.identity(&state)?;
            let cluster = Self {
                tools,
                state: state.clone(),
                identity,
            };
            cluster
                .become_ready()
                .with_context(|| format!("the logs are in {}", state.join("logs").display()))?;
            starting.keep()?;
            Ok(cluster)
        })
    }

    /// The running cluster, if there is one.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn attach() -> Result<Option<Self>> {
        let state = state::folder();
        match state::read_identity(&state)? {
            Some(identity) if identity.init.is_alive() => {
                root::acquire("to enter the cluster")?;
                Ok(Some(Self {
                    tools: Tools::ensure()?,
                    state,
                    identity,
                }))
            }
            _ => Ok(None),
        }
    }

    /// Whether a cluster of this user runs.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn is_running() -> Result<bool> {
        Ok(
            state::read_identity(&state::folder())?
                .is_some_and(|identity| identity.init.is_alive()),
        )
    }

    /// Ends the cluster and removes everything it left.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn down(&self) -> Result<()> {
        Self::remove()
    }

    /// Ends the cluster, if one runs, and removes everything that one left; needs nothing built.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn remove() -> Result<()> {
        Self::end(Leave::Nothing)
    }

    /// As [`Cluster::remove`], with a choice of what stays to look at.
    ///
    /// # Errors
    /// When the cluster does not end.
    pub fn end(leave: Leave) -> Result<()> {
        let state = state::folder();
        if !state.exists() {
            return Ok(());
        }
        root::acquire("to end the cluster")?;
        let _lock = lock()?;
        step::step("end the cluster", || match leave {
            Leave::Nothing => remove_leftovers(&state),
            Leave::State => end_processes(&state),
        })
    }

    /// Says in a few lines what runs.
    ///
    /// # Errors
    /// When the cluster's state cannot be read.
    pub fn status() -> Result<String> {
        let Some(cluster) = Self::attach()? else {
            return Ok("no cluster runs".to_owned());
        };
        let nodes = step::run(&mut cluster.kubectl(&["get", "nodes", "-o", "wide"]))?;
        let pods = step::run(&mut cluster.kubectl(&["get", "pods", "--all-namespaces"]))?;
        Ok(format!(
            "{nodes}\n{pods}\nstate and logs: {}",
            cluster.state.display()
        ))
    }

    /// Asks `ready` again and again until it says yes, as [`wait_until`], but not longer than the cluster lives.
    ///
    /// # Errors
    /// When the limit passes or the cluster ends.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let alive = wait_for(what, limit, || {
            if !self.identity.init.is_alive() {
                return Ok(Some(false));
            }
            Ok(ready()?.then_some(true))
        })?;
        ensure!(alive, "the cluster ended before {what}");
        Ok(())
    }

    /// Waits until the API server and the node are ready, and DNS and storage run.
    ///
    /// # Errors
    /// When that takes too long, with what was not ready.
    pub fn wait_ready(&self) -> Result<()> {
        wait_until("the API server is ready", API_SERVER_LIMIT, || {
            self.succeeds(&["get", "--raw", "/readyz"])
        })?;
        let limit = format!("--timeout={}s", NODE_LIMIT.as_secs());
        for what in [
            &["wait", "--for=condition=Ready", "node/node-1", &limit][..],
            &[
                "-n",
                "kube-system",
                "rollout",
                "status",
                "deployment/coredns",
                &limit,
            ],
            &[
                "-n",
                "local-path-storage",
                "rollout",
                "status",
                "deployment/local-path-provisioner",
                &limit,
            ],
        ] {
            step::run(&mut self.kubectl(what))?;
        }
        Ok(())
    }

    /// From namespaces to everything.
    fn become_ready(&self) -> Result<()> {
        let begun = |what: &str, limit, arguments: &[&str]| {
            self.wait_until(what, limit, || self.succeeds(arguments))
        };
        begun(
            "the API server is ready",
            API_SERVER_LIMIT,
            &["get", "--raw", "/readyz"],
        )?;
        self.apply(&paths::cluster_sources().join("manifests"))?;
        begun("the node exists", NODE_LIMIT, &["get", "node/node-1"])?;
        begun(
            "the default service account exists",
            NODE_LIMIT,
            &["get", "serviceaccount/default"],
        )?;
        self.wait_ready()
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<bool> {
        let mut kubectl = self.kubectl(arguments);
        Ok(kubectl
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?
            .success())
    }
}

/// A cluster that ends when this value is dropped before [`Starting::keep`].
struct Starting {
    holder: Option<Child>,
}

impl Starting {
    fn begin(state: &Path, tools: &Tools) -> Result<Self> {
        let script = paths::cluster_sources().join("node/outside.sh");
        let environment = [
            format!("TESTCLUSTER={}", tools.testcluster.display()),
            format!("TOOLBOX={}", tools.toolbox.display()),
            format!("KUBE_ROUTER={}", tools.kube_router.display()),
            format!("IMAGES_BASE={}", images::base_folder(tools)?.display()),
            format!("IMAGES_PACKED={}", images::packed_folder().display()),
            format!("IMAGES_ON_DEMAND={}", images::on_demand_folder().display()),
        ];
        let mut arguments: Vec<&str> = environment.iter().map(String::as_str).collect();
        let (script, folder) = (script.to_string_lossy(), state.to_string_lossy());
        arguments.extend(["bash", &script, &folder]);
        let log = File::create(state.join("logs/outside.log"))?;
        let holder = root::command_unchecked("env", &arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Not in reach of Ctrl-C: it sees that its stdin closes, and cleans up.
            .process_group(0)
            .spawn()
            .context("cannot start outside.sh")?;
        Ok(Self {
            holder: Some(holder),
        })
    }

    fn identity(&mut self, state: &Path) -> Result<Identity> {
        let found = wait_for("the cluster's namespaces", NAMESPACES_LIMIT, || {
            if let Some(holder) = &mut self.holder
                && holder.try_wait()?.is_some()
            {
                return Ok(Some(None));
            }
            Ok(state::read_identity(state)?.map(Some))
        })?;
        found.with_context(|| {
            let log = fs::read_to_string(state.join("logs/outside.log")).unwrap_or_default();
            format!("the cluster's namespaces could not be made:\n{log}")
        })
    }

    /// Lets the cluster outlive this process.
    fn keep(mut self) -> Result<()> {
        if let Some(mut pipe) = self.holder.as_mut().and_then(|holder| holder.stdin.take()) {
            pipe.write_all(b"keep\n")?;
        }
        self.holder = None;
        Ok(())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

/// Keeps two processes from starting or ending the cluster at the same time; the other one waits.
fn lock() -> Result<File> {
    let folder = paths::state_dir();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = File::create(folder.join("cluster.lock"))?;
    file.lock().context("cannot lock the cluster's state")?;
    Ok(file)
}

/// What a running cluster is made of; compared when another `up` finds it.
fn inputs(tools: &Tools) -> Result<String> {
    let sources = paths::cluster_sources();
    let images = images::base_folder(tools)?;
    let made_of = Inputs::default()
        .text(&tools.testcluster.to_string_lossy())
        .text(&tools.toolbox.to_string_lossy())
        .text(&tools.kube_router.to_string_lossy());
    Ok(made_of
        .text(&images.to_string_lossy())
        .folder(&sources.join("node"))?
        .folder(&sources.join("manifests"))?
        .name())
}

/// Gives the state its files: the cluster does not need the checkout after this.
fn lay_out(state: &Path, inputs: &str) -> Result<()> {
    fs::create_dir_all(state.join("logs"))
        .with_context(|| format!("cannot make {}", state.display()))?;
    let node = paths::cluster_sources().join("node");
    let mut copy = Command::new("cp");
    for part in ["config", "programs", "start.sh"] {
        copy.arg(node.join(part));
    }
    step::run(copy.arg("-r").arg(state))?;
    fs::write(state.join("inputs"), inputs)?;
    Ok(())
}

/// Ends what runs in this state.
fn end_processes(state: &Path) -> Result<()> {
    if let Some(identity) = state::read_identity(state)? {
        if identity.holder.is_alive() {
            let holder = identity.holder.id.to_string();
            step::run(&mut root::command_unchecked("kill", &["-TERM", &holder]))?;
            wait_until("the cluster ends", END_LIMIT, || {
                Ok(!identity.holder.is_alive())
            })?;
        } else if identity.init.is_alive() {
            let init = identity.init.id.to_string();
            step::run(&mut root::command_unchecked("kill", &["-KILL", &init]))?;
        }
        wait_until("the cluster's first process is gone", END_LIMIT, || {
            Ok(!identity.init.is_alive())
        })?;
    }
    Ok(())
}

/// Ends what runs in this state and removes it all.
fn remove_leftovers(state: &Path) -> Result<()> {
    end_processes(state)?;
    if !state.exists() {
        return Ok(());
    }
    let script = paths::cluster_sources().join("node/outside.sh");
    let folder = state.to_string_lossy();
    step::run(&mut root::command_unchecked(
        "bash",
        &[&script.to_string_lossy(), &folder, "clean"],
    ))?;
    step::run(&mut root::command_unchecked(
        "rm",
        &["-rf", "--one-file-system", &folder],
    ))?;
    Ok(())
}

/// There is one uplink on a machine; a cluster of another user or checkout may have it.
fn check_uplink(state: &Path) -> Result<()> {
    let link = Command::new("ip")
        .args(["-json", "link", "show", UPLINK])
        .stderr(Stdio::null())
        .output()?;
    if link.status.success() {
        let links: serde_json::Value = serde_json::from_slice(&link.stdout)?;
        let owner = links[0]["ifalias"].as_str().unwrap_or_default();
        if owner == state.to_string_lossy() {
            return Ok(()); // ours: goes with the other leftovers
        }
        bail!(
            "another test cluster runs on this machine (its state is in {owner:?}); only one can, so end that first"
        );
    }
    let addresses =
        process::output(Command::new("ip").args(["-4", "-oneline", "address", "show"]))?;
    if let Some(line) = addresses.lines().find(|line| line.contains(" 10.89.0.")) {
        bail!(
            "the cluster needs the addresses 10.89.0.0/30, and an interface has one near: {}",
            line.trim()
        );
    }
    Ok(())
}
