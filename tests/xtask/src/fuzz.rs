//! `cargo xtask fuzz`: the fuzz targets of the crate `devfile`, by cargo-fuzz with a nightly compiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use harness::{paths, step};

use crate::cargo;
use crate::report::Report;

/// What is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Memory (MiB) above which an input is a finding.
const MEMORY_MIB: u32 = 2048;
/// Seconds after which a single input is a finding.
const INPUT_SECONDS: u32 = 25;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// How long each target runs
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    minutes: u64,
    /// One target instead of all, one after the other
    #[arg(value_enum)]
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// Any text is read, checked and told about
    Parse,
    /// A devfile and what it refers to become one
    Flatten,
    /// What is valid is rendered, the same each time
    Render,
    /// Any text becomes a devfile of another version, or is told about
    Convert,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Flatten => "flatten",
            Self::Render => "render",
            Self::Convert => "convert",
        }
    }
}

/// Runs the subcommand.
#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn run(arguments: &FuzzArgs) -> Result<()> {
    let targets = match arguments.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    let cargo_fuzz = ensure()?;
    let folder = folder();
    step::run(Command::new("./seed.sh").current_dir(&folder)).context("the seeds")?;
    let mut report = Report::new();
    for target in targets {
        let name = target.name();
        report.part(
            &format!("fuzz {name} for {} min", arguments.minutes),
            || {
                let found = folder.join("corpus").join(name);
                std::fs::create_dir_all(&found)
                    .with_context(|| format!("cannot make {}", found.display()))?;
                let mut command = nightly();
                command.arg(&cargo_fuzz).args(["fuzz", "run", name]);
                // Inputs that reach something new are kept in the first folder.
                command.arg(found).args(["seeds", "--"]).args([
                    format!("-max_total_time={}", arguments.minutes * 60),
                    format!("-rss_limit_mb={MEMORY_MIB}"),
                    format!("-timeout={INPUT_SECONDS}"),
                ]);
                command.arg("-print_final_stats=1").current_dir(&folder);
                cargo::show(&mut command)
            },
        );
    }
    let ended = report.end();
    if ended.is_err() {
        println!(
            "inputs that failed are in {}; each becomes a test in devfile/tests/it/findings.rs",
            folder.join("artifacts").display()
        );
    }
    ended
}

fn folder() -> PathBuf {
    paths::repo_root().join("devfile/fuzz")
}

/// Runs a program with the nightly toolchain. Not `cargo +nightly`: the cargo that started this program is a toolchain's
/// own and does not know that.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]);
    command
}

/// cargo-fuzz: the one that is there, else one in the cache.
fn ensure() -> Result<PathBuf> {
    let rustc = nightly().args(["rustc", "--version"]).output();
    ensure!(
        rustc.is_ok_and(|output| output.status.success()),
        "fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal"
    );
    let there = PathBuf::from("cargo-fuzz");
    if Command::new(&there).arg("--version").output().is_ok() {
        return Ok(there);
    }
    let folder = paths::cache_dir().join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = folder.join("bin/cargo-fuzz");
    if !program.exists() {
        step::step("build cargo-fuzz (the first time: a minute)", || {
            let mut install = cargo::cargo(&["install", "--quiet", "--locked", "--root"]);
            install.arg(&folder);
            step::run(install.args(["--version", CARGO_FUZZ, "cargo-fuzz"])).map(drop)
        })?;
    }
    Ok(program)
}
