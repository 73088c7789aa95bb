//! `/api/v1/projects`: whose members may use which agents. A path stands in an address with `%2F` for its slashes.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Api, Caller, Problem, agents::shown, problem};
use crate::{
    authorization::{Action, MemberRole, Resource},
    directory::{Project, ProjectPath},
    membership,
};

/// A project, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct ProjectView {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) members: Vec<MemberView>,
    /// The agents that belong to it.
    pub(super) agents: Vec<String>,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub(super) struct MemberView {
    pub(super) user: String,
    pub(super) role: MemberRole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateProject {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMember {
    role: MemberRole,
}

fn view(api: &Api, project: &Project) -> ProjectView {
    let members = project.members.iter().filter_map(|(user, role)| {
        let user = api.directory.user(*user)?;
        Some(MemberView {
            user: user.name.to_string(),
            role: *role,
        })
    });
    let agents = api.directory.agents().into_iter();
    let own = agents.filter(|it| it.project == Some(project.id));
    ProjectView {
        id: project.id,
        path: project.path.to_string(),
        members: members.collect(),
        agents: own.map(|it| it.name.to_string()).collect(),
        created_at: project.created_at,
    }
}

/// The projects that the caller may know of.
pub(super) fn readable(api: &Api, caller: &Caller) -> Vec<ProjectView> {
    let projects = api.directory.projects();
    let may = |it: &&Arc<Project>| {
        let resource = membership::on_project(caller.principal(), it);
        caller.may(Action::ReadProject, resource)
    };
    projects
        .iter()
        .filter(may)
        .map(|it| view(api, it))
        .collect()
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<ProjectView>>, Problem> {
    caller.allow(Action::ListProjects, Resource::Server)?;
    Ok(Json(readable(&api, &caller)))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<ProjectView>), Problem> {
    caller.allow(Action::ManageProjects, Resource::Server)?;
    let CreateProject { path: text } = problem::object(&body)?;
    let project = make(&api, &text).await?;
    Ok((StatusCode::CREATED, Json(view(&api, &project))))
}

pub(super) async fn make(api: &Api, path: &str) -> Result<Arc<Project>, Problem> {
    let path = path
        .parse::<ProjectPath>()
        .map_err(|error| Problem::invalid("path", error.to_string()))?;
    let project = api.directory.create_project(path).await?;
    tracing::info!(project = %project.path, "project created");
    Ok(project)
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(path): Path<String>,
) -> Result<Json<ProjectView>, Problem> {
    let project = find(&api, &caller, Action::ReadProject, &path)?;
    Ok(Json(view(&api, &project)))
}

pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(path): Path<String>,
) -> Result<StatusCode, Problem> {
    let project = find(&api, &caller, Action::ManageProjects, &path)?;
    api.directory.delete_project(&project.path).await?;
    tracing::info!(project = %project.path, "project deleted");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn set_member(
    State(api): State<Api>,
    caller: Caller,
    Path((path, user)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<ProjectView>, Problem> {
    let project = find(&api, &caller, Action::ManageMembers, &path)?;
    let SetMember { role } = problem::object(&body)?;
    let changed = api.directory.set_member(&project.path, &user, role).await?;
    tracing::info!(project = %project.path, user, ?role, "member set");
    Ok(Json(view(&api, &changed)))
}

pub(super) async fn remove_member(
    State(api): State<Api>,
    caller: Caller,
    Path((path, user)): Path<(String, String)>,
) -> Result<Json<ProjectView>, Problem> {
    let project = find(&api, &caller, Action::ManageMembers, &path)?;
    let changed = api.directory.remove_member(&project.path, &user).await?;
    tracing::info!(project = %project.path, user, "member removed");
    Ok(Json(view(&api, &changed)))
}

/// The project, when the caller may do that to it. For who may not know of it there is none.
pub(super) fn find(
    api: &Api,
    caller: &Caller,
    action: Action,
    text: &str,
) -> Result<Arc<Project>, Problem> {
    let parsed = text.parse::<ProjectPath>();
    let found = parsed
        .ok()
        .and_then(|path| api.directory.project(&path).ok());
    let resource = found.as_deref().map_or(Resource::Server, |it| {
        membership::on_project(caller.principal(), it)
    });
    let unknown = || {
        Problem::not_found(format!("there is no project {}", shown(text)))
            .hint("kas-stub project list shows those you are in")
    };
    let is_known = found.is_some() && caller.may(Action::ReadProject, resource);
    let target = format!("project {}", shown(text));
    match caller.allow_on(action, resource, &target) {
        Ok(()) => found.ok_or_else(unknown),
        Err(problem) if problem.is_forbidden() && !is_known => Err(unknown()),
        Err(problem) => Err(problem),
    }
}

/// A path that somebody sent.
pub(super) fn path(text: &str) -> Result<ProjectPath, Problem> {
    text.parse::<ProjectPath>()
        .map_err(|error| Problem::invalid("project", error.to_string()))
}
