//! A developer in a real browser, from the sign-in to a pushed commit; and an editor that stays open while things end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::images;
use tests::{journey, sample};

use crate::Test;
use crate::world::{CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a developer edits, tests, runs, commits and pushes in a browser",
        a_day,
    ),
    (
        "an open editor outlives the agents' leader and the server, and says when it is stopped",
        trouble,
    ),
];

const EDITOR: &str = "code-server";
/// A push of the test comes sooner.
const TOKEN_LASTS: Duration = Duration::from_secs(15 * 60);
/// From a wish to its end.
const LIFE: &str = "180";

fn a_day(world: &mut World) -> Result<()> {
    with_editor(world, |world| {
        let repository = sample::create(&world.git, "group/browser")?;
        let push = world.git.require_push_token("group/browser", TOKEN_LASTS)?;
        let pictures = world.folder.join("browser");
        let told = journey::day(&world.server, &repository, "browser", &push, &pictures)?;
        println!("{}", told.trim_end());
        delete(world, "browser")
    })
}

fn trouble(world: &mut World) -> Result<()> {
    with_editor(world, |world| {
        let repository = sample::create(&world.git, "group/open-editor")?;
        let create = [
            "workspace",
            "create",
            &repository,
            "--name",
            "open-editor",
            "--agent",
            MAIN,
            "--wait",
            "--wait-timeout",
            LIFE,
        ];
        tests::command::output(&mut world.server.command(&create), Duration::from_secs(200))?;
        let pictures = world.folder.join("open-editor");
        let mut program = journey::program(&world.server, "open-editor", &pictures)?;
        let mut running = program
            .arg("trouble")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start journey")?;
        let mut input = running.stdin.take().context("no input")?;
        let output = running.stdout.take().context("no output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            match line.strip_prefix("now: ") {
                None => continue,
                Some("leader") => end_leader(world)?,
                Some("server") => {
                    world.server.kill();
                    world.server.start_again()?;
                    world.server.wait_pods(MAIN, 2, CONNECT)?;
                }
                Some("stop") => {
                    let stop = [
                        "workspace",
                        "stop",
                        "open-editor",
                        "--wait",
                        "--wait-timeout",
                        LIFE,
                    ];
                    tests::command::output(
                        &mut world.server.command(&stop),
                        Duration::from_secs(200),
                    )?;
                }
                Some(other) => bail!("it asks for {other:?}"),
            }
            input.write_all(b"done\n")?;
        }
        ensure!(running.wait()?.success(), "what it saw is above");
        delete(world, "open-editor")
    })
}

/// The Pod that leads, and through which the editor's connection may go, is killed.
fn end_leader(world: &World) -> Result<()> {
    let agent = world.server.agent(MAIN)?;
    let leader = agent["leader"]["pod_name"]
        .as_str()
        .context("no leader")?
        .to_owned();
    world.admin(&[
        "delete",
        "pod",
        "-n",
        MAIN,
        &leader,
        "--grace-period=0",
        "--force",
    ])?;
    world
        .server
        .wait_agent(MAIN, "another leads", CONNECT, |agent| {
            agent["leader"]["pod_name"]
                .as_str()
                .is_some_and(|now| now != leader)
        })?;
    world.server.wait_pods(MAIN, 2, CONNECT).map(drop)
}

fn delete(world: &World, name: &str) -> Result<()> {
    let delete = [
        "workspace",
        "delete",
        name,
        "--wait",
        "--wait-timeout",
        LIFE,
    ];
    tests::command::output(&mut world.server.command(&delete), Duration::from_secs(200)).map(drop)
}

/// Runs a test on a server that gives workspaces an editor.
fn with_editor(world: &mut World, test: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    images::editor(world.cluster.tools())?;
    world.server.restart_with_editor(EDITOR)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    let result = test(world);
    world.server.restart_with_editor(tests::server::NO_EDITOR)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    result
}
