//! `/api/v1/audit`: who did what, allowed or refused.

use axum::{
    Json,
    extract::{Query, State},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Api, Caller, Problem};
use crate::{
    audit::{Entry, Filter},
    authorization::{Action, Resource},
};

/// Entries of one answer, when nothing is asked for, and the most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    /// A user's name.
    user: Option<String>,
    action: Option<String>,
    allowed: Option<bool>,
    /// The `next` of the answer before.
    before: Option<u64>,
    limit: Option<usize>,
}

/// Some entries, newest first.
#[derive(Debug, Serialize)]
pub(super) struct AuditPage {
    pub(super) entries: Vec<EntryView>,
    /// To be given as `before` for what is older; null at the end.
    pub(super) next: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    id: u64,
    pub(super) at: Timestamp,
    /// The person's name; null where it was no person that is known.
    pub(super) user: Option<String>,
    /// Who, and by which credential.
    pub(super) who: String,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) allowed: bool,
    from: Option<std::net::IpAddr>,
    pub(super) times: u64,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    caller.allow(Action::ReadAudit, Resource::Server)?;
    page(&api, query).map(Json)
}

pub(super) fn page(api: &Api, query: AuditQuery) -> Result<AuditPage, Problem> {
    let AuditQuery {
        user,
        action,
        allowed,
        before,
        limit,
    } = query;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("an answer has 1 to {MAX_LIMIT} entries");
        return Err(Problem::invalid("limit", detail));
    }
    let user = user.map(|name| api.directory.user_by_name(&name));
    let filter = Filter {
        user_id: user.transpose()?.map(|user| user.id),
        action,
        allowed,
        before,
    };
    // One more than asked for tells whether there is more.
    let mut entries = api.audit.list(&filter, limit + 1);
    let next = (entries.len() > limit).then(|| entries[limit - 1].id);
    entries.truncate(limit);
    let view = |entry: Entry| {
        let user = entry.user_id.and_then(|id| api.directory.user(id));
        EntryView {
            id: entry.id,
            at: entry.at,
            user: user.map(|it| it.name.to_string()),
            who: entry.who,
            action: entry.action,
            target: entry.target,
            allowed: entry.allowed,
            from: entry.from,
            times: entry.times,
        }
    };
    Ok(AuditPage {
        entries: entries.into_iter().map(view).collect(),
        next,
    })
}
