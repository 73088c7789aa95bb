//! What it stands: tokens that are not right, and everything around it going away and coming back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::wait::{wait_for, wait_until};
use serde_json::Value;
use tests::command::{Followed, outcome};
use tests::release::Release;

use crate::Test;
use crate::world::{CALL, CONNECT, MAIN, PLAYGROUND, TALKER, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_unknown_token_is_refused_and_said_once_then_a_right_one_works",
        unknown_token,
    ),
    (
        "a_revoked_token_ends_the_agent_and_a_new_one_brings_it_back",
        revoked_token,
    ),
    ("works_within_1_s_of_a_killed_servers_return", server_killed),
    (
        "one_pod_serves_while_the_other_is_killed_and_both_within_5_s",
        pod_killed,
    ),
];

/// After all others: the cluster's garbage collector needs a minute to recover from this, and other tests wait for it.
pub(crate) const LAST: &[Test] = &[(
    "works_within_5_s_of_the_api_servers_return",
    api_server_away,
)];

const STRANGER: &str = "stranger";

fn unknown_token(world: &mut World) -> Result<()> {
    let agent = world.server.create_agent(STRANGER, None)?;
    let release = Release::new(STRANGER);
    let unknown = "glagent-0000000000000000000000000000000000000000000000000";
    let mut values = world.values(unknown, "grpcs")?;
    values["replicas"] = 1.into();
    release.install(&world.cluster, &values, false)?;
    let pod = wait_for("the Pod is made", CONNECT, || {
        Ok(release.pods(&world.cluster)?.pop())
    })?;
    wait_until("the agent says that it is refused", CONNECT, || {
        Ok(refusals(&release.log(&world.cluster, &pod)?) > 0)
    })?;
    retries_in_silence(world, &release, &pod)?;
    let log = release.log(&world.cluster, &pod)?;
    ensure!(!log.contains(unknown), "the token is in the log");
    let shown = world.server.agent(STRANGER)?;
    ensure!(shown["connected"] == false, "{shown:#}");

    values["config"]["token"] = agent.token.as_str().into();
    release.install(&world.cluster, &values, true)?;
    world.server.wait_pods(STRANGER, 1, CONNECT)?;
    Ok(())
}

/// How often the log says that the token is refused.
fn refusals(log: &str) -> usize {
    log.matches("refuses the agent's token").count()
}

/// The agent tries again, by its own count, and the log has said it once.
fn retries_in_silence(world: &World, release: &Release, pod: &str) -> Result<()> {
    let failures = || -> Result<u64> {
        let metrics = release.metrics(&world.cluster, pod)?;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("agent_kas_failures_total"));
        lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .unwrap_or_default()
                    .parse::<u64>()
                    .context("no number")
            })
            .sum()
    };
    let before = failures()?;
    wait_until("the agent tries again, twice", CONNECT, || {
        Ok(failures()? >= before + 2)
    })?;
    let log = release.log(&world.cluster, pod)?;
    ensure!(refusals(&log) == 1, "said {} times:\n{log}", refusals(&log));
    Ok(())
}

/// Goes on where [`unknown_token`] ended, or makes the agent itself when that did not run.
fn revoked_token(world: &mut World) -> Result<()> {
    let release = Release::new(STRANGER);
    let name = "revoked";
    let agent = world.server.create_agent(name, None)?;
    let mut values = world.values(&agent.token, "grpcs")?;
    values["replicas"] = 1.into();
    release.install(&world.cluster, &values, true)?;
    world.server.wait_pods(name, 1, CONNECT)?;
    let pod = release.pods(&world.cluster)?.pop().context("no Pod")?;

    let tokens = world.server.agent(name)?["tokens"].clone();
    let id = tokens[0]["id"].as_u64().map(|id| id.to_string());
    let id = id
        .or_else(|| tokens[0]["id"].as_str().map(str::to_owned))
        .context("the token has no id")?;
    world.server.run(&["agent", "token", "revoke", name, &id])?;
    world
        .server
        .wait_pods(name, 0, Duration::from_secs(5))
        .context("open connections end within 5 s")?;
    wait_until("the agent says that it is refused", CONNECT, || {
        Ok(refusals(&release.log(&world.cluster, &pod)?) > 0)
    })?;
    retries_in_silence(world, &release, &pod)?;

    let created = world.server.json(&["agent", "token", "create", name])?;
    values["config"]["token"] = created["token"]
        .as_str()
        .context("no token in the answer")?
        .into();
    release.install(&world.cluster, &values, true)?;
    world.server.wait_pods(name, 1, CONNECT)?;
    release.uninstall(&world.cluster, CONNECT)
}

fn server_killed(world: &mut World) -> Result<()> {
    world.ask(&["get", "--raw", "/version"])?;
    world.server.kill();
    let gone = outcome(&mut world.person(&["get", "--raw", "/version"]), CALL)?;
    ensure!(gone.code != Some(0), "the server answers after kill -9");
    world.server.start_again()?;
    let listens = Instant::now();
    // The proxy waits for a tunnel; so the one call's time tells when it works again.
    world.ask(&["get", "--raw", "/version"])?;
    let took = listens.elapsed();
    ensure!(took <= Duration::from_secs(1), "it took {took:?}");
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    Ok(())
}

fn pod_killed(world: &mut World) -> Result<()> {
    let agent = world.server.wait_pods(MAIN, 2, CONNECT)?;
    let pod = agent["pods"][0]["pod_name"]
        .as_str()
        .context("no pod_name")?
        .to_owned();
    let restarts = restart_count(world, &pod)?;
    world.cluster.kill_in_pod(MAIN, &pod, "agent")?;
    wait_until(
        "the kubelet has started the container again",
        CONNECT,
        || {
            // The other Pod serves, without a single refusal.
            world.ask(&["get", "namespace", "default"])?;
            Ok(restart_count(world, &pod)? > restarts)
        },
    )?;
    let back = Instant::now();
    let limit = Duration::from_secs(5);
    world
        .server
        .wait_agent(MAIN, "both Pods are connected", limit, |agent| {
            let pods = agent["pods"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            pods.len() == 2 && pods.iter().any(|one| one["pod_name"] == pod.as_str())
        })?;
    ensure!(back.elapsed() <= limit, "it took {:?}", back.elapsed());
    Ok(())
}

/// How often the running container of the Pod has been started again.
fn restart_count(world: &World, pod: &str) -> Result<u64> {
    let object: Value =
        serde_json::from_str(&world.admin(&["get", "pod", "-n", MAIN, pod, "-o", "json"])?)?;
    let status = &object["status"]["containerStatuses"][0];
    let count = status["restartCount"].as_u64().context("no restartCount")?;
    // Counted when the new one runs, not when the old one has died.
    Ok(if status["state"]["running"].is_null() {
        0
    } else {
        count
    })
}

/// How long the API server stays away: long enough for every delay to reach its cap.
const AWAY: Duration = Duration::from_secs(60);

fn api_server_away(world: &mut World) -> Result<()> {
    world
        .release
        .install(&world.cluster, &world.main_values()?, true)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    let mut watch = Followed::start(&mut world.person(&["get", "pods", "-n", PLAYGROUND, "-w"]))?;
    watch.expect(TALKER, CALL)?;
    world.cluster.stop_program("kube-apiserver")?;
    let stopped = Instant::now();
    let answered = (|| {
        let outcome = outcome(&mut world.person(&["get", "--raw", "/version"]), CALL)?;
        ensure!(
            outcome.code != Some(0),
            "an API server that is away has answered: {outcome:?}"
        );
        ensure!(
            outcome.took < Duration::from_secs(10),
            "it took {:?} to say that the API server is away",
            outcome.took
        );
        // What was open is over, and the person's kubectl knows.
        watch
            .end(Duration::from_secs(10))
            .context("the watch ends with the API server")?;
        world
            .server
            .wait_pods(MAIN, 2, Duration::from_secs(1))
            .context("the agents stay connected")?;
        while stopped.elapsed() < AWAY {
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })();
    // Whatever was wrong, the other tests need it.
    world.cluster.start_program("kube-apiserver")?;
    wait_until("the API server is ready", CONNECT, || {
        Ok(world.admin(&["get", "--raw", "/readyz"])?.contains("ok"))
    })?;
    let back = Instant::now();
    answered?;
    loop {
        let outcome = world.try_ask(&["get", "namespace", "default"])?;
        let took = back.elapsed();
        if outcome.code == Some(0) && took <= Duration::from_secs(5) {
            break;
        }
        if took > Duration::from_secs(5) {
            bail!("not within 5 s of the API server's return: {outcome:?}");
        }
    }
    world.cluster.wait_ready()
}
