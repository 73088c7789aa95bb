//! Real devfiles, unmodified, as workspaces. Their images are stand-ins under the same names (`tests/cluster/README.md`).

use anyhow::{Context as _, Result, ensure};
use harness::images::{Filling, stand_in};
use harness::{devworkspace, paths};
use serde_json::Value;

use crate::Test;
use crate::workspaces::{delete, repository, workspace};
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    (
        "real_devfiles_of_three_sources_and_versions_run_unmodified",
        natively,
    ),
    ("one_of_them_runs_by_the_operator", by_the_operator),
];

/// Name, folder in the corpus of the crate `devfile`, schema version, image.
type Real = (&'static str, &'static str, &'static str, &'static str);

const REAL: [Real; 3] = [
    (
        "api-servers",
        "andreijiroh-dev__api-servers/root",
        "2.2.2",
        "registry.access.redhat.com/ubi8/nodejs-18:1-32",
    ),
    (
        "duadp",
        "blueflyio__duadp/root",
        "2.2.0",
        "node:22-bookworm",
    ),
    (
        "dwo",
        "devfile__devworkspace-operator/root",
        "2.3.0",
        "quay.io/devfile/devworkspace-devtools:latest",
    ),
];

fn natively(world: &mut World) -> Result<()> {
    for real in &REAL {
        let running = run(world, real, real.0, "native")?;
        delete(world, real.0, namespace(&running)?)?;
    }
    Ok(())
}

fn by_the_operator(world: &mut World) -> Result<()> {
    devworkspace::install(&world.cluster)?;
    let running = run(world, &REAL[0], "operated-real", "devworkspace")?;
    delete(world, "operated-real", namespace(&running)?)
}

fn run(world: &World, real: &Real, name: &str, backend: &str) -> Result<Value> {
    let (_, folder, version, image) = real;
    let path = paths::repo_root()
        .join("devfile/tests/corpus/devfiles")
        .join(folder)
        .join("devfile.yaml");
    let devfile = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(devfile.contains(&format!("schemaVersion: {version}")));
    ensure!(devfile.contains(image));
    stand_in(world.cluster.tools(), image, Filling::Debian)?;
    let repository = repository(world, name, &devfile)?;
    let running = workspace(
        world,
        &["create", &repository, "--name", name, "--backend", backend],
    )?;
    ensure!(running["actual_state"] == "Running", "{running:#}");
    Ok(running)
}

fn namespace(workspace: &Value) -> Result<&str> {
    workspace["namespace"].as_str().context("no namespace")
}
