//! `/api/v1/tokens`: personal tokens, for the API and kubectl.

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
    authorization::{Action, Decision, Resource},
    directory::{Token, TokenOwner},
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
}

#[derive(Debug, Serialize)]
pub(super) struct TokenView {
    id: u64,
    name: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id,
            name: token.name.clone(),
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
    let id = owner(&caller)?;
    let tokens = api.directory.tokens(TokenOwner::User { id });
    Ok(Json(tokens.iter().map(|token| (&**token).into()).collect()))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let id = owner(&caller)?;
    let CreateToken { name, expires_days } = problem::object(&body)?;
    let days = expires_days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        let detail = format!("a token lives 1 to {MAX_DAYS} days");
        return Err(Problem::invalid("expires_days", detail));
    }
    let expires_at = Timestamp::now() + (i64::from(days) * 24).hours();
    let (token, secret) = api
        .directory
        .create_personal_token(id, name, Some(expires_at))
        .await?;
    let answer = json!({
        "id": token.id,
        "name": token.name,
        "token": secret.expose(),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, Problem> {
    let user = owner(&caller)?;
    let id = token_id(&id)?;
    let owner = TokenOwner::User { id: user };
    let token = api.directory.revoke_token(owner, id).await?;
    tracing::info!(token = id, "personal token revoked");
    Ok(Json(TokenView::from(&*token)))
}

pub(super) fn token_id(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::not_found("there is no such token: an id is a number"))
}

fn owner(caller: &Caller) -> Result<u64, Problem> {
    caller.allow(Action::ManagePersonalTokens, Resource::Server)?;
    let forbidden = || Problem::refused(Decision::Forbidden);
    match caller.user_id() {
        Some(id) => Ok(id),
        None => Err(forbidden().unwrap_or_else(|| Problem::not_found("no such person"))),
    }
}
