//! What the tests drive.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::State};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use proto::{
    entity::AgentMeta,
    remote_development::rpc::{
        self as wire, reconcile_request, reconcile_response::Message,
        remote_development_client::RemoteDevelopmentClient,
    },
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::{app, config::ServeConfig};

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent's configuration file, by which it takes workspaces.
const WORKSPACES_ON: (&str, &str) = (
    ".gitlab/agents/eu-1/config.yaml",
    "remote_development: {enabled: true}\n",
);

/// A server with the agent `eu-1`, and a Git server with one repository.
pub(super) struct World {
    folder: tempfile::TempDir,
    server: Option<app::Server>,
    token: String,
    git: String,
    /// For the lives of workspaces.
    pub(super) clock: crate::config::Clock,
}

impl World {
    pub(super) async fn start(files: &[(&str, &str)]) -> Self {
        let mut world = Self::start_empty().await;
        world.git = serve_git(world.folder.path(), files).await;
        let project = format!("{}/app.git", world.git);
        let request = json!({ "name": "eu-1", "project_url": project });
        let (status, agent) = world.call("POST", "/agents", Some(request)).await;
        assert_eq!(status, 201, "{agent}");
        world.use_token(agent["token"].as_str().unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, agent) = world.call("GET", "/agents/eu-1", None).await;
            if agent["workspaces"]["enabled"] == true {
                return world;
            }
            assert!(Instant::now() < deadline, "{agent}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A server that knows nobody.
    pub(super) async fn start_empty() -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let folder = tempfile::tempdir().unwrap();
        let git = String::new();
        let mut world = Self {
            folder,
            server: None,
            token: String::new(),
            git,
            clock: crate::config::Clock::default(),
        };
        world.restart().await;
        world
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn use_token(&mut self, token: &str) {
        self.token = token.to_owned();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        let mut config = ServeConfig::local(self.data());
        config.git_allow_http = true;
        config.git_allow_private = true;
        config.clock = self.clock.clone();
        // A program that another test starts at this moment holds our lock's file open until it is another program.
        let deadline = Instant::now() + PATIENCE;
        let server = loop {
            match app::start(config.clone()).await {
                Err(error) if Instant::now() < deadline => {
                    assert!(error.to_string().contains("another server"), "{error:#}");
                    tokio::task::yield_now().await;
                }
                started => break started.unwrap(),
            }
        };
        self.server = Some(server);
    }

    pub(super) async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    pub(super) fn private_repository(&self) -> String {
        format!("{}/private.git", self.git)
    }

    /// Asks the API by the administrator's socket.
    pub(super) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Response<hyper::body::Incoming> {
        let socket = tokio::net::UnixStream::connect(self.data().join(crate::data_folder::SOCKET))
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .unwrap();
        tokio::spawn(connection);
        let body = body.map(|it| it.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "localhost")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    pub(super) async fn create(&self, mut request: Value) -> (u16, Value) {
        if request["repository"].is_null() {
            request["repository"] = format!("{}/app.git", self.git).into();
        }
        self.call("POST", "/workspaces", Some(request)).await
    }

    pub(super) async fn show(&self, name: &str) -> Value {
        self.call("GET", &format!("/workspaces/{name}"), None)
            .await
            .1
    }

    /// The events of a workspace that is terminated: then their stream ends.
    pub(super) async fn events(&self, name: &str) -> Vec<Value> {
        let response = self
            .send("GET", &format!("/workspaces/{name}/events"), None)
            .await;
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        let body = response.into_body().collect();
        let body = tokio::time::timeout(PATIENCE, body)
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// A leader with this fencing token.
    pub(super) async fn agent(&self, fencing_token: u64) -> Agent {
        let address = self.server.as_ref().unwrap().agents;
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let bearer: tonic::metadata::MetadataValue<_> =
            format!("Bearer {}", self.token).parse().unwrap();
        let authenticate = move |mut request: tonic::Request<()>| {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
            Ok(request)
        };
        let mut client = RemoteDevelopmentClient::with_interceptor(channel, authenticate);
        let (requests, receiver) = mpsc::channel(8);
        let begin = wire::Begin {
            agent_meta: Some(AgentMeta {
                pod_name: format!("pod-{fencing_token}"),
                ..AgentMeta::default()
            }),
            fencing_token,
        };
        requests
            .send(request(reconcile_request::Message::Begin(begin)))
            .await
            .unwrap();
        let responses = client
            .reconcile(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let mut agent = Agent {
            requests,
            responses,
            polls: 0,
            operator: None,
            refused: None,
        };
        match agent.responses.message().await {
            Ok(settings) => {
                let message = settings.and_then(|it| it.message);
                assert!(matches!(message, Some(Message::Settings(_))), "{message:?}");
            }
            Err(status) => agent.refused = Some(status),
        }
        agent
    }
}

fn request(message: reconcile_request::Message) -> wire::ReconcileRequest {
    wire::ReconcileRequest {
        message: Some(message),
    }
}

/// An agent's stream.
pub(super) struct Agent {
    requests: mpsc::Sender<wire::ReconcileRequest>,
    responses: Streaming<wire::ReconcileResponse>,
    polls: u64,
    /// What it says of the DevWorkspace Operator with each poll.
    pub(super) operator: Option<wire::DevWorkspaceOperator>,
    /// Instead of the settings.
    refused: Option<tonic::Status>,
}

/// A workspace as the agent was told it, its objects put together.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) head: wire::Workspace,
    pub(super) objects: Vec<Value>,
    pub(super) largest_message: usize,
}

enum Heard {
    Told(Told),
    Answered(u64),
}

impl Agent {
    pub(super) async fn full_poll(&mut self, reports: Vec<wire::WorkspaceReport>) -> Vec<Told> {
        self.poll(true, reports).await
    }

    /// Reports one workspace, and gives what came before the answer.
    pub(super) async fn report(
        &mut self,
        id: &str,
        applied: u64,
        actual: wire::ActualState,
    ) -> Vec<Told> {
        self.poll(false, vec![super::report(id, applied, actual)])
            .await
    }

    /// Polls, one report a page, and gives what came before the answer.
    pub(super) async fn poll(
        &mut self,
        full: bool,
        reports: Vec<wire::WorkspaceReport>,
    ) -> Vec<Told> {
        self.polls += 1;
        let mut pages: Vec<_> = reports.into_iter().map(|it| vec![it]).collect();
        if pages.is_empty() {
            pages.push(vec![]);
        }
        let last = pages.len() - 1;
        for (number, reports) in pages.into_iter().enumerate() {
            let poll = wire::Poll {
                number: self.polls,
                full,
                reports,
                more: number < last,
                dev_workspace_operator: self.operator.clone(),
            };
            self.requests
                .send(request(reconcile_request::Message::Poll(poll)))
                .await
                .unwrap();
        }
        let mut all = Vec::new();
        loop {
            match self.hear().await {
                Heard::Told(told) => all.push(told),
                Heard::Answered(number) => {
                    assert_eq!(number, self.polls);
                    return all;
                }
            }
        }
    }

    /// What is told unasked.
    pub(super) async fn told(&mut self) -> Told {
        match self.hear().await {
            Heard::Told(told) => told,
            Heard::Answered(number) => panic!("poll {number} is answered twice"),
        }
    }

    /// How the stream ends.
    pub(super) async fn refusal(&mut self) -> tonic::Status {
        if let Some(status) = self.refused.take() {
            return status;
        }
        loop {
            let message = tokio::time::timeout(PATIENCE, self.responses.message())
                .await
                .unwrap();
            match message {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    }

    async fn message(&mut self) -> Message {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        message
            .expect("a message in time")
            .unwrap()
            .unwrap()
            .message
            .unwrap()
    }

    async fn hear(&mut self) -> Heard {
        let head = match self.message().await {
            Message::Workspace(head) => head,
            Message::PollAnswered(answered) => return Heard::Answered(answered.number),
            other @ (Message::Settings(_) | Message::ObjectChunk(_)) => panic!("{other:?}"),
        };
        let mut told = Told {
            objects: Vec::new(),
            largest_message: 0,
            head,
        };
        let mut data = Vec::new();
        while told.objects.len() < told.head.object_count as usize {
            let Message::ObjectChunk(chunk) = self.message().await else {
                panic!("something else between the objects of a workspace");
            };
            told.largest_message = told.largest_message.max(chunk.data.len());
            data.extend_from_slice(&chunk.data);
            if chunk.last {
                let digest = ring::digest::digest(&ring::digest::SHA256, &data);
                let hash: String = digest
                    .as_ref()
                    .iter()
                    .map(|it| format!("{it:02x}"))
                    .collect();
                assert_eq!(chunk.hash, hash);
                told.objects
                    .push(serde_json::from_slice(&std::mem::take(&mut data)).unwrap());
            }
        }
        Heard::Told(told)
    }
}

/// Serves a repository over Git's own HTTP back end; `private.git` wants to know who asks.
async fn serve_git(folder: &Path, files: &[(&str, &str)]) -> String {
    let work = folder.join("work");
    for (path, content) in files.iter().chain([&WORKSPACES_ON]) {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .current_dir(folder)
            .args([
                "-c",
                "user.name=T",
                "-c",
                "user.email=t@example.com",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "--quiet", "work"]);
    git(&["-C", "work", "add", "."]);
    git(&["-C", "work", "commit", "--quiet", "--message", "Begin"]);
    git(&["clone", "--quiet", "--bare", "work", "projects/app.git"]);
    let router = Router::new()
        .fallback(git_back_end)
        .with_state(folder.join("projects"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn git_back_end(
    State(projects): State<PathBuf>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if path.starts_with("/private.git") {
        let refusal = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("WWW-Authenticate", "Basic realm=git");
        return Ok(refusal.body(Body::empty()).unwrap());
    }
    let text = |name: &str| {
        parts
            .headers
            .get(name)
            .map(|it| it.to_str().unwrap())
            .unwrap_or_default()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", projects)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text("content-type"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let body = body.collect().await.unwrap().to_bytes();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&body).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    Ok(response
        .body(Body::from(output[end + 4..].to_vec()))
        .unwrap())
}
