//! `cargo xtask cluster`: the test cluster by hand.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use harness::cluster::{Cluster, Options};
use harness::setup;

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
    Down,
    /// Say what runs
    Status,
}

/// Runs the subcommand.
pub(crate) fn run(args: ClusterArgs) -> Result<()> {
    match args.command {
        ClusterCommand::Up { yes } => {
            setup::install(yes)?;
            Cluster::up(&Options::default()).map(drop)
        }
        ClusterCommand::Down => Cluster::attach()?.context("no cluster runs")?.down(),
        ClusterCommand::Status => Cluster::status().map(drop),
    }
}
