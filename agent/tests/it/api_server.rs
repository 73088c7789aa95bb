//! A fake API server over HTTPS. It is no Kubernetes: it says what it was asked, so that tests can tell what the agent makes
//! of a request. What a real API server does with such requests is tested on the cluster.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::fixture::Certificate;

type Body = BoxBody<Bytes, Infallible>;

/// A fake API server that listens.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    /// Each line goes to all `/watch` requests.
    pub(crate) lines: watch::Sender<String>,
    /// The number of requests whose client is still there.
    pub(crate) open: watch::Receiver<usize>,
    /// What it answers `agent doctor`.
    pub(crate) offer: Arc<Mutex<Offer>>,
}

/// What a cluster has for an agent.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) version: &'static str,
    /// Verbs and resources, as `get pods`, that the agent may not.
    pub(crate) denied: Vec<&'static str>,
    pub(crate) storage_class: Option<&'static str>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            version: "v1.33.1",
            denied: Vec::new(),
            storage_class: Some("standard"),
        }
    }
}

#[derive(Clone)]
struct State {
    lines: watch::Sender<String>,
    open: watch::Sender<usize>,
    offer: Arc<Mutex<Offer>>,
}

impl ApiServer {
    pub(crate) async fn start(certificate: &Certificate) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()));
        let state = State {
            lines: watch::Sender::new(String::new()),
            open: watch::Sender::new(0),
            offer: Arc::default(),
        };
        let offer = Arc::clone(&state.offer);
        let lines = state.lines.clone();
        let open = state.open.subscribe();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                let state = state.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request| {
                        let state = state.clone();
                        async move { Ok::<_, Infallible>(answer(request, state).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self {
            address,
            lines,
            open,
            offer,
        }
    }
}

/// Counts a request for as long as it lives.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

async fn answer(request: Request<Incoming>, state: State) -> Response<Body> {
    let open = Open::new(&state.open);
    match request.uri().path() {
        "/version" => whole(
            StatusCode::OK,
            &json!({
                "major": "1", "minor": "33", "platform": "linux/amd64",
                "gitVersion": state.offer.lock().unwrap().version,
            }),
        ),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let mut review = posted(request).await;
            let asked = &review["spec"]["resourceAttributes"];
            let word = |name: &str| asked[name].as_str().unwrap().to_owned();
            let asked = format!("{} {}", word("verb"), word("resource"));
            let offer = state.offer.lock().unwrap();
            let is_allowed = !offer.denied.iter().any(|it| *it == asked);
            review["status"] = json!({ "allowed": is_allowed });
            whole(StatusCode::CREATED, &review)
        }
        "/api/v1/namespaces/ns/persistentvolumeclaims"
            if request
                .uri()
                .query()
                .is_some_and(|it| it.contains("dryRun=All")) =>
        {
            let mut claim = posted(request).await;
            claim["spec"]["storageClassName"] = json!(state.offer.lock().unwrap().storage_class);
            whole(StatusCode::CREATED, &claim)
        }
        "/watch" => {
            let lines = tokio_stream::wrappers::WatchStream::from_changes(state.lines.subscribe());
            let frames = lines.map(move |line| {
                let _ = &open;
                Ok(Frame::data(Bytes::from(line + "\n")))
            });
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        "/silent" => {
            let never = open;
            std::future::pending::<()>().await;
            drop(never);
            unreachable!()
        }
        "/big" => {
            let length: usize = request
                .uri()
                .query()
                .and_then(|query| query.strip_prefix("bytes="))
                .unwrap()
                .parse()
                .unwrap();
            let body = Bytes::from(vec![b'x'; length]);
            Response::new(Full::new(body).boxed())
        }
        "/exec" if request.headers().contains_key(header::UPGRADE) => upgrade(request, open),
        _ => echo(request).await,
    }
}

async fn posted(request: Request<Incoming>) -> serde_json::Value {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// Tells what was asked.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let Ok(body) = body.collect().await else {
        return whole(StatusCode::BAD_REQUEST, &json!({}));
    };
    whole(
        StatusCode::CREATED,
        &json!({
            "method": parts.method.as_str(),
            "target": parts.uri.to_string(),
            "headers": headers,
            "body_bytes": body.to_bytes().len(),
        }),
    )
}

/// Sends everything back, and `bye` when the client has said all.
fn upgrade(mut request: Request<Incoming>, open: Open) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _open = open;
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        // The first bytes may come with the head.
        stream.write_all(b"hello ").await.unwrap();
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => stream.write_all(&buffer[..read]).await.unwrap(),
                Err(_) => return,
            }
        }
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let protocol = request.headers()[header::UPGRADE].clone();
    response.headers_mut().insert(header::UPGRADE, protocol);
    response.headers_mut().insert(
        header::CONNECTION,
        http::HeaderValue::from_static("Upgrade"),
    );
    response
}

fn whole(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response
}

/// A relay in front of a server: cutting it is what a killed server looks like.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    commands: mpsc::Sender<RelayCommand>,
}

#[derive(Debug)]
enum RelayCommand {
    /// Refuse new connections and cut the present ones.
    Cut,
    Mend,
}

impl Relay {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, mut received) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut listener = Some(listener);
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    command = received.recv() => match command {
                        Some(RelayCommand::Cut) => {
                            listener = None;
                            connections.shutdown().await;
                        }
                        Some(RelayCommand::Mend) => {
                            listener = Some(TcpListener::bind(address).await.unwrap());
                        }
                        None => return,
                    },
                    stream = accept(listener.as_ref()) => {
                        connections.spawn(async move {
                            let mut stream = stream;
                            if let Ok(mut target) = tokio::net::TcpStream::connect(target).await {
                                let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, commands }
    }

    pub(crate) async fn cut(&self) {
        self.commands.send(RelayCommand::Cut).await.unwrap();
    }

    pub(crate) async fn mend(&self) {
        self.commands.send(RelayCommand::Mend).await.unwrap();
    }
}

async fn accept(listener: Option<&TcpListener>) -> tokio::net::TcpStream {
    match listener {
        Some(listener) => listener.accept().await.unwrap().0,
        None => std::future::pending().await,
    }
}
