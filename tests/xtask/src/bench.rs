//! `cargo xtask bench`: builds programs as they are released, but for link-time optimisation, and measures them.

mod reconcile;

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use harness::cluster::{self, Cluster};
use harness::{paths, tools};

use crate::cargo;

/// The profile that is measured.
const PROFILE: &str = "bench-binaries";

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What is measured
    #[arg(value_enum)]
    what: What,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
    /// For the benchmark: --json; for the tunnel also, for example, --runs 3, --seconds 3
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Calls through the tunnel, beside the same calls made directly
    Tunnel,
    /// A thousand idle agents on one server: memory for each, and their return after it was killed
    Agents,
    /// A thousand workspaces on fake nodes of a cluster of its own: root, and some ten minutes
    Reconcile,
    /// Reading and checking of devfiles, beside the Go library; and how time and memory grow with a devfile
    Devfile,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &BenchArgs) -> Result<()> {
    match arguments.what {
        What::Tunnel => tunnel(&arguments.options),
        What::Agents => agents(&arguments.options),
        What::Reconcile => reconcile::run(&arguments.options, arguments.yes, build),
        What::Devfile => devfile(&arguments.options),
    }
}

/// Builds server, agent and benchmarks; the folder they are in.
fn build() -> Result<PathBuf> {
    cargo::show(&mut cargo::cargo(&[
        "build",
        "--profile",
        PROFILE,
        "--package",
        "agent",
        "--package",
        "kas-stub",
        "--package",
        "bench",
    ]))?;
    Ok(paths::binaries_dir().with_file_name(PROFILE))
}

fn tunnel(options: &[String]) -> Result<()> {
    let folder = build()?;
    let mut bench = std::process::Command::new(folder.join("bench"));
    bench.arg("tunnel").arg("--binaries").arg(&folder);
    if let Some(cluster) = Cluster::attach()? {
        // What it takes to get into the cluster's network, word by word.
        let enter = cluster.beside(&[]);
        let words = std::iter::once(enter.get_program()).chain(enter.get_args());
        bench.args(words.flat_map(|word| [OsStr::new("--enter"), word].map(OsStr::to_owned)));
        bench.args(["--kubeconfig", cluster::ADMIN_KUBECONFIG]);
        let address = format!("{}:{}", cluster::HOST_ADDRESS, cluster::AGENT_PORT);
        bench.args(["--agent-address", &address]);
    }
    cargo::show(bench.args(options))
}

fn agents(options: &[String]) -> Result<()> {
    let folder = build()?;
    let mut bench = std::process::Command::new(folder.join("bench"));
    bench.arg("agents").arg("--binaries").arg(&folder);
    cargo::show(bench.args(options))
}

fn devfile(options: &[String]) -> Result<()> {
    let library = tools::devfile_library()?;
    let mut bench = cargo::cargo(&[
        "run",
        "--quiet",
        "--profile",
        PROFILE,
        "--package",
        "devfile",
    ]);
    bench
        .args(["--example", "bench", "--", "--go"])
        .arg(library);
    cargo::show(bench.args(options))
}
