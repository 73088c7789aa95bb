//! HTTP as a test sends it: one connection per call, so that a test can break the connection of one call.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A response with its connection; dropping it breaks the connection.
pub(crate) struct Call {
    pub(crate) response: Response<Incoming>,
    connection: tokio::task::JoinHandle<()>,
}

impl Call {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body, `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<hyper::Result<Bytes>> {
        loop {
            match self.response.body_mut().frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    pub(crate) async fn bytes(mut self) -> Bytes {
        self.response.body_mut().collect().await.unwrap().to_bytes()
    }

    pub(crate) async fn json(self) -> serde_json::Value {
        let status = self.status();
        let bytes = self.bytes().await;
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            panic!("{status}: {error} in {:?}", String::from_utf8_lossy(&bytes))
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(crate) async fn tcp(address: SocketAddr, request: Request<Body>) -> anyhow::Result<Call> {
    send(TcpStream::connect(address).await?, request).await
}

pub(crate) async fn unix(socket: &Path, request: Request<Body>) -> anyhow::Result<Call> {
    send(UnixStream::connect(socket).await?, request).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> anyhow::Result<Call> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        connection.with_upgrades().await.ok();
    });
    let response = sender.send_request(request).await?;
    Ok(Call {
        response,
        connection,
    })
}

pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "server.test")
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

pub(crate) fn empty() -> Body {
    full("")
}
