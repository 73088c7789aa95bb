//! The configuration file: what is pushed takes effect, what is wrong never does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::wait::wait_until;
use serde_json::Value;

use crate::Test;
use crate::world::{MAIN, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_pushed_change_takes_effect_in_both_pods_within_5_s",
        change,
    ),
    (
        "a_wrong_file_never_takes_effect_and_says_what_is_wrong_where",
        wrong_file,
    ),
    (
        "b08_each_section_keeps_its_last_good_value_and_what_is_right_takes_effect",
        b08,
    ),
];

/// The promise: from the push to the effect.
const PROMISE: Duration = Duration::from_secs(5);

const DEBUG: &str = "observability:\n  logging:\n    level: debug\n";
/// Line 4 holds what no level is called.
const WRONG: &str = "# changed in a hurry\nobservability:\n  logging:\n    level: loud\n";

fn change(world: &mut World) -> Result<()> {
    for (configuration, level) in [(DEBUG, "debug"), (USUAL_CONFIGURATION, "info")] {
        let commit = world
            .project
            .push(&world.git, configuration, "Change the log level")?;
        let pushed = Instant::now();
        wait_level(world, level, PROMISE)?;
        let rest = PROMISE.saturating_sub(pushed.elapsed());
        world
            .server
            .wait_agent(MAIN, "the commit is applied", rest, |agent| {
                agent["configuration"]["commit"] == commit.as_str()
                    && agent["configuration"]["error"].is_null()
            })?;
        wait_metric(
            world,
            &format!("agent_configuration_info{{commit=\"{commit}\"}} 1"),
            PROMISE,
        )?;
    }
    Ok(())
}

fn wrong_file(world: &mut World) -> Result<()> {
    let good = world.project.push(&world.git, DEBUG, "Something good")?;
    wait_level(world, "debug", PROMISE)?;
    let bad = world.project.push(&world.git, WRONG, "Something wrong")?;
    let agent = world
        .server
        .wait_agent(MAIN, "the error is shown", PROMISE, |agent| {
            agent["configuration"]["error"]["commit"] == bad.as_str()
        })?;
    let configuration = &agent["configuration"];
    ensure!(
        configuration["commit"] == good.as_str(),
        "the last good commit is not in force: {configuration:#}"
    );
    let problem = &configuration["error"]["problems"][0];
    ensure!(problem["line"] == 4, "{problem:#}");
    ensure!(
        problem["field"] == "observability.logging.level",
        "{problem:#}"
    );
    ensure!(
        problem["reason"]
            .as_str()
            .is_some_and(|text| text.contains("loud")),
        "{problem:#}"
    );
    ensure!(
        problem["expected"]
            .as_str()
            .is_some_and(|text| text.contains("debug")),
        "{problem:#}"
    );
    // The server has judged the file by now, so that a wrong one would be on its way to the Pods.
    wait_level(world, "debug", PROMISE)?;

    // Changed and right: the error goes.
    let fixed = world
        .project
        .push(&world.git, USUAL_CONFIGURATION, "Put it right")?;
    wait_level(world, "info", PROMISE)?;
    world
        .server
        .wait_agent(MAIN, "no error", PROMISE, |agent| {
            agent["configuration"]["commit"] == fixed.as_str()
                && agent["configuration"]["error"].is_null()
        })?;
    Ok(())
}

/// Field report B08: broken YAML, a wrong value, an unknown key beside a valid change of another setting, and a good file.
fn b08(world: &mut World) -> Result<()> {
    let good = world
        .project
        .push(&world.git, USUAL_CONFIGURATION, "Something good")?;
    let in_force = |agent: &Value, commit: &str| agent["configuration"]["commit"] == commit;
    world
        .server
        .wait_agent(MAIN, "it is in force", PROMISE, |agent| {
            in_force(agent, &good) && agent["configuration"]["error"].is_null()
        })?;
    let refused = |file: &str, line: u64, field: &str, reason: &str| {
        let commit = world.project.push(&world.git, file, "Something wrong")?;
        let is_told = |agent: &Value| agent["configuration"]["error"]["commit"] == commit.as_str();
        let agent = world
            .server
            .wait_agent(MAIN, "the error", PROMISE, is_told)?;
        let problem = &agent["configuration"]["error"]["problems"][0];
        ensure!(problem["line"] == line, "{problem:#}");
        ensure!(problem["field"] == field, "{problem:#}");
        let told = format!("{} {}", problem["reason"], problem["expected"]);
        ensure!(told.contains(reason), "{problem:#}");
        // Workspaces can be made as before.
        ensure!(agent["workspaces"]["enabled"] == true, "{agent:#}");
        let page = world.server.run(&["agent", "show", MAIN])?;
        ensure!(page.contains(reason), "{page}");
        Ok(agent)
    };
    let agent = refused("remote_development: [\n", 1, "", "no YAML")?;
    ensure!(in_force(&agent, &good), "{agent:#}");
    let zone = format!("{USUAL_CONFIGURATION}  dns_zone: example-.com\n");
    let lines = u64::try_from(USUAL_CONFIGURATION.lines().count())?;
    let field = "remote_development.dns_zone";
    let agent = refused(&zone, lines + 1, field, "a DNS name")?;
    ensure!(in_force(&agent, &good), "{agent:#}");
    let mixed = "observability:\n  logging:\n    level: debug\nremote_development:\n  workspaces_quota: \"ten\"\n  dns_zoen: a.example\n";
    let field = "remote_development.workspaces_quota";
    let agent = refused(mixed, 5, field, "-1 for any number")?;
    let configuration = &agent["configuration"];
    ensure!(
        configuration["older"]["remote_development"] == good.as_str(),
        "{configuration:#}"
    );
    let unknown = &configuration["error"]["problems"][1];
    ensure!(
        unknown["expected"]
            .as_str()
            .is_some_and(|it| it.contains("'dns_zone'")),
        "{unknown:#}"
    );
    // The valid change beside it.
    wait_level(world, "debug", PROMISE)?;

    let fixed = world
        .project
        .push(&world.git, USUAL_CONFIGURATION, "Put it right")?;
    world
        .server
        .wait_agent(MAIN, "no error", PROMISE, |agent| {
            let configuration = &agent["configuration"];
            in_force(agent, &fixed)
                && configuration["error"].is_null()
                && configuration["older"] == serde_json::json!({})
        })?;
    wait_level(world, "info", PROMISE)
}

fn wait_level(world: &World, level: &str, limit: Duration) -> Result<()> {
    wait_metric(
        world,
        &format!("agent_log_level_info{{level=\"{level}\"}} 1"),
        limit,
    )
}

/// Waits until the line is in the metrics of every Pod.
fn wait_metric(world: &World, line: &str, limit: Duration) -> Result<()> {
    let pods = world.release.pods(&world.cluster)?;
    ensure!(pods.len() == 2, "two Pods are expected: {pods:?}");
    for pod in pods {
        wait_until(&format!("{line} in the metrics of {pod}"), limit, || {
            let metrics = world.release.metrics(&world.cluster, &pod)?;
            ensure!(
                metrics.lines().any(|found| found == line),
                "its metrics are\n{metrics}"
            );
            Ok(true)
        })?;
    }
    Ok(())
}
