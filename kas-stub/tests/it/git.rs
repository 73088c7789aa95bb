//! Configuration from a real Git project: `git http-backend` behind a few lines of HTTP.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    agent::{ScriptedAgent, next_configuration, nothing_comes},
    support::{TestAgent, TestServer, collect, person},
};

/// A project with one branch, served over HTTP.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    pub(crate) url: String,
}

impl Project {
    pub(crate) async fn serve() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join("project.git");
        git(
            folder.path(),
            &["init", "-q", "--bare", "-b", "main", "project.git"],
        )
        .await;
        git(&bare, &["config", "http.receivepack", "false"]).await;
        git(folder.path(), &["clone", "-q", "project.git", "work"]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/project.git", listener.local_addr().unwrap());
        let root = folder.path().to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let root = root.clone();
                let service = service_fn(move |request| backend(root.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { folder, url }
    }

    /// Where files are that the next push takes along.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Commits and pushes files; the commit.
    pub(crate) async fn push(&self, files: &[(&str, &str)]) -> String {
        let work = self.work();
        for (path, content) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(&work, &["add", "-A"]).await;
        git(&work, &["commit", "-q", "--allow-empty", "-m", "change"]).await;
        git(&work, &["push", "-q", "origin", "HEAD:main"]).await;
        git(&work, &["rev-parse", "HEAD"]).await.trim().to_owned()
    }
}

async fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// One request by CGI.
async fn backend(
    root: PathBuf,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        let value = parts.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(&value[..3]),
            _ => response.header(name, value),
        };
    }
    Ok(response
        .body(Full::new(Bytes::copy_from_slice(&output[end + 4..])))
        .unwrap())
}

/// TLS in front of a project; its address.
async fn behind_tls(project: &Project, config: rustls::ServerConfig) -> String {
    let plain = project.url.trim_start_matches("http://").to_owned();
    let (plain, path) = plain.split_once('/').unwrap();
    let plain = plain.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut behind = TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    format!("https://localhost:{port}/{path}")
}

#[tokio::test]
async fn a_git_server_of_a_private_authority_is_read_when_that_is_named() {
    crate::support::install_provider();
    let project = Project::serve().await;
    let commit = project.push(&[(PATH, &file("debug"))]).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let url = behind_tls(&project, config).await;
    let authority = project.folder.path().join("ca.crt");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    for (named, expected) in [(Some(authority), None), (None, Some("certificate"))] {
        let server = TestServer::start_with(|config| {
            config.git_allow_private = true;
            config.git_ca_file = named;
        })
        .await;
        server.create_agent("a", Some(&url)).await;
        let shown = server
            .wait_for_agent("a", |agent| {
                let configuration = &agent["configuration"];
                !configuration["commit"].is_null() || !configuration["error"].is_null()
            })
            .await;
        let configuration = &shown["configuration"];
        match expected {
            None => assert_eq!(configuration["commit"], *commit, "{shown:#}"),
            Some(text) => assert!(
                configuration["error"].to_string().contains(text),
                "{shown:#}"
            ),
        }
    }
}

async fn server() -> TestServer {
    TestServer::start_with(|config| {
        config.git_allow_http = true;
        config.git_allow_private = true;
        // Long: what is seen here comes from the hook.
        config.timing.git_poll_interval = Duration::from_secs(600);
    })
    .await
}

/// Tells the server that the project of the agent `a` was pushed to.
pub(crate) async fn hook(server: &TestServer, agent: &TestAgent) {
    let mut person = person(server.server.people).await;
    let request = Request::post("/api/v1/agents/a/push-hook")
        .header("host", "kas")
        .header("x-gitlab-token", &agent.webhook_secret)
        .body(Full::new("{}".into()));
    let answer = collect(person.send_request(request.unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, 202);
}

fn file(level: &str) -> String {
    format!("observability:\n  logging:\n    level: {level}\n")
}

const PATH: &str = ".gitlab/agents/a/config.yaml";

#[tokio::test]
async fn a_change_takes_effect_after_the_hook_and_a_wrong_file_does_not() {
    let project = Project::serve().await;
    let first = project.push(&[(PATH, &file("debug"))]).await;
    let server = server().await;
    let created = server.create_agent("a", Some(&project.url)).await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut stream = agent.configuration("").await.unwrap();
    let response = next_configuration(&mut stream).await.unwrap().unwrap();
    assert_eq!(response.commit_id, first);
    let configuration = response.configuration.unwrap();
    assert_eq!(configuration.project_path, "project");
    let level = |configuration: proto::agentcfg::AgentConfiguration| {
        configuration
            .observability
            .unwrap()
            .logging
            .unwrap()
            .level()
    };
    assert_eq!(level(configuration), proto::agentcfg::LogLevel::Debug);

    let second = project.push(&[(PATH, &file("warn"))]).await;
    let began = Instant::now();
    hook(&server, &created).await;
    let response = next_configuration(&mut stream).await.unwrap().unwrap();
    assert_eq!(response.commit_id, second);
    assert_eq!(
        level(response.configuration.unwrap()),
        proto::agentcfg::LogLevel::Warn
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );

    // A wrong file: the agent keeps the last good one, people see what is wrong.
    let wrong = project.push(&[(PATH, &file("loud"))]).await;
    hook(&server, &created).await;
    let is_wrong = |agent: &Value| agent["configuration"]["error"]["commit"] == *wrong;
    let shown = server.wait_for_agent("a", is_wrong).await;
    let configuration = &shown["configuration"];
    assert_eq!(configuration["commit"], *second);
    let problem = &configuration["error"]["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["field"]),
        (&3.into(), &"observability.logging.level".into())
    );
    nothing_comes(&mut stream).await;

    // Both survive a restart without the project.
    drop((stream, agent));
    let TestServer { server, folder } = server;
    server.stop().await;
    drop(project);
    let server = TestServer::start_in(folder, |config| {
        config.git_allow_http = true;
        config.git_allow_private = true;
    })
    .await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut stream = agent.configuration("").await.unwrap();
    let response = next_configuration(&mut stream).await.unwrap().unwrap();
    assert_eq!(response.commit_id, second);
}

#[tokio::test]
async fn a_project_without_the_file_means_the_defaults() {
    let project = Project::serve().await;
    let commit = project.push(&[("README", "hello")]).await;
    let server = server().await;
    let created = server.create_agent("a", Some(&project.url)).await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut stream = agent.configuration("").await.unwrap();
    let response = next_configuration(&mut stream).await.unwrap().unwrap();
    assert_eq!(response.commit_id, commit);
    let shown = server.show_agent("a").await;
    assert!(shown["configuration"]["error"].is_null());
    let note = shown["configuration"]["notes"][0]["reason"]
        .as_str()
        .unwrap();
    assert!(note.contains("no such file"), "{note}");
}

#[tokio::test]
async fn an_empty_project_and_a_project_that_is_away_leave_the_agent_working() {
    let empty = Project::serve().await;
    let server = server().await;
    for (name, url) in [("a", empty.url.as_str()), ("b", "http://127.0.0.1:1/x.git")] {
        let created = server.create_agent(name, Some(url)).await;
        let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
        let mut stream = agent.configuration("").await.unwrap();
        let response = next_configuration(&mut stream).await.unwrap().unwrap();
        assert_eq!(response.configuration.unwrap().agent_id as u64, created.id);
    }
    let away = server.show_agent("b").await;
    let message = away["configuration"]["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("project cannot be read: git ls-remote failed"),
        "{message}"
    );
    assert!(server.show_agent("a").await["configuration"]["error"].is_null());
}

#[tokio::test]
async fn a_private_address_is_not_asked_unless_allowed() {
    let project = Project::serve().await;
    project.push(&[(PATH, &file("debug"))]).await;
    let server = TestServer::start_with(|config| config.git_allow_http = true).await;
    server.create_agent("a", Some(&project.url)).await;
    let shown = server
        .wait_for_agent("a", |agent| !agent["configuration"]["error"].is_null())
        .await;
    let message = shown["configuration"]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("loopback") && message.contains("--git-allow-private"),
        "{message}"
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused() {
    let project = Project::serve().await;
    let large = format!("# {}\n", "x".repeat(129 * 1024));
    project.push(&[(PATH, &large)]).await;
    let server = server().await;
    let agent = server.create_agent("a", Some(&project.url)).await;
    let shown = server
        .wait_for_agent("a", |agent| !agent["configuration"]["error"].is_null())
        .await;
    let message = shown["configuration"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("larger than 128 KiB"), "{message}");
    // Deleting it heals.
    project.push(&[(PATH, "")]).await;
    hook(&server, &agent).await;
    server
        .wait_for_agent("a", |agent| agent["configuration"]["error"].is_null())
        .await;
}

#[tokio::test]
async fn without_a_hook_the_project_is_asked_at_its_interval() {
    let project = Project::serve().await;
    project.push(&[(PATH, &file("debug"))]).await;
    let server = TestServer::start_with(|config| {
        config.git_allow_http = true;
        config.git_allow_private = true;
        config.timing.git_poll_interval = Duration::from_millis(300);
    })
    .await;
    server.create_agent("a", Some(&project.url)).await;
    let second = project.push(&[(PATH, &file("info"))]).await;
    server
        .wait_for_agent("a", |agent| agent["configuration"]["commit"] == *second)
        .await;
    let answer = server.admin(Method::GET, "/api/v1/agents/a", None).await;
    assert!(answer.json()["configuration"]["applied_at"].is_string());
}
