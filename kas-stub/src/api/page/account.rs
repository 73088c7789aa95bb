//! One's own account: tokens, sessions, password.

use askama::Template;
use axum::{
    Form, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{Failed, filters, show, sign_in};
use crate::{
    api::{
        Api, Problem,
        caller::Caller,
        sessions::{self, SessionView},
        tokens::{self, TokenView},
        users,
    },
    authorization::{Action, Resource, Role, Scope},
    directory::{SignedInBy, User},
};

/// Tokens shown that are revoked or have expired, the newest.
const SHOWN_OVER: usize = 20;

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/account", get(index))
        .route("/account/tokens", post(create_token))
        .route("/account/tokens/{id}/revoke", post(revoke_token))
        .route("/account/sessions/{id}/end", post(end_session))
        .route("/account/password", post(change_password))
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    name: String,
    is_administrator: bool,
    has_password: bool,
    projects: Vec<(String, String)>,
    tokens: Vec<TokenView>,
    over: usize,
    sessions: Vec<SessionView>,
    scopes: [Scope; 4],
    /// A token that was just made; it is shown this once.
    made: Option<String>,
    problem: Option<String>,
}

impl AccountPage {
    fn is_active(token: &TokenView) -> bool {
        let now = jiff::Timestamp::now();
        token.revoked_at.is_none() && token.expires_at.is_none_or(|it| it > now)
    }
}

fn meaning(scope: &Scope) -> &'static str {
    match scope {
        Scope::Api => "the REST API, reading and changing",
        Scope::ReadApi => "the REST API, reading",
        Scope::K8sProxy => "kubectl",
        Scope::Workspaces => "your workspaces and their ports",
    }
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
    made: Option<String>,
    problem: Option<Problem>,
) -> Result<Response, Failed> {
    let user_id = caller.own(Action::ReadOwnAccount)?;
    let user = api.directory.user(user_id);
    let user: &User = &*user.ok_or_else(|| Problem::not_found("who asks is no person"))?;
    let all = tokens::views(api, user_id);
    let (mut active, mut over): (Vec<_>, Vec<_>) =
        all.into_iter().rev().partition(AccountPage::is_active);
    let hidden = over.len().saturating_sub(SHOWN_OVER);
    over.truncate(SHOWN_OVER);
    active.append(&mut over);
    let projects = api.directory.projects();
    let own = projects.iter().filter_map(|it| {
        let role = it.members.get(&user_id)?;
        Some((it.path.to_string(), format!("{role:?}").to_lowercase()))
    });
    let page = AccountPage {
        name: user.name.to_string(),
        is_administrator: user.role == Role::Administrator,
        has_password: user.password.is_some(),
        projects: own.collect(),
        tokens: active,
        over: hidden,
        sessions: sessions::views(api, caller, user_id),
        scopes: Scope::ALL,
        made,
        problem: problem.map(|it| match it.hint {
            Some(hint) => format!("{}. {hint}", it.detail),
            None => it.detail,
        }),
    };
    Ok(show(status, &page))
}

/// The page again, with what was wrong.
fn wrong(api: &Api, caller: &Caller, problem: Problem) -> Result<Response, Failed> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    match status {
        // To be answered as such.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            Err(problem.into())
        }
        _ => shown(api, caller, status, None, Some(problem)),
    }
}

/// As a form has it: names of fields, several of one name too.
type Fields = Vec<(String, String)>;

pub(in crate::api) async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    Form(fields): Form<Fields>,
) -> Result<Response, Failed> {
    let user_id = caller.own(Action::ManagePersonalTokens)?;
    let values = |wanted: &str| {
        let of = |(name, value): &(String, String)| (name == wanted).then(|| value.clone());
        fields.iter().filter_map(of).collect::<Vec<_>>()
    };
    let make = async {
        let scopes = tokens::parse_scopes(&values("scope"))?;
        let days = values("expires_days").pop().unwrap_or_default();
        let days = days.parse();
        let days = days.map_err(|_| Problem::invalid("expires_days", "it is no number of days"))?;
        let name = values("name").pop().unwrap_or_default();
        tokens::make(&api, &caller, user_id, name, days, Some(scopes)).await
    };
    match make.await {
        Ok((_, secret)) => {
            let secret = secret.expose().to_owned();
            shown(&api, &caller, StatusCode::CREATED, Some(secret), None)
        }
        Err(problem) => wrong(&api, &caller, problem),
    }
}

pub(in crate::api) async fn revoke_token(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let user_id = caller.own(Action::ManagePersonalTokens)?;
    tokens::revoke_of(&api, user_id, &id).await?;
    Ok(Redirect::to("/account").into_response())
}

pub(in crate::api) async fn end_session(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let user_id = caller.own(Action::EndOwnSessions)?;
    sessions::end_of(&api, user_id, &id).await?;
    Ok(Redirect::to("/account").into_response())
}

#[derive(Deserialize)]
pub(in crate::api) struct PasswordForm {
    #[serde(default)]
    current: String,
    new: String,
}

/// All sessions end, and this browser gets a new one.
pub(in crate::api) async fn change_password(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<PasswordForm>,
) -> Result<Response, Failed> {
    caller.allow(Action::ChangeOwnPassword, Resource::Server)?;
    let PasswordForm { current, new } = form;
    match users::change_password(&api, &caller, current, new).await {
        Ok(user) => {
            let by = SignedInBy::Password;
            let cookie = sign_in::new_session(&api, &caller, &headers, user.id, by).await?;
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/account")).into_response())
        }
        Err(problem) => wrong(&api, &caller, problem),
    }
}
