//! A program as it runs in a workspace: HTTP on a port of loopback.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /head` | the headers as they arrived, as JSON; sets two cookies |
//! | `POST /count` | how many bytes came |
//! | `GET /bytes/<n>` | that many bytes, as they are taken |
//! | `GET /echo` with `Upgrade` | 101, then every byte back; after the client's end of stream `bye`, then the end |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const PIECE: usize = 64 * 1024;

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Upstream {
    pub(crate) port: u16,
    /// Bytes of all bodies that were taken from it.
    sent: Arc<AtomicU64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                let service = hyper::service::service_fn(move |request| {
                    let counted = Arc::clone(&counted);
                    async move { Ok::<_, Infallible>(answer(request, counted).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        Self {
            port,
            sent,
            accepting,
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(request: Request<Incoming>, sent: Arc<AtomicU64>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/head") => {
            let headers: serde_json::Map<_, _> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                .collect();
            let mut response = Response::new(full(json!(headers).to_string()));
            for cookie in ["own=1; Path=/", "__Host-kas_stub_workspace=forged; Path=/"] {
                let cookie = HeaderValue::from_static(cookie);
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        (&Method::POST, "/count") => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(full(count.to_string()))
        }
        (&Method::GET, "/echo") => echo(request),
        (&Method::GET, path) if path.starts_with("/bytes/") => {
            let left: usize = path["/bytes/".len()..].parse().unwrap();
            let piece = Bytes::from(vec![b'x'; PIECE]);
            let pieces = stream::unfold(left, move |left| {
                let piece = piece.slice(..left.min(PIECE));
                sent.fetch_add(piece.len() as u64, Relaxed);
                async move {
                    let rest = left - piece.len();
                    (!piece.is_empty()).then(|| (Ok(Frame::data(piece)), rest))
                }
            });
            Response::new(StreamBody::new(pieces).boxed())
        }
        _ => {
            let mut response = Response::new(full("nothing here"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers()[header::UPGRADE].clone();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut buffer = vec![0; PIECE];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) if stream.write_all(&buffer[..read]).await.is_ok() => {}
                Ok(_) | Err(_) => return,
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
    response
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}
