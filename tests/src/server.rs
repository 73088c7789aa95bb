//! The server as a program on this host, with its own command line as the way in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::process::Process;
use harness::{cluster, images, paths, wait};
use serde_json::Value;

use crate::command;

/// The people's port on this host.
pub const PEOPLE_ADDRESS: &str = "127.0.0.1:8154";
/// Metrics and probes of the server.
pub const OBSERVABILITY_ADDRESS: &str = "127.0.0.1:8151";

/// What most tests run with: their workspaces are made for other questions.
pub const NO_EDITOR: &str = "none";

/// A local command that only asks the server.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// From start to the listening line, with the making of keys and the database.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What `kas-stub agent create` answers.
#[derive(Clone)]
pub struct CreatedAgent {
    /// Its name.
    pub name: String,
    /// Its id, as it stands in kubectl's token.
    pub id: u64,
    /// Its token, told this once.
    pub token: String,
    /// Where a push is told to the server.
    pub hook_url: String,
    /// What proves that the push comes from the Git server.
    pub hook_secret: String,
}

impl std::fmt::Debug for CreatedAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedAgent")
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A server and its data.
#[derive(Debug)]
pub struct Server {
    data_dir: PathBuf,
    log: PathBuf,
    editor: &'static str,
    process: Option<Process>,
}

impl Server {
    /// Starts it on the cluster's two ways out and waits until it listens.
    ///
    /// # Errors
    /// When it does not; then with the end of its log.
    pub fn start(data_dir: &Path, log: &Path) -> Result<Self> {
        Self::start_with_editor(data_dir, log, NO_EDITOR)
    }

    /// As [`Server::start`]; new workspaces get this editor.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with_editor(data_dir: &Path, log: &Path, editor: &'static str) -> Result<Self> {
        let mut server = Self {
            data_dir: data_dir.to_owned(),
            log: log.to_owned(),
            editor,
            process: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// A server that someone else runs with this data.
    pub fn of_data(data_dir: &Path, log: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            log: log.to_owned(),
            editor: NO_EDITOR,
            process: None,
        }
    }

    /// Starts it on the same data after [`Server::kill`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let agents = format!("{}:{}", cluster::HOST_ADDRESS, cluster::AGENT_PORT);
        let mut command = self.command(&["serve"]);
        command
            .args(["--agent-listen-address", &agents])
            .args(["--people-listen-address", PEOPLE_ADDRESS])
            .args(["--observability-listen-address", OBSERVABILITY_ADDRESS])
            .args(["--external-url", &format!("https://{PEOPLE_ADDRESS}")])
            .args(["--agent-url", &agent_address("grpcs")])
            // One agent comes by plain grpc://; on a network of one machine that is safe.
            .arg("--allow-plaintext")
            // The Git server of the tests is plain HTTP at a private address.
            .args(["--git-allow-http", "--git-allow-private"])
            .args(["--workspace-clone-image", images::TOOLS])
            .arg("--clock-ahead-file")
            .arg(self.clock_file())
            .args(["--editor", self.editor]);
        let mut process = Process::spawn(&mut command, &self.log)?;
        process.wait_for_log("listening agents=", START_LIMIT)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it anew with an editor for new workspaces, or with [`NO_EDITOR`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart_with_editor(&mut self, editor: &'static str) -> Result<()> {
        self.kill();
        self.editor = editor;
        self.start_again()
    }

    /// Moves the clock for workspaces' lives: so many hours ahead of this machine's.
    ///
    /// # Errors
    /// When the file that it reads cannot be written.
    pub fn set_clock_ahead(&self, hours: u32) -> Result<()> {
        let seconds = u64::from(hours) * 3600;
        Ok(std::fs::write(self.clock_file(), seconds.to_string())?)
    }

    fn clock_file(&self) -> PathBuf {
        self.data_dir.join("clock-ahead")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// The most bytes that it ever had in memory.
    ///
    /// # Errors
    /// When it does not run, or the system does not tell.
    pub fn peak_memory(&self) -> Result<u64> {
        let process = self.process.as_ref().context("the server does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("no VmHWM")?.parse::<u64>()? * 1024)
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// `kas-stub` with these arguments, on this server's data.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(paths::binaries_dir().join("kas-stub"));
        command
            .args(arguments)
            .env("KAS_STUB_DATA_DIR", &self.data_dir);
        command
    }

    /// Runs `kas-stub` with these arguments and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.command(arguments), COMMAND_LIMIT)
    }

    /// As [`Server::run`], with `-o json`.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let text = self.run(&all)?;
        serde_json::from_str(&text)
            .with_context(|| format!("kas-stub {} printed {text:?}", arguments.join(" ")))
    }

    /// Registers an agent.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create_agent(&self, name: &str, project: Option<&str>) -> Result<CreatedAgent> {
        let mut arguments = vec!["agent", "create", name];
        if let Some(project) = project {
            arguments.extend(["--project", project]);
        }
        let answer = self.json(&arguments)?;
        let text = |pointer: &str| -> Result<String> {
            let value = answer.pointer(pointer).and_then(Value::as_str);
            Ok(value
                .with_context(|| format!("no {pointer} in the answer to agent create"))?
                .to_owned())
        };
        Ok(CreatedAgent {
            name: name.to_owned(),
            id: answer["id"]
                .as_u64()
                .context("no id in the answer to agent create")?,
            token: text("/token")?,
            hook_url: text("/webhook/url").unwrap_or_default(),
            hook_secret: text("/webhook/secret").unwrap_or_default(),
        })
    }

    /// The agent as the API shows it.
    ///
    /// # Errors
    /// When the server does not know it.
    pub fn agent(&self, name: &str) -> Result<Value> {
        self.json(&["agent", "show", name])
    }

    /// Waits until the agent's entry is as asked, and returns it.
    ///
    /// # Errors
    /// When the limit passes; then with the entry as it is.
    pub fn wait_agent(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let waited = wait::wait_for(&format!("agent {name}: {what}"), limit, || {
            last = self.agent(name)?;
            Ok(is(&last).then(|| last.clone()))
        });
        waited.with_context(|| format!("the server says: {last:#}"))
    }

    /// Waits until so many Pods of the agent are connected.
    ///
    /// # Errors
    /// As [`Server::wait_agent`].
    pub fn wait_pods(&self, name: &str, pods: usize, limit: Duration) -> Result<Value> {
        self.wait_agent(name, &format!("{pods} connected Pods"), limit, |agent| {
            agent["pods"].as_array().map_or(0, Vec::len) == pods && agent["connected"] == (pods > 0)
        })
    }

    /// Writes the server's CA certificate beside its data and returns the path.
    ///
    /// # Errors
    /// When it cannot be had or written.
    pub fn ca_file(&self) -> Result<PathBuf> {
        let path = self.data_dir.join("ca-for-clients.crt");
        std::fs::write(&path, self.run(&["ca"])?)?;
        Ok(path)
    }

    /// Writes a kubeconfig for this agent to `path`.
    ///
    /// # Errors
    /// When the server refuses or it cannot be written.
    pub fn write_kubeconfig(&self, agent: &str, path: &Path) -> Result<()> {
        let path = path.to_str().context("path is not UTF-8")?;
        self.run(&["kubeconfig", agent, "--output-file", path])
            .map(drop)
    }
}

/// The server's address as a Pod dials it.
pub fn agent_address(scheme: &str) -> String {
    format!(
        "{scheme}://{}:{}",
        cluster::HOST_ADDRESS,
        cluster::AGENT_PORT
    )
}
