//! A developer's day in a real browser, by the program `journey` (`tests/browser`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::git_server::PushToken;
use harness::paths;

use crate::{command, server::Server};

/// The whole day, beside a cluster on a small machine.
const LIMIT: Duration = Duration::from_secs(900);

/// The program, signed in, about a workspace. Pictures go to the folder.
///
/// # Errors
/// When there is no sign-in link to be had.
pub fn program(server: &Server, workspace: &str, pictures: &Path) -> Result<Command> {
    let link = server.json(&["sign-in-link"])?;
    let link = link["url"].as_str().unwrap_or_default();
    let mut journey = Command::new(paths::binaries_dir().join("journey"));
    journey
        .args(["--sign-in-link", link])
        .args(["--workspace", workspace])
        .arg("--pictures")
        .arg(pictures);
    Ok(journey)
}

/// Goes through the day with a new workspace of this name, and returns what it tells.
///
/// # Errors
/// When something is not as it should be; then with what the page showed.
pub fn day(
    server: &Server,
    repository: &str,
    workspace: &str,
    push: &PushToken,
    pictures: &Path,
) -> Result<String> {
    let mut journey = program(server, workspace, pictures)?;
    journey
        .arg("day")
        .args(["--repository", repository])
        .env("JOURNEY_PUSH_TOKEN", push.secret());
    command::output(&mut journey, LIMIT)
}
