//! Agents that come with HTTP/1.1: the handshake of a WebSocket that carries their HTTP/2 connection, or a mistake.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body, Incoming},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use wstunnel::Tunnel;

/// From the answer to the handshake until the connection is free for the tunnel.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// In front of an agent connection's service: lets HTTP/2 pass, and answers what is HTTP/1.1 itself.
#[derive(Debug)]
pub(super) struct Front<S> {
    service: S,
    upgrade: Arc<Mutex<Option<OnUpgrade>>>,
}

/// What becomes of the connection after its HTTP/1.1.
#[derive(Debug)]
pub(super) struct Upgrade(Arc<Mutex<Option<OnUpgrade>>>);

impl<S> Front<S> {
    pub(super) fn new(service: S) -> (Self, Upgrade) {
        let upgrade = Arc::default();
        let front = Self {
            service,
            upgrade: Arc::clone(&upgrade),
        };
        (front, Upgrade(upgrade))
    }

    fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        match wstunnel::accept(&request) {
            Ok(response) => {
                let upgrade = hyper::upgrade::on(&mut request);
                *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
                response.map(|()| Full::default())
            }
            Err(refusal) => {
                let text = format!(
                    "This port is for agents, which speak gRPC over HTTP/2 or in a WebSocket: {refusal}.\n"
                );
                let mut response = Response::new(Full::from(text));
                *response.status_mut() = refusal.status();
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(
                    header::SEC_WEBSOCKET_VERSION,
                    HeaderValue::from_static("13"),
                );
                response
            }
        }
    }
}

impl Upgrade {
    /// The tunnel, once HTTP/1.1 is over; `None` if nobody asked for one.
    pub(super) async fn tunnel(&mut self) -> Option<Tunnel<TokioIo<Upgraded>>> {
        let upgrade = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade)
            .await
            .ok()?
            .ok()?;
        Some(Tunnel::server(TokioIo::new(upgraded)).await)
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Front<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.version() == Version::HTTP_2 {
            Answer::Service(Box::pin(self.service.call(request)))
        } else {
            Answer::Here(ready(self.answer(request)))
        }
    }
}

/// The service's answer, or one made here.
#[derive(Debug)]
pub(super) enum Answer<F> {
    Service(Pin<Box<F>>),
    Here(Ready<Response<Full<Bytes>>>),
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Service(answer) => answer
                .as_mut()
                .poll(context)
                .map_ok(|response| response.map(Either::Left)),
            Self::Here(answer) => Pin::new(answer)
                .poll(context)
                .map(|response| Ok(response.map(Either::Right))),
        }
    }
}
