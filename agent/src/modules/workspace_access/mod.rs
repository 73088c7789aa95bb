//! Module `workspace_access`: carries bytes between the server and declared ports of the agent's own workspaces.
//!
//! ```text
//!  Inbound ─▶ services (which address, if any) ─▶ TCP connection ◀─▶ stream ─▶ Outbound
//!                └── target (pure: may this be reached?)
//! ```
//!
//! It serves in every Pod, not only in the leading one. No part of a request names a host or an address: those are found on
//! the Service of a workspace that carries this agent's marks, and nothing else is reached.

mod services;
mod stream;
mod target;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::convert::access::{self, DialFrame};
use crate::kubernetes;
use crate::module::{Context, Module, Served};
use crate::tunnel::call::{Call, CallError, Code, Handler, Metadata};
use services::Services;

const SERVICE: &str = "remote_development.rpc.WorkspaceAccess";
const METHOD: &str = "Dial";
/// How long a workspace may take to accept a connection. Inside a cluster it takes milliseconds; a Pod that is gone answers
/// nothing at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Finds a workspace that is silently gone under a connection on which nothing is sent.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes that nobody acknowledges. A reader who merely takes nothing still acknowledges.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);
/// From the call's beginning to its target, which the server sends at once.
const TARGET_TIMEOUT: Duration = Duration::from_secs(10);

/// The module.
#[derive(Debug)]
pub struct WorkspaceAccess {
    services: Arc<Services>,
}

impl WorkspaceAccess {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// If the cluster's address or credentials cannot be read.
    pub async fn try_new(config: &Config) -> anyhow::Result<Self> {
        let kube_config = kubernetes::kube_config(&config.cluster).await?;
        let client = kube::Client::try_from(kube_config)?;
        Ok(Self {
            services: Arc::new(Services::new(client, config.workspaces.policy.clone())),
        })
    }
}

impl Module for WorkspaceAccess {
    fn name(&self) -> &'static str {
        "workspace_access"
    }

    fn serves(&self) -> Vec<Served> {
        vec![Served {
            service: SERVICE,
            method: METHOD,
            handler: Arc::new(Dial(Arc::clone(&self.services))),
        }]
    }

    fn run(&self, context: Context) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let mut section = context.section(|configuration| configuration.agent_id);
            let mut agent_id = section.next().await;
            while let Some(id) = agent_id {
                agent_id = tokio::select! {
                    biased;
                    next = section.next() => next,
                    () = self.services.follow(id) => None,
                };
            }
            Ok(())
        })
    }
}

/// Answers `Dial`.
#[derive(Debug)]
struct Dial(Arc<Services>);

impl Handler for Dial {
    fn handle(&self, call: Call) -> BoxFuture<'static, Result<Metadata, CallError>> {
        let services = Arc::clone(&self.0);
        Box::pin(async move {
            let Call {
                metadata: _,
                mut inbound,
                mut outbound,
            } = call;
            let first = tokio::time::timeout(TARGET_TIMEOUT, inbound.message());
            let Ok(Some(first)) = first.await else {
                return Err(broken("no target"));
            };
            let target = match access::dial_frame(first).map_err(broken)? {
                DialFrame::Target(target) => target,
                DialFrame::Data(_) => return Err(broken("data before the target")),
            };
            let found = services.find(&target).await;
            let address = found.inspect_err(|error| {
                tracing::debug!(namespace = target.namespace, name = target.name, port = target.port, %error, "refused to dial");
            })?;
            let connection = connect(address, target.port).await?;
            outbound.message(access::connected()).await?;
            stream::carry(connection, inbound, outbound).await?;
            Ok(Metadata::new())
        })
    }
}

async fn connect(address: SocketAddr, port: u16) -> Result<TcpStream, CallError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    match connecting.await {
        Ok(Ok(connection)) => {
            prepare(&connection);
            Ok(connection)
        }
        Ok(Err(error)) => Err(CallError::new(
            Code::FailedPrecondition,
            format!("nobody_listens: port {port} of the workspace accepts no connection: {error}"),
        )),
        Err(_) => Err(CallError::new(
            Code::DeadlineExceeded,
            format!(
                "timed_out: port {port} of the workspace did not answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// What one side writes goes on at once, and a workspace whose node is gone is noticed.
fn prepare(connection: &TcpStream) {
    let _ = connection.set_nodelay(true);
    let socket = socket2::SockRef::from(connection);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE);
    // A platform without them has its own, slower limits.
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
}

/// The server's side breaks the protocol.
fn broken(what: impl std::fmt::Display) -> CallError {
    CallError::new(Code::InvalidArgument, format!("broken_protocol: {what}"))
}
