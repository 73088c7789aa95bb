//! The programs of the demo on the host: server and Git server, in a process that outlives `cargo xtask demo`.
//!
//! It starts from nothing each time: an agent's token is told only once, so that an old server's agents would be of no use.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::git_server::{GitServer, PushToken};
use harness::{cluster, wait};
use serde_json::{Value, json};
use tests::project::Project;
use tests::server::Server;

use super::{AGENT, FIRST_CONFIGURATION, folder};

/// From start to ready: making keys and the project.
const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(15);
/// Somebody who tries the demo pushes within a day.
const PUSH_TOKEN_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
const SAMPLE: &str = "demo/sample";
const EDITOR: &str = "code-server";
const LOOK: Duration = Duration::from_millis(200);

/// What the host tells once it is ready.
pub(crate) struct Ready {
    pid: u32,
    pub(crate) agent_token: String,
    pub(crate) project_url: String,
    /// A repository with a devfile.
    pub(crate) sample_url: String,
    /// What that repository takes a push with.
    pub(crate) push_token: PushToken,
}

pub(crate) fn server_data() -> PathBuf {
    folder().join("server")
}

pub(crate) fn server_log() -> PathBuf {
    folder().join("server.log")
}

pub(crate) fn own_log() -> PathBuf {
    folder().join("host.log")
}

fn ready_file() -> PathBuf {
    folder().join("host.json")
}

impl Ready {
    /// What a living host has told.
    pub(crate) fn read() -> Option<Self> {
        let value: Value = serde_json::from_slice(&std::fs::read(ready_file()).ok()?).ok()?;
        let ready = Self {
            pid: value["pid"].as_u64()?.try_into().ok()?,
            agent_token: value["agent_token"].as_str()?.to_owned(),
            project_url: value["project_url"].as_str()?.to_owned(),
            sample_url: value["sample_url"].as_str()?.to_owned(),
            push_token: PushToken::of(value["push_token"].as_str()?),
        };
        is_host(ready.pid).then_some(ready)
    }
}

/// Whether this process is one of ours; process ids are used again.
fn is_host(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"demo\0host\0"))
}

/// Takes the running host, or starts one and waits until it is ready.
pub(crate) fn ensure() -> Result<Ready> {
    if let Some(ready) = Ready::read() {
        return Ok(ready);
    }
    std::fs::remove_dir_all(folder()).ok();
    std::fs::create_dir_all(folder())?;
    let log = std::fs::File::create(own_log())?;
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["demo", "host"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start setsid")?;
    wait::wait_for("the programs of the demo run", START_LIMIT, || {
        if let Some(status) = child.try_wait()? {
            // setsid forks only when it leads a process group; then its own end says nothing.
            if !status.success() {
                bail!("they ended with {status}");
            }
        }
        Ok(Ready::read())
    })
    .with_context(|| {
        format!(
            "its log says: {}",
            std::fs::read_to_string(own_log()).unwrap_or_default()
        )
    })
}

/// Tells the host to end and waits for that.
pub(crate) fn end() -> Result<()> {
    let Some(Ready { pid, .. }) = Ready::read() else {
        return Ok(());
    };
    std::fs::remove_file(ready_file())?;
    wait::wait_until("the demo's programs have ended", END_LIMIT, || {
        Ok(!is_host(pid))
    })
}

/// The host itself: starts everything, tells so, and stays until its file is taken away.
pub(crate) fn run() -> Result<()> {
    let server = Server::start_with_editor(&server_data(), &server_log(), EDITOR)?;
    let address = format!("{}:{}", cluster::HOST_ADDRESS, cluster::GIT_PORT);
    let git = GitServer::start_in(&folder().join("git"), &address)?;
    let name = "demo/agents";
    let project = Project::create(&git, name, AGENT, FIRST_CONFIGURATION)?;
    let agent = server.create_agent(AGENT, Some(&git.url(name)))?;
    project.tell_pushes(&git, &agent, &server.ca_file()?)?;
    let sample = tests::sample::create(&git, SAMPLE)?;
    let push = git.require_push_token(SAMPLE, PUSH_TOKEN_LASTS)?;
    tell(&json!({
        "pid": std::process::id(),
        "agent_token": agent.token,
        "project_url": git.url(name),
        "sample_url": sample,
        "push_token": push.secret(),
    }))?;
    let mut server = server;
    while ready_file().exists() {
        if !server.is_running() {
            std::fs::remove_file(ready_file()).ok();
            bail!("the server has ended; see {}", server.log().display());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn tell(value: &Value) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // It holds the agent's token; and it is never seen half written.
    let partial = folder().join("host.json.partial");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(value.to_string().as_bytes())?;
    std::fs::rename(&partial, ready_file())?;
    Ok(())
}
