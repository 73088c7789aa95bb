//! A workspace's life by the agent's configuration file: what it is made of, and when time stops and ends it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::wait::{wait_for, wait_until};
use serde_json::Value;

use crate::Test;
use crate::workspaces::{DEVFILE, LIFE, repository, workspace};
use crate::world::{MAIN, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_changed_file_reaches_a_workspace_and_its_limits_stop_and_end_it",
    by_the_file,
)];

const NAME: &str = "by-the-file";
/// From a push to the configuration in force.
const IN_FORCE: Duration = Duration::from_secs(10);
/// From the moment that a limit is reached to the wish that follows.
const WISHED: Duration = Duration::from_secs(10);
/// Where the Git server of the tests is, no workspace gets by default.
const HEAD: &str = "remote_development:
  enabled: true
  network_policy: { enabled: false }
  max_active_hours_before_stop: 1
  max_stopped_hours_before_termination: 1
";

fn by_the_file(world: &mut World) -> Result<()> {
    let result = live(world);
    world.server.set_clock_ahead(0)?;
    configure(world, USUAL_CONFIGURATION)?;
    result
}

fn live(world: &mut World) -> Result<()> {
    let first = configure(world, &format!("{HEAD}  labels: {{ team: one }}\n"))?;
    let repository = repository(world, NAME, DEVFILE)?;
    let created = workspace(world, &["create", &repository, "--name", NAME])?;
    let configuration = &created["configuration"];
    ensure!(
        configuration["commit"] == first.as_str(),
        "{configuration:#}"
    );
    let namespace = created["namespace"].as_str().context("no namespace")?;
    ensure!(label(world, namespace)? == "one");
    let volumes = volumes(world, namespace)?;
    ensure!(!volumes.is_empty(), "no volume");

    // On restart, which is the default.
    configure(world, &format!("{HEAD}  labels: {{ team: two }}\n"))?;
    let shown = show(world)?;
    let differs = &shown["configuration"]["differs"];
    ensure!(differs == &serde_json::json!(["labels"]), "{shown:#}");
    ensure!(label(world, namespace)? == "one");
    let restarted = workspace(world, &["restart", NAME])?;
    ensure!(
        restarted["configuration"]["current"] == true,
        "{restarted:#}"
    );
    ensure!(label(world, namespace)? == "two");

    // At once: the running Pod is replaced by one that is made of the new file.
    let now = format!("{HEAD}  labels: {{ team: three }}\n  apply_changes: now\n");
    let third = configure(world, &now)?;
    wait_until("a Pod is made of the new file", LIFE, || {
        Ok(label(world, namespace)? == "three")
    })?;
    let shown = wait_for("the workspace runs with the new file", LIFE, || {
        let shown = show(world)?;
        let is_there = shown["configuration"]["commit"] == third.as_str()
            && shown["applied_generation"] == shown["generation"]
            && shown["actual_state"] == "Running";
        Ok(is_there.then_some(shown))
    })?;
    ensure!(shown["configuration"]["current"] == true, "{shown:#}");
    ensure!(
        self::volumes(world, namespace)? == volumes,
        "a volume was replaced"
    );

    // The limits. Nobody asks for anything from here on.
    let next = &shown["next_change"];
    ensure!(next["state"] == "Stopped", "{next:#}");
    world.server.set_clock_ahead(2)?;
    wait_desired(world, "Stopped")?;
    let shown = wait_actual(world, "Stopped")?;
    let next = &shown["next_change"];
    ensure!(next["state"] == "Terminated", "{next:#}");
    ensure!(self::volumes(world, namespace)? == volumes, "a volume went");
    let text = world.server.run(&["workspace", "show", NAME])?;
    ensure!(
        text.contains("Terminated at") && text.contains("stopped for 1 hour"),
        "{text}"
    );
    // With the notice that is given after a start of the server and a shorter limit.
    world.server.set_clock_ahead(2 + 13)?;
    wait_desired(world, "Terminated")?;
    wait_actual(world, "Terminated")?;
    let left = world.admin(&["get", "namespaces", "-o", "name"])?;
    ensure!(!left.contains(namespace), "{left}");
    Ok(())
}

/// Pushes a configuration file and waits until it is in force; its commit.
pub(crate) fn configure(world: &World, file: &str) -> Result<String> {
    let commit = world.project.push(&world.git, file, "Change the file")?;
    let is_in_force = |agent: &Value| {
        let configuration = &agent["configuration"];
        configuration["commit"] == commit.as_str() && configuration["error"].is_null()
    };
    let what = "the commit is in force";
    world.server.wait_agent(MAIN, what, IN_FORCE, is_in_force)?;
    Ok(commit)
}

fn show(world: &World) -> Result<Value> {
    world.server.json(&["workspace", "show", NAME])
}

fn wait_desired(world: &World, state: &str) -> Result<()> {
    let began = Instant::now();
    wait_until(&format!("time makes it {state}"), WISHED, || {
        Ok(show(world)?["desired_state"] == state)
    })?;
    println!(
        "        {state} {:.1} s after its time",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn wait_actual(world: &World, state: &str) -> Result<Value> {
    wait_for(&format!("it is {state}"), LIFE, || {
        let shown = show(world)?;
        Ok((shown["actual_state"] == state).then_some(shown))
    })
}

/// What the file says, on the newest Pod.
fn label(world: &World, namespace: &str) -> Result<String> {
    let pods = [
        "get",
        "pods",
        "-n",
        namespace,
        "--sort-by=.metadata.creationTimestamp",
        "-o",
        "jsonpath={.items[-1:].metadata.labels.team}",
    ];
    world.admin(&pods)
}

/// Names and UIDs of the volumes.
fn volumes(world: &World, namespace: &str) -> Result<String> {
    let volumes = [
        "get",
        "persistentvolumeclaims",
        "-n",
        namespace,
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}",
    ];
    world.admin(&volumes)
}
