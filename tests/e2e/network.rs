//! The network of the cluster itself: what the other tests of walls stand on.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::reachability::{From, opens};
use harness::wait::wait_until;
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[(
    "the_cluster_enforces_network_policy_and_has_a_second_runtime",
    walls,
)];

/// For a policy to hold, or no longer to.
const HOLDS: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "walls";

fn walls(world: &mut World) -> Result<()> {
    world.apply(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        pod("behind", "runc", "exec httpd -f -p 8000 -h /"),
        pod("before", "crun", "exec sleep 3600"),
    ])?;
    let result = walls_hold(world);
    world.admin(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    result
}

fn walls_hold(world: &World) -> Result<()> {
    let ready = "--for=condition=Ready";
    world.admin(&[
        "wait",
        "-n",
        NAMESPACE,
        ready,
        "pod",
        "--all",
        "--timeout=60s",
    ])?;
    for (pod, runtime) in [("behind", "runc"), ("before", "crun")] {
        let made = world.cluster.runtime_of(NAMESPACE, pod, "it")?;
        ensure!(made == runtime, "{pod} was made by {made}");
    }
    let address = world.admin(&[
        "get",
        "pod",
        "-n",
        NAMESPACE,
        "behind",
        "-ojsonpath={.status.podIP}",
    ])?;
    let passes = || {
        opens(
            &world.cluster,
            From::Pod(NAMESPACE, "before"),
            &address,
            8000,
        )
    };
    wait_until("nothing stands between the Pods", HOLDS, passes)?;
    world.apply(&[json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "wall", "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": {"is": "behind"}}, "policyTypes": ["Ingress"]},
    })])?;
    wait_until("the policy holds", HOLDS, || Ok(!passes()?))?;
    world.admin(&["delete", "networkpolicy", "-n", NAMESPACE, "wall"])?;
    wait_until("the policy no longer holds", HOLDS, passes)
}

fn pod(name: &str, runtime: &str, script: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"is": name}},
        "spec": {
            "containers": [{"name": "it", "image": "busybox", "command": ["sh", "-c", script]}],
            "terminationGracePeriodSeconds": 0,
        },
    });
    if runtime != "runc" {
        pod["spec"]["runtimeClassName"] = runtime.into();
    }
    pod
}
