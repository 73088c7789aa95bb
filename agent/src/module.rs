//! What a module of the agent is.
//!
//! A module is a folder under `modules/` and a line in the list there. It has a section of the configuration, a task of
//! its own, and may serve methods that the server calls through the tunnel.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::configuration::{Configuration, Section, Watch};
use crate::drain::Stop;
use crate::kas::health::Health;
use crate::kas::{Client, Presence};
use crate::metrics::Metrics;
use crate::tunnel::call::Handler;

/// A unit of the agent.
pub trait Module: Send + Sync + 'static {
    /// The name of its section and of its lines in the log.
    fn name(&self) -> &'static str;

    /// What it serves through the tunnel.
    fn serves(&self) -> Vec<Served> {
        Vec::new()
    }

    /// Its task, from the agent's start until [`Context::stop`] says that the agent is draining. An error, or a panic, is
    /// logged, and the task is started again after a delay; the other modules do not notice.
    fn run(&self, context: Context) -> BoxFuture<'_, anyhow::Result<()>> {
        let _ = context;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A method that a module serves.
#[derive(Clone)]
pub struct Served {
    /// Full name of the gRPC service.
    pub service: &'static str,
    /// Short name of the method.
    pub method: &'static str,
    /// Answers the calls.
    pub handler: Arc<dyn Handler>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

/// What a module's task gets.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) configuration: Watch,
    pub(crate) control: Arc<Control>,
    /// The agent's metrics.
    pub metrics: Metrics,
    /// When to end.
    pub stop: Stop,
}

/// The control connection to the server, for a module's own calls.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) client: Client,
    pub(crate) presence: Presence,
    pub(crate) health: Arc<Health>,
}

impl Context {
    /// The module's section of the configuration.
    pub fn section<T: Clone + PartialEq>(&self, select: fn(&Configuration) -> T) -> Section<T> {
        Section::new(self.configuration.clone(), self.stop.clone(), select)
    }
}
