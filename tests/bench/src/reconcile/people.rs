//! What a person does: workspaces by the server's API.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::LOOK_INTERVAL;
use crate::http::call;

/// POSTs under way at the same time.
const CALLERS: usize = 20;

pub(super) struct People {
    address: String,
    token: String,
    repository: String,
}

impl People {
    pub(super) fn new(address: &str, token: &str, repository: &str) -> Self {
        Self {
            address: address.to_owned(),
            token: token.to_owned(),
            repository: repository.to_owned(),
        }
    }

    /// Waits until the server has read that the agent takes workspaces.
    pub(super) async fn wait_allowed(&self, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        loop {
            let (status, answer) = self.call("GET", "/api/v1/agents", "").await?;
            ensure!(status == 200, "the list answered {status}: {answer}");
            let list: Vec<Value> = serde_json::from_str(&answer)?;
            if list.iter().any(|one| one["workspaces"]["enabled"] == true) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no agent takes workspaces: {answer}");
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Asks for workspaces of these names.
    pub(super) async fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let calls = names.iter().map(|name| async move {
            let body = json!({"repository": self.repository, "name": name}).to_string();
            let (status, answer) = self.call("POST", "/api/v1/workspaces", &body).await?;
            ensure!(status == 201, "POST {name} answered {status}: {answer}");
            Ok(())
        });
        stream::iter(calls)
            .buffer_unordered(CALLERS)
            .try_collect()
            .await
    }

    /// Waits until so many workspaces are Running as wanted.
    pub(super) async fn wait_running(&self, many: usize, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        loop {
            let (status, answer) = self.call("GET", "/api/v1/workspaces", "").await?;
            ensure!(status == 200, "the list answered {status}: {answer}");
            let list: Vec<Value> = serde_json::from_str(&answer)?;
            let is_running = |one: &&Value| {
                one["actual_state"] == "Running" && one["applied_generation"] == one["generation"]
            };
            if list.iter().filter(is_running).count() >= many {
                return Ok(());
            }
            if Instant::now() > end {
                let mut states: HashMap<String, usize> = HashMap::new();
                for one in &list {
                    let state = format!("{} {}", one["actual_state"], one["failures"]);
                    *states.entry(state).or_default() += 1;
                }
                anyhow::bail!("not {many} Running within {limit:?}: {states:#?}");
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// `stop` or `start`.
    pub(super) async fn change(&self, name: &str, verb: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/workspaces/{name}/{verb}");
        let (status, answer) = self.call("POST", &path, "").await?;
        ensure!(status == 202, "POST {path} answered {status}: {answer}");
        Ok(())
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        call(&self.address, method, path, Some(&self.token), body).await
    }
}
