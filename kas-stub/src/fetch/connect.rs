//! One connection for one request.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::git::guard::Pinned;

/// For each address, so that one that is silent leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the first of the judged addresses that answers.
pub(crate) async fn tcp(pinned: &Pinned) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in pinned.socket_addresses() {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `host` is what the certificate must be for.
pub(crate) async fn tls(
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Sends a request. What is returned beside the answer is the connection: it ends when that is dropped.
pub(crate) async fn send<S, B>(
    stream: S,
    request: Request<B>,
    max_head: usize,
) -> hyper::Result<(Response<Incoming>, JoinSet<()>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(max_head)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async {
        // Its error is also the answer's.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await?;
    Ok((response, tasks))
}
