//! Before anything is installed or started: what this machine lacks, and a word about what will be done.

use std::net::TcpListener;

use anyhow::{Result, bail};
use harness::setup::{self, Missing};
use tests::server::OBSERVABILITY_ADDRESS;

/// Whose ports may be in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Nobody's.
    Free,
    /// Those of the demo that runs.
    OfTheDemo,
}

/// Checks root, disk, memory and ports; says what will be built and installed; installs it after asking.
///
/// # Errors
/// When something only a person can change is in the way, the answer is no, or installing fails.
#[expect(
    clippy::print_stderr,
    reason = "a word to the person before anything is done"
)]
pub(crate) fn cluster(yes: bool, ports: Ports) -> Result<()> {
    eprintln!(
        "The cluster lives in namespaces of its own on this machine and needs root for that."
    );
    eprintln!(
        "A first run builds Kubernetes, Helm and images into {} (several minutes, some GB).",
        harness::paths::cache_dir().display()
    );
    let Missing { mut problems, .. } = setup::missing();
    match ports {
        Ports::Free => problems.extend(metrics_port_in_use()),
        Ports::OfTheDemo => problems.retain(|problem| !problem.starts_with("port ")),
    }
    if !problems.is_empty() {
        bail!(
            "this machine is not ready:\n  - {}",
            problems.join("\n  - ")
        );
    }
    setup::install(yes)
}

/// The server's port for metrics; `setup` knows the others.
fn metrics_port_in_use() -> Option<String> {
    let error = TcpListener::bind(OBSERVABILITY_ADDRESS).err()?;
    Some(format!(
        "{OBSERVABILITY_ADDRESS} cannot be had ({error}); `cargo xtask demo down` ends a demo that runs"
    ))
}
