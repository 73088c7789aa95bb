//! A stand-in for a cluster's API server, on loopback, plain HTTP. It is a fake: it knows no objects and no rights, it
//! only shows what reached it. What a real API server does with such calls is tested on the cluster.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /version` | what the real one says, shortened |
//! | `GET /echo/...` | method, path and headers as they arrived, as JSON |
//! | `POST /echo` | the body, as it comes |
//! | `GET /watch` | one line per [`FakeApi::emit`], until the client goes |
//! | `GET /endless` | bytes, as fast as they are taken, until the client goes |
//! | `GET /status/<code>` | that status code |
//! | `GET /api/v1/services`, also of a namespace | what [`FakeApi::set_services`] said; a watch of them says nothing |
//! | `POST /grpc` with `Upgrade` | 101, then HTTP/2: any method gets its body back, and a gRPC status behind it |
//! | `POST /ssh` with `Upgrade` | 101, then speaks first, as SSH servers do, and gives every byte back |
//! | `POST /exec` with `Upgrade` | 101, then every byte back; after the client's end of stream `bye`, then the end |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

type Body = BoxBody<Bytes, hyper::Error>;

/// The token that the agent has for this API server; nobody else knows it.
pub(crate) const AGENT_API_TOKEN: &str = "the-agents-own-service-account-token";

/// What an SSH server says first.
pub(crate) const BANNER: &[u8] = b"SSH-2.0-fake\r\n";

pub(crate) struct FakeApi {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    services: std::sync::Mutex<Vec<serde_json::Value>>,
    lines: broadcast::Sender<String>,
    /// How many watches and upgraded connections are open just now.
    open: watch::Sender<usize>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            services: std::sync::Mutex::default(),
            lines: broadcast::channel(64).0,
            open: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Writes a kubeconfig for an agent; `ca` is the cluster's CA certificate, PEM, if it has one.
    pub(crate) fn kubeconfig(&self, folder: &Path, agent: &str, ca: Option<&str>) -> PathBuf {
        let path = folder.join(format!("{agent}.kubeconfig"));
        let ca = ca.map_or_else(String::new, |pem| {
            format!(", certificate-authority-data: {}", STANDARD.encode(pem))
        });
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters: [{{name: fake, cluster: {{server: \"http://{}\"{ca}}}}}]\n\
             users: [{{name: agent, user: {{token: {AGENT_API_TOKEN}}}}}]\n\
             contexts: [{{name: fake, context: {{cluster: fake, user: agent}}}}]\n",
            self.address
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What there is of Services from now on; watches do not tell it.
    pub(crate) fn set_services(&self, services: Vec<serde_json::Value>) {
        *self.shared.services.lock().unwrap() = services;
    }

    /// Sends a line down every open watch.
    pub(crate) fn emit(&self, line: &str) {
        self.shared.lines.send(line.to_owned()).ok();
    }

    /// Waits until so many watches and upgraded connections are open.
    pub(crate) async fn wait_open(&self, count: usize) {
        let mut open = self.shared.open.subscribe();
        let reached =
            tokio::time::timeout(Duration::from_secs(5), open.wait_for(|now| *now == count)).await;
        assert!(
            reached.is_ok(),
            "{} streams are open at the API server, expected {count}",
            *self.shared.open.borrow()
        );
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        let service = hyper::service::service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(request, shared)) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades(),
        );
    }
}

fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/version") => json(serde_json::json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0-fake", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2025-01-01T00:00:00Z", "goVersion": "go1", "compiler": "gc", "platform": "linux/amd64",
        })),
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        (method, path) if path.starts_with("/echo") => {
            let mut headers = serde_json::Map::new();
            for (name, value) in request.headers() {
                let values = headers
                    .entry(name.as_str())
                    .or_insert_with(|| serde_json::json!([]));
                values
                    .as_array_mut()
                    .unwrap()
                    .push(String::from_utf8_lossy(value.as_bytes()).into());
            }
            json(serde_json::json!({
                "method": method.as_str(),
                "path": request.uri().path_and_query().unwrap().as_str(),
                "headers": headers,
            }))
        }
        (&Method::GET, path) if path.starts_with("/api/v1/") && path.ends_with("/services") => {
            let query = request.uri().query().unwrap_or_default();
            services(path, query, &shared)
        }
        (&Method::GET, "/watch") => watch_lines(shared),
        (&Method::GET, "/endless") => endless(shared),
        (&Method::POST, "/exec") => upgrade(request, shared, Spoken::Bytes(b"")),
        (&Method::POST, "/ssh") => upgrade(request, shared, Spoken::Bytes(BANNER)),
        (&Method::POST, "/grpc") => upgrade(request, shared, Spoken::Grpc),
        (_, path) => {
            let code = path
                .strip_prefix("/status/")
                .and_then(|code| code.parse().ok());
            let mut response = Response::new(full("{}"));
            *response.status_mut() = code.unwrap_or(StatusCode::NOT_FOUND);
            response
        }
    }
}

/// Counts one open stream for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.send_modify(|count| *count += 1);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|count| *count -= 1);
    }
}

fn watch_lines(shared: Arc<Shared>) -> Response<Body> {
    let lines = shared.lines.subscribe();
    let state = (lines, Open::new(shared));
    let stream = futures::stream::unfold(state, |(mut lines, open)| async move {
        let line = lines.recv().await.ok()?;
        Some((Ok(Frame::data(Bytes::from(line + "\n"))), (lines, open)))
    });
    Response::new(StreamBody::new(stream).boxed())
}

fn endless(shared: Arc<Shared>) -> Response<Body> {
    let open = Open::new(shared);
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let stream = futures::stream::repeat_with(move || {
        let _ = &open;
        Ok(Frame::data(piece.clone()))
    });
    Response::new(StreamBody::new(stream).boxed())
}

fn services(path: &str, query: &str, shared: &Shared) -> Response<Body> {
    if query.contains("watch=") {
        let silent = futures::stream::pending::<Result<Frame<Bytes>, hyper::Error>>();
        return Response::new(StreamBody::new(silent).boxed());
    }
    let namespace = path.split('/').nth(4).filter(|it| *it != "services");
    let services = shared.services.lock().unwrap();
    let items: Vec<_> = services
        .iter()
        .filter(|it| namespace.is_none_or(|namespace| it["metadata"]["namespace"] == namespace))
        .collect();
    json(serde_json::json!({
        "kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items,
    }))
}

/// What is spoken on an upgraded connection.
enum Spoken {
    /// These first, then every byte back.
    Bytes(&'static [u8]),
    Grpc,
}

fn upgrade(mut request: Request<Incoming>, shared: Arc<Shared>, spoken: Spoken) -> Response<Body> {
    let Some(protocol) = request.headers().get(header::UPGRADE).cloned() else {
        let mut response = Response::new(full("no upgrade asked for"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let offered = request
        .headers()
        .get_all("x-stream-protocol-version")
        .iter()
        .count();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _open = Open::new(shared);
        let upgraded = upgraded.await.unwrap();
        let first = match spoken {
            Spoken::Bytes(first) => first,
            Spoken::Grpc => return grpc(upgraded).await,
        };
        let mut stream = TokioIo::new(upgraded);
        if stream.write_all(first).await.is_err() {
            return;
        }
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => {
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        stream.write_all(b"bye").await.ok();
        stream.shutdown().await.ok();
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
    headers.insert("x-stream-protocols-offered", HeaderValue::from(offered));
    response
}

/// An HTTP/2 server on one connection.
async fn grpc(upgraded: hyper::upgrade::Upgraded) {
    let echo = |request: Request<Incoming>| async {
        let trailers = async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Some(Ok(trailers))
        };
        let body = request.into_body().with_trailers(trailers);
        Ok::<_, Infallible>(Response::new(body))
    };
    hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .serve_connection(upgraded, hyper::service::service_fn(echo))
        .await
        .ok();
}

fn json(value: serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}
