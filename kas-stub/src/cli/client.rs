//! Asks a server's API: over its socket, or over HTTPS.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::ClientArgs;
use crate::{data_folder::SOCKET, tls};

const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer: thousands of agents.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Asks, and gives the answer's JSON.
pub(super) async fn ask(
    args: &ClientArgs,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    tokio::time::timeout(TIMEOUT, ask_patiently(args, method, path, body))
        .await
        .context("the server did not answer in 30 seconds")?
}

async fn ask_patiently(
    args: &ClientArgs,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let response = send(args, method, path, body).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("read the server's answer: {error}"))?
        .to_bytes();
    if !status.is_success() {
        return Err(refusal(status, &answer));
    }
    if status == http::StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer)
        .with_context(|| format!("the server answered {status} without JSON"))
}

/// Asks for an answer that may go on and on, and gives its pieces as they come.
pub(super) async fn stream(
    args: &ClientArgs,
    path: &str,
    take: fn(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let response = send(args, Method::GET, path, None).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let answer = Limited::new(body, MAX_ANSWER).collect().await;
        let answer = answer
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .to_bytes();
        return Err(refusal(status, &answer));
    }
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("the answer broke off")?.data_ref() {
            take(data)?;
        }
    }
    Ok(())
}

async fn send(
    args: &ClientArgs,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
    let (stream, host, token) = connect(args).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = body.map_or_else(String::new, |body| body.to_string());
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    sender.send_request(request).await.context("ask the server")
}

/// What the server says against a request.
fn refusal(status: http::StatusCode, answer: &[u8]) -> anyhow::Error {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return anyhow::anyhow!("the server answered {status} without JSON");
    };
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    let field = match text("field") {
        "" => String::new(),
        field => format!("{field}: "),
    };
    let hint = match text("hint") {
        "" => String::new(),
        hint => format!("\n{hint}"),
    };
    let problems = answer["problems"].as_array().into_iter().flatten();
    let problems: String = problems.map(problem_line).collect();
    anyhow::anyhow!("{field}{}{problems}{hint}", text("detail"))
}

/// One of several things that are wrong.
fn problem_line(problem: &Value) -> String {
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let hint = match text("hint") {
        "" => String::new(),
        hint => format!(" ({hint})"),
    };
    let (line, column) = (&problem["line"], &problem["column"]);
    format!(
        "\n  line {line}, column {column}, {}: {}{hint}",
        text("field"),
        text("reason")
    )
}

/// A stream to the server, its name for the Host header, the token to send.
async fn connect(args: &ClientArgs) -> anyhow::Result<(Box<dyn Stream>, String, Option<String>)> {
    let Some(server) = &args.server else {
        let Some(folder) = &args.data_dir else {
            bail!(
                "which server? Give --data-dir DIR on its own machine, \
                 or --server URL with --token-file FILE from elsewhere"
            );
        };
        let path = folder.join(SOCKET);
        let stream = UnixStream::connect(&path).await.with_context(|| {
            format!(
                "connect to {}; does a server run with this --data-dir?",
                path.display()
            )
        })?;
        return Ok((Box::new(stream), "localhost".into(), None));
    };
    let url: crate::config::HttpUrl = server
        .parse()
        .map_err(|error| anyhow::anyhow!("--server {server}: {error}"))?;
    if !url.is_https() {
        bail!("--server {server}: a token is only sent over https://");
    }
    let token = token(args)?;
    let (host, port) = (url.host(), url.port());
    let stream = TcpStream::connect((host, port))
        .await
        .with_context(|| format!("connect to {server}"))?;
    let name = ServerName::try_from(host.to_owned()).context("the name of the server")?;
    let stream = TlsConnector::from(tls_config(args.ca_file.as_deref())?)
        .connect(name, stream)
        .await
        .with_context(|| format!("TLS to {server}; does --ca-file hold the server's CA?"))?;
    Ok((Box::new(stream), host.to_owned(), Some(token)))
}

fn token(args: &ClientArgs) -> anyhow::Result<String> {
    let token = match &args.token_file {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        // A flag would show the token to everybody who lists processes.
        None => std::env::var("KAS_STUB_TOKEN")
            .context("--server needs --token-file FILE or a token in KAS_STUB_TOKEN")?,
    };
    Ok(token.trim().to_owned())
}

fn tls_config(ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in tls::certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            bail!("--server needs --ca-file FILE; `kas-stub ca` on the server's machine prints it")
        }
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
