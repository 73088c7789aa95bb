//! The real DevWorkspace Operator in the cluster: unmodified, with its webhooks, and without cert-manager.
//!
//! `tests/cluster/devworkspace` holds its version (`go.mod`) and what is different from its own manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::hash::Inputs;
use crate::images::{self, Filling};
use crate::tools::{self, DevWorkspacePrograms, Tools};
use crate::{paths, step};

/// Its Go module.
const OPERATOR: &str = "github.com/devfile/devworkspace-operator";
/// Where it runs.
pub const NAMESPACE: &str = "devworkspace-controller";
const CONTROLLER: &str = "deployment/devworkspace-controller-manager";
/// Made by the controller.
const WEBHOOK: &str = "deployment/devworkspace-webhook-server";
/// Whom the API server calls: conversion between versions, and admission.
const SERVICES: [&str; 2] = [
    "devworkspace-controller-manager-service.devworkspace-controller.svc",
    "devworkspace-webhookserver.devworkspace-controller.svc",
];
/// For each of the two Deployments; half a minute on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// What `kubectl kustomize` makes of our files and the operator's.
const DEFINITIONS: &str = "definitions.yaml";
const OBJECTS: &str = "objects.yaml";

/// Installs the operator, unless it is there already, and waits until it takes workspaces.
///
/// # Errors
/// When it cannot be built or does not become ready.
pub fn install(cluster: &Cluster) -> Result<()> {
    let tools = cluster.tools();
    let programs = DevWorkspacePrograms::ensure()?;
    let (version, source) = tools::required_module("devworkspace", OPERATOR)?;
    images::tools_image(tools)?;
    make_images(tools, &programs, &version)?;
    let manifests = manifests(tools, &source)?;
    let what = format!("install the DevWorkspace Operator {version}");
    step::step(&what, || {
        cluster.apply(&manifests.join(DEFINITIONS))?;
        let limit = format!("--timeout={}s", READY_LIMIT.as_secs());
        let definitions = manifests.join(DEFINITIONS);
        let file = definitions.to_str().context("a path that is not text")?;
        let established = ["wait", "--for=condition=Established", "-f", file, &limit];
        step::run(&mut cluster.kubectl(&established))?;
        cluster.apply(&manifests.join(OBJECTS))?;
        wait_ready(cluster)
    })
}

/// Waits until the controller and its webhooks answer.
///
/// # Errors
/// When that takes too long.
pub fn wait_ready(cluster: &Cluster) -> Result<()> {
    for deployment in [CONTROLLER, WEBHOOK] {
        cluster.wait_until(&format!("{deployment} is ready"), READY_LIMIT, || {
            let status = ["rollout", "status", deployment, "-n", NAMESPACE];
            step::run(&mut cluster.kubectl(&[&status[..], &["--timeout=5s"]].concat()))?;
            Ok(true)
        })?;
    }
    let sample = sample();
    let file = sample.to_str().context("a path that is not text")?;
    let ask = ["apply", "--server-side", "--dry-run=server", "-f", file];
    cluster.wait_until("the webhooks take a workspace", READY_LIMIT, || {
        step::run(&mut cluster.kubectl(&ask))?;
        Ok(true)
    })
}

/// The manifest of a small DevWorkspace named `sample`.
pub fn sample() -> PathBuf {
    sources().join("sample.yaml")
}

fn sources() -> PathBuf {
    paths::cluster_sources().join("devworkspace")
}

/// Serves the operator's images under the names that its manifests and its code know.
fn make_images(tools: &Tools, programs: &DevWorkspacePrograms, version: &str) -> Result<()> {
    images::program_image(
        tools,
        &images::Program {
            name: &format!("quay.io/devfile/devworkspace-controller:{version}"),
            files: &[
                (&programs.controller, "devworkspace-controller"),
                (&programs.webhook, "webhook-server"),
            ],
            filling: Filling::Busybox,
            env: &[],
            cmd: &["/usr/local/bin/devworkspace-controller"],
        },
    )?;
    images::program_image(
        tools,
        &images::Program {
            name: &format!("quay.io/devfile/project-clone:{version}"),
            files: &[(&programs.project_clone, "project-clone")],
            filling: Filling::Debian, // for Git
            env: &["HOME=/home/user"],
            cmd: &["/usr/local/bin/project-clone"],
        },
    )
}

/// The folder with what is to be applied.
fn manifests(tools: &Tools, source: &Path) -> Result<PathBuf> {
    let combined = source.join("deploy/deployment/kubernetes/combined.yaml");
    let hash = Inputs::default()
        .folder(&sources())?
        .file(&combined)?
        .file(&tools.toolbox)?
        .text(&tools.kubectl.to_string_lossy())
        .name();
    let cache = paths::cache_dir().join("devworkspace");
    let folder = cache.join(format!("manifests-{hash}"));
    if folder.exists() {
        return Ok(folder);
    }
    let part = cache.join(format!("part-{}", std::process::id()));
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    for name in ["kustomization.yaml", "namespace.yaml", "config.yaml"] {
        fs::copy(sources().join(name), part.join(name))
            .with_context(|| format!("cannot copy {name}"))?;
    }
    // Files of the module cache are read-only; this one is to be removed again.
    fs::write(part.join("combined.yaml"), fs::read(&combined)?)?;
    let mut certificates = Command::new(&tools.toolbox);
    step::run(certificates.arg("serving-pair").arg(&part).args(SERVICES))?;
    let all = step::run(Command::new(&tools.kubectl).arg("kustomize").arg(&part))?;
    let (definitions, objects) = split(&all);
    fs::write(part.join(DEFINITIONS), definitions)?;
    fs::write(part.join(OBJECTS), objects)?;
    if fs::rename(&part, &folder).is_err() {
        // Somebody else made the same just now. Either is as good, but not one's definitions with the other's secret.
        fs::remove_dir_all(&part)?;
    }
    tools::remove_old_versions(&cache, "manifests")?;
    Ok(folder)
}

/// Parts what has to be there before the objects that are of its kinds.
fn split(manifests: &str) -> (String, String) {
    let first = |document: &&str| {
        let kind = document
            .lines()
            .find_map(|line| line.strip_prefix("kind: "));
        kind == Some("CustomResourceDefinition")
    };
    let (definitions, objects): (Vec<&str>, Vec<&str>) =
        manifests.split("\n---\n").partition(first);
    (definitions.join("\n---\n"), objects.join("\n---\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_before_what_is_of_their_kinds() {
        let manifests = "kind: Namespace\n---\na: 1\nkind: Secret\n---\nkind: CustomResourceDefinition\nspec:\n  kind: Secret\n";
        let (definitions, objects) = split(manifests);
        assert_eq!(
            definitions,
            "kind: CustomResourceDefinition\nspec:\n  kind: Secret\n"
        );
        assert_eq!(objects, "kind: Namespace\n---\na: 1\nkind: Secret");
    }
}
