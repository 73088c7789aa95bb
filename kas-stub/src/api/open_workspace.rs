//! `/open-workspace`: sends a signed-in browser to a host of a workspace, with a code that signs it in there.

use std::time::Instant;

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Api, Problem, caller::Caller, page};
use crate::authorization::{Action, Resource};

#[derive(Deserialize)]
pub(super) struct Destination {
    host: String,
    #[serde(default)]
    path: String,
}

pub(super) async fn open(
    State(api): State<Api>,
    caller: Caller,
    Query(destination): Query<Destination>,
) -> Result<Response, page::Failed> {
    caller.allow(Action::OpenPage, Resource::Server)?;
    let Some(session) = caller.session() else {
        return Ok(page::sign_in::how(&api, StatusCode::UNAUTHORIZED));
    };
    let Destination { host, path } = destination;
    let found = api.access.find(&host);
    let Some((host, workspace)) = found else {
        return Err(Problem::not_found("there is no workspace with this host").into());
    };
    let owner = workspace.owner;
    let target = format!("port {} of workspace {}", host.port, host.workspace);
    let resource = Resource::Workspace { owner };
    caller.allow_on(Action::OpenWorkspace, resource, &target)?;
    let to = api
        .access
        .sign_in_url(&host, session.digest(), &path, Instant::now());
    Ok(Redirect::to(&to).into_response())
}
