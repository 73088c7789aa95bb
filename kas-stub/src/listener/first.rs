//! Whether a connection was ever used. A peer that says nothing, or only what a protocol begins with, holds one of a limited
//! number of connections, and neither HTTP/1's limit for heads nor HTTP/2's pings end it.

use std::time::Duration;

use hyper::service::Service;
use tokio_util::sync::CancellationToken;

/// A connection's service, and that it was called.
#[derive(Debug)]
pub(super) struct Noticed<S> {
    service: S,
    used: CancellationToken,
}

/// Ends when a connection was not used for too long.
#[derive(Debug)]
pub(super) struct Unused(CancellationToken);

/// Takes notice of the first request.
pub(super) fn notice<S>(service: S) -> (Noticed<S>, Unused) {
    let used = CancellationToken::new();
    let unused = Unused(used.clone());
    (Noticed { service, used }, unused)
}

impl Unused {
    /// Ends after this time without a request; never once there was one.
    pub(super) async fn for_long(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.0.cancelled())
            .await
            .is_ok()
        {
            std::future::pending().await
        }
    }
}

impl<S: Service<R>, R> Service<R> for Noticed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: R) -> S::Future {
        self.used.cancel();
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
    };

    use futures::FutureExt as _;
    use http::{Request, Response};
    use hyper::service::service_fn;

    use super::*;

    fn answer(_request: Request<String>) -> Ready<Result<Response<String>, Infallible>> {
        ready(Ok(Response::default()))
    }

    #[tokio::test]
    async fn only_a_connection_without_a_request_ends() {
        let (service, unused) = notice(service_fn(answer));
        unused.for_long(Duration::ZERO).await;
        service.call(Request::default()).await.unwrap();
        assert!(unused.for_long(Duration::ZERO).now_or_never().is_none());
    }
}
