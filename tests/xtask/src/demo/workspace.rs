//! The demo's workspace: from a devfile in a repository to a Pod with the project in it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::Cluster;
use harness::git_server::GitServer;
use harness::step::step;
use serde_json::Value;
use tests::command;
use tests::server::Server;

use super::{AGENT, say};

/// The workspace and its repository.
const NAME: &str = "sample";
/// From a wish to its end, with a repository to clone.
const LIMIT: Duration = Duration::from_secs(120);

const DEVFILE: &str = "schemaVersion: 2.2.0
metadata:
  name: sample
components:
  - name: tools
    container:
      image: localhost/tools:1
      memoryLimit: 256Mi
commands:
  - id: greet
    exec:
      component: tools
      commandLine: echo the workspace has started
events:
  postStart: [greet]
";

/// Makes the repository; its URL.
pub(crate) fn create_sample(git: &GitServer) -> Result<String> {
    let project = format!("demo/{NAME}");
    git.create_project(&project)?;
    let files = [
        ("devfile.yaml", DEVFILE),
        ("README.md", "This is the sample project.\n"),
    ];
    git.commit(&project, &files, "Add a sample")?;
    Ok(git.url(&project))
}

/// Shows the life of a workspace; it runs at the end.
pub(crate) fn steps(cluster: &Cluster, server: &Server, repository: &str) -> Result<()> {
    step("Make a workspace of a repository with a devfile", || {
        let there = server.json(&["workspace", "list"])?;
        let is_there = there
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["name"] == NAME));
        let running = if is_there {
            wait(server, &["start", NAME])?
        } else {
            wait(
                server,
                &["create", repository, "--name", NAME, "--agent", AGENT],
            )?
        };
        let namespace = running["namespace"].as_str().context("no namespace")?;
        let read = [
            "exec",
            "-n",
            namespace,
            "deployment/sample",
            "-c",
            "tools",
            "--",
        ];
        let script = [
            "sh",
            "-c",
            "cat $PROJECT_SOURCE/README.md && touch $HOME/was-here",
        ];
        let text = command::output(
            &mut cluster.kubectl(&[&read[..], &script[..]].concat()),
            LIMIT,
        )?;
        ensure!(
            text.trim() == "This is the sample project.",
            "the project in it says {text:?}"
        );
        say(&format!(
            "workspace {NAME} runs in the namespace {namespace}, with its project cloned"
        ));
        Ok(())
    })?;
    step("Stop it and start it again, with its files", || {
        let stopped = wait(server, &["stop", NAME])?;
        ensure!(stopped["actual_state"] == "Stopped", "{stopped:#}");
        let running = wait(server, &["start", NAME])?;
        let namespace = running["namespace"].as_str().context("no namespace")?;
        let look = [
            "exec",
            "-n",
            namespace,
            "deployment/sample",
            "-c",
            "tools",
            "--",
        ];
        let script = ["sh", "-c", "ls $HOME/was-here"];
        command::output(
            &mut cluster.kubectl(&[&look[..], &script[..]].concat()),
            LIMIT,
        )
        .map(drop)
    })
}

/// `kas-stub workspace … --wait`, to its end.
fn wait(server: &Server, arguments: &[&str]) -> Result<Value> {
    let all = [&["workspace"], arguments, &["--wait", "-o", "json"]].concat();
    let text = command::output(&mut server.command(&all), LIMIT)?;
    Ok(serde_json::from_str(&text)?)
}
