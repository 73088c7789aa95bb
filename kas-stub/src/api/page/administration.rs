//! For administrators: users, projects, and what happened.

use askama::Template;
use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{Failed, filters, show};
use crate::{
    api::{
        Api, Problem,
        audit::{self, AuditPage, AuditQuery},
        caller::Caller,
        projects::{self, ProjectView},
        users::{self, UserView},
    },
    authorization::{Action, Resource, Role},
    directory::UserState,
};

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/administration", get(index))
        .route("/administration/audit", get(log))
        .route("/administration/users", post(create_user))
        .route("/administration/users/{name}/{action}", post(act))
        .route("/administration/projects", post(create_project))
}

#[derive(Template)]
#[template(path = "administration.html")]
struct AdministrationPage {
    users: Vec<UserView>,
    projects: Vec<ProjectView>,
    /// A user's name and the password that was just made for them; it is shown this once.
    made: Option<(String, String)>,
    problem: Option<String>,
}

impl AdministrationPage {
    fn is_active(user: &UserView) -> bool {
        user.state == UserState::Active
    }

    fn is_administrator(user: &UserView) -> bool {
        user.role == Role::Administrator
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct LogPage {
    page: AuditPage,
}

pub(in crate::api) async fn index(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Response, Failed> {
    shown(&api, &caller, StatusCode::OK, None, None)
}

fn shown(
    api: &Api,
    caller: &Caller,
    status: StatusCode,
    made: Option<(String, String)>,
    problem: Option<Problem>,
) -> Result<Response, Failed> {
    caller.allow(Action::ListUsers, Resource::Server)?;
    caller.allow(Action::ListProjects, Resource::Server)?;
    let users = api.directory.users();
    let page = AdministrationPage {
        users: users.iter().map(|it| UserView::from(&**it)).collect(),
        projects: projects::readable(api, caller),
        made,
        problem: problem.map(|it| it.detail),
    };
    Ok(show(status, &page))
}

fn wrong(api: &Api, caller: &Caller, problem: Problem) -> Result<Response, Failed> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    shown(api, caller, status, None, Some(problem))
}

pub(in crate::api) async fn log(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Failed> {
    caller.allow(Action::ReadAudit, Resource::Server)?;
    let page = audit::page(&api, query)?;
    Ok(show(StatusCode::OK, &LogPage { page }))
}

#[derive(Deserialize)]
pub(in crate::api) struct UserForm {
    name: String,
    #[serde(default)]
    administrator: Option<String>,
}

pub(in crate::api) async fn create_user(
    State(api): State<Api>,
    caller: Caller,
    Form(form): Form<UserForm>,
) -> Result<Response, Failed> {
    caller.allow_on(Action::ManageUsers, Resource::Server, "a new user")?;
    let role = match form.administrator {
        Some(_) => Role::Administrator,
        None => Role::User,
    };
    let make = async {
        let (hash, told) = users::hash(&api, None).await?;
        let user = users::make(&api, form.name.trim(), role, hash, None).await?;
        let told = told.map(|it| it.expose().to_owned());
        Ok((user.name.to_string(), told.unwrap_or_default()))
    };
    match make.await {
        Ok(made) => shown(&api, &caller, StatusCode::CREATED, Some(made), None),
        Err(problem) => wrong(&api, &caller, problem),
    }
}

/// What a button beside a user does.
pub(in crate::api) async fn act(
    State(api): State<Api>,
    caller: Caller,
    Path((name, action)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let made = match action.as_str() {
        "suspend" => users::change_state(&api, &caller, &name, UserState::Suspended)
            .await
            .map(|_| None),
        "reactivate" => users::change_state(&api, &caller, &name, UserState::Active)
            .await
            .map(|_| None),
        "reset-password" => users::new_password(&api, &caller, &name)
            .await
            .map(|password| Some((name, password))),
        _ => Err(Problem::not_found("there is nothing at this path")),
    };
    match made {
        Ok(None) => Ok(Redirect::to("/administration").into_response()),
        Ok(made) => shown(&api, &caller, StatusCode::OK, made, None),
        Err(problem) if problem.is_forbidden() => Err(problem.into()),
        Err(problem) => wrong(&api, &caller, problem),
    }
}

#[derive(Deserialize)]
pub(in crate::api) struct ProjectForm {
    path: String,
}

pub(in crate::api) async fn create_project(
    State(api): State<Api>,
    caller: Caller,
    Form(form): Form<ProjectForm>,
) -> Result<Response, Failed> {
    caller.allow_on(Action::ManageProjects, Resource::Server, "a new project")?;
    match projects::make(&api, form.path.trim()).await {
        Ok(_) => Ok(Redirect::to("/administration").into_response()),
        Err(problem) => wrong(&api, &caller, problem),
    }
}
