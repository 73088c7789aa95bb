//! `cargo xtask cluster`: the test cluster by hand.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use harness::cluster::{Cluster, Leave, Options};
use harness::images::{self, Filling};
use harness::{devworkspace, kwok, reachability, setup, step};

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Build what is missing and start the cluster (or take the one that runs)
    Up {
        /// Install missing Debian packages without asking
        #[arg(long)]
        yes: bool,
    },
    /// End the cluster and remove everything it left
    Down {
        /// Leave its state with the logs until the next one starts
        #[arg(long)]
        keep: bool,
    },
    /// Say what runs
    Status,
    /// Prove that the cluster has two ways out and no way in
    Check,
    /// Install the DevWorkspace Operator, which is built the first time (three minutes)
    Devworkspace,
    /// Serve an image that does nothing under the name of one that this cluster cannot have
    StandIn {
        /// Its name, as in a devfile
        name: String,
        /// Made of busybox alone; else of Debian with Git and curl
        #[arg(long)]
        busybox: bool,
    },
    /// Make the image that brings the editor, and serve it (three minutes the first time)
    Editor,
    /// Add fake nodes whose Pods are Ready at once; the Enter key removes them
    Kwok {
        /// How many; each takes 300 Pods
        #[arg(long, default_value_t = 10)]
        nodes: u32,
    },
    /// The cluster's kubectl, as its administrator
    Kubectl(Passed),
    /// Helm, as the cluster's administrator
    Helm(Passed),
    /// Any command inside the cluster's namespaces
    Run(Passed),
}

/// A command line for another program.
#[derive(Debug, Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

const HOW_TO_USE: &str = "\
The cluster is ready. To use it:
  cargo xtask cluster kubectl -- get pods -A
  cargo xtask cluster helm -- list -A
  cargo xtask cluster run -- COMMAND      (inside its network, with KUBECONFIG)
  cargo xtask cluster status
  cargo xtask cluster down";

/// Runs the subcommand.
#[expect(clippy::print_stdout, reason = "the command line's answer")]
pub(crate) fn run(args: ClusterArgs) -> Result<()> {
    match args.command {
        ClusterCommand::Up { yes } => {
            setup::install(yes)?;
            Cluster::up(&Options::default())?;
            println!("{HOW_TO_USE}");
            Ok(())
        }
        ClusterCommand::Down { keep } => {
            Cluster::end(if keep { Leave::State } else { Leave::Nothing })
        }
        ClusterCommand::Status => {
            println!("{}", Cluster::status()?);
            Ok(())
        }
        ClusterCommand::Check => {
            let cluster = running()?;
            step::step("two ways out, no way in", || reachability::check(&cluster))
        }
        ClusterCommand::Devworkspace => devworkspace::install(&running()?),
        ClusterCommand::StandIn { name, busybox } => {
            let filling = if busybox {
                Filling::Busybox
            } else {
                Filling::Debian
            };
            println!("{}", images::stand_in(running()?.tools(), &name, filling)?);
            Ok(())
        }
        ClusterCommand::Editor => {
            println!("{}", images::editor(running()?.tools())?);
            Ok(())
        }
        ClusterCommand::Kwok { nodes } => fake_nodes(&running()?, nodes),
        ClusterCommand::Kubectl(passed) => become_command(running()?.kubectl(&passed.words())),
        ClusterCommand::Helm(passed) => become_command(running()?.helm(&passed.words())),
        ClusterCommand::Run(passed) => become_command(running()?.run(&passed.words())),
    }
}

/// Keeps fake nodes until somebody presses the Enter key.
#[expect(clippy::print_stdout, reason = "the command line's answer")]
fn fake_nodes(cluster: &Cluster, nodes: u32) -> Result<()> {
    let kwok = kwok::start(cluster, nodes)?;
    println!(
        "Pods get there with the node selector {}={} and a toleration of the taint {}.\nThe Enter key removes the nodes.",
        kwok::LABEL.0,
        kwok::LABEL.1,
        kwok::TAINT.0
    );
    std::io::stdin().read_line(&mut String::new())?;
    kwok.stop()
}

impl Passed {
    fn words(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}

fn running() -> Result<Cluster> {
    Cluster::attach()?.context("no cluster runs: start one with `cargo xtask cluster up`")
}

/// Puts the command in the place of this process, so that its exit code and the terminal are its own.
fn become_command(mut command: std::process::Command) -> Result<()> {
    bail!("cannot start it: {}", command.exec())
}
