//! `/api/v1/tokens`: personal tokens, for the API and kubectl.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Caller, Problem, problem};
use crate::{
    authorization::{Action, Scope, Scopes},
    directory::{Token, TokenOwner},
    secret::Secret,
};

/// How long a token lives when nothing is said.
const DEFAULT_DAYS: u32 = 30;
/// The longest that one can ask for.
const MAX_DAYS: u32 = 365;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateToken {
    name: String,
    #[serde(default)]
    expires_days: Option<u32>,
    /// By default all that whoever asks may give.
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
pub(super) struct TokenView {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) scopes: Vec<&'static str>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) revoked_at: Option<Timestamp>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id,
            name: token.name.clone(),
            scopes: token.scopes.names(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at(),
            revoked_at: token.revoked_at(),
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<TokenView>>, Problem> {
    let user_id = caller.own(Action::ReadOwnAccount)?;
    Ok(Json(views(&api, user_id)))
}

pub(super) fn views(api: &Api, user_id: u64) -> Vec<TokenView> {
    let tokens = api.directory.tokens(TokenOwner::User { id: user_id });
    tokens.iter().map(|token| (&**token).into()).collect()
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let user_id = caller.own(Action::ManagePersonalTokens)?;
    let CreateToken {
        name,
        expires_days,
        scopes,
    } = problem::object(&body)?;
    let days = expires_days.unwrap_or(DEFAULT_DAYS);
    let scopes = scopes.map(|names| parse_scopes(&names)).transpose()?;
    let (token, secret) = make(&api, &caller, user_id, name, days, scopes).await?;
    let answer = json!({
        "id": token.id,
        "name": token.name,
        "scopes": token.scopes.names(),
        "token": secret.expose(),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Makes a token. One that a token makes can do no more and lives no longer than that.
pub(super) async fn make(
    api: &Api,
    caller: &Caller,
    user_id: u64,
    name: String,
    days: u32,
    scopes: Option<Scopes>,
) -> Result<(Arc<Token>, Secret), Problem> {
    if !(1..=MAX_DAYS).contains(&days) {
        let detail = format!("a token lives 1 to {MAX_DAYS} days");
        return Err(Problem::invalid("expires_days", detail));
    }
    let mut expires_at = Timestamp::now() + (i64::from(days) * 24).hours();
    let by = caller.token();
    let most = by.map_or_else(Scopes::all, |(_, scopes)| scopes);
    let scopes = scopes.unwrap_or(most);
    if let Some((token_id, own)) = by {
        if !own.covers(scopes) {
            let detail = "a token makes only tokens that can do no more than it";
            let problem = Problem::invalid("scopes", detail);
            return Err(problem.hint(format!("some of {}", own.names().join(", "))));
        }
        let tokens = api.directory.tokens(TokenOwner::User { id: user_id });
        let own = tokens.iter().find(|it| it.id == token_id);
        if let Some(end) = own.and_then(|it| it.expires_at) {
            expires_at = expires_at.min(end);
        }
    }
    let made = api
        .directory
        .create_personal_token(user_id, name, Some(expires_at), scopes);
    Ok(made.await?)
}

/// Scopes by their names.
pub(super) fn parse_scopes<T: AsRef<str>>(names: &[T]) -> Result<Scopes, Problem> {
    let known = || Scope::ALL.map(Scope::as_str).join(", ");
    let mut scopes = Vec::new();
    for name in names {
        let scope = Scope::from_name(name.as_ref()).ok_or_else(|| {
            Problem::invalid("scopes", "there is no such scope")
                .hint(format!("some of {}", known()))
        })?;
        scopes.push(scope);
    }
    let scopes = Scopes::from(scopes);
    if scopes.is_empty() {
        let problem = Problem::invalid("scopes", "a token without a scope is of no use");
        return Err(problem.hint(format!("some of {}", known())));
    }
    Ok(scopes)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, Problem> {
    let user_id = caller.own(Action::ManagePersonalTokens)?;
    revoke_of(&api, user_id, &id).await.map(Json)
}

/// Revokes a token of a person.
pub(super) async fn revoke_of(api: &Api, user_id: u64, id: &str) -> Result<TokenView, Problem> {
    let owner = TokenOwner::User { id: user_id };
    let token = api.directory.revoke_token(owner, token_id(id)?).await?;
    tracing::info!(token = token.id, user = user_id, "personal token revoked");
    Ok(TokenView::from(&*token))
}

pub(super) fn token_id(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::not_found("there is no such token: an id is a number"))
}
