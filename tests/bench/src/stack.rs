//! Upstream, server and agent as processes, ready for calls through the tunnel.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Uri;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::far::{Link, Relay};
use crate::load::{self, Target};
use crate::real::Network;

/// How long a part may take to come up before the run is given up.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at something that is not there yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The agent's name, and its namespace.
pub(crate) const AGENT: &str = "bench";
const ANY_OBSERVABILITY: &str = "--observability-listen-address=127.0.0.1:0";

/// A running stack; dropping it ends the processes.
pub(crate) struct Stack {
    pub(crate) server: Child,
    pub(crate) agent: Child,
    upstream: Option<Upstream>,
    people_address: String,
    agents_address: String,
    program: Programs,
    server_arguments: Vec<String>,
    token: String,
    /// As a person has it for the API.
    personal_token: String,
    agent_command: Command,
    /// Between agent and server, when they are far from each other.
    _relay: Option<Relay>,
    folder: TempDir,
}

/// The in-memory upstream.
struct Upstream {
    _process: Child,
    address: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Stack {
    /// Starts everything from the programs in `binaries`, on the in-memory upstream, and waits until a call passes. With a
    /// link, the agent reaches the server over it.
    pub(crate) async fn start(binaries: &Path, link: Option<Link>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificate = folder.path().join("upstream.crt");
        let (process, address) = start_upstream(&certificate).await?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(&address, &certificate))?;
        let tls = Arc::new(client_tls(&certificate)?);
        let upstream = Upstream {
            _process: process,
            address,
            tls,
        };
        let mut agent = Command::new(binaries.join("agent"));
        agent.arg(ANY_OBSERVABILITY);
        let kubeconfig = kubeconfig.display().to_string();
        Self::start_on(
            binaries,
            folder,
            Some(upstream),
            agent,
            &kubeconfig,
            "127.0.0.1:0",
            &[],
            None,
            link,
        )
        .await
    }

    /// Starts server and agent on a real API server, the agent in its network.
    pub(crate) async fn start_real(binaries: &Path, network: &Network) -> anyhow::Result<Self> {
        let mut agent = network.command(&binaries.join("agent"))?;
        agent.arg(ANY_OBSERVABILITY);
        let folder = tempfile::tempdir()?;
        Self::start_on(
            binaries,
            folder,
            None,
            agent,
            &network.kubeconfig,
            &network.agent_address,
            &[],
            None,
            None,
        )
        .await
    }

    /// Starts server and agent in the API server's network, which this process is in too. `project` has the agent's
    /// configuration file.
    pub(crate) async fn start_inside(
        binaries: &Path,
        kubeconfig: &Path,
        agent_observability: SocketAddr,
        server_arguments: &[&str],
        project: &str,
    ) -> anyhow::Result<Self> {
        let mut agent = Command::new(binaries.join("agent"));
        agent.arg(format!(
            "--observability-listen-address={agent_observability}"
        ));
        let kubeconfig = kubeconfig.display().to_string();
        let folder = tempfile::tempdir()?;
        Self::start_on(
            binaries,
            folder,
            None,
            agent,
            &kubeconfig,
            "127.0.0.1:0",
            server_arguments,
            Some(project),
            None,
        )
        .await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each of the three ways to start gives all of them"
    )]
    async fn start_on(
        binaries: &Path,
        folder: TempDir,
        upstream: Option<Upstream>,
        mut agent: Command,
        kubeconfig: &str,
        agent_address: &str,
        server_arguments: &[&str],
        project: Option<&str>,
        link: Option<Link>,
    ) -> anyhow::Result<Self> {
        let program = Programs {
            folder: binaries.to_owned(),
            data: folder.path().join("server"),
        };
        let (server, addresses) =
            start_server(&program, folder.path(), agent_address, server_arguments).await?;
        let mut create = vec!["agent", "create", AGENT, "-o", "json"];
        create.extend(project.into_iter().flat_map(|url| ["--project", url]));
        let created = program.json(&create).await?;
        let personal = program
            .json(&["token", "create", "--name", AGENT, "-o", "json"])
            .await?;
        let agent_token = created["token"]
            .as_str()
            .context("no token in the answer to agent create")?;
        let personal_token = personal["token"]
            .as_str()
            .context("no token in the answer to token create")?;
        let token = format!("pat:{}:{personal_token}", created["id"]);
        let relay = match link {
            Some(link) => Some(Relay::start(link, addresses.agents.parse()?).await?),
            None => None,
        };
        let dialled = relay
            .as_ref()
            .map_or(addresses.agents.clone(), |relay| relay.address.to_string());
        agent
            .arg(format!("--kas-address=grpc://{dialled}"))
            .arg(format!("--kubeconfig={kubeconfig}"))
            .env("AGENTK_TOKEN", agent_token)
            .env("POD_NAMESPACE", AGENT)
            .env("POD_NAME", AGENT)
            .stdout(File::create(folder.path().join("agent.out"))?)
            .stderr(File::create(folder.path().join("agent.log"))?)
            .kill_on_drop(true);
        let stack = Self {
            server,
            agent: agent.spawn().context("starting the agent")?,
            agent_command: agent,
            _relay: relay,
            upstream,
            people_address: addresses.people,
            agents_address: addresses.agents,
            program,
            server_arguments: server_arguments.iter().map(ToString::to_string).collect(),
            token,
            personal_token: personal_token.to_owned(),
            folder,
        };
        stack.wait_for_tunnel().await?;
        Ok(stack)
    }

    /// `kill -9` of the server.
    pub(crate) async fn kill_server(&mut self) -> anyhow::Result<()> {
        Ok(self.server.kill().await?)
    }

    /// Starts a killed server again, where agents find it; for people it may be elsewhere, which is returned.
    pub(crate) async fn start_server(&mut self) -> anyhow::Result<String> {
        let arguments: Vec<&str> = self.server_arguments.iter().map(String::as_str).collect();
        let (server, addresses) = start_server(
            &self.program,
            self.folder.path(),
            &self.agents_address,
            &arguments,
        )
        .await?;
        self.server = server;
        self.people_address.clone_from(&addresses.people);
        Ok(addresses.people)
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.id().unwrap_or_default()
    }

    /// Where the server listens for agents.
    pub(crate) fn agents_address(&self) -> &str {
        &self.agents_address
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9` of the agent.
    pub(crate) async fn kill_agent(&mut self) -> anyhow::Result<()> {
        Ok(self.agent.kill().await?)
    }

    /// Starts a killed agent again, as it was started first.
    pub(crate) fn start_agent(&mut self) -> anyhow::Result<()> {
        self.agent = self.agent_command.spawn().context("starting the agent")?;
        Ok(())
    }

    /// The server's API: where it listens, and a token for it.
    pub(crate) fn people(&self) -> (&str, &str) {
        (&self.people_address, &self.personal_token)
    }

    /// The end of what the agent has logged.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }

    /// A path of the in-memory upstream, called directly.
    pub(crate) fn direct(&self, path: &str) -> anyhow::Result<Target> {
        let upstream = self.upstream.as_ref().context("no upstream in memory")?;
        let uri = format!("https://{}{path}", upstream.address).parse::<Uri>()?;
        Ok(Target {
            uri,
            token: None,
            tls: Some(upstream.tls.clone()),
        })
    }

    /// The same, over a link of its own.
    pub(crate) async fn direct_far(
        &self,
        path: &str,
        link: Link,
    ) -> anyhow::Result<(Target, Relay)> {
        let mut target = self.direct(path)?;
        let upstream = self.upstream.as_ref().context("no upstream in memory")?;
        let relay = Relay::start(link, upstream.address.parse()?).await?;
        target.uri = format!("https://{}{path}", relay.address).parse::<Uri>()?;
        Ok((target, relay))
    }

    /// The same path through server, tunnel and agent.
    pub(crate) fn tunnel(&self, path: &str) -> anyhow::Result<Target> {
        let uri = format!("http://{}/k8s-proxy{path}", self.people_address).parse::<Uri>()?;
        Ok(Target {
            uri,
            token: Some(self.token.clone()),
            tls: None,
        })
    }

    async fn wait_for_tunnel(&self) -> anyhow::Result<()> {
        let target = self.tunnel("/version")?;
        let end = Instant::now() + START_LIMIT;
        loop {
            match load::download(&target).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    let log = |name| {
                        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
                    };
                    bail!(
                        "no call passed within {START_LIMIT:?}: {error:#}\nagent:\n{}\nserver:\n{}",
                        log("agent.log"),
                        log("server.log")
                    );
                }
                Err(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }
}

struct Addresses {
    agents: String,
    people: String,
}

struct Programs {
    folder: PathBuf,
    data: PathBuf,
}

impl Programs {
    fn server(&self) -> Command {
        let mut command = Command::new(self.folder.join("kas-stub"));
        command.env("KAS_STUB_DATA_DIR", &self.data);
        command
    }

    async fn json(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = self
            .server()
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "kas-stub {} ended with {}",
                arguments.join(" "),
                output.status
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

async fn start_upstream(certificate: &Path) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("upstream")
        .arg(certificate)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let address = BufReader::new(stdout)
        .lines()
        .next_line()
        .await?
        .context("the upstream ended at once")?;
    Ok((child, address))
}

async fn start_server(
    program: &Programs,
    folder: &Path,
    agent_address: &str,
    arguments: &[&str],
) -> anyhow::Result<(Child, Addresses)> {
    let log = folder.join("server.log");
    let child = program
        .server()
        .arg("serve")
        .args(["--agent-listen-address", agent_address, "--allow-plaintext"])
        .args(["--people-listen-address", "127.0.0.1:0"])
        .args(["--observability-listen-address", "127.0.0.1:0"])
        .args(arguments)
        .stdout(File::create(folder.join("server.out"))?)
        .stderr(File::create(&log)?)
        .kill_on_drop(true)
        .spawn()
        .context("starting the server")?;
    let end = Instant::now() + START_LIMIT;
    loop {
        let text = std::fs::read_to_string(&log)?;
        if let Some(line) = text.lines().find(|line| line.contains("listening agents=")) {
            let field = |name: &str| -> anyhow::Result<String> {
                let value = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix(name));
                Ok(value
                    .with_context(|| format!("no {name} in '{line}'"))?
                    .to_owned())
            };
            return Ok((
                child,
                Addresses {
                    agents: field("agents=")?,
                    people: field("people=")?,
                },
            ));
        }
        if Instant::now() > end {
            bail!("the server did not listen within {START_LIMIT:?}:\n{text}");
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn client_tls(certificate: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(
        certificate,
    )?)?;
    Ok(rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn kubeconfig_text(address: &str, certificate: &Path) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": format!("https://{address}"), "certificate-authority": certificate}}],
        "users": [{"name": "bench", "user": {"token": "bench"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    })
    .to_string()
}
