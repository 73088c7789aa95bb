//! A Git repository with one commit, behind `git http-backend` and a few lines of HTTP.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

pub(crate) struct Repository {
    _folder: tempfile::TempDir,
    pub(crate) url: String,
}

impl Repository {
    /// A repository with this devfile. It is a project for the agents `a` and `one` too, by which they take workspaces.
    pub(crate) async fn serve(devfile: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("app.git");
        std::fs::create_dir(&work).unwrap();
        git(&work, &["init", "-q", "-b", "main"]).await;
        std::fs::write(work.join("devfile.yaml"), devfile).unwrap();
        for agent in ["a", "one"] {
            let folder = work.join(".gitlab/agents").join(agent);
            std::fs::create_dir_all(&folder).unwrap();
            let file = "remote_development: {enabled: true}\n";
            std::fs::write(folder.join("config.yaml"), file).unwrap();
        }
        git(&work, &["add", "-A"]).await;
        git(&work, &["commit", "-q", "-m", "devfile"]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/app.git", listener.local_addr().unwrap());
        let root = folder.path().to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let root = root.clone();
                let service = hyper::service::service_fn(move |request| {
                    let root = root.clone();
                    async move { Ok::<_, Infallible>(by_cgi(root, request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self {
            _folder: folder,
            url,
        }
    }
}

async fn git(folder: &Path, arguments: &[&str]) {
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
}

async fn by_cgi(root: PathBuf, request: Request<Incoming>) -> Response<Full<Bytes>> {
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
    response
        .body(Full::new(Bytes::copy_from_slice(&output[end + 4..])))
        .unwrap()
}
