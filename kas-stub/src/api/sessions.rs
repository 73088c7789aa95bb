//! `/api/v1/sessions`: where one is signed in.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{Api, Caller, Problem};
use crate::{
    authorization::Action,
    directory::{Session, SignedInBy},
};

/// A session, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct SessionView {
    pub(super) id: u64,
    /// What the browser calls itself.
    pub(super) browser: String,
    pub(super) signed_in_by: SignedInBy,
    /// The one that asks.
    pub(super) current: bool,
    pub(super) created_at: Timestamp,
    pub(super) last_used_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

pub(super) fn views(api: &Api, caller: &Caller, user_id: u64) -> Vec<SessionView> {
    let own = caller.session().map(Session::digest);
    let sessions = api.directory.sessions_of(user_id);
    let view = |it: &Session| SessionView {
        id: it.id,
        browser: it.browser.clone(),
        signed_in_by: it.by,
        current: own == Some(it.digest()),
        created_at: it.created_at,
        last_used_at: it.last_used_at(),
        expires_at: it.expires_at,
    };
    sessions.iter().map(|it| view(it)).collect()
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<SessionView>>, Problem> {
    let user_id = caller.own(Action::ReadOwnAccount)?;
    Ok(Json(views(&api, &caller, user_id)))
}

pub(super) async fn end(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let user_id = caller.own(Action::EndOwnSessions)?;
    end_of(&api, user_id, &id).await
}

/// Ends a session of a person.
pub(super) async fn end_of(api: &Api, user_id: u64, id: &str) -> Result<StatusCode, Problem> {
    let unknown = || Problem::not_found("there is no such session: an id is a number");
    let id = id.parse().map_err(|_| unknown())?;
    api.directory.end_session_of(user_id, id).await?;
    tracing::info!(session = id, user = user_id, "session ended");
    Ok(StatusCode::NO_CONTENT)
}
