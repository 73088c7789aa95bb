//! `/api/v1/users`, for administrators; `/api/v1/user` for everybody about themselves.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Api, Caller, Problem,
    agents::shown,
    problem,
    sessions::{self, SessionView},
    tokens::{self, TokenView},
};
use crate::{
    authorization::{Action, Resource, Role},
    directory::{Identity, NewUser, Password, PasswordHash, User, UserName, UserState},
};

/// A user, as the API shows them.
#[derive(Debug, Serialize)]
pub(super) struct UserView {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) state: UserState,
    /// Whom the server's own machine acts as.
    pub(super) local: bool,
    pub(super) has_password: bool,
    pub(super) identities: Vec<Identity>,
    pub(super) created_at: Option<Timestamp>,
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            name: user.name.to_string(),
            role: user.role,
            state: user.state,
            local: user.local,
            has_password: user.password.is_some(),
            identities: user.identities.clone(),
            created_at: user.created_at,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    name: String,
    #[serde(default)]
    role: Option<Role>,
    /// Without one, and without a subject, the server makes one and tells it, once.
    #[serde(default)]
    password: Option<String>,
    /// Who they are at the provider of OpenID Connect.
    #[serde(default)]
    subject: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetPassword {
    #[serde(default)]
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRole {
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    subject: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    current: String,
    new: String,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<UserView>>, Problem> {
    caller.allow(Action::ListUsers, Resource::Server)?;
    let users = api.directory.users();
    Ok(Json(users.iter().map(|it| (&**it).into()).collect()))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    caller.allow(Action::ManageUsers, Resource::Server)?;
    let CreateUser {
        name,
        role,
        password,
        subject,
    } = problem::object(&body)?;
    let identity = subject.map(|it| identity(&api, it)).transpose()?;
    let (hash, told) = match (password, &identity) {
        (None, Some(_)) => (None, None),
        (password, _) => hash(&api, password).await?,
    };
    let user = make(&api, &name, role.unwrap_or(Role::User), hash, identity).await?;
    Ok((StatusCode::CREATED, Json(with_password(&user, told))))
}

pub(super) async fn make(
    api: &Api,
    name: &str,
    role: Role,
    password: Option<PasswordHash>,
    identity: Option<Identity>,
) -> Result<Arc<User>, Problem> {
    let name = name
        .parse::<UserName>()
        .map_err(|error| Problem::invalid("name", error.to_string()))?;
    let new = NewUser {
        name,
        role,
        password,
        identity,
    };
    let user = api.directory.create_user(new).await?;
    tracing::info!(user = %user.name, id = user.id, ?role, "user created");
    Ok(user)
}

fn with_password(user: &User, password: Option<Password>) -> Value {
    let mut answer = json!(UserView::from(user));
    if let Some(password) = password {
        answer["password"] = json!(password.expose());
    }
    answer
}

/// The hash of a password, and the password itself when it was made here.
pub(super) async fn hash(
    api: &Api,
    chosen: Option<String>,
) -> Result<(Option<PasswordHash>, Option<Password>), Problem> {
    let is_made = chosen.is_none();
    let password = match chosen {
        Some(text) => Password::chosen(text)
            .map_err(|error| Problem::invalid("password", error.to_string()))?,
        None => Password::generate(),
    };
    let hash = api.passwords.hash(password.clone()).await;
    let hash = hash.map_err(Problem::busy)?;
    Ok((Some(hash), is_made.then_some(password)))
}

fn identity(api: &Api, subject: String) -> Result<Identity, Problem> {
    /// OpenID Connect's own limit.
    const MAX_SUBJECT: usize = 255;
    let Some(provider) = &api.provider else {
        let detail = "the server has no provider of OpenID Connect";
        return Err(
            Problem::invalid("subject", detail).hint("kas-stub serve --oidc-issuer sets one")
        );
    };
    if subject.is_empty() || subject.len() > MAX_SUBJECT {
        let detail = format!("a subject has 1 to {MAX_SUBJECT} bytes");
        return Err(Problem::invalid("subject", detail));
    }
    Ok(Identity {
        issuer: provider.issuer().to_owned(),
        subject,
    })
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Problem> {
    let user = find(&api, &caller, Action::ListUsers, &name)?;
    Ok(Json((&*user).into()))
}

pub(super) async fn suspend(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Problem> {
    change_state(&api, &caller, &name, UserState::Suspended).await
}

pub(super) async fn reactivate(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Problem> {
    change_state(&api, &caller, &name, UserState::Active).await
}

pub(super) async fn change_state(
    api: &Api,
    caller: &Caller,
    name: &str,
    state: UserState,
) -> Result<Json<UserView>, Problem> {
    let user = find(api, caller, Action::ManageUsers, name)?;
    let name = user.name.as_str();
    let changed = match state {
        UserState::Suspended => api.directory.suspend_user(name).await?,
        UserState::Active => api.directory.reactivate_user(name).await?,
    };
    tracing::info!(user = name, ?state, "state of user changed");
    Ok(Json((&*changed).into()))
}

pub(super) async fn set_role(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<UserView>, Problem> {
    let user = find(&api, &caller, Action::ManageUsers, &name)?;
    let SetRole { role } = problem::object(&body)?;
    let changed = api.directory.set_role(user.name.as_str(), role).await?;
    tracing::info!(user = %user.name, ?role, "role of user changed");
    Ok(Json((&*changed).into()))
}

pub(super) async fn reset_password(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let user = find(&api, &caller, Action::ManageUsers, &name)?;
    let ResetPassword { password } = problem::object(&body)?;
    let (changed, told) = set_password(&api, &user, password).await?;
    Ok(Json(with_password(&changed, told)))
}

/// Gives a user a password that was made here, and tells it.
pub(super) async fn new_password(
    api: &Api,
    caller: &Caller,
    name: &str,
) -> Result<String, Problem> {
    let user = find(api, caller, Action::ManageUsers, name)?;
    let (_, told) = set_password(api, &user, None).await?;
    let told = told.map(|it| it.expose().to_owned());
    Ok(told.unwrap_or_default())
}

async fn set_password(
    api: &Api,
    user: &User,
    chosen: Option<String>,
) -> Result<(Arc<User>, Option<Password>), Problem> {
    let (hash, told) = hash(api, chosen).await?;
    let changed = api.directory.set_password(user.name.as_str(), hash).await?;
    tracing::info!(user = %user.name, "password of user reset");
    Ok((changed, told))
}

/// Lets the user sign in as somebody at the provider of OpenID Connect.
pub(super) async fn link(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<UserView>, Problem> {
    let user = find(&api, &caller, Action::ManageUsers, &name)?;
    let Link { subject } = problem::object(&body)?;
    let identity = identity(&api, subject)?;
    let changed = api.directory.link_identity(user.name.as_str(), identity);
    Ok(Json((&*changed.await?).into()))
}

pub(super) async fn list_tokens(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<TokenView>>, Problem> {
    let user = find(&api, &caller, Action::ManageCredentials, &name)?;
    Ok(Json(tokens::views(&api, user.id)))
}

pub(super) async fn revoke_token(
    State(api): State<Api>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<TokenView>, Problem> {
    let user = find(&api, &caller, Action::ManageCredentials, &name)?;
    tokens::revoke_of(&api, user.id, &id).await.map(Json)
}

pub(super) async fn list_sessions(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<SessionView>>, Problem> {
    let user = find(&api, &caller, Action::ManageCredentials, &name)?;
    Ok(Json(sessions::views(&api, &caller, user.id)))
}

pub(super) async fn end_session(
    State(api): State<Api>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let user = find(&api, &caller, Action::ManageCredentials, &name)?;
    sessions::end_of(&api, user.id, &id).await
}

fn find(api: &Api, caller: &Caller, action: Action, name: &str) -> Result<Arc<User>, Problem> {
    caller.allow_on(action, Resource::Server, &format!("user {}", shown(name)))?;
    Ok(api.directory.user_by_name(name)?)
}

/// The caller's own account.
pub(super) async fn own(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Problem> {
    let user = myself(&api, &caller, Action::ReadOwnAccount)?;
    let projects = api.directory.projects();
    let own = projects.iter().filter_map(|it| {
        let role = it.members.get(&user.id)?;
        Some(json!({ "path": it.path.as_str(), "role": role }))
    });
    let mut answer = json!(UserView::from(&*user));
    answer["projects"] = own.collect();
    Ok(Json(answer))
}

fn myself(api: &Api, caller: &Caller, action: Action) -> Result<Arc<User>, Problem> {
    let user = api.directory.user(caller.own(action)?);
    user.ok_or_else(|| Problem::not_found("who asks is no person"))
}

pub(super) async fn change_own_password(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let ChangePassword { current, new } = problem::object(&body)?;
    change_password(&api, &caller, current, new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the caller's own password. All sessions end, the caller's too.
pub(super) async fn change_password(
    api: &Api,
    caller: &Caller,
    current: String,
    new: String,
) -> Result<Arc<User>, Problem> {
    let user = myself(api, caller, Action::ChangeOwnPassword)?;
    if user.password.is_none() && !user.identities.is_empty() {
        let detail = "you sign in with the provider; an administrator can give you a password too";
        return Err(Problem::conflict("new", "no_password", detail));
    }
    // Who found an open browser is to guess no better than who stands before the sign-in.
    let name = user.name.as_str();
    let counted = api
        .sign_in
        .try_password(name, caller.from, std::time::Instant::now());
    counted.map_err(Problem::too_many)?;
    if user.password.is_some() {
        let matches = api.passwords.matches(current, user.password.clone()).await;
        if !matches.map_err(Problem::busy)? {
            return Err(Problem::invalid("current", "it is not the password"));
        }
    }
    api.sign_in.password_was_right(name);
    let (hash, _) = hash(api, Some(new)).await.map_err(|mut problem| {
        problem.field = problem.field.map(|_| "new");
        problem
    })?;
    let changed = api.directory.set_password(name, hash).await?;
    tracing::info!(user = name, "password changed");
    Ok(changed)
}
