//! The chart: what it installs, how it is changed, that nothing of it stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::Test;
use crate::world::{CALL, CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    ("chart_installs_two_pods_that_connect_over_grpcs", two_pods),
    ("pods_pass_the_restricted_pod_security_standard", restricted),
    ("metrics_and_probes_are_served", metrics),
    ("no_way_into_the_cluster_and_two_out", isolation),
    ("upgrade_drains_so_that_no_call_is_refused", upgrade),
];

/// After all that need the agent.
pub(crate) const LAST: &[Test] = &[("uninstall_leaves_nothing", uninstall)];

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

fn upgrade(world: &mut World) -> Result<()> {
    let before = world.release.pods(&world.cluster)?;
    let mut values = world.main_values()?;
    values["podLabels"] = json!({"round": std::process::id().to_string()});

    let stop = AtomicBool::new(false);
    let world = &*world;
    let calls = std::thread::scope(|scope| {
        let caller = scope.spawn(|| -> Result<usize> {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                world.ask(&["get", "namespace", "default"])?;
                calls += 1;
            }
            Ok(calls)
        });
        let upgraded = world.release.install(&world.cluster, &values, true);
        let gone = upgraded.and_then(|()| {
            harness::wait::wait_until("the old Pods are gone", CONNECT, || {
                let now = world.release.pods(&world.cluster)?;
                Ok(now.len() == 2 && now.iter().all(|pod| !before.contains(pod)))
            })
        });
        stop.store(true, Ordering::Relaxed);
        let calls = caller
            .join()
            .unwrap_or_else(|_| bail!("the calling thread panicked"));
        gone.and(calls)
    })?;
    ensure!(
        calls >= 5,
        "only {calls} calls were made during the upgrade"
    );
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    Ok(())
}

fn uninstall(world: &mut World) -> Result<()> {
    world
        .release
        .uninstall(&world.cluster, Duration::from_secs(90))?;
    let kinds = "deployments,replicasets,pods,secrets,configmaps,serviceaccounts,roles,rolebindings,\
                 poddisruptionbudgets,clusterroles,clusterrolebindings";
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
    Ok(())
}
