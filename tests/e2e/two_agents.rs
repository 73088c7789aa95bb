//! Two agents under different names on one server: each call reaches the agent it is meant for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::command::{outcome, output};
use tests::release::Release;

use crate::Test;
use crate::world::{CALL, CONNECT, MAIN, PLAYGROUND, SECRET, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_second_agent_by_plain_grpc_lives_beside_the_first",
    side_by_side,
)];

const PLAIN: &str = "plain";

fn side_by_side(world: &mut World) -> Result<()> {
    let agent = world.server.create_agent(PLAIN, None)?;
    let release = Release::new(PLAIN);
    let mut values = world.values(&agent.token, "grpc")?;
    values["replicas"] = 1.into();
    values["userAccess"] = json!({"namespacedRules": {(PLAYGROUND): [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    ]}});
    release.install(&world.cluster, &values, true)?;
    world.server.wait_pods(PLAIN, 1, CONNECT)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;

    let kubeconfig = world.folder.join("kubeconfig-plain");
    world.server.write_kubeconfig(PLAIN, &kubeconfig)?;
    // This one's people may do one thing, and that is what the others may not.
    let secret = ["get", "secret", "-n", PLAYGROUND, SECRET];
    output(&mut world.as_person(&kubeconfig, &secret), CALL)?;
    let refused = outcome(
        &mut world.as_person(&kubeconfig, &["get", "pods", "-n", PLAYGROUND]),
        CALL,
    )?;
    ensure!(
        refused.stderr.contains(&format!("serviceaccount:{PLAIN}:")),
        "{refused:?}"
    );
    world.ask(&["get", "pods", "-n", PLAYGROUND])?;
    let refused = world.try_ask(&secret)?;
    ensure!(
        refused.stderr.contains(&format!("serviceaccount:{MAIN}:")),
        "{refused:?}"
    );

    release.uninstall(&world.cluster, CONNECT)?;
    world
        .server
        .wait_pods(PLAIN, 0, Duration::from_secs(10))
        .context("an agent that stops says so")?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    Ok(())
}
