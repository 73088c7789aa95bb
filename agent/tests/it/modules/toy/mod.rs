//! A module for tests: what a new one takes.

use std::sync::{Arc, Mutex};

use agent::module::{Context, Module, Served};
use agent::tunnel::call::{Call, CallError, Handler, Metadata};
use bytes::Bytes;
use futures::future::BoxFuture;

/// The module.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    project: Arc<Mutex<String>>,
}

impl Module for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn serves(&self) -> Vec<Served> {
        let served = |method, handler| Served {
            service: "toy.Toy",
            method,
            handler,
        };
        vec![
            served("Echo", Arc::new(Echo)),
            served("Panic", Arc::new(Panic)),
            served("Project", Arc::new(Project(Arc::clone(&self.project)))),
        ]
    }

    fn run(&self, context: Context) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let mut section = context.section(|configuration| configuration.project_path.clone());
            while let Some(project) = section.next().await {
                *self.project.lock().unwrap() = project;
            }
            Ok(())
        })
    }
}

/// Sends each message back, with the names of the call's metadata.
struct Echo;

impl Handler for Echo {
    fn handle(&self, mut call: Call) -> BoxFuture<'static, Result<Metadata, CallError>> {
        Box::pin(async move {
            let names: Vec<_> = call
                .metadata
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            while let Some(message) = call.inbound.message().await {
                let text = String::from_utf8_lossy(&message);
                let answer = format!("{text} ({})", names.join(", "));
                call.outbound.message(Bytes::from(answer)).await?;
            }
            Ok(Metadata::default())
        })
    }
}

struct Panic;

impl Handler for Panic {
    fn handle(&self, _: Call) -> BoxFuture<'static, Result<Metadata, CallError>> {
        panic!("on purpose")
    }
}

/// Tells the module's section of the configuration.
struct Project(Arc<Mutex<String>>);

impl Handler for Project {
    fn handle(&self, mut call: Call) -> BoxFuture<'static, Result<Metadata, CallError>> {
        let project = self.0.lock().unwrap().clone();
        Box::pin(async move {
            call.outbound.message(Bytes::from(project)).await?;
            Ok(Metadata::default())
        })
    }
}
