//! What is served on one connection of a person: a host of a workspace, the Kubernetes proxy, or the API and page.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::body::Incoming;
use tower::Service as _;

use crate::{
    access::Access,
    lingering::linger,
    listener::ConnectionInfo,
    proxy::{self, Proxy},
};

#[derive(Clone, Debug)]
pub(super) struct PeopleService {
    access: Arc<Access>,
    proxy: Arc<Proxy>,
    api: Router,
    info: ConnectionInfo,
}

impl PeopleService {
    pub(super) fn new(
        access: Arc<Access>,
        proxy: Arc<Proxy>,
        api: Router,
        info: ConnectionInfo,
    ) -> Self {
        Self {
            access,
            proxy,
            api,
            info,
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for PeopleService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = linger(request);
        // First: what a workspace's page asks of its own host is never the platform's.
        if let Some(host) = self.access.host_of(&request) {
            let (access, info) = (Arc::clone(&self.access), self.info);
            return Box::pin(async move { Ok(access.handle(host, request, info).await) });
        }
        if request.uri().path().starts_with(proxy::PREFIX) {
            let (proxy, from) = (Arc::clone(&self.proxy), self.info.peer);
            return Box::pin(async move { Ok(proxy.handle(request, from).await) });
        }
        request.extensions_mut().insert(self.info);
        Box::pin(self.api.clone().call(request))
    }
}
