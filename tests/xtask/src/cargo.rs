//! Cargo, as this repository uses it.

use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::{paths, step};

/// Cargo in the checkout; the same one that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(paths::repo_root());
    // Told to this program by the Cargo that runs it. A build script that listens to them (ring's) would run again, and
    // much be built anew, whenever builds with and without this program take turns.
    for (name, _) in std::env::vars_os() {
        let is_of_package = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command whose output the person reads as it comes.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}

/// Builds the two programs, and the one that drives a browser; what is compiled just now is the step's sign of life.
///
/// # Errors
/// When they do not build.
pub(crate) fn build_programs() -> Result<()> {
    step::run(&mut cargo(&[
        "build",
        "--package",
        "agent",
        "--package",
        "kas-stub",
        "--package",
        "browser",
    ]))
    .map(drop)
}
