//! The observability listener: `/liveness`, `/readiness`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::drain::Stop;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// Probes and one or two scrapers; whoever opens more waits.
const MAX_CONNECTIONS: usize = 32;
/// A connection that says nothing is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Answers {
    readiness: Readiness,
    metrics: Metrics,
}

/// Binds the listener and serves it until the agent ends.
///
/// # Errors
///
/// If the address cannot be bound.
pub(crate) async fn start(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    stop: &Stop,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let answers = Arc::new(Answers { readiness, metrics });
    let stop = stop.clone();
    stop.clone().tasks.spawn(async move {
        // Probes and metrics are wanted while the agent drains, too.
        stop.until_aborted(serve(listener, answers, stop.clone()))
            .await
    });
    Ok(bound)
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, stop: Stop) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually the limit of open files; without the pause this would be a hot loop.
                tracing::warn!(%error, "the observability listener cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let answers = Arc::clone(&answers);
        let connection_stop = stop.clone();
        stop.tasks.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(answers.answer(&request)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A prober that goes away is no news.
            let _ = connection_stop.until_aborted(connection).await;
            drop(permit);
        });
    }
}

impl Answers {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/liveness" => text(StatusCode::OK, "alive\n"),
            "/readiness" => match self.readiness.check() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/metrics" => match self.metrics.encode() {
                Ok(metrics) => {
                    let mut response = text(StatusCode::OK, metrics);
                    response.headers_mut().insert(
                        header::CONTENT_TYPE,
                        http::HeaderValue::from_static(
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        ),
                    );
                    response
                }
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot be written\n"),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "try /liveness, /readiness or /metrics\n",
            ),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
