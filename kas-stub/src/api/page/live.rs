//! Tells an open page that something has changed; the page then fetches itself anew.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use tokio::sync::watch;

use super::Failed;
use crate::{
    api::{Api, Caller},
    authorization::{Action, Resource},
};

/// Between two words to one page: changes that come together cost one fetch.
const SPACING: Duration = Duration::from_millis(300);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Says `changed` at once, since something may have changed between the page and this, and then whenever it does.
pub(in crate::api) async fn changes(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failed> {
    caller.allow(Action::ListWorkspaces, Resource::Server)?;
    caller.allow(Action::ListAgents, Resource::Server)?;
    let watched = Watched {
        workspaces: api.workspaces.changes(),
        presence: api.presence.changes(),
        cut: caller.cut(),
        first: true,
        api,
    };
    let stream = futures::stream::unfold(watched, |mut watched| async move {
        watched.change().await?;
        // An event without data would not reach a script.
        Some((Ok(Event::default().event("changed").data("now")), watched))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Watched {
    api: Api,
    workspaces: watch::Receiver<u64>,
    presence: watch::Receiver<u64>,
    cut: Option<crate::directory::Cut>,
    first: bool,
}

impl Watched {
    /// Waits for a change; `None` when there is nobody left to tell.
    async fn change(&mut self) -> Option<()> {
        if std::mem::take(&mut self.first) {
            return Some(());
        }
        let cut = async {
            match &self.cut {
                Some(cut) => cut.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            tokio::time::sleep(SPACING).await;
            tokio::select! {
                changed = self.workspaces.changed() => changed.ok(),
                changed = self.presence.changed() => changed.ok(),
            }
        };
        tokio::select! {
            () = cut => None,
            () = self.api.stopping.cancelled() => None,
            changed = change => changed,
        }
    }
}
