//! A developer in a real browser, from the sign-in to tests that ran in the editor's terminal.

use std::time::Duration;

use anyhow::Result;
use harness::images;
use tests::{journey, sample};

use crate::Test;
use crate::world::{CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[(
    "a developer makes a workspace, edits and tests in a browser",
    a_day,
)];

const EDITOR: &str = "code-server";

fn a_day(world: &mut World) -> Result<()> {
    with_editor(world, |world| {
        let repository = sample::create(&world.git, "group/browser")?;
        let pictures = world.folder.join("browser");
        let told = journey::day(&world.server, &repository, "browser", &pictures)?;
        println!("{}", told.trim_end());
        delete(world, "browser")
    })
}

fn delete(world: &World, name: &str) -> Result<()> {
    let delete = ["workspace", "delete", name, "--wait"];
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
