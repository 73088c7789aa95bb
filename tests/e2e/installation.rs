//! The chart: what it installs, how it is changed, that nothing of it stays.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use harness::step;
use serde_json::{Value, json};
use tests::server::PEOPLE_ADDRESS;

use crate::world::{CALL, CONNECT, MAIN, World};
use crate::{Test, service, workspaces};

pub(crate) const TESTS: &[Test] = &[
    ("chart_installs_two_pods_that_connect_over_grpcs", two_pods),
    ("pods_pass_the_restricted_pod_security_standard", restricted),
    ("metrics_and_probes_are_served", metrics),
    ("no_way_into_the_cluster_and_two_out", isolation),
    (
        "upgrade_and_rollback_lose_no_call_and_restart_no_workspace",
        rolling,
    ),
];

/// After all that need the agent.
pub(crate) const LAST: &[Test] = &[("uninstall_leaves_nothing_but_the_workspaces", uninstall)];

/// What the main agent's chart makes of its release's name.
const DEPLOYMENT: &str = "main-remote-dev-agent";
/// A workspace that lives on while the agent is replaced.
const STEADY: &str = "steady";
/// A workspace that lives on when the agent is gone.
const STAYS: &str = "stays";

fn two_pods(world: &mut World) -> Result<()> {
    let agent = world.server.wait_pods(MAIN, 2, CONNECT)?;
    let mut told: Vec<&str> = agent["pods"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["pod_name"].as_str())
        .collect();
    let mut real = world.release.pods(&world.cluster)?;
    told.sort_unstable();
    real.sort_unstable();
    ensure!(
        told == real,
        "the server knows {told:?}, the cluster has {real:?}"
    );
    Ok(())
}

fn restricted(world: &mut World) -> Result<()> {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    // A server-side dry run of the label answers with a warning for every Pod that breaks the standard.
    let mut dry_run = world.cluster.kubectl(&[
        "label",
        "--dry-run=server",
        "--overwrite",
        "namespace",
        MAIN,
        label,
    ]);
    let outcome = tests::command::outcome(&mut dry_run, CALL)?;
    ensure!(
        outcome.code == Some(0) && !outcome.stderr.contains("violat"),
        "{}",
        outcome.stderr
    );
    Ok(())
}

fn metrics(world: &mut World) -> Result<()> {
    for pod in world.release.pods(&world.cluster)? {
        let metrics = world.release.metrics(&world.cluster, &pod)?;
        for name in [
            "agent_configuration_info{",
            "agent_tunnel_connections{state=\"idle\"}",
            "agent_log_level_info{",
        ] {
            ensure!(metrics.contains(name), "{pod} has no {name} in\n{metrics}");
        }
        for probe in ["liveness", "readiness"] {
            world.admin(&[
                "get",
                "--raw",
                &format!("/api/v1/namespaces/{MAIN}/pods/{pod}:8080/proxy/{probe}"),
            ])?;
        }
    }
    Ok(())
}

fn isolation(world: &mut World) -> Result<()> {
    harness::reachability::check(&world.cluster)
}

/// A client that asks again and again over one connection, and a workspace, while every Pod of the agent is replaced twice.
fn rolling(world: &mut World) -> Result<()> {
    let repository = workspaces::repository(world, STEADY, workspaces::DEVFILE)?;
    workspaces::workspace(world, &["create", &repository, "--name", STEADY])?;
    let namespace = format!("gl-rd-ns-{STEADY}");
    // With a workspace there is a namespace in which the doctor can see how volumes fare.
    let (is_fine, report) = service::doctor(world, MAIN, DEPLOYMENT)?;
    ensure!(
        is_fine && service::verdict(&report, "storage class") == "ok",
        "{report:#}"
    );
    let before = containers(world, &namespace)?;
    let revision = revision(world)?;
    let mut values = world.main_values()?;
    values["podLabels"] = json!({"round": std::process::id().to_string()});

    let caller = Caller::start(world)?;
    let replaced = |change: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let old = world.release.pods(&world.cluster)?;
        change()?;
        harness::wait::wait_until("the old Pods are gone", CONNECT, || {
            let now = world.release.pods(&world.cluster)?;
            Ok(now.len() == 2 && now.iter().all(|pod| !old.contains(pod)))
        })?;
        world.server.wait_pods(MAIN, 2, CONNECT)?;
        Ok(())
    };
    replaced(&mut || world.release.install(&world.cluster, &values, true))?;
    replaced(&mut || {
        let back = [
            "rollback",
            MAIN,
            &revision,
            "-n",
            MAIN,
            "--wait",
            "--timeout=120s",
        ];
        step::run(&mut world.cluster.helm(&back)).map(drop)
    })?;
    let answers = caller.stop()?;

    let failed: Vec<&String> = answers.iter().filter(|it| *it != "200").collect();
    ensure!(
        failed.is_empty() && answers.len() >= 100,
        "of {} requests these were not answered with 200: {failed:?}",
        answers.len()
    );
    let after = containers(world, &namespace)?;
    ensure!(before == after, "{before} became {after}");
    workspaces::delete(world, STEADY, &namespace)
}

/// Uid and restarts of every container in a namespace.
fn containers(world: &World, namespace: &str) -> Result<String> {
    let path = "-ojsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    let text = world.admin(&["get", "pods", "-n", namespace, path])?;
    ensure!(!text.trim().is_empty(), "no Pod in {namespace}");
    Ok(text)
}

/// The release's revision.
fn revision(world: &World) -> Result<String> {
    let history = ["history", MAIN, "-n", MAIN, "--max=1", "-o", "json"];
    let text = step::run(&mut world.cluster.helm(&history))?;
    let history: Value = serde_json::from_str(&text)?;
    Ok(history[0]["revision"].to_string())
}

/// `curl` in the loop: one request after the other through the tunnel, over a connection that stays.
struct Caller {
    curl: Child,
    answers: std::thread::JoinHandle<Vec<String>>,
    stop: Arc<AtomicBool>,
}

impl Caller {
    fn start(world: &World) -> Result<Self> {
        let kubeconfig = std::fs::read_to_string(&world.kubeconfig)?;
        let token = kubeconfig
            .lines()
            .find_map(|line| line.trim().strip_prefix("token: "))
            .context("no token in the kubeconfig")?;
        let mut curl = Command::new("curl")
            .args(["--silent", "--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // More requests than there can be before the test's end.
        let settings = format!(
            "header = \"Authorization: Bearer {}\"\ncacert = \"{}\"\noutput = /dev/null\n\
             write-out = \"%{{http_code}}\\n\"\nmax-time = 30\n\
             url = \"https://{PEOPLE_ADDRESS}/k8s-proxy/api/v1/namespaces/default?round=[1-1000000]\"\n",
            token.trim_matches('"'),
            world.server.ca_file()?.display()
        );
        let mut stdin = curl.stdin.take().context("no stdin")?;
        stdin.write_all(settings.as_bytes())?;
        drop(stdin);
        let mut lines = BufReader::new(curl.stdout.take().context("no stdout")?).lines();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let answers = std::thread::spawn(move || {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::Relaxed)
                && let Some(Ok(line)) = lines.next()
            {
                answers.push(line);
            }
            answers
        });
        Ok(Self {
            curl,
            answers,
            stop,
        })
    }

    /// The codes of all answers; 000 where there was none.
    fn stop(mut self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.curl.try_wait()?;
        self.curl.kill().ok();
        self.curl.wait()?;
        ensure!(ended.is_none(), "curl ended by itself: {ended:?}");
        let answers = self.answers.join();
        answers.map_err(|_| anyhow!("the reading thread panicked"))
    }
}

/// Nothing of the release stays, and everything of a workspace.
fn uninstall(world: &mut World) -> Result<()> {
    let repository = workspaces::repository(world, STAYS, workspaces::DEVFILE)?;
    workspaces::workspace(world, &["create", &repository, "--name", STAYS])?;
    let namespace = format!("gl-rd-ns-{STAYS}");
    let before = containers(world, &namespace)?;
    let notes = step::run(&mut world.cluster.helm(&["get", "notes", MAIN, "-n", MAIN]))?;
    ensure!(notes.contains("leaves all workspaces"), "{notes}");
    world
        .release
        .uninstall(&world.cluster, Duration::from_secs(90))?;
    let kinds = "deployments,replicasets,pods,secrets,configmaps,serviceaccounts,roles,rolebindings,\
                 poddisruptionbudgets,clusterroles,clusterrolebindings,networkpolicies,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let selector = format!("app.kubernetes.io/instance={MAIN}");
    harness::wait::wait_until("nothing of the release is left", CONNECT, || {
        let text = world.admin(&["get", kinds, "-A", "-l", &selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        let left: Vec<&Value> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| &item["metadata"]["name"])
            .collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(true)
    })?;
    world.server.wait_pods(MAIN, 0, Duration::from_secs(10))?;
    let after = containers(world, &namespace)?;
    ensure!(before == after, "{before} became {after}");
    // Whoever comes next finds it as it was: an agent installed anew takes it over, and takes it away when asked.
    world
        .release
        .install(&world.cluster, &world.main_values()?, true)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    let shown = world.server.json(&["workspace", "show", STAYS])?;
    ensure!(shown["actual_state"] == "Running", "{shown:#}");
    workspaces::delete(world, STAYS, &namespace)?;
    world
        .release
        .uninstall(&world.cluster, Duration::from_secs(90))
}
