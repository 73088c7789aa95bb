//! `cargo xtask test`: everything that is checked, from cheap to dear.

use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use harness::cluster::{Cluster, Options};
use harness::tools::Tools;
use harness::watchdog::Watchdog;
use harness::{images, step};

use crate::preflight::{self, Ports};
use crate::report::Report;
use crate::{cargo, deny};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// One part instead of everything
    #[arg(value_enum)]
    part: Option<Part>,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
    /// Leave the cluster running at the end
    #[arg(long)]
    keep_cluster: bool,
    /// End-to-end tests whose names contain one of these, instead of all
    #[arg(last = true)]
    filters: Vec<String>,
}

/// In the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting
    Fmt,
    /// Lints, warnings denied
    Clippy,
    /// Licences, sources and banned crates of the dependency tree
    Deny,
    /// Unit and component tests: no network, no root
    Unit,
    /// The charts by Helm's own lint
    Chart,
    /// On the cluster, through the real chart, Helm and kubectl: needs root
    E2e,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &TestArgs) -> Result<()> {
    let parts: Vec<Part> = match arguments.part {
        Some(part) => vec![part],
        None => Part::value_variants().to_vec(),
    };
    if parts.contains(&Part::E2e) {
        // Before the first minutes are spent.
        preflight::cluster(arguments.yes, Ports::Free)?;
    }
    let mut report = Report::new();
    for part in parts {
        match part {
            Part::Fmt => report.part("fmt", || {
                cargo::show(&mut cargo::cargo(&["fmt", "--all", "--check"]))
            }),
            Part::Clippy => report.part("clippy", clippy),
            Part::Deny => report.part("deny", deny::check),
            Part::Unit => report.part("unit and component tests", || {
                cargo::show(&mut cargo::cargo(&["test", "--workspace", "--quiet"]))
            }),
            Part::Chart => report.part("charts", charts),
            Part::E2e => end_to_end(&mut report, arguments),
        };
    }
    report.end()
}

fn clippy() -> Result<()> {
    cargo::show(&mut cargo::cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn charts() -> Result<()> {
    let tools = Tools::ensure()?;
    for chart in [tests::release::chart(), tests::release::server_chart()] {
        let values = chart.join("ci/lint-values.yaml");
        let values = text(&values)?;
        // The oldest Kubernetes that the charts say they fit.
        let oldest = format!("{}.0", model::version::OLDEST_KUBERNETES);
        for arguments in [
            ["lint", "--strict"].as_slice(),
            &["lint", "--strict", "--values", values],
            &[
                "template",
                "chart",
                "--kube-version",
                &oldest,
                "--values",
                values,
            ],
        ] {
            step::run(Command::new(&tools.helm).args(arguments).arg(&chart))?;
        }
    }
    Ok(())
}

/// Cluster up, tests, cluster down. Each step is a part of its own in the report.
fn end_to_end(report: &mut Report, arguments: &TestArgs) -> bool {
    if !report.part("build the programs", || {
        cargo::build_programs()?;
        step::run(&mut cargo::cargo(&[
            "build",
            "--package",
            "tests",
            "--bin",
            "e2e",
        ]))
        .map(drop)
    }) {
        return false;
    }
    let ran_before = Cluster::attach().ok().flatten().is_some();
    let ends_here = !ran_before && !arguments.keep_cluster;
    let watchdog = if ends_here { arm_cluster_down() } else { None };
    let up = report.part("tools", || Tools::ensure().map(drop))
        && report.part("images", || images::ensure_base(&Tools::ensure()?))
        && report.part("cluster up", || Cluster::up(&Options::default()).map(drop));
    let passed =
        up && report.part(
            "devfiles, by the API server's strict dry run",
            devfile_dry_run,
        ) && report.part("end-to-end tests", || {
            let mut command =
                cargo::cargo(&["run", "--quiet", "--package", "tests", "--bin", "e2e", "--"]);
            cargo::show(command.args(&arguments.filters))
        });
    if ends_here {
        report.part("cluster down", || {
            Cluster::attach()?.map_or(Ok(()), |cluster| cluster.down())
        });
    }
    if let Some(watchdog) = watchdog {
        watchdog.disarm();
    }
    passed
}

/// Before the end-to-end tests, which install DevWorkspace Operator and with it the definitions that this test needs for
/// itself.
fn devfile_dry_run() -> Result<()> {
    const TEST: [&str; 6] = [
        "test",
        "--quiet",
        "--package",
        "devfile",
        "--test",
        "dry_run",
    ];
    step::run(cargo::cargo(&TEST).arg("--no-run"))?;
    let cluster = Cluster::attach()?.context("no cluster runs")?;
    let kubectl = text(&cluster.tools().kubectl)?.to_owned();
    let script = format!(
        "DEVFILE_DRY_RUN_KUBECONFIG=$KUBECONFIG KUBECTL='{kubectl}' exec cargo {}",
        TEST.join(" ")
    );
    cargo::show(&mut cluster.run(&["sh", "-c", &script]))?;
    let definitions = ["devworkspaces", "devworkspacetemplates"]
        .map(|name| format!("{name}.workspace.devfile.io"));
    let [first, second] = &definitions;
    step::run(&mut cluster.kubectl(&["delete", "customresourcedefinition", first, second]))
        .map(drop)
}

/// Ctrl-C or a kill of this program still ends the cluster.
pub(crate) fn arm_cluster_down() -> Option<Watchdog> {
    let program = std::env::current_exe().ok()?;
    Watchdog::arm(&[program.to_str()?, "cluster", "down"]).ok()
}

fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}
