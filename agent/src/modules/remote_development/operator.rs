//! Reads what the cluster's DevWorkspaces look like: an old operator's lack fields.

use std::time::Duration;

use agent_core::reconcile::{Definition, missing_fields};
use tokio::task::JoinSet;

use super::api::Api;

/// The API server's description of the operator's objects. Every account may read it.
const PATH: &str = "/openapi/v3/apis/workspace.devfile.io/v1alpha2";
/// An old operator is looked at again: when it is replaced, no watch tells.
const AGAIN: Duration = Duration::from_secs(60);

/// The reading of the description; one at a time.
#[derive(Debug)]
pub(super) struct Description {
    api: Api,
    reading: JoinSet<Definition>,
}

impl Description {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            reading: JoinSet::new(),
        }
    }

    /// Reads it, now.
    pub(super) fn read(&mut self) {
        self.spawn(Duration::ZERO);
    }

    /// There is none any more.
    pub(super) fn stop(&mut self) {
        self.reading.abort_all();
        self.reading.detach_all();
    }

    /// What was read; pending while nothing is being read. Cancel-safe.
    pub(super) async fn next(&mut self) -> Definition {
        loop {
            match self.reading.join_next().await {
                Some(Ok(definition)) => {
                    if matches!(&definition, Definition::Served { missing_fields } if !missing_fields.is_empty())
                    {
                        self.spawn(AGAIN);
                    }
                    return definition;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading the description of DevWorkspaces ended")
                }
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&mut self, delay: Duration) {
        self.stop();
        let api = self.api.clone();
        self.reading.spawn(async move {
            tokio::time::sleep(delay).await;
            let missing_fields = match api.get(PATH).await {
                Ok(description) => missing_fields(&description),
                Err(error) => {
                    tracing::debug!(%error, "the description of DevWorkspaces is not read");
                    Vec::new()
                }
            };
            Definition::Served { missing_fields }
        });
    }
}
