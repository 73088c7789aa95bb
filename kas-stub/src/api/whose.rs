//! Whose workspaces somebody sees.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{
    Api, Caller, Problem,
    agents::shown,
    workspaces::{WorkspaceView, view},
};
use crate::{
    authorization::{Action, Resource},
    workspaces::{self, workspace::Workspace},
};

/// Whose workspaces are listed: by default one's own, `*` is everybody's.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) owner: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<WorkspaceView>>, Problem> {
    let workspaces = listed(&api, &caller, query.owner.as_deref())?;
    Ok(Json(workspaces.iter().map(|it| view(&api, it)).collect()))
}

/// The workspaces of an owner, when the caller may see them.
pub(super) fn listed(
    api: &Api,
    caller: &Caller,
    owner: Option<&str>,
) -> Result<Vec<Arc<Workspace>>, Problem> {
    let own = caller.own(Action::ListWorkspaces)?;
    let owner = match owner {
        None => Some(own),
        Some("*") => None,
        Some(name) => {
            let found = api.directory.user_by_name(name);
            let is_own = found.as_ref().is_ok_and(|it| it.id == own);
            if !is_own {
                caller.allow(Action::ListAllWorkspaces, Resource::Server)?;
            }
            Some(found?.id)
        }
    };
    if owner.is_none() {
        caller.allow(Action::ListAllWorkspaces, Resource::Server)?;
    }
    let all = api.workspaces.list().into_iter();
    Ok(all
        .filter(|it| owner.is_none_or(|owner| it.owner == owner))
        .collect())
}

/// The workspace, when the caller may do that to it. For who may not there is none.
pub(super) fn reach(
    api: &Api,
    caller: &Caller,
    action: Action,
    name: &str,
) -> Result<Arc<Workspace>, Problem> {
    let found = api.workspaces.by_name(name);
    let unknown = || Problem::from(workspaces::Error::Unknown(shown(name)));
    let resource = found
        .as_ref()
        .map_or(Resource::Server, |it| Resource::Workspace {
            owner: it.owner,
        });
    let allowed = caller.allow_on(action, resource, &format!("workspace {}", shown(name)));
    match allowed {
        Ok(()) => found.ok_or_else(unknown),
        Err(problem) if problem.is_forbidden() => Err(unknown()),
        Err(problem) => Err(problem),
    }
}
