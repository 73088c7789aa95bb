//! A real API server takes what is rendered: every renderable file of the corpus goes through its strict server-side dry
//! run, as Kubernetes objects and, against both versions of its CRD, as a DevWorkspace.
//!
//! Needs `DEVFILE_DRY_RUN_KUBECONFIG`, a cluster administrator's kubeconfig for an API server without DevWorkspace
//! Operator (the test applies its CRDs), and `kubectl`, or its path in `KUBECTL`. Without them nothing is tested,
//! which the test says.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devfile::flatten::{Fetch, FetchError, FlattenOptions, Reference, flatten};
use devfile::model::Devfile;
use devfile::render::{RenderOptions, dev_workspace, for_operator, render};
use serde_json::{Value, json};

const NAMESPACE: &str = "devfile-dry-run";

struct Files;

impl Fetch for Files {
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError> {
        match reference {
            Reference::Location(path) if reference.address().is_none() => {
                std::fs::read_to_string(path).map_err(|error| FetchError::new(error.to_string()))
            }
            _ => Err(FetchError::new("tests reach no network")),
        }
    }
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn renderable() -> Vec<(String, Devfile)> {
    let root = tests_folder().join("corpus/devfiles");
    let index = std::fs::read_to_string(root.join("INDEX.tsv")).unwrap();
    index
        .lines()
        .skip(1)
        .filter_map(|line| {
            let path = root.join(line.split('\t').next().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.to_str().unwrap();
            let found = flatten(name, &text, &FlattenOptions::default(), &mut Files);
            Some((name.to_owned(), found.devfile?))
        })
        .collect()
}

struct Cluster(String);

impl Cluster {
    fn kubectl(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut child = Command::new(program)
            .args(["--kubeconfig", &self.0])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    fn dry_run(&self, objects: &[Value]) -> Result<(), String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let (fits, text) = self.kubectl(
            &[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--field-manager=devfile-test",
                "-f",
                "-",
            ],
            &list,
        );
        // What does not fit the restricted Pod security standard comes back as a warning.
        if fits && !text.contains("Warning") {
            Ok(())
        } else {
            Err(text)
        }
    }
}

#[test]
fn every_renderable_file_passes_the_strict_dry_run() {
    let kubeconfig = std::env::var("DEVFILE_DRY_RUN_KUBECONFIG");
    let cluster = Cluster(kubeconfig.expect("DEVFILE_DRY_RUN_KUBECONFIG names a kubeconfig"));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
        "pod-security.kubernetes.io/warn": "restricted"}}});
    let (made, text) = cluster.kubectl(&["apply", "-f", "-"], &namespace.to_string());
    assert!(made, "{text}");
    let devfiles = renderable();
    assert!(devfiles.len() >= 80, "{}", devfiles.len());
    let options = RenderOptions::new("demo", NAMESPACE);
    let mut refused = Vec::new();
    for (name, devfile) in &devfiles {
        let mut rendered = render(devfile, &options).unwrap();
        // A devfile's own Pods are as their author wrote them, and may not fit the restricted standard.
        rendered.objects.retain(|object| {
            let ours = object["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("demo"));
            ours || !matches!(object["kind"].as_str(), Some("Pod" | "Deployment" | "Job"))
        });
        if let Err(text) = cluster.dry_run(&rendered.objects) {
            refused.push(format!("{name}: {text}"));
        }
    }
    let mut operated = options.clone();
    operated.routing_class = Some("cluster".into());
    operated.selector = [("workspaces.gitlab.com/name".to_owned(), "demo".to_owned())].into();
    operated.pod_annotations = [("workspaces.gitlab.com/id".to_owned(), "1".to_owned())].into();
    for version in ["v0.17.0", "v0.42.0"] {
        install(&cluster, version);
        for (name, devfile) in &devfiles {
            // As the server does it.
            let mut devfile = devfile.clone();
            for_operator(&mut devfile, &operated).unwrap();
            let rendered = dev_workspace(&devfile, &operated).unwrap();
            let lacks = rendered
                .notes
                .iter()
                .any(|note| note.path == "dependentProjects");
            let taken = cluster.dry_run(&rendered.objects);
            if version == "v0.17.0" && lacks {
                // As its note says; by these words the agent knows why.
                let text = taken.expect_err("this version has no dependentProjects");
                assert!(text.contains("field not declared in schema"), "{text}");
                continue;
            }
            if let Err(text) = taken {
                refused.push(format!("{name} as DevWorkspace {version}: {text}"));
            }
        }
    }
    println!("{} files, {} refused", devfiles.len(), refused.len());
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Applies the CRDs of a version, without the conversion webhook of an operator that is not there.
fn install(cluster: &Cluster, version: &str) {
    for kind in ["devworkspaces", "devworkspacetemplates"] {
        let path = tests_folder().join(format!(
            "crds/dwo-{version}/{kind}.workspace.devfile.io.CustomResourceDefinition.yaml"
        ));
        let text = std::fs::read_to_string(path).unwrap();
        let mut kept = String::new();
        let mut skipping = false;
        for line in text.lines() {
            skipping = line.starts_with("  conversion:") || (skipping && line.starts_with("    "));
            if !skipping && !line.contains("inject-ca-from") {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        let (applied, text) = cluster.kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &kept,
        );
        assert!(applied, "{text}");
    }
    // Until the new schema is served: a field of the version decides.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let wanted = version == "v0.42.0";
    loop {
        let (_, text) = cluster.kubectl(
            &["explain", "devworkspaces.spec.template.dependentProjects"],
            "",
        );
        let has = text.contains("DESCRIPTION") || text.contains("FIELD: dependentProjects");
        if has == wanted && text.contains("dependentProjects") {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
