//! The demo's workspace: from a devfile in a repository to an editor in a browser.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::cluster::Cluster;
use harness::step::step;
use harness::wait;
use serde_json::Value;
use tests::command;
use tests::journey;
use tests::server::Server;

use super::host::Ready;
use super::{AGENT, say};

/// The workspace that stays, and the one of the browser's day.
const NAME: &str = "sample";
const DAY: &str = "sample-day";
/// From a wish to its end, with a repository to clone.
const LIMIT: Duration = Duration::from_secs(120);
/// Where the editor answers inside the workspace.
const EDITOR: &str = "http://127.0.0.1:60001/healthz";

/// Shows the life of a workspace; it runs at the end.
pub(crate) fn steps(cluster: &Cluster, server: &Server, ready: &Ready) -> Result<()> {
    step("Make a workspace of a repository with a devfile", || {
        create(cluster, server, &ready.sample_url)
    })?;
    step("Stop it and start it again, with its files", || {
        let inside = |script: &str| exec(cluster, script);
        inside("touch $HOME/was-here")?;
        let stopped = wait(server, &["stop", NAME])?;
        ensure!(stopped["actual_state"] == "Stopped", "{stopped:#}");
        wait(server, &["start", NAME])?;
        inside("ls $HOME/was-here").map(drop)
    })
}

/// A developer's day in a browser, with a workspace of its own.
pub(crate) fn day(server: &Server, ready: &Ready) -> Result<()> {
    step(
        "Edit, test, run, commit, push, stop and start in a browser",
        || {
            let pictures = tests::output_dir().join("demo");
            let push = &ready.push_token;
            let told = journey::day(server, &ready.sample_url, DAY, push, &pictures)?;
            say(&told);
            say(&format!("pictures: {}", pictures.display()));
            wait(server, &["delete", DAY]).map(drop)
        },
    )
}

/// Makes the workspace, or starts it, and tells when it came how far.
fn create(cluster: &Cluster, server: &Server, repository: &str) -> Result<()> {
    let there = server.json(&["workspace", "list"])?;
    let is_there = there
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["name"] == NAME));
    let began = Instant::now();
    let asked = if is_there {
        server.json(&["workspace", "start", NAME])?
    } else {
        let create = [
            "workspace",
            "create",
            repository,
            "--name",
            NAME,
            "--agent",
            AGENT,
        ];
        server.json(&create)?
    };
    let mut phases = vec![("read and rendered", began.elapsed())];
    let mut reached = |name, is: &mut dyn FnMut() -> Result<bool>| {
        wait::wait_until(&format!("the workspace is {name}"), LIMIT, is)?;
        phases.push((name, began.elapsed()));
        anyhow::Ok(())
    };
    let show = || server.json(&["workspace", "show", NAME]);
    reached("applied", &mut || {
        let now = show()?;
        Ok(now["applied_generation"].as_u64() >= asked["generation"].as_u64())
    })?;
    let condition = |name: &str| {
        let path = format!("{{.items[0].status.conditions[?(@.type=='{name}')].status}}");
        let pods = pods(cluster, &path)?;
        Ok(pods.trim() == "True")
    };
    reached("scheduled", &mut || condition("PodScheduled"))?;
    reached("initialised, its editor and project there", &mut || {
        condition("Initialized")
    })?;
    reached("Running", &mut || Ok(show()?["actual_state"] == "Running"))?;
    reached("ready to be edited", &mut || {
        exec(cluster, &format!("curl --silent --fail {EDITOR}")).map(|_| true)
    })?;
    for (name, after) in phases {
        say(&format!("{:>6.1} s  {name}", after.as_secs_f64()));
    }
    let text = exec(cluster, "cat $PROJECT_SOURCE/README.md")?;
    ensure!(
        text.trim() == "This is the sample project.",
        "the project in it says {text:?}"
    );
    Ok(())
}

fn namespace() -> String {
    format!("gl-rd-ns-{NAME}")
}

fn pods(cluster: &Cluster, path: &str) -> Result<String> {
    let output = format!("jsonpath={path}");
    let arguments = ["get", "pods", "-n", &namespace(), "-o", &output];
    command::output(&mut cluster.kubectl(&arguments), LIMIT)
}

fn exec(cluster: &Cluster, script: &str) -> Result<String> {
    let namespace = namespace();
    let read = [
        "exec",
        "-n",
        &namespace,
        "deployment/sample",
        "-c",
        "tools",
        "--",
        "sh",
        "-c",
        script,
    ];
    command::output(&mut cluster.kubectl(&read), LIMIT)
}

/// `kas-stub workspace … --wait`, to its end.
fn wait(server: &Server, arguments: &[&str]) -> Result<Value> {
    let all = [&["workspace"], arguments, &["--wait", "-o", "json"]].concat();
    let text = command::output(&mut server.command(&all), LIMIT)?;
    serde_json::from_str(&text).context("no JSON")
}

/// A link that signs in, once.
pub(crate) fn sign_in_link(server: &Server) -> Result<String> {
    let link = server.json(&["sign-in-link"])?;
    Ok(link["url"].as_str().context("no link")?.to_owned())
}
