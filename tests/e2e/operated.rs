//! Workspaces that the real DevWorkspace Operator runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use harness::devworkspace;
use harness::images::{Filling, stand_in};
use harness::wait::{wait_for, wait_until};
use serde_json::{Value, json};
use tests::command::{self, Followed, outcome};

use crate::Test;
use crate::access::open_program;
use crate::workspaces::{DEVFILE, LIFE, delete, repository, wait_failure, workspace};
use crate::world::{CALL, CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "without_the_devworkspace_operator_it_is_said_and_native_ones_run_until_it_comes",
        comes_later,
    ),
    (
        "the_real_devworkspace_operator_runs_a_workspace",
        by_the_operator,
    ),
    ("what_the_operator_gave_up_is_told_and_not_fought", gives_up),
    (
        "with_the_operators_webhook_down_native_workspaces_go_on",
        webhook_down,
    ),
];

/// The agent notices within this time that the operator has come or gone.
const NOTICED: Duration = Duration::from_secs(15);
/// From the operator's own status to the server's.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
const DEFINITION: &str = "devworkspaces.workspace.devfile.io";

/// In the parent: the container, with an endpoint that the operator asks for its health.
const PARENT: &str = "schemaVersion: 2.2.0
components:
  - name: tools
    container:
      image: localhost/tools:1
      memoryLimit: 256Mi
      command: [python3]
      args: ['-m', http.server, '8081', '--directory', /tmp]
      endpoints:
        - {name: web, targetPort: 8080}
        - {name: main, targetPort: 8081, attributes: {type: main}}
";
const CHILD: &str = "schemaVersion: 2.2.0
attributes:
  controller.devfile.io/storage-type: common
parent: {uri: parent/devfile.yaml}
components:
  - name: cache
    volume: {size: 1Gi}
";

fn operator_is(world: &World, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    let is = |agent: &Value| is(&agent["devworkspaces"]);
    world.server.wait_agent(MAIN, what, NOTICED, is).map(drop)
}

fn create(world: &World, repository: &str, name: &str) -> Result<Value> {
    let create = ["create", repository, "--name", name];
    workspace(
        world,
        &[&create[..], &["--backend", "devworkspace"]].concat(),
    )
}

fn comes_later(world: &mut World) -> Result<()> {
    // On a cluster that was kept it may be there.
    world.admin(&[
        "delete",
        "customresourcedefinition",
        DEFINITION,
        "--ignore-not-found",
    ])?;
    operator_is(world, "told that there is no operator", |it| {
        it["code"] == "operator_missing"
    })?;
    let repository = repository(world, "later", DEVFILE)?;
    let refused = [
        "workspace",
        "create",
        &repository,
        "--name",
        "later",
        "--agent",
        MAIN,
        "--backend",
        "devworkspace",
    ];
    let refused = outcome(&mut world.server.command(&refused), CALL)?;
    ensure!(
        refused.code != Some(0) && refused.stderr.contains("install the DevWorkspace Operator"),
        "{refused:?}"
    );
    let native = workspace(world, &["create", &repository, "--name", "native"])?;
    ensure!(native["actual_state"] == "Running", "{native:#}");
    let restarts = agents(world)?;

    devworkspace::install(&world.cluster)?;
    operator_is(world, "told that it has come", |it| it["available"] == true)?;
    ensure!(agents(world)? == restarts, "an agent was started again");
    let created = create(world, &repository, "later")?;
    ensure!(created["actual_state"] == "Running", "{created:#}");
    for name in ["native", "later"] {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn by_the_operator(world: &mut World) -> Result<()> {
    devworkspace::install(&world.cluster)?;
    world.git.create_project("samples/operated")?;
    let files = [("devfile.yaml", CHILD), ("parent/devfile.yaml", PARENT)];
    world
        .git
        .commit("samples/operated", &files, "Add a sample")?;
    let repository = world.git.url("samples/operated");
    let created = create(world, &repository, "operated")?;
    ensure!(created["actual_state"] == "Running", "{created:#}");
    let namespace = created["namespace"].as_str().context("no namespace")?;
    let field = |path: &str| field(world, namespace, "operated", path);
    ensure!(field("{.status.phase}")? == "Running");

    // No Ingress; its own volume; our address of the main endpoint beside the operator's.
    let others = ["get", "ingress,pvc", "-n", namespace, "-o", "name"];
    let made = world.admin(&others)?;
    ensure!(
        made.trim().starts_with("persistentvolumeclaim/storage-")
            && made.trim().lines().count() == 1,
        "{made}"
    );
    let shown = world.server.json(&["workspace", "show", "operated"])?;
    let main = field("{.status.mainUrl}")?;
    ensure!(main.ends_with(&format!(".{namespace}.svc:8081")), "{main}");
    ensure!(shown["operator"]["main_url"] == main, "{shown:#}");
    ensure!(
        shown["main_url"].to_string().contains("8081-operated."),
        "{shown:#}"
    );
    ensure!(
        shown["notes"]
            .to_string()
            .contains("it became per-workspace"),
        "{shown:#}"
    );
    let deployment = world.admin(&["get", "deployment", "-n", namespace, "-o", "name"])?;
    // exec is for everybody whom the cluster lets: this is not who made it.
    open_program(world, "operated", namespace, deployment.trim())?;
    creator(world, namespace)?;

    // Its Pods are known by our labels.
    let selector = "agent.gitlab.com/id,workspaces.gitlab.com/name=operated";
    let pods = ["get", "pods", "-n", namespace, "-l", selector, "-o", "name"];
    ensure!(world.admin(&pods)?.lines().count() == 1);

    // Stopped in the cluster: followed, and started again only when somebody says so.
    let patch = r#"{"metadata":{"annotations":{"controller.devfile.io/stopped-by":"the test"}},"spec":{"started":false}}"#;
    world.admin(&[
        "patch",
        "devworkspace",
        "-n",
        namespace,
        "operated",
        "--type=merge",
        "-p",
        patch,
    ])?;
    let stopped = at_rest(world, "its stop is followed")?;
    ensure!(
        stopped["desired_state_reason"]
            .to_string()
            .contains("the test"),
        "{stopped:#}"
    );
    ensure!(field("{.spec.started}")? == "false");
    let lag = start_and_measure(world, namespace)?;
    println!(
        "        Running is shown {} ms after the operator's own status",
        lag.as_millis()
    );
    ensure!(lag <= SHOWN_WITHIN, "{lag:?}");

    // An hour passes in which nobody uses it: the operator would let it run.
    world.server.set_clock_ahead(1)?;
    let stopped = at_rest(world, "the idle workspace is stopped");
    let started = field("{.spec.started}");
    world.server.set_clock_ahead(0)?;
    let stopped = stopped?;
    ensure!(
        stopped["desired_state_reason"]
            .to_string()
            .contains("not used for 30 minutes"),
        "{stopped:#}"
    );
    ensure!(started? == "false");
    delete(world, "operated", namespace)
}

/// Waits until the workspace is stopped, and that is what is wished.
fn at_rest(world: &World, what: &str) -> Result<Value> {
    wait_for(what, LIFE, || {
        let shown = world.server.json(&["workspace", "show", "operated"])?;
        let is_at_rest = shown["desired_state"] == "Stopped"
            && shown["actual_state"] == "Stopped"
            && shown["generation"] == shown["applied_generation"];
        Ok(is_at_rest.then_some(shown))
    })
}

/// The operator's webhook names who made a workspace: the agent's account, and nobody can change that.
fn creator(world: &World, namespace: &str) -> Result<()> {
    let creator = field(
        world,
        namespace,
        "operated",
        r"{.metadata.labels.controller\.devfile\.io/creator}",
    )?;
    let pod = world
        .release
        .pods(&world.cluster)?
        .pop()
        .context("no agent")?;
    let of_pod = [
        "get",
        "pod",
        "-n",
        MAIN,
        &pod,
        "-o",
        "jsonpath={.spec.serviceAccountName}",
    ];
    let account = world.admin(&of_pod)?;
    let uid = world.admin(&[
        "get",
        "serviceaccount",
        "-n",
        MAIN,
        &account,
        "-o",
        "jsonpath={.metadata.uid}",
    ])?;
    ensure!(
        creator == uid,
        "{creator}, and the agent's account is {uid}"
    );
    let label = [
        "label",
        "devworkspace",
        "-n",
        namespace,
        "operated",
        "controller.devfile.io/creator=me",
        "--overwrite",
    ];
    let refused = outcome(&mut world.cluster.kubectl(&label), CALL)?;
    ensure!(refused.stderr.contains("immutable"), "{refused:?}");
    Ok(())
}

/// How long after the operator's own status the server shows that it runs.
fn start_and_measure(world: &World, namespace: &str) -> Result<Duration> {
    let watch = [
        "get",
        "devworkspace",
        "-n",
        namespace,
        "operated",
        "-w",
        "-o",
        "jsonpath={.status.phase}{\"\\n\"}",
    ];
    let mut watched = Followed::start(&mut world.cluster.kubectl(&watch))?;
    watched.expect("Stopped", CALL)?;
    world.server.json(&["workspace", "start", "operated"])?;
    std::thread::scope(|scope| {
        let said = scope.spawn(move || watched.expect("Running", LIFE).map(|_| Instant::now()));
        wait_until("it runs again", LIFE, || {
            let shown = world.server.json(&["workspace", "show", "operated"])?;
            Ok(shown["actual_state"] == "Running")
        })?;
        let shown = Instant::now();
        let said = said.join().ok().context("the watch panicked")??;
        Ok(shown.saturating_duration_since(said))
    })
}

fn gives_up(world: &mut World) -> Result<()> {
    devworkspace::install(&world.cluster)?;
    // A name of this run's own: the registry keeps what an earlier one was served at its end.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let image = format!("registry.example.com/operated/there:{now}");
    let broken = DEVFILE.replace("localhost/tools:1", &image);
    let repository = repository(world, "given-up", &broken)?;
    let arguments = [
        "workspace",
        "create",
        &repository,
        "--name",
        "given-up",
        "--agent",
        MAIN,
        "--backend",
        "devworkspace",
        "--wait",
    ];
    let failed = command::outcome(&mut world.server.command(&arguments), LIFE)?;
    ensure!(
        failed.code != Some(0)
            && failed.stderr.contains("ImageNotFound")
            && failed.stderr.contains(&image),
        "{failed:?}"
    );
    let namespace = "gl-rd-ns-given-up";
    let shown = wait_for("it is given up", LIFE, || {
        let shown = world.server.json(&["workspace", "show", "given-up"])?;
        Ok((shown["operator"]["phase"] == "Failed").then_some(shown))
    })?;
    ensure!(
        shown["actual_state"] == "Failed" && shown["desired_state"] == "Running",
        "{shown:#}"
    );
    // What the Pods said is told after they have gone.
    ensure!(
        shown["failures"].to_string().contains("ImageNotFound"),
        "{shown:#}"
    );
    let state = || {
        let generation = field(world, namespace, "given-up", "{.metadata.generation}")?;
        Ok::<_, anyhow::Error>((
            generation,
            field(world, namespace, "given-up", "{.spec.started}")?,
        ))
    };
    let before = state()?;
    ensure!(before.1 == "false", "{before:?}");
    // The next leader does not start it either.
    let restart = ["rollout", "restart", "-n", MAIN, "deployment"];
    world.admin(&restart)?;
    let status = [
        "rollout",
        "status",
        "-n",
        MAIN,
        "deployment",
        "--timeout=90s",
    ];
    command::output(&mut world.cluster.kubectl(&status), LIFE)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    operator_is(world, "seen by the new leader", |it| {
        it["available"] == true
    })?;
    wait_until("it is heard of again", CONNECT, || {
        let shown = world.server.json(&["workspace", "show", "given-up"])?;
        Ok(shown["unknown_since"].is_null() && shown["actual_state"] == "Failed")
    })?;
    ensure!(state()? == before, "somebody wrote it");

    stand_in(world.cluster.tools(), &image, Filling::Debian)?;
    let started = workspace(world, &["start", "given-up"])?;
    ensure!(
        started["actual_state"] == "Running" && started["failures"] == json!([]),
        "{started:#}"
    );
    delete(world, "given-up", namespace)
}

fn webhook_down(world: &mut World) -> Result<()> {
    devworkspace::install(&world.cluster)?;
    let repository = repository(world, "webhook", DEVFILE)?;
    scale_webhook(world, 0)?;
    let judged = while_it_is_down(world, &repository);
    scale_webhook(world, 1)?;
    devworkspace::wait_ready(&world.cluster)?;
    judged?;
    // Tried again by itself.
    let running = workspace(world, &["start", "webhook"])?;
    ensure!(running["actual_state"] == "Running", "{running:#}");
    operator_is(world, "told that it is well", |it| it["available"] == true)?;
    for name in ["webhook", "beside-it"] {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn while_it_is_down(world: &World, repository: &str) -> Result<()> {
    let arguments = [
        "workspace",
        "create",
        repository,
        "--name",
        "webhook",
        "--agent",
        MAIN,
        "--backend",
        "devworkspace",
    ];
    world.server.json(&arguments)?;
    wait_failure(world, "webhook", "OperatorUnavailable")?;
    operator_is(world, "told that it is not well", |it| {
        it["code"] == "operator_webhook_down"
    })?;
    let native = workspace(world, &["create", repository, "--name", "beside-it"])?;
    ensure!(native["actual_state"] == "Running", "{native:#}");
    Ok(())
}

fn scale_webhook(world: &World, replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let scale = [
        "scale",
        "-n",
        devworkspace::NAMESPACE,
        "deployment/devworkspace-webhook-server",
        &replicas,
    ];
    world.admin(&scale)?;
    if replicas.ends_with('0') {
        let pods = [
            "get",
            "pods",
            "-n",
            devworkspace::NAMESPACE,
            "-l",
            "app.kubernetes.io/name=devworkspace-webhook-server",
            "-o",
            "name",
        ];
        wait_until("the webhook's Pods are gone", CONNECT, || {
            Ok(world.admin(&pods)?.trim().is_empty())
        })?;
    }
    Ok(())
}

/// The agents' Pods.
fn agents(world: &World) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.uid}={.status.containerStatuses[*].restartCount} {end}";
    world.admin(&["get", "pods", "-n", MAIN, "-o", path])
}

fn field(world: &World, namespace: &str, name: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    world.admin(&["get", "devworkspace", "-n", namespace, name, "-o", &path])
}
