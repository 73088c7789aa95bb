//! The three gRPC services.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use proto::{
    agent_configuration::rpc::{
        ConfigurationRequest, ConfigurationResponse, agent_configuration_server::AgentConfiguration,
    },
    agent_registrar::rpc::{
        RegisterRequest, RegisterResponse, UnregisterRequest, UnregisterResponse,
        agent_registrar_server::AgentRegistrar,
    },
    reverse_tunnel::rpc::{ConnectRequest, reverse_tunnel_server::ReverseTunnel},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use super::{AgentCall, Clusters, Presence, presence::Connection};
use crate::{
    configuration::{Configurations, Good, State, convert},
    tunnel::{ConnectStream, Inbound, Tunnels},
    workspaces::Workspaces,
};

#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) clusters: Arc<Clusters>,
    pub(super) configurations: Arc<Configurations>,
    pub(super) workspaces: Arc<Workspaces>,
    pub(super) presence: Arc<Presence>,
    pub(super) external_url: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Registrar {
    pub(super) presence: Arc<Presence>,
}

#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) tunnels: Arc<Tunnels>,
}

pub(super) fn caller<T>(request: &mut Request<T>) -> Result<AgentCall, Status> {
    request
        .extensions_mut()
        .remove::<AgentCall>()
        .ok_or_else(|| Status::internal("call without its caller"))
}

/// One open GetConfiguration.
struct ConfigurationStream {
    call: AgentCall,
    states: watch::Receiver<Arc<State>>,
    last_commit: String,
    external_url: Arc<str>,
    workspaces: Arc<Workspaces>,
    connection: Connection,
}

#[tonic::async_trait]
impl AgentConfiguration for Configuration {
    type GetConfigurationStream =
        Pin<Box<dyn Stream<Item = Result<ConfigurationResponse, Status>> + Send>>;

    async fn get_configuration(
        &self,
        mut request: Request<ConfigurationRequest>,
    ) -> Result<Response<Self::GetConfigurationStream>, Status> {
        let call = caller(&mut request)?;
        if let Some(cluster) = &call.cluster {
            // An agent's first call.
            self.clusters.arrived(call.agent.id, cluster).await?;
        }
        let request = request.into_inner();
        let connection = self.presence.connect(call.agent.id, request.agent_meta)?;
        tracing::info!(agent = %call.agent.name, pod = %connection.pod_name(), "agent connected");
        for warning in connection.warnings() {
            tracing::warn!(agent = %call.agent.name, pod = %connection.pod_name(), warning, "versions do not fit together");
        }
        let stream = ConfigurationStream {
            states: self.configurations.subscribe(&call.agent),
            call,
            last_commit: request.commit_id,
            external_url: Arc::clone(&self.external_url),
            workspaces: Arc::clone(&self.workspaces),
            connection,
        };
        let responses = futures::stream::unfold(Some(stream), |stream| async move {
            let mut stream = stream?;
            match stream.next().await? {
                Ok(response) => Some((Ok(response), Some(stream))),
                Err(status) => Some((Err(status), None)),
            }
        });
        let mut response = Response::new(Box::pin(responses) as Self::GetConfigurationStream);
        response.metadata_mut().insert(
            proto::SERVER_VERSION_METADATA,
            MetadataValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        Ok(response)
    }
}

impl ConfigurationStream {
    /// The next configuration that differs from the last one sent; `None` ends the stream with OK.
    async fn next(&mut self) -> Option<Result<ConfigurationResponse, Status>> {
        let Self {
            call,
            states,
            last_commit,
            external_url,
            workspaces,
            connection: _,
        } = self;
        let differs = |state: &Arc<State>| {
            let good = state.good.as_ref();
            good.is_some_and(|good| good.commit != *last_commit)
        };
        tokio::select! {
            biased;
            () = call.cut.cancelled() => Some(Err(Status::unauthenticated("unauthenticated"))),
            () = call.ending.cancelled() => None,
            // `wait_for` looks at the newest state first and loses nothing when it is dropped.
            state = states.wait_for(differs) => {
                let good: Good = state.ok()?.good.clone()?;
                last_commit.clone_from(&good.commit);
                Some(Ok(ConfigurationResponse {
                    configuration: Some(convert::configuration(
                        &call.agent,
                        &good,
                        external_url,
                        workspaces.has_any_of(call.agent.id),
                    )),
                    commit_id: good.commit,
                }))
            }
        }
    }
}

impl Drop for ConfigurationStream {
    fn drop(&mut self) {
        tracing::info!(agent = %self.call.agent.name, pod = %self.connection.pod_name(), "agent disconnected");
    }
}

#[tonic::async_trait]
impl AgentRegistrar for Registrar {
    async fn register(
        &self,
        mut request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let call = caller(&mut request)?;
        self.presence
            .register(call.agent.id, request.into_inner().agent_meta);
        Ok(Response::new(RegisterResponse {}))
    }

    /// Nothing to do: a Pod is gone when its streams are.
    async fn unregister(
        &self,
        mut request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        caller(&mut request)?;
        Ok(Response::new(UnregisterResponse {}))
    }
}

#[tonic::async_trait]
impl ReverseTunnel for Tunnel {
    type ConnectStream = ConnectStream;

    async fn connect(
        &self,
        mut request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<ConnectStream>, Status> {
        let call = caller(&mut request)?;
        let stream = ConnectStream::new(
            &self.tunnels,
            call.agent.id,
            call.connection,
            call.cut,
            call.ending,
            Inbound::Grpc(request.into_inner()),
        )?;
        Ok(Response::new(stream))
    }
}
