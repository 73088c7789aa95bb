//! A developer's day in a real browser, by the program `journey` (`tests/browser`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::paths;

use crate::{command, server::Server};

/// The whole day, beside a cluster on a small machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Goes through the day with a new workspace of this name, and returns what it tells. Pictures go to the folder.
///
/// # Errors
/// When something is not as it should be; then with what the page showed.
pub fn day(server: &Server, repository: &str, workspace: &str, pictures: &Path) -> Result<String> {
    let link = server.json(&["sign-in-link"])?;
    let link = link["url"].as_str().unwrap_or_default();
    let mut journey = Command::new(paths::binaries_dir().join("journey"));
    journey
        .args(["--sign-in-link", link])
        .args(["--repository", repository])
        .args(["--workspace", workspace])
        .arg("--pictures")
        .arg(pictures);
    command::output(&mut journey, LIMIT)
}
