//! `cargo xtask image`: the agent's image, for a registry of one's own.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use harness::{images, paths, step};

use crate::cargo;

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The name that the image gets, with its registry and tag
    #[arg(long, default_value = concat!("localhost/remote-dev-agent:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The OCI archive that is written
    #[arg(long, default_value = "agent-image.tar")]
    output: PathBuf,
}

/// Runs the subcommand.
#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn run(arguments: &ImageArgs) -> Result<()> {
    let ImageArgs { name, output } = arguments;
    step::step("build the agent for release (some minutes)", || {
        step::run(&mut cargo::cargo(&[
            "build",
            "--release",
            "--package",
            "agent",
        ]))
        .map(drop)
    })?;
    let binary = paths::binaries_dir()
        .with_file_name("release")
        .join("agent");
    images::agent_archive(&binary, name, output)?;
    println!("{} holds {name}", output.display());
    println!(
        "push it, for example: skopeo copy oci-archive:{} docker://{name}",
        output.display()
    );
    Ok(())
}
