//! A server for one test, and ways to ask it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kas_stub::{app, config::ServeConfig};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

/// Far longer than anything takes here; a wait that reaches it fails the test.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    pub(crate) server: app::Server,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) struct TestAgent {
    pub(crate) id: u64,
    pub(crate) token: String,
    pub(crate) webhook_secret: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

/// The configuration file of agent `a`, by which it takes workspaces.
pub(crate) const WORKSPACES_ON: (&str, &str) = (
    ".gitlab/agents/a/config.yaml",
    "remote_development: {enabled: true}\n",
);

/// What every use of TLS needs first.
pub(crate) fn install_provider() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        change: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        install_provider();
        let mut config = ServeConfig::local(folder.path().join("data"));
        config.timing.find_tunnel = Duration::from_millis(500);
        config.timing.stop_grace = Duration::from_secs(2);
        change(&mut config);
        // A program that another test starts at this moment holds our lock's file open until it is another program.
        let began = Instant::now();
        let server = loop {
            match app::start(config.clone()).await {
                Err(error) if began.elapsed() < LIMIT => {
                    assert!(error.to_string().contains("another server"), "{error:#}");
                    tokio::task::yield_now().await;
                }
                started => break started.unwrap(),
            }
        };
        Self { server, folder }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// As the administrator on the server's machine.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let socket = UnixStream::connect(self.data_dir().join("admin.sock"));
        let stream = TokioIo::new(socket.await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let body = body.map_or_else(String::new, |body| body.to_string());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        collect(sender.send_request(request).await.unwrap()).await
    }

    pub(crate) async fn create_agent(&self, name: &str, project: Option<&str>) -> TestAgent {
        let body = serde_json::json!({ "name": name, "project_url": project });
        let answer = self.admin(Method::POST, "/api/v1/agents", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        TestAgent {
            id: answer["id"].as_u64().unwrap(),
            token: text(&answer["token"]),
            webhook_secret: text(&answer["webhook"]["secret"]),
        }
    }

    pub(crate) async fn show_agent(&self, name: &str) -> Value {
        let path = format!("/api/v1/agents/{name}");
        self.admin(Method::GET, &path, None).await.json()
    }

    /// A personal token: its id, its secret.
    pub(crate) async fn create_token(&self) -> (u64, String) {
        let body = serde_json::json!({ "name": "test" });
        let answer = self.admin(Method::POST, "/api/v1/tokens", Some(body)).await;
        let answer = answer.json();
        let token = answer["token"].as_str().unwrap().to_owned();
        (answer["id"].as_u64().unwrap(), token)
    }

    /// Waits until workspaces can be made on the agent.
    pub(crate) async fn wait_for_workspaces(&self, name: &str) {
        self.wait_for_agent(name, |agent| agent["workspaces"]["enabled"] == true)
            .await;
    }

    /// Waits until the agent is as wished.
    pub(crate) async fn wait_for_agent(&self, name: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let agent = self.show_agent(name).await;
            if wish(&agent) {
                return agent;
            }
            assert!(began.elapsed() < LIMIT, "the agent stays {agent:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A connection of a person.
pub(crate) async fn person(address: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// A request to the Kubernetes proxy.
pub(crate) fn proxied(
    agent_id: u64,
    token: &str,
    method: Method,
    path: &str,
) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("/k8s-proxy{path}"))
        .header(header::HOST, "kas")
        .header(
            header::AUTHORIZATION,
            format!("Bearer pat:{agent_id}:{token}"),
        )
}

pub(crate) fn no_body() -> Full<Bytes> {
    Full::new(Bytes::new())
}

pub(crate) async fn collect(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(LIMIT, body.collect()).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.unwrap().to_bytes(),
    }
}
