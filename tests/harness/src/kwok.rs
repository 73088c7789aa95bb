//! Fake nodes and Pods, for what is to be measured with more of them than this machine can run.
//!
//! Kwok plays the kubelet of nodes that do not exist: their Pods become Ready at once and go when deleted.
//! Only Pods that tolerate [`TAINT`] and choose [`LABEL`] get there. Their volumes have to be of [`STORAGE_CLASS`],
//! as the real provisioner would make a folder on a node that does not exist.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::process::Process;
use crate::{paths, step, tools};

/// Its Go module.
const MODULE: &str = "sigs.k8s.io/kwok";
/// The taint of a fake node: key, value, effect.
pub const TAINT: (&str, &str, &str) = ("kwok.x-k8s.io/node", "fake", "NoSchedule");
/// The label of a fake node: key, value.
pub const LABEL: (&str, &str) = ("type", "kwok");
/// The class of volumes that are bound at once and hold nothing.
pub const STORAGE_CLASS: &str = "kwok-volume";
/// Pods that one of them takes.
pub const PODS_PER_NODE: u32 = 300;
/// For all nodes to be Ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Folders of kwok's stock behaviour: Ready at once, a heartbeat, gone at once.
const STAGES: [&str; 4] = [
    "node/fast",
    "node/heartbeat-with-lease",
    "pod/fast",
    "volume/fast",
];

/// A running kwok. It ends when dropped; its nodes are then NotReady until [`Kwok::stop`] or the cluster's end.
#[derive(Debug)]
pub struct Kwok {
    cluster: Cluster,
    process: Process,
}

/// Starts kwok in the cluster with this number of nodes (`fake-1` and so on), and waits until they are Ready.
///
/// # Errors
/// When it cannot be built, or does not start.
pub fn start(cluster: &Cluster, nodes: u32) -> Result<Kwok> {
    let program = tools::kwok()?;
    let stages = stages(&program)?;
    step::step(&format!("start {nodes} fake nodes"), || {
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .context("a path that is not text")
        };
        let (program, stages) = (text(&program)?, text(&stages)?);
        let mut command = cluster.run(&[
            &program,
            "--config",
            &stages,
            // It does not read KUBECONFIG.
            "--kubeconfig",
            crate::cluster::ADMIN_KUBECONFIG,
            "--manage-all-nodes=false",
            // Without leases the nodes would be NotReady after 50 s, and their Pods with them.
            "--node-lease-duration-seconds=40",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        ]);
        let log = paths::state_dir().join("kwok.log");
        let _ = fs::remove_file(&log); // of an earlier one
        let kwok = Kwok {
            process: Process::spawn(&mut command, &log)?,
            cluster: cluster.clone(),
        };
        let file = paths::state_dir().join("kwok-nodes.yaml");
        fs::write(&file, manifest(nodes))?;
        cluster.apply(&file)?;
        kwok.wait_ready(nodes)?;
        Ok(kwok)
    })
}

impl Kwok {
    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Removes the fake nodes, and with them their Pods, and ends kwok.
    ///
    /// # Errors
    /// When the API server does not do it.
    pub fn stop(self) -> Result<()> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let delete = ["delete", "nodes", "--selector", &selector, "--wait"];
        step::run(&mut self.cluster.kubectl(&delete)).map(drop)
    }

    fn wait_ready(&self, nodes: u32) -> Result<()> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let ready = r#"-ojsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let ask = ["get", "nodes", "--selector", &selector, ready];
        self.cluster
            .wait_until("the fake nodes are Ready", READY_LIMIT, || {
                let answer = step::run(&mut self.cluster.kubectl(&ask))?;
                let count = answer.lines().filter(|line| *line == "True").count();
                Ok(u32::try_from(count)? >= nodes)
            })
            .with_context(|| format!("the log is {}", self.log().display()))
    }
}

/// Kwok's stock stages in one file, beside the program.
fn stages(program: &Path) -> Result<PathBuf> {
    let file = program.with_file_name("all-stages.yaml");
    if file.exists() {
        return Ok(file);
    }
    let (_, source) = tools::required_module("kwok", MODULE)?;
    let mut all = String::new();
    for folder in STAGES {
        let folder = source.join("kustomize/stage").join(folder);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("kwok has no {}", folder.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        });
        files.sort();
        for path in files {
            let text = fs::read_to_string(path)?;
            if text.contains("\nkind: Stage\n") {
                all += "---\n";
                all += &text;
            }
        }
    }
    let part = file.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, all)?;
    fs::rename(&part, &file)?;
    Ok(file)
}

fn manifest(nodes: u32) -> String {
    let (key, value, effect) = TAINT;
    let (label, kind) = LABEL;
    let mut text = format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{ name: {STORAGE_CLASS} }}\nprovisioner: kwok.x-k8s.io/volume\n"
    );
    for number in 1..=nodes {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"---
apiVersion: v1
kind: Node
metadata:
  name: fake-{number}
  annotations: {{ kwok.x-k8s.io/node: fake }}
  labels: {{ {label}: {kind}, kubernetes.io/hostname: fake-{number} }}
spec:
  taints: [{{ key: {key}, value: {value}, effect: {effect} }}]
status:
  allocatable: {{ cpu: "64", memory: 512Gi, pods: "{PODS_PER_NODE}" }}
  capacity: {{ cpu: "64", memory: 512Gi, pods: "{PODS_PER_NODE}" }}
"#
        );
    }
    text
}
