//! `cargo xtask image`: the agent's image, the server's, or the editor's, for a registry of one's own.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use harness::tools::Tools;
use harness::{images, paths, setup, step};

use crate::cargo;

/// The agent's image unless another name is given.
const AGENT: &str = concat!("localhost/remote-dev-agent:", env!("CARGO_PKG_VERSION"));

/// The server's unless another name is given.
const SERVER: &str = concat!("localhost/kas-stub:", env!("CARGO_PKG_VERSION"));

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Which image
    #[arg(value_enum, default_value = "agent")]
    image: Image,
    /// The name that the image gets, with its registry and tag [default: the one in chart or server]
    #[arg(long)]
    name: Option<String>,
    /// The OCI archive that is written [default: agent-image.tar, server-image.tar or editor-image.tar]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Install Debian packages that are missing for it without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Image {
    /// The agent, for its chart
    Agent,
    /// The server with git, for its chart
    Server,
    /// code-server, for the server's `--editor-image`
    Editor,
}

/// Runs the subcommand.
#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn run(arguments: &ImageArgs) -> Result<()> {
    let (default, file) = match arguments.image {
        Image::Agent => (AGENT, "agent-image.tar"),
        Image::Server => (SERVER, "server-image.tar"),
        Image::Editor => (images::EDITOR, "editor-image.tar"),
    };
    let name = arguments.name.as_deref().unwrap_or(default);
    let output = arguments.output.clone().unwrap_or_else(|| file.into());
    match arguments.image {
        Image::Agent => {
            images::agent_archive(&release("agent")?, name, &output)?;
        }
        Image::Server => {
            images::server_archive(&release("kas-stub")?, name, &output)?;
        }
        Image::Editor => {
            setup::install(arguments.yes)?;
            images::editor_archive(&Tools::ensure()?, name, &output)?;
        }
    }
    println!("{} holds {name}", output.display());
    println!(
        "push it, for example: skopeo copy oci-archive:{} docker://{name}",
        output.display()
    );
    Ok(())
}

/// Builds a program for release, and says where it is.
fn release(package: &str) -> Result<PathBuf> {
    step::step(
        &format!("build {package} for release (some minutes)"),
        || {
            let build = ["build", "--release", "--package", package];
            step::run(&mut cargo::cargo(&build)).map(drop)
        },
    )?;
    Ok(paths::binaries_dir()
        .with_file_name("release")
        .join(package))
}
