//! What the server offers to agents: configuration, presence, tunnels.
//!
//! Every call is authenticated and authorised before a service sees it; the services find the [`AgentCall`] in the
//! request's extensions.

mod clusters;
mod gitlab_access;
mod presence;
mod services;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use hyper::body::Incoming;
use proto::{
    agent_configuration::rpc::agent_configuration_server::AgentConfigurationServer,
    agent_registrar::rpc::agent_registrar_server::AgentRegistrarServer,
    gitlab_access::rpc::gitlab_access_server::GitlabAccessServer,
    remote_development::rpc::remote_development_server::RemoteDevelopmentServer,
    reverse_tunnel::rpc::reverse_tunnel_server::ReverseTunnelServer,
};
use tonic::{Status, body::Body, codec::CompressionEncoding::Gzip, server::NamedService};
use tower::Service;

use clusters::ClusterId;
pub(crate) use clusters::{Clusters, Error as ClusterError, View as ClusterView};
use gitlab_access::Access;
pub(crate) use presence::{Pod, Presence};
use services::{Configuration, Registrar, Tunnel};

use crate::{
    authorization::{Action, Decision, Principal, Relation, Resource, authorize},
    configuration::Configurations,
    directory::{Agent, Authenticated, Cut, Directory},
    listener::EndingToken,
    metrics::Metrics,
    tunnel::{ConnectionId, Tunnels},
    workspaces::{
        Workspaces,
        json::Json,
        reconcile::{self, Reconcile},
    },
};

/// The largest message of an agent; bodies travel in pieces of some 32 KiB.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Who calls, for the services.
#[derive(Clone, Debug)]
pub(crate) struct AgentCall {
    pub(crate) agent: Arc<Agent>,
    /// Where the agent runs, if it says so.
    cluster: Option<ClusterId>,
    connection: ConnectionId,
    /// Ends when the agent's token does.
    pub(crate) cut: Cut,
    /// Nothing new begins on this connection: what only waits ends with OK, and the agent opens it on another.
    pub(crate) ending: EndingToken,
}

/// All services of one listener, cloned for each connection.
#[derive(Clone, Debug)]
pub(crate) struct AgentServices {
    directory: Arc<Directory>,
    clusters: Arc<Clusters>,
    metrics: Arc<Metrics>,
    connection: ConnectionId,
    ending: EndingToken,
    configuration: AgentConfigurationServer<Configuration>,
    registrar: AgentRegistrarServer<Registrar>,
    tunnel: ReverseTunnelServer<Tunnel>,
    reconcile: RemoteDevelopmentServer<Reconcile>,
    gitlab_access: GitlabAccessServer<Access>,
}

/// What the services are made of.
#[derive(Clone, Debug)]
pub(crate) struct AgentServicesParts {
    pub(crate) directory: Arc<Directory>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) configurations: Arc<Configurations>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) workspaces: Arc<Workspaces>,
    /// How often an agent reports all its workspaces.
    pub(crate) full_interval: Duration,
    /// How often an agent that is told nothing unasked asks.
    pub(crate) partial_interval: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) external_url: Arc<str>,
}

impl AgentServices {
    pub(crate) fn new(parts: AgentServicesParts) -> Self {
        let AgentServicesParts {
            directory,
            clusters,
            configurations,
            presence,
            tunnels,
            workspaces,
            full_interval,
            partial_interval,
            metrics,
            external_url,
        } = parts;
        let access = Access {
            remote_development: Json::new(
                Arc::clone(&workspaces),
                Arc::clone(&configurations),
                full_interval,
                partial_interval,
            ),
        };
        let reconcile = Reconcile {
            workspaces: Arc::clone(&workspaces),
            full_interval,
        };
        let configuration = Configuration {
            clusters: Arc::clone(&clusters),
            configurations,
            workspaces: Arc::clone(&workspaces),
            presence: Arc::clone(&presence),
            external_url,
        };
        // GitLab's agent gzips every message; we do where it pays. At some 40 MiB/s and core it would be the bound of the
        // tunnel, whose content often is compressed already; what is wanted of workspaces shrinks to less than half, and
        // nobody waits for the time.
        Self {
            directory,
            clusters,
            metrics,
            connection: 0,
            ending: EndingToken::new(),
            configuration: AgentConfigurationServer::new(configuration)
                .accept_compressed(Gzip)
                .max_decoding_message_size(MAX_MESSAGE),
            registrar: AgentRegistrarServer::new(Registrar { presence })
                .accept_compressed(Gzip)
                .max_decoding_message_size(MAX_MESSAGE),
            tunnel: ReverseTunnelServer::new(Tunnel { tunnels })
                .accept_compressed(Gzip)
                .max_decoding_message_size(MAX_MESSAGE),
            reconcile: RemoteDevelopmentServer::new(reconcile)
                .accept_compressed(Gzip)
                .send_compressed(Gzip)
                .max_decoding_message_size(reconcile::MAX_MESSAGE),
            gitlab_access: GitlabAccessServer::new(access)
                .accept_compressed(Gzip)
                .send_compressed(Gzip)
                .max_decoding_message_size(MAX_MESSAGE),
        }
    }

    /// The services for one connection.
    pub(crate) fn for_connection(&self, connection: ConnectionId, ending: EndingToken) -> Self {
        Self {
            connection,
            ending,
            ..self.clone()
        }
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<AgentCall, Status> {
        let unauthenticated = || Status::unauthenticated("unauthenticated");
        let Authenticated { principal, cut } = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(bearer)
            .and_then(|secret| self.directory.authenticate(secret))
            .ok_or_else(unauthenticated)?;
        let Principal::Agent { agent_id: id } = principal else {
            return Err(unauthenticated());
        };
        let agent = self.directory.agent_by_id(id).ok_or_else(unauthenticated)?;
        let resource = Resource::Agent {
            id,
            relation: Relation::None,
        };
        match authorize(&principal, Action::ServeAgent, resource) {
            Decision::Allowed => Ok(AgentCall {
                cluster: self.clusters.admit(id, headers)?,
                agent,
                connection: self.connection,
                cut,
                ending: self.ending.clone(),
            }),
            Decision::Unauthenticated => Err(unauthenticated()),
            Decision::Forbidden | Decision::TokenTooNarrow(_) => {
                Err(Status::permission_denied("forbidden"))
            }
        }
    }
}

/// The credential of `Bearer …`, whatever the case of the scheme.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

type ServiceFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for AgentServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ServiceFuture;

    fn call(&self, mut request: Request<Incoming>) -> ServiceFuture {
        let call = match self.authenticate(request.headers()) {
            Ok(call) => call,
            Err(status) => {
                self.metrics.agent_refused(status.code());
                return refuse(status);
            }
        };
        request.extensions_mut().insert(call);
        // By hand instead of a router: each call through the tunnel opens a stream here.
        match service_name(request.uri().path()) {
            ReverseTunnelServer::<Tunnel>::NAME => ready(self.tunnel.clone()).call(request),
            AgentConfigurationServer::<Configuration>::NAME => {
                ready(self.configuration.clone()).call(request)
            }
            AgentRegistrarServer::<Registrar>::NAME => ready(self.registrar.clone()).call(request),
            RemoteDevelopmentServer::<Reconcile>::NAME => {
                ready(self.reconcile.clone()).call(request)
            }
            GitlabAccessServer::<Access>::NAME => ready(self.gitlab_access.clone()).call(request),
            _ => refuse(Status::unimplemented("no such service")),
        }
    }
}

fn service_name(path: &str) -> &str {
    path.strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
        .map_or("", |(service, _)| service)
}

fn refuse(status: Status) -> ServiceFuture {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// Generated services are always ready; this says so to tower.
fn ready<S: Service<Request<Incoming>, Error = Infallible>>(mut service: S) -> S {
    let ready = service.poll_ready(&mut Context::from_waker(std::task::Waker::noop()));
    debug_assert!(matches!(ready, Poll::Ready(Ok(()))));
    service
}
