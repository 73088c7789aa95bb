//! Server, agents and fake API server in one process, and the administrator's hands.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use http::{Method, StatusCode};
use kas_stub::config::{Clock, Keepalive, ServeConfig};
use serde_json::{Value, json};

use crate::client::{self, Body, Call};
use crate::fake_api::FakeApi;
use crate::relay::Relay;

/// Whatever is waited for in these tests happens in well under a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Pings that notice within a test's patience who is gone.
pub(crate) const IMPATIENT: Keepalive = Keepalive {
    interval: Duration::from_millis(500),
    timeout: Duration::from_millis(1500),
};

/// The service account, in the namespace `agents`, that people's calls run as.
pub(crate) const PEOPLE_ACCOUNT: &str = "people";

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) api: FakeApi,
    server: Option<kas_stub::app::Server>,
    change_server: fn(&mut ServeConfig),
    /// For the lives of workspaces.
    pub(crate) clock: Clock,
    pub(crate) agents_address: SocketAddr,
    pub(crate) people_address: SocketAddr,
    /// A personal token of the administrator.
    pub(crate) person: String,
}

/// An agent as the server knows it.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) id: u64,
    pub(crate) token: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same with another configuration of the server.
    pub(crate) async fn start_with(change_server: fn(&mut ServeConfig)) -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let mut rig = Self {
            folder: tempfile::tempdir().unwrap(),
            api: FakeApi::start().await,
            server: None,
            change_server,
            clock: Clock::default(),
            agents_address: ANY_PORT,
            people_address: ANY_PORT,
            person: String::new(),
        };
        rig.start_server().await;
        let token = rig
            .admin(
                Method::POST,
                "/api/v1/tokens",
                json!({"name": "component tests"}),
            )
            .await;
        rig.person = token["token"].as_str().unwrap().to_owned();
        rig
    }

    /// Starts the server; a second time on the addresses it had before.
    pub(crate) async fn start_server(&mut self) {
        let mut config = serve_config(
            self.folder.path().join("server"),
            self.agents_address,
            self.people_address,
        );
        config.clock = self.clock.clone();
        (self.change_server)(&mut config);
        let server = kas_stub::app::start(config).await.unwrap();
        self.agents_address = server.agents;
        self.people_address = server.people;
        self.server = Some(server);
    }

    pub(crate) async fn stop_server(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    /// Calls the REST API over the administrator's socket, and is not refused.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let what = format!("{method} {path}");
        let (status, answer) = self.try_admin(method, path, body).await;
        assert!(status.is_success(), "{what}: {status} {answer}");
        answer
    }

    pub(crate) async fn try_admin(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let body = if body.is_null() {
            client::empty()
        } else {
            client::full(body.to_string())
        };
        let request = client::request(method, path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .unwrap();
        let call = client::unix(&self.folder.path().join("server/admin.sock"), request)
            .await
            .unwrap();
        let status = call.status();
        if status == StatusCode::NO_CONTENT {
            return (status, Value::Null);
        }
        (status, call.json().await)
    }

    pub(crate) async fn register(&self, name: &str) -> Registered {
        self.register_as(json!({"name": name})).await
    }

    /// Registers an agent whose project allows workspaces.
    pub(crate) async fn register_for_workspaces(&self, name: &str, project: &str) -> Registered {
        let registered = self
            .register_as(json!({"name": name, "project_url": project}))
            .await;
        let is_on = |agent: &Value| agent["workspaces"]["enabled"] == true;
        self.wait_agent(name, "workspaces are on", is_on).await;
        registered
    }

    async fn register_as(&self, request: Value) -> Registered {
        let answer = self.admin(Method::POST, "/api/v1/agents", request).await;
        Registered {
            id: answer["id"].as_u64().unwrap(),
            token: answer["token"].as_str().unwrap().to_owned(),
        }
    }

    /// Starts an agent with this token, without waiting for its connection.
    pub(crate) async fn start_agent(&self, name: &str, token: &str) -> agent::app::Agent {
        self.start_agent_with(None, name, token, |_| ()).await
    }

    /// The same, in a cluster with this CA certificate.
    pub(crate) async fn start_agent_in(
        &self,
        ca: Option<&str>,
        name: &str,
        token: &str,
    ) -> agent::app::Agent {
        self.start_agent_with(ca, name, token, |_| ()).await
    }

    /// The same with another configuration.
    pub(crate) async fn start_agent_with(
        &self,
        ca: Option<&str>,
        name: &str,
        token: &str,
        change: impl FnOnce(&mut agent::config::Config),
    ) -> agent::app::Agent {
        let token_file = self.write_token(name, token);
        let mut config = agent_config(
            self.agents_address,
            &token_file,
            &self.api.kubeconfig(self.folder.path(), name, ca),
            name,
        );
        change(&mut config);
        let log_levels = agent::telemetry::LogLevels::new(|_| ());
        let modules = agent::modules::all(&config, log_levels).await.unwrap();
        agent::app::start(config, modules).await.unwrap()
    }

    /// Registers an agent and starts it with a network between it and the server.
    pub(crate) async fn agent_behind(&self, relay: &Relay) -> (Registered, agent::app::Agent) {
        let registered = self.register("one").await;
        let address = format!("grpc://{}", relay.address);
        let agent = self
            .start_agent_with(None, "one", &registered.token, |config| {
                config.kas_address = address.parse().unwrap();
                config.keepalive = agent::config::Keepalive {
                    interval: IMPATIENT.interval,
                    timeout: IMPATIENT.timeout,
                };
            })
            .await;
        self.wait_connected("one", true).await;
        (registered, agent)
    }

    /// The folder of the server's data.
    pub(crate) fn server_data(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// The certificate of the server's own authority.
    pub(crate) fn server_ca(&self) -> PathBuf {
        self.folder.path().join("server/tls/ca.crt")
    }

    /// Writes the file that the agent reads its token from.
    pub(crate) fn write_token(&self, name: &str, token: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.token"));
        std::fs::write(&path, token).unwrap();
        path
    }

    /// Revokes one of the agent's tokens, by its place in the list.
    pub(crate) async fn revoke_agent_token(&self, name: &str, index: usize) {
        let path = format!("/api/v1/agents/{name}");
        let agent = self.admin(Method::GET, &path, Value::Null).await;
        let id = id_of(&agent["tokens"][index]);
        self.admin(Method::DELETE, &format!("{path}/tokens/{id}"), Value::Null)
            .await;
    }

    /// Registers an agent, starts it, and waits until the server sees it.
    pub(crate) async fn connected_agent(&self, name: &str) -> (Registered, agent::app::Agent) {
        let registered = self.register(name).await;
        let agent = self.start_agent(name, &registered.token).await;
        self.wait_connected(name, true).await;
        (registered, agent)
    }

    pub(crate) async fn wait_connected(&self, name: &str, connected: bool) {
        self.wait_agent(name, &format!("connected: {connected}"), |agent| {
            agent["connected"] == connected
        })
        .await;
    }

    /// Waits until the agent's entry in the API is as asked.
    pub(crate) async fn wait_agent(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_agent_for(SOON, name, what, is).await
    }

    pub(crate) async fn wait_agent_for(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/api/v1/agents/{name}");
        let end = tokio::time::Instant::now() + limit;
        loop {
            let agent = self.admin(Method::GET, &path, Value::Null).await;
            if is(&agent) {
                return agent;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "agent {name} did not become {what}: {agent:#}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A request to the Kubernetes proxy as a person with rights sends it.
    pub(crate) fn proxied(
        &self,
        agent: &Registered,
        method: Method,
        path: &str,
    ) -> http::request::Builder {
        client::request(method, &format!("/k8s-proxy{path}")).header(
            http::header::AUTHORIZATION,
            format!("Bearer pat:{}:{}", agent.id, self.person),
        )
    }

    pub(crate) async fn call(
        &self,
        agent: &Registered,
        method: Method,
        path: &str,
        body: Body,
    ) -> Call {
        let request = self.proxied(agent, method, path).body(body).unwrap();
        client::tcp(self.people_address, request).await.unwrap()
    }

    /// An upgraded connection through the tunnel, as exec and a forwarded port have one.
    pub(crate) async fn upgrade(&self, agent: &Registered, path: &str) -> hyper::upgrade::Upgraded {
        let request = self
            .proxied(agent, Method::POST, path)
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, "SPDY/3.1")
            .body(client::empty())
            .unwrap();
        let mut call = client::tcp(self.people_address, request).await.unwrap();
        assert_eq!(call.status(), StatusCode::SWITCHING_PROTOCOLS);
        hyper::upgrade::on(&mut call.response).await.unwrap()
    }

    pub(crate) async fn get(&self, agent: &Registered, path: &str) -> Call {
        self.call(agent, Method::GET, path, client::empty()).await
    }
}

/// The id of a thing in the API, as it stands in an address.
pub(crate) fn id_of(thing: &Value) -> String {
    let id = &thing["id"];
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

fn serve_config(data_dir: PathBuf, agents: SocketAddr, people: SocketAddr) -> ServeConfig {
    let mut config = ServeConfig::local(data_dir);
    config.agent_listen_address = agents;
    config.people_listen_address = people;
    // A call to an agent that is away is answered while the test still waits.
    config.git_allow_http = true;
    config.git_allow_private = true;
    config.timing.find_tunnel = Duration::from_secs(2);
    config.workspaces.partial_interval_s = 1;
    config
}

fn agent_config(
    server: SocketAddr,
    token_file: &Path,
    kubeconfig: &Path,
    pod: &str,
) -> agent::config::Config {
    let args = agent::config::Args::parse_from([
        "agent",
        "--kas-address",
        &format!("grpc://{server}"),
        "--token-file",
        token_file.to_str().unwrap(),
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--pod-namespace=agents",
        &format!("--pod-name={pod}"),
        "--observability-listen-address=127.0.0.1:0",
        &format!("--user-access-service-account={PEOPLE_ACCOUNT}"),
    ]);
    args.try_into().unwrap()
}
