//! `/api/v1/workspaces/{name}/logs`: what a workspace's containers wrote, through the tunnel.

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Api, Caller, Problem, whose::reach};
use crate::{authorization::Action, proxy::ask::AskError, workspaces::workspace::Workspace};

/// The largest list of a workspace's Pods: it has one or a few.
const MAX_PODS_ANSWER: usize = 4 * 1024 * 1024;
/// Lines from the end, when nothing else is asked for.
const DEFAULT_TAIL: u32 = 200;
const MAX_TAIL: u32 = 100_000;

#[derive(Deserialize)]
pub(super) struct LogsQuery {
    /// By default the first container of the devfile.
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    tail: Option<u32>,
    /// Of the container before its last restart.
    #[serde(default)]
    previous: bool,
}

pub(super) async fn logs(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let workspace = reach(&api, &caller, Action::ReadWorkspace, &name)?;
    let LogsQuery {
        container,
        follow,
        tail,
        previous,
    } = query;
    let (pod, containers) = find_pod(&api, &workspace).await?;
    let container = match container {
        None => containers.first().cloned().unwrap_or_default(),
        Some(container) if containers.contains(&container) => container,
        Some(_) => {
            let problem = Problem::invalid("container", "the workspace has no such container");
            return Err(problem.hint(format!("one of {}", containers.join(", "))));
        }
    };
    let tail = tail.unwrap_or(DEFAULT_TAIL).min(MAX_TAIL);
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}/log?container={container}&follow={follow}&tailLines={tail}&previous={previous}",
        workspace.namespace
    );
    let cut = caller.cut().unwrap_or_default();
    let answer = api.proxy.get(workspace.agent_id, &path, cut).await?;
    if !answer.status().is_success() {
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, MAX_PODS_ANSWER)
            .await
            .unwrap_or_default();
        return Err(cluster_refused(parts.status, &body));
    }
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let body = Body::new(answer.into_body());
    Ok(([(header::CONTENT_TYPE, text)], body).into_response())
}

/// The newest Pod of a workspace, and its containers: those that run first, then those before them.
async fn find_pod(api: &Api, workspace: &Workspace) -> Result<(String, Vec<String>), Problem> {
    let path = format!(
        "/api/v1/namespaces/{}/pods?labelSelector=workspaces.gitlab.com%2Fname%3D{}",
        workspace.namespace, workspace.name
    );
    let answer = api
        .proxy
        .get_whole(workspace.agent_id, &path, MAX_PODS_ANSWER)
        .await?;
    if !answer.status().is_success() {
        return Err(cluster_refused(answer.status(), answer.body()));
    }
    let list: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let pods = list["items"].as_array().into_iter().flatten();
    let newest = pods.max_by_key(|pod| {
        pod["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
    });
    let Some(pod) = newest else {
        let detail = "the workspace has no Pod now, so there are no logs";
        return Err(Problem::new(StatusCode::CONFLICT, "no_pod", detail));
    };
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|key| {
            let containers = pod["spec"][key].as_array().into_iter().flatten();
            containers.filter_map(|it| it["name"].as_str().map(str::to_owned))
        });
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    Ok((name.to_owned(), containers.collect()))
}

fn cluster_refused(status: StatusCode, body: &[u8]) -> Problem {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = said["message"].as_str().unwrap_or("it gives no reason");
    let said: String = said.chars().take(1000).collect();
    let problem = Problem::new(
        StatusCode::BAD_GATEWAY,
        "cluster_refused",
        format!("the cluster answered {}: {said}", status.as_u16()),
    );
    match status {
        StatusCode::FORBIDDEN => problem.hint(
            "the agent's chart gives people rights by userAccess.rules: list pods, get pods/log",
        ),
        _ => problem,
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "agent_unreachable",
            error.to_string(),
        )
        .hint("is the agent connected? kas-stub agent list shows it")
    }
}
