//! Workspaces while agent and server go away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::wait::{wait_for, wait_until};
use serde_json::{Value, json};
use tests::command;
use tests::server::Server;

use crate::Test;
use crate::workspaces::{DEVFILE, LIFE, delete, repository, workspace};
use crate::world::{CALL, CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "agents_killed_in_the_middle_of_a_create_finish_it",
        agents_killed,
    ),
    (
        "a_server_killed_in_the_middle_of_a_create_finishes_it",
        server_killed,
    ),
    (
        "the_leaders_death_moves_the_work_within_15_s",
        leader_killed,
    ),
    (
        "an_empty_server_with_the_same_token_deletes_nothing_and_can_adopt",
        empty_server,
    ),
    (
        "b06_what_happens_while_the_server_is_away_is_told_with_its_times",
        while_away,
    ),
];

/// After all others, as it takes the API server away.
pub(crate) const LAST: &[Test] = &[(
    "b02_a_minute_without_the_api_server_loses_and_restarts_nothing",
    api_server_away,
)];

/// How long the API server stays away: long enough for the lease to be lost, and every delay to reach its cap.
const AWAY: Duration = Duration::from_secs(60);

/// Field report B02, with a shorter outage: every delay has reached its cap by then.
fn api_server_away(world: &mut World) -> Result<()> {
    // A test before this one may have taken it away.
    world
        .release
        .install(&world.cluster, &world.main_values()?, true)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    for name in ["stays", "changes"] {
        let repository = repository(world, name, DEVFILE)?;
        workspace(world, &["create", &repository, "--name", name])?;
    }
    let namespace = "gl-rd-ns-stays";
    let before = (identities(world, namespace)?, containers(world, namespace)?);
    let agents = containers(world, MAIN)?;
    let show = || world.server.json(&["workspace", "show", "stays"]);
    let shown = show()?;

    world.cluster.stop_program("kube-apiserver")?;
    let stopped = Instant::now();
    let asked = (|| {
        world.server.json(&["workspace", "stop", "changes"])?;
        wait_until("nothing is heard of it any more", AWAY, || {
            Ok(!show()?["unknown_since"].is_null())
        })?;
        while stopped.elapsed() < AWAY {
            // Nobody can see it, so nothing new is said of it.
            let now = show()?;
            ensure!(now["actual_state"] == "Running", "{now:#}");
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    })();
    // Whatever was wrong, the other tests need it.
    world.cluster.start_program("kube-apiserver")?;
    wait_until("the API server is ready", CONNECT, || {
        Ok(world.admin(&["get", "--raw", "/readyz"])?.contains("ok"))
    })?;
    asked?;
    // What was asked meanwhile is done.
    let changed = workspace(world, &["stop", "changes"])?;
    ensure!(changed["actual_state"] == "Stopped", "{changed:#}");
    let replicas = [
        "get",
        "deployment",
        "-n",
        "gl-rd-ns-changes",
        "changes",
        "-o",
        "jsonpath={.spec.replicas}",
    ];
    ensure!(world.admin(&replicas)? == "0");
    world.cluster.wait_ready()?;
    // The cluster calls a node's Pods unready that it has not heard of for a while, and the workspace with them.
    wait_until("it runs as before", CONNECT, || {
        let now = show()?;
        let same = |field| now[field] == shown[field];
        Ok(same("actual_state") && same("failures") && same("unknown_since"))
    })?;
    let after = (identities(world, namespace)?, containers(world, namespace)?);
    ensure!(before == after, "before {before:?}, after {after:?}");
    ensure!(
        agents == containers(world, MAIN)?,
        "the agents were started again"
    );
    for name in ["stays", "changes"] {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

/// The running containers of a namespace's Pods, and how often each was started again.
fn containers(world: &World, namespace: &str) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.uid}={.status.containerStatuses[*].restartCount} {end}";
    world.admin(&["get", "pods", "-n", namespace, "-o", path])
}

fn agents_killed(world: &mut World) -> Result<()> {
    begin(world, "agents-killed")?;
    for pod in world.release.pods(&world.cluster)? {
        world.cluster.kill_in_pod(MAIN, &pod, "agent")?;
    }
    finish(world, "agents-killed")
}

fn server_killed(world: &mut World) -> Result<()> {
    begin(world, "server-killed")?;
    world.server.kill();
    world.server.start_again()?;
    finish(world, "server-killed")
}

fn leader_killed(world: &mut World) -> Result<()> {
    let agent = world.server.wait_pods(MAIN, 2, CONNECT)?;
    let leases = world.admin(&[
        "get",
        "lease",
        "-n",
        MAIN,
        "-o",
        "jsonpath={.items[*].spec.holderIdentity}",
    ])?;
    let leader = leases.split_whitespace().next().context("nobody leads")?;
    ensure!(
        agent.to_string().contains(leader),
        "{leader} leads, and is not connected"
    );
    // Its whole Pod goes at once, so that it cannot take the lead again under its name.
    world.admin(&[
        "delete",
        "pod",
        "-n",
        MAIN,
        leader,
        "--grace-period=0",
        "--force",
    ])?;
    begin(world, "leaderless")?;
    let is_made = || {
        Ok(world
            .admin(&[
                "get",
                "deployment",
                "-n",
                "gl-rd-ns-leaderless",
                "leaderless",
            ])
            .is_ok())
    };
    wait_until(
        "another Pod does the work",
        Duration::from_secs(15),
        is_made,
    )?;
    finish(world, "leaderless")
}

fn empty_server(world: &mut World) -> Result<()> {
    const NAME: &str = "left";
    let namespace = "gl-rd-ns-left";
    let repository = repository(world, NAME, DEVFILE)?;
    let made = workspace(world, &["create", &repository, "--name", NAME])?;
    let id = made["id"].as_str().context("no id")?;
    let before = identities(world, namespace)?;

    world.server.kill();
    let data = world.folder.join("server-empty");
    std::fs::create_dir_all(&data)?;
    // The agents trust the old server's certificates.
    let mut copy = std::process::Command::new("cp");
    command::output(
        copy.arg("-a")
            .arg(world.folder.join("server/tls"))
            .arg(&data),
        CALL,
    )?;
    let token = world.folder.join("token");
    std::fs::write(&token, &world.agent.token)?;
    let adopted = (|| {
        let empty = Server::start(&data, &world.folder.join("server-empty.log"))?;
        let agent_id = world.agent.id.to_string();
        let token = token.to_str().context("path is not UTF-8")?;
        empty.run(&[
            "agent",
            "create",
            MAIN,
            "--import-id",
            &agent_id,
            "--import-token-file",
            token,
            "--project",
            &world.git.url("group/agents"),
        ])?;
        let agent = empty.wait_agent(MAIN, "the orphan is listed", CONNECT, |agent| {
            let allows = agent["workspaces"]["enabled"] == true;
            allows && agent["orphans"].to_string().contains(id)
        })?;
        ensure!(agent["orphans"].to_string().contains(NAME), "{agent:#}");
        ensure!(
            identities(world, namespace)? == before,
            "something was made anew"
        );
        let adopt = [
            "workspace",
            "create",
            &repository,
            "--name",
            NAME,
            "--adopt",
            id,
            "--agent",
            MAIN,
        ];
        let wait = ["--wait", "-o", "json"];
        let text = command::output(&mut empty.command(&[&adopt[..], &wait[..]].concat()), LIFE)?;
        let adopted: Value = serde_json::from_str(&text)?;
        ensure!(adopted["actual_state"] == "Running", "{adopted:#}");
        ensure!(
            identities(world, namespace)? == before,
            "something was made anew"
        );
        Ok(())
    })();
    std::fs::remove_file(&token)?;
    // The other tests need the old one.
    world.server.start_again()?;
    adopted?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    delete(world, NAME, namespace)
}

/// Field report B06.
fn while_away(world: &mut World) -> Result<()> {
    const RUN: [&str; 3] = ["runs", "dies-one", "dies-two"];
    const ALL: [&str; 5] = ["runs", "dies-one", "dies-two", "starts", "fails"];
    /// What the server is told late is shown within this time of its return.
    const TOLD: Duration = Duration::from_secs(10);
    let namespace = |name: &str| format!("gl-rd-ns-{name}");
    for name in RUN {
        begin(world, name)?;
    }
    for name in RUN {
        workspace(world, &["start", name])?;
    }
    begin(world, "starts")?;
    let wrong = DEVFILE.replace("localhost/tools:1", "registry.example.com/not/there:b06");
    let wrong = repository(world, "fails", &wrong)?;
    let create = [
        "workspace",
        "create",
        &wrong,
        "--name",
        "fails",
        "--agent",
        MAIN,
    ];
    world.server.json(&create)?;
    for name in ["starts", "fails"] {
        wait_until(&format!("{name} is begun"), CONNECT, || {
            let get = ["get", "deployment", "-n", &namespace(name), name];
            Ok(world.admin(&get).is_ok())
        })?;
    }
    world.server.kill();

    for name in &RUN[1..] {
        let delete = [
            "delete",
            "pods",
            "-n",
            &namespace(name),
            "--all",
            "--wait=false",
        ];
        world.admin(&delete)?;
    }
    let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let waiting = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    for name in ALL {
        let (path, becomes) = match name {
            "fails" => (waiting, "ImagePullBackOff"),
            _ => (ready, "True"),
        };
        wait_until(&format!("{name} is {becomes} in the cluster"), LIFE, || {
            Ok(world.admin(&["get", "pods", "-n", &namespace(name), "-o", path])? == becomes)
        })?;
    }
    let pods = |world: &World| -> Result<Vec<String>> {
        ALL.iter()
            .map(|name| containers(world, &namespace(name)))
            .collect()
    };
    let before = pods(world)?;
    // The clocks of server and cluster are one here.
    let back = jiff::Timestamp::now();
    world.server.start_again()?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    for name in ALL {
        let shown = wait_for(&format!("{name} is told as it is"), TOLD, || {
            let shown = world.server.json(&["workspace", "show", name])?;
            let right = match name {
                "fails" => shown["failures"].to_string().contains("ImageNotFound"),
                _ => shown["actual_state"] == "Running" && shown["failures"] == json!([]),
            };
            Ok(right.then_some(shown))
        })?;
        let changed = match name {
            "fails" => &shown["failures"][0]["since"],
            _ => &shown["actual_state_changed_at"],
        };
        let changed: jiff::Timestamp = changed.as_str().context("no time")?.parse()?;
        ensure!(changed < back, "{name} changed at {changed}, {shown:#}");
    }
    ensure!(
        pods(world)? == before,
        "something was made anew or started again"
    );
    for name in ALL {
        delete(world, name, &namespace(name))?;
    }
    Ok(())
}

/// The UIDs of what must not be made anew.
fn identities(world: &World, namespace: &str) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid} {end}";
    world.admin(&[
        "get",
        "persistentvolumeclaims,deployments,services",
        "-n",
        namespace,
        "-o",
        path,
    ])
}

/// Asks for a workspace and waits only until the agent has begun.
fn begin(world: &World, name: &str) -> Result<()> {
    let repository = repository(world, name, DEVFILE)?;
    world.server.json(&[
        "workspace",
        "create",
        &repository,
        "--name",
        name,
        "--agent",
        MAIN,
    ])?;
    Ok(())
}

fn finish(world: &World, name: &str) -> Result<()> {
    let running = workspace(world, &["start", name])?;
    ensure!(running["actual_state"] == "Running", "{running:#}");
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    delete(world, name, &format!("gl-rd-ns-{name}"))
}
