//! End-to-end tests: a real cluster, the agent installed by the chart with the real Helm, people with real kubectls.
//!
//! One environment for all tests ([`world`]), set up once; each test leaves it as it found it, and its name says what
//! holds. They run one after the other, because several of them take something away (server, API server, a Pod).
//! Run by `cargo xtask test e2e`, which builds everything and starts the cluster; as root.
#![expect(clippy::print_stdout, reason = "a test run tells its results")]

mod access;
mod audit;
mod browser;
mod bulk;
mod configuration;
mod devfiles;
mod editor;
mod failures;
mod hostile;
mod installation;
mod kubectl;
mod life;
mod network;
mod operated;
mod rights;
mod service;
mod settings;
mod sign_in;
mod trouble;
mod two_agents;
mod workspace_trouble;
mod workspaces;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::world::World;

/// A name that says what holds, and its proof.
type Test = (&'static str, fn(&mut World) -> Result<()>);

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen: Vec<Test> = [
        installation::TESTS,
        kubectl::TESTS,
        bulk::TESTS,
        network::TESTS,
        rights::TESTS,
        sign_in::TESTS,
        configuration::TESTS,
        two_agents::TESTS,
        workspaces::TESTS,
        operated::TESTS,
        life::TESTS,
        settings::TESTS,
        access::TESTS,
        browser::TESTS,
        failures::TESTS,
        editor::TESTS,
        devfiles::TESTS,
        service::TESTS,
        workspace_trouble::TESTS,
        trouble::TESTS,
        hostile::TESTS,
        audit::TESTS,
        installation::LAST,
        trouble::LAST,
        workspace_trouble::LAST,
    ]
    .concat()
    .into_iter()
    .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter)))
    .collect();

    let started = Instant::now();
    let mut world = match World::start(filters.is_empty()) {
        Ok(world) => world,
        Err(error) => {
            println!("FAILED  the environment of the tests\n{error:#}");
            println!("0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "environment ready ({:.1} s), {} tests",
        started.elapsed().as_secs_f64(),
        chosen.len()
    );

    let mut failed = Vec::new();
    for (name, test) in &chosen {
        if !run(name, *test, &mut world) {
            failed.push(*name);
        }
    }
    println!(
        "\n{} passed, {} failed ({:.0} s)",
        chosen.len() - failed.len(),
        failed.len(),
        started.elapsed().as_secs_f64()
    );
    for name in &failed {
        println!("  FAILED  {name}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(name: &str, test: fn(&mut World) -> Result<()>, world: &mut World) -> bool {
    world.mark_logs();
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| test(world)))
        .unwrap_or_else(|_| Err(anyhow!("it panicked")));
    let took = started.elapsed().as_secs_f64();
    match result {
        Ok(()) => {
            println!("ok      {name} ({took:.1} s)");
            true
        }
        Err(error) => {
            println!("FAILED  {name} ({took:.1} s)\n{error:#}");
            println!("{}", world.logs_since_mark());
            false
        }
    }
}
