//! Before anything is installed or started: what this machine lacks, and a word about what will be done.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::TcpListener;

use anyhow::{Result, bail};
use harness::setup;
use tests::server::{OBSERVABILITY_ADDRESS, PEOPLE_ADDRESS};

/// Says what will be installed and built, asks once, and installs it.
///
/// # Errors
/// When something only a person can change is in the way, the answer is no, or installing fails.
#[expect(
    clippy::print_stderr,
    reason = "a word to the person before anything is done"
)]
pub(crate) fn cluster(yes: bool, server_runs: bool) -> Result<()> {
    let setup::Missing {
        packages,
        mut problems,
    } = setup::missing();
    if !server_runs {
        problems.extend(busy_ports());
    }
    if !problems.is_empty() {
        bail!(
            "this machine is not ready:\n  - {}",
            problems.join("\n  - ")
        );
    }
    eprintln!(
        "The cluster runs in its own namespaces of this machine. A first run builds Kubernetes, Helm and images"
    );
    eprintln!(
        "into {} (some minutes, some GB); later runs take them from there.",
        harness::paths::cache_dir().display()
    );
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!(
        "These Debian packages are missing and will be installed with apt-get (none is removed):"
    );
    eprintln!("  {}", packages.join(" "));
    if !yes {
        ask()?;
    }
    setup::install(true)
}

/// Ports of this host that server and demo need. Those on the cluster's uplink are `setup`'s.
fn busy_ports() -> Vec<String> {
    [PEOPLE_ADDRESS, OBSERVABILITY_ADDRESS]
        .into_iter()
        .filter(|address| TcpListener::bind(address).is_err())
        .map(|address| {
            format!("{address} is in use; if a demo runs, `cargo xtask demo down` ends it, else end what listens there")
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "a question to the person")]
fn ask() -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask here; --yes says yes");
    }
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
}
