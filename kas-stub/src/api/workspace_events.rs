//! `GET /api/v1/workspaces/<name>/events`: a workspace's life as it happens.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;

use super::{Api, Caller, Problem, whose::reach};
use crate::{authorization::Action, directory::Cut};

/// How often an idle stream of events shows that it is alive; proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The steps of a workspace's life: those that were, then those that come. Ends when it is terminated.
pub(super) async fn events(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let workspace = reach(&api, &caller, Action::ReadWorkspace, &name)?;
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok());
    let watch = Watch {
        changes: api.workspaces.changes(),
        id: workspace.id.clone(),
        last: last.and_then(|value| value.parse().ok()).unwrap_or(0),
        ready: VecDeque::new(),
        cut: caller.cut(),
        api,
    };
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One who watches a workspace.
struct Watch {
    api: Api,
    changes: tokio::sync::watch::Receiver<u64>,
    id: String,
    last: u64,
    ready: VecDeque<Event>,
    cut: Option<Cut>,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // Seen before it is looked, so that a change in between wakes us again.
            self.changes.borrow_and_update();
            let workspace = self.api.workspaces.by_id(&self.id)?;
            for event in workspace.events.after(self.last) {
                self.last = event.sequence;
                let data = serde_json::to_string(event).unwrap_or_default();
                let id = event.sequence.to_string();
                self.ready
                    .push_back(Event::default().event(event.step.name()).id(id).data(data));
            }
            if !self.ready.is_empty() {
                continue;
            }
            if workspace.life.is_over() {
                return None;
            }
            let cut = async {
                match &self.cut {
                    Some(cut) => cut.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cut => return None,
                () = self.api.stopping.cancelled() => return None,
                changed = self.changes.changed() => changed.ok()?,
            }
        }
    }
}
