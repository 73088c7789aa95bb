//! A closed-loop load generator: each worker has one connection and sends the next request when the answer is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is called, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// What one run of a closed loop saw.
#[derive(Debug)]
pub(crate) struct Run {
    /// Every request's time, sorted.
    pub(crate) times: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

impl Run {
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times
            .get(index)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs `workers` loops for `length`. An answer that is not 200 ends the run with an error: it would be no measurement.
pub(crate) async fn closed_loop(
    target: &Target,
    workers: usize,
    length: Duration,
) -> anyhow::Result<Run> {
    let started = Instant::now();
    let loops: Vec<_> = (0..workers)
        .map(|_| {
            let target = target.clone();
            tokio::spawn(async move {
                let mut connection = connect(&target).await?;
                let mut times = Vec::new();
                while started.elapsed() < length {
                    let before = Instant::now();
                    get(&mut connection, &target).await?;
                    times.push(before.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in loops {
        times.extend(worker.await??);
    }
    let elapsed = started.elapsed();
    times.sort_unstable();
    Ok(Run { times, elapsed })
}

/// Fetches one body and returns how many bytes came and how long that took.
pub(crate) async fn download(target: &Target) -> anyhow::Result<(u64, Duration)> {
    let mut connection = connect(target).await?;
    let before = Instant::now();
    let bytes = get(&mut connection, target).await?;
    Ok((bytes, before.elapsed()))
}

/// An answer that has begun and goes on until this is dropped.
pub(crate) struct Open {
    _connection: SendRequest<Empty<Bytes>>,
    _response: hyper::Response<hyper::body::Incoming>,
}

/// Opens a stream, and waits for the first of it.
pub(crate) async fn open(target: &Target) -> anyhow::Result<Open> {
    let mut connection = connect(target).await?;
    let mut response = send(&mut connection, target).await?;
    ensure!(
        response.status() == StatusCode::OK,
        "{} answered {}",
        target.uri,
        response.status()
    );
    response.frame().await.context("it ended at once")??;
    Ok(Open {
        _connection: connection,
        _response: response,
    })
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let host = target.uri.host().context("no host")?;
    let port = target.uri.port_u16().context("no port")?;
    let stream = TcpStream::connect((host, port))
        .await
        .with_context(|| format!("connecting to {host}:{port}"))?;
    stream.set_nodelay(true)?;
    match &target.tls {
        None => handshake(TokioIo::new(stream)).await,
        Some(tls) => {
            let name = ServerName::try_from(host.to_owned())?;
            handshake(TokioIo::new(
                TlsConnector::from(tls.clone())
                    .connect(name, stream)
                    .await?,
            ))
            .await
        }
    }
}

async fn handshake<I>(io: I) -> anyhow::Result<SendRequest<Empty<Bytes>>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    tokio::spawn(async move {
        // An error shows up at the sender too.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn send(
    connection: &mut SendRequest<Empty<Bytes>>,
    target: &Target,
) -> anyhow::Result<hyper::Response<hyper::body::Incoming>> {
    let mut request = Request::get(
        target
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str()),
    )
    .header(
        header::HOST,
        target.uri.authority().context("no authority")?.as_str(),
    );
    if let Some(token) = &target.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    connection.ready().await?;
    Ok(connection.send_request(request.body(Empty::new())?).await?)
}

async fn get(connection: &mut SendRequest<Empty<Bytes>>, target: &Target) -> anyhow::Result<u64> {
    let mut response = send(connection, target).await?;
    let status = response.status();
    let mut bytes = 0;
    while let Some(frame) = response.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    if status != StatusCode::OK {
        bail!("{} answered {status}", target.uri);
    }
    Ok(bytes)
}
