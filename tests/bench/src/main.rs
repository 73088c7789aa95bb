//! Benchmarks, each beside a baseline in the same run. `cargo xtask bench …` builds everything and calls this program.
//!
//! ```text
//!  load ──HTTP/1.1──▶ kas-stub ◀──gRPC── agent ──HTTPS──▶ upstream        case "tunnel"
//!  load ──────────────────HTTPS─────────────────────────▶ upstream        case "direct"
//! ```
//! The upstream is one in memory, and then a real API server, if there is one.
//! Server, agent and upstream are processes of their own, so that each one's CPU time and memory can be told apart. The
//! load generator is this process.

mod agents;
mod far;
mod http;
mod load;
mod process;
mod real;
mod reconcile;
mod stack;
mod tunnel;
mod upstream;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures server and agent, beside a baseline in the same run")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls through the tunnel beside the same calls made directly
    Tunnel(tunnel::Options),
    /// Many workspaces on fake nodes of a real cluster
    Reconcile(reconcile::Options),
    /// Many idle agents on one server, and their return after it was killed
    Agents(agents::Options),
    /// Many agents (started by the others)
    #[command(hide = true)]
    Swarm(agents::SwarmOptions),
    /// Direct calls to a real API server (started by the others, in its network)
    #[command(hide = true)]
    Load(real::LoadOptions),
    /// An in-memory HTTPS server in place of an API server (started by the others)
    #[command(hide = true)]
    Upstream {
        /// Where its certificate is written
        certificate: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match Args::parse().command {
        Command::Tunnel(options) => runtime.block_on(tunnel::run(&options)),
        Command::Reconcile(options) => runtime.block_on(reconcile::run(&options)),
        Command::Agents(options) => runtime.block_on(agents::run(&options)),
        Command::Swarm(options) => runtime.block_on(agents::swarm(&options)),
        Command::Load(options) => runtime.block_on(real::load(&options)),
        Command::Upstream { certificate } => runtime.block_on(upstream::serve(&certificate)),
    }
}
