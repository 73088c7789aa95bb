//! `cargo xtask bench reconcile`: starts a cluster of its own, fills it with workspaces and throws it away.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{self, Cluster, Options};
use harness::git_server::GitServer;
use harness::kwok;

use crate::preflight::{self, Ports};
use crate::{cargo, test};

/// Of these a thousand workspaces and the baseline's hundred fit on four.
const FAKE_NODES: u32 = 5;
const REPOSITORY: &str = "samples/bench";

/// Starts the cluster, measures, and ends the cluster; `build` makes the programs and says where they are.
///
/// # Errors
/// When a cluster runs already, or anything fails.
pub(super) fn run(
    options: &[String],
    yes: bool,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<()> {
    preflight::cluster(yes, Ports::Free)?;
    ensure!(
        Cluster::attach()?.is_none(),
        "this fills a cluster and throws it away; one runs: end it with `cargo xtask cluster down`"
    );
    let folder = build()?;
    let watchdog = test::arm_cluster_down();
    let cluster = Cluster::up(&Options::default())?;
    let measured = measure(&cluster, &folder, options);
    cluster.down()?;
    if let Some(watchdog) = watchdog {
        watchdog.disarm();
    }
    measured
}

/// The configuration file of the benchmark's agent.
const AGENT_FILE: &str = ".gitlab/agents/bench/config.yaml";

fn measure(cluster: &Cluster, folder: &Path, options: &[String]) -> Result<()> {
    let _kwok = kwok::start(cluster, FAKE_NODES)?;
    let git = GitServer::start(&format!("{}:{}", cluster::HOST_ADDRESS, cluster::GIT_PORT))?;
    git.create_project(REPOSITORY)?;
    let files = [
        ("devfile.yaml", &*devfile()),
        (AGENT_FILE, "remote_development: {enabled: true}\n"),
    ];
    git.commit(
        REPOSITORY,
        &files,
        "A workspace, and an agent that takes it",
    )?;
    let program = folder.join("bench");
    let program = program.to_str().context("a path that is not text")?;
    let mut bench = cluster.in_network(&[program, "reconcile"]);
    bench.arg("--binaries").arg(folder);
    bench.arg("--kubeconfig").arg(cluster.kubeconfig_path());
    bench.arg("--audit-log").arg(cluster.log_path("audit"));
    bench.args(["--repository", &git.url(REPOSITORY)]);
    bench.args(["--storage-class", kwok::STORAGE_CLASS]);
    cargo::show(bench.args(options))
}

/// What a usual workspace is made of, on a fake node.
fn devfile() -> String {
    let (label, kind) = kwok::LABEL;
    let (key, value, effect) = kwok::TAINT;
    format!(
        "schemaVersion: 2.2.0
metadata:
  name: sample
attributes:
  pod-overrides:
    spec:
      nodeSelector: {{ {label}: {kind} }}
      tolerations:
        - {{ key: {key}, operator: Equal, value: {value}, effect: {effect} }}
components:
  - name: tools
    container:
      image: localhost/tools:1
      memoryLimit: 256Mi
      env:
        - name: GREETING
          value: hello
      endpoints:
        - name: web
          targetPort: 8080
  - name: cache
    volume:
      size: 1Gi
commands:
  - id: greet
    exec:
      component: tools
      commandLine: echo $GREETING > /tmp/greeted
events:
  postStart: [greet]
"
    )
}
