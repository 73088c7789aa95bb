//! Module `kubernetes_api`: brings HTTP requests of the server (kubectl's, for example) to the cluster's API server.
//!
//! ```text
//! Inbound ─frames─▶ request (which request, as whom) ─▶ ApiServer ─▶ answer (head, body as it comes, end) ─▶ Outbound
//!                                                                └─▶ upgrade (after a 101: bytes both ways)
//! ```
//!
//! Only the API server can be reached: a request has a path, never a host.

mod answer;
mod body;
mod impersonation;
mod request;
mod upgrade;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::BoxError;

use crate::config::Config;
use crate::convert::http::{RequestFrame, request_frame};
use crate::kas::health::chain;
use crate::kubernetes::{self, ApiServer, Body};
use crate::module::{Module, Served};
use crate::tunnel::call::{Call, CallError, Code, Handler, Inbound, Metadata, Outbound};
use request::{BodyKind, Planned};

const SERVICE: &str = "gitlab.agent.kubernetes_api.rpc.KubernetesApi";
const METHOD: &str = "MakeRequest";

/// The module.
#[derive(Debug)]
pub struct KubernetesApi {
    handler: Arc<MakeRequest>,
}

impl KubernetesApi {
    /// Finds the cluster.
    ///
    /// # Errors
    ///
    /// If its address or credentials cannot be read. A cluster that does not answer is no error.
    pub async fn try_new(config: &Config) -> Result<Self, kubernetes::Error> {
        Ok(Self {
            handler: Arc::new(MakeRequest {
                api_server: ApiServer::try_new(&config.cluster).await?,
                user_access: config.user_access.clone(),
            }),
        })
    }
}

impl Module for KubernetesApi {
    fn name(&self) -> &'static str {
        "kubernetes_api"
    }

    fn serves(&self) -> Vec<Served> {
        vec![Served {
            service: SERVICE,
            method: METHOD,
            handler: Arc::clone(&self.handler) as Arc<dyn Handler>,
        }]
    }
}

#[derive(Debug)]
struct MakeRequest {
    api_server: ApiServer,
    /// The user name that requests of people run as; `None`: the agent's own rights.
    user_access: Option<String>,
}

impl Handler for MakeRequest {
    fn handle(&self, call: Call) -> BoxFuture<'static, Result<Metadata, CallError>> {
        let Call {
            metadata: _,
            inbound,
            outbound,
        } = call;
        let api_server = self.api_server.clone();
        let user_access = self.user_access.clone();
        Box::pin(async move {
            make_request(api_server, user_access, inbound, outbound).await?;
            Ok(Metadata::default())
        })
    }
}

async fn make_request(
    api_server: ApiServer,
    user_access: Option<String>,
    mut inbound: Inbound,
    mut outbound: Outbound,
) -> Result<(), CallError> {
    let head = match next_frame(&mut inbound).await? {
        Some(RequestFrame::Header(head)) => head,
        Some(_) => return Err(broken("the first message is no header")),
        None => return Err(broken("no header")),
    };
    let planned = match request::plan(head, user_access.as_deref()) {
        Ok(planned) => planned,
        Err(request::Error::Forbidden(message)) => {
            return answer::refuse(&mut outbound, StatusCode::FORBIDDEN, &message).await;
        }
        Err(error) => return Err(CallError::new(Code::InvalidArgument, chain(&error))),
    };
    let Planned {
        target,
        request,
        body,
    } = planned;
    match body {
        BodyKind::None => {
            let request = request.map(|()| kubernetes::empty());
            let response = tokio::select! {
                biased;
                response = api_server.request(target, request) => response.map_err(upstream)?,
                error = no_data(&mut inbound) => return Err(error),
            };
            answer::whole(response, &mut outbound).await
        }
        BodyKind::Stream(length) => {
            let (body, violation) = body::stream(inbound, length);
            let request = request.map(|()| body);
            let response = api_server.request(target, request).await;
            let response =
                response.map_err(|error| violation.take().unwrap_or_else(|| upstream(error)))?;
            answer::whole(response, &mut outbound).await
        }
        BodyKind::Upgrade => {
            let body = body::until_trailer(&mut inbound).await?;
            let response = send_upgrade(&api_server, target, request, body).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgrade::carry(response, inbound, outbound).await
            } else {
                answer::whole(response, &mut outbound).await
            }
        }
    }
}

async fn send_upgrade(
    api_server: &ApiServer,
    target: http::uri::PathAndQuery,
    request: Request<()>,
    body: Body,
) -> Result<Response<Incoming>, CallError> {
    api_server
        .request(target, request.map(|()| body))
        .await
        .map_err(upstream)
}

async fn next_frame(inbound: &mut Inbound) -> Result<Option<RequestFrame>, CallError> {
    inbound
        .message()
        .await
        .map(request_frame)
        .transpose()
        .map_err(|error| broken(chain(&error)))
}

/// Watches the rest of a request that said that it has no body. Returns only if one comes nevertheless.
async fn no_data(inbound: &mut Inbound) -> CallError {
    loop {
        match next_frame(inbound).await {
            Ok(Some(RequestFrame::Trailer)) => {}
            Ok(Some(RequestFrame::Data(data))) if data.is_empty() => {}
            Ok(Some(RequestFrame::Data(_))) => return broken("data after content_length 0"),
            Ok(Some(RequestFrame::Header(_))) => return broken("second header"),
            Ok(Some(RequestFrame::UpgradeData(_))) => {
                return broken("upgrade data, but the request has no Upgrade header");
            }
            Ok(None) => std::future::pending().await,
            Err(error) => return error,
        }
    }
}

/// The server's side breaks the protocol.
fn broken(message: impl Into<String>) -> CallError {
    CallError::new(Code::Internal, format!("gRPC -> HTTP: {}", message.into()))
}

/// The API server does not answer, or breaks off.
fn upstream(error: impl Into<BoxError>) -> CallError {
    let error = error.into();
    CallError::new(
        Code::Unavailable,
        format!("gRPC -> HTTP: {}", chain(error.as_ref())),
    )
}
