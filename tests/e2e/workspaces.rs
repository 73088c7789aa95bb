//! Workspaces: from a devfile in a repository to Pods, and back to nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use harness::wait::wait_until;
use serde_json::Value;
use tests::command::{self, outcome};

use crate::Test;
use crate::world::{CALL, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_workspace_runs_stops_and_starts_with_its_files_and_leaves_nothing",
        whole_life,
    ),
    (
        "a_workspace_whose_image_is_not_there_says_so_and_others_go_on",
        image_not_there,
    ),
    (
        "a_deployment_or_namespace_deleted_by_hand_comes_back",
        deleted_by_hand,
    ),
    (
        "a_wrong_devfile_is_answered_at_once_with_its_place",
        wrong_devfile,
    ),
];

/// From a wish to its end, with an image to pull and a repository to clone.
pub(crate) const LIFE: Duration = Duration::from_secs(120);
/// A failure has to be shown by then.
const SHOWN: Duration = Duration::from_secs(30);

pub(crate) const DEVFILE: &str = "schemaVersion: 2.2.0
metadata:
  name: sample
components:
  - name: tools
    container:
      image: localhost/tools:1
      memoryLimit: 256Mi
      env:
        - name: GREETING
          value: hello
      endpoints:
        - name: web
          targetPort: 8080
  - name: cache
    volume:
      size: 1Gi
commands:
  - id: greet
    exec:
      component: tools
      commandLine: echo $GREETING > /tmp/greeted
events:
  postStart: [greet]
";

fn whole_life(world: &mut World) -> Result<()> {
    let repository = repository(world, "life", DEVFILE)?;
    let created = workspace(world, &["create", &repository, "--name", "life"])?;
    ensure!(created["actual_state"] == "Running", "{created:#}");
    let namespace = created["namespace"].as_str().context("no namespace")?;

    let inside = |script: &str| {
        let exec = [
            "exec",
            "-n",
            namespace,
            "deployment/life",
            "-c",
            "tools",
            "--",
        ];
        world.admin(&[exec.as_slice(), &["sh", "-c", script]].concat())
    };
    let cloned = inside("cat $PROJECT_SOURCE/README.md && git -C $PROJECT_SOURCE status --short")?;
    ensure!(cloned == "the sample\n", "{cloned:?}");
    wait_until("the postStart command has run", LIFE, || {
        Ok(inside("cat /tmp/greeted").is_ok_and(|text| text == "hello\n"))
    })?;
    let token = inside("ls /var/run/secrets/kubernetes.io 2>&1 || true")?;
    ensure!(
        token.contains("No such file"),
        "a service-account token: {token}"
    );
    inside("echo mine > $HOME/mine && echo edited >> $PROJECT_SOURCE/README.md")?;

    let stopped = workspace(world, &["stop", "life"])?;
    ensure!(stopped["actual_state"] == "Stopped", "{stopped:#}");
    // GitLab's rule calls it Stopped when the Deployment counts no Pod, which may still be saying goodbye.
    wait_until("the Pod is gone", LIFE, || {
        let pods = world.admin(&["get", "pods", "-n", namespace, "-o", "name"])?;
        Ok(pods.trim().is_empty())
    })?;
    let started = workspace(world, &["start", "life"])?;
    ensure!(started["actual_state"] == "Running", "{started:#}");
    let kept = inside("cat $HOME/mine && tail -n 1 $PROJECT_SOURCE/README.md")?;
    ensure!(kept == "mine\nedited\n", "{kept:?}");

    let restarted = workspace(world, &["restart", "life"])?;
    ensure!(restarted["actual_state"] == "Running", "{restarted:#}");
    delete(world, "life", namespace)
}

fn image_not_there(world: &mut World) -> Result<()> {
    // A name of this run's own: the registry keeps what an earlier one was served at its end.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let image = format!("registry.example.com/not/there:{now}");
    let broken = DEVFILE.replace("localhost/tools:1", &image);
    let repository_broken = repository(world, "no-image", &broken)?;
    let repository_good = repository(world, "beside", DEVFILE)?;
    world.server.json(&[
        "workspace",
        "create",
        &repository_broken,
        "--name",
        "no-image",
        "--agent",
        MAIN,
    ])?;
    let beside = workspace(world, &["create", &repository_good, "--name", "beside"])?;
    ensure!(beside["actual_state"] == "Running", "{beside:#}");
    let shown = wait_failure(world, "no-image", "ImageNotFound")?;
    let text = shown.to_string();
    ensure!(text.contains(&image), "{shown:#}");

    // The cause goes, and the failure with it.
    harness::images::stand_in(
        world.cluster.tools(),
        &image,
        harness::images::Filling::Debian,
    )?;
    let restarted = workspace(world, &["restart", "no-image"])?;
    ensure!(restarted["actual_state"] == "Running", "{restarted:#}");
    ensure!(
        restarted["failures"] == serde_json::json!([]),
        "{restarted:#}"
    );
    for name in ["no-image", "beside"] {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn deleted_by_hand(world: &mut World) -> Result<()> {
    let repository = repository(world, "by-hand", DEVFILE)?;
    workspace(world, &["create", &repository, "--name", "by-hand"])?;
    let namespace = "gl-rd-ns-by-hand";
    world.admin(&["delete", "deployment", "-n", namespace, "by-hand"])?;
    let is_back = || {
        let ready = [
            "get",
            "deployment",
            "-n",
            namespace,
            "by-hand",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ];
        Ok(world.admin(&ready).is_ok_and(|replicas| replicas == "1"))
    };
    wait_until("the Deployment is back", LIFE, is_back)?;
    world.admin(&["delete", "namespace", namespace, "--wait=true"])?;
    wait_until("the namespace is back", LIFE, is_back)?;
    delete(world, "by-hand", namespace)
}

fn wrong_devfile(world: &mut World) -> Result<()> {
    let wrong = DEVFILE.replace("memoryLimit: 256Mi", "memoryLimit: plenty");
    let repository = repository(world, "wrong", &wrong)?;
    let mut create = world.server.command(&[
        "workspace",
        "create",
        &repository,
        "--name",
        "wrong",
        "--agent",
        MAIN,
    ]);
    let outcome = outcome(&mut create, CALL)?;
    ensure!(outcome.code != Some(0), "{outcome:?}");
    ensure!(
        outcome.stderr.contains("line 8") && outcome.stderr.contains("memoryLimit"),
        "{}",
        outcome.stderr
    );
    let list = world.server.json(&["workspace", "list"])?;
    ensure!(!list.to_string().contains("\"wrong\""), "{list:#}");
    Ok(())
}

/// A repository with this devfile; its URL.
pub(crate) fn repository(world: &World, name: &str, devfile: &str) -> Result<String> {
    let project = format!("samples/{name}");
    world.git.create_project(&project)?;
    let files = [("devfile.yaml", devfile), ("README.md", "the sample\n")];
    world.git.commit(&project, &files, "Add a sample")?;
    Ok(world.git.url(&project))
}

/// `kas-stub workspace … --wait -o json`, to its end.
pub(crate) fn workspace(world: &World, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["workspace"];
    all.extend(arguments);
    if arguments.first() == Some(&"create") {
        all.extend(["--agent", MAIN]);
    }
    all.extend(["--wait", "-o", "json"]);
    let text = command::output(&mut world.server.command(&all), LIFE)?;
    Ok(serde_json::from_str(&text)?)
}

pub(crate) fn wait_failure(world: &World, name: &str, code: &str) -> Result<Value> {
    harness::wait::wait_for(&format!("{name} shows {code}"), SHOWN, || {
        let shown = world.server.json(&["workspace", "show", name])?;
        let failures = shown["failures"].as_array().cloned().unwrap_or_default();
        Ok(failures
            .iter()
            .any(|failure| failure["code"] == code)
            .then_some(shown))
    })
}

/// Deletes a workspace and sees that nothing of it is left.
pub(crate) fn delete(world: &World, name: &str, namespace: &str) -> Result<()> {
    let deleted = workspace(world, &["delete", name])?;
    ensure!(deleted["actual_state"] == "Terminated", "{deleted:#}");
    let mut get = world.cluster.kubectl(&["get", "namespace", namespace]);
    let outcome = outcome(&mut get, CALL)?;
    ensure!(outcome.stderr.contains("NotFound"), "{outcome:?}");
    let volumes = world.admin(&[
        "get",
        "pv",
        "-o",
        "jsonpath={.items[*].spec.claimRef.namespace}",
    ])?;
    let left = volumes
        .split_whitespace()
        .filter(|volume| *volume == namespace)
        .count();
    if left > 0 {
        wait_until("the volumes are gone", LIFE, || {
            let volumes = world.admin(&[
                "get",
                "pv",
                "-o",
                "jsonpath={.items[*].spec.claimRef.namespace}",
            ])?;
            Ok(!volumes.split_whitespace().any(|volume| volume == namespace))
        })?;
    }
    Ok(())
}
