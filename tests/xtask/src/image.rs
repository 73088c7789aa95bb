//! `cargo xtask image`: the agent's image, or the editor's, for a registry of one's own.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use harness::tools::Tools;
use harness::{images, paths, setup, step};

use crate::cargo;

/// The agent's image unless another name is given.
const AGENT: &str = concat!("localhost/remote-dev-agent:", env!("CARGO_PKG_VERSION"));

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Which image
    #[arg(value_enum, default_value = "agent")]
    image: Image,
    /// The name that the image gets, with its registry and tag [default: the one in chart or server]
    #[arg(long)]
    name: Option<String>,
    /// The OCI archive that is written [default: agent-image.tar or editor-image.tar]
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
    /// code-server, for the server's `--editor-image`
    Editor,
}

/// Runs the subcommand.
#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn run(arguments: &ImageArgs) -> Result<()> {
    let (default, file) = match arguments.image {
        Image::Agent => (AGENT, "agent-image.tar"),
        Image::Editor => (images::EDITOR, "editor-image.tar"),
    };
    let name = arguments.name.as_deref().unwrap_or(default);
    let output = arguments.output.clone().unwrap_or_else(|| file.into());
    match arguments.image {
        Image::Agent => {
            step::step("build the agent for release (some minutes)", || {
                let build = ["build", "--release", "--package", "agent"];
                step::run(&mut cargo::cargo(&build)).map(drop)
            })?;
            let binary = paths::binaries_dir()
                .with_file_name("release")
                .join("agent");
            images::agent_archive(&binary, name, &output)?;
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
