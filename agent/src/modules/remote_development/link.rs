//! The conversation with the server about workspaces: what is said, whatever language it is said in. What is known here
//! ends with a conversation; the driver's state does not.
//!
//! ```text
//!  driver ◀──Event── run ──▶ Typed (ours) ──UNIMPLEMENTED──▶ Gitlab (JSON)
//!         ──Poll──▶            └─ tried first on every new connection
//! ```

use std::sync::Arc;
use std::time::Duration;

use agent_core::reconcile::{Content, DesiredWorkspace, Report};
use agent_core::reconnect::{DelayClass, MIN_SPACING, STABLE_AFTER, delay_class};
use futures::future::BoxFuture;
use model::OperatorState;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::api::Api;
use super::gitlab::Gitlab;
use super::pull_secrets::PullSecrets;
use super::typed::Typed;
use crate::backoff::Delays;
use crate::module::Control;

/// A server that has not answered a poll for so long is stuck, or a proxy in between is.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The languages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Typed,
    Gitlab,
}

/// What the link tells the driver.
#[derive(Debug)]
pub(super) enum Event {
    /// A conversation is open: polls go there.
    Opened(Language, mpsc::Sender<Poll>),
    /// The server said something in it.
    Said(Said),
    /// It ended.
    Closed,
}

/// What the driver tells the server. One is answered before the next is sent.
#[derive(Debug)]
pub(super) struct Poll {
    /// Counts up within a conversation; the answer carries it.
    pub(super) number: u64,
    /// The reports are everything that the agent holds.
    pub(super) full: bool,
    pub(super) reports: Vec<Report>,
    /// Whether DevWorkspaces can be run here.
    pub(super) operator: OperatorState,
    /// When it was asked for, on the driver's clock: reports hold times of it.
    pub(super) now: Duration,
}

/// What the server said.
#[derive(Debug)]
pub(super) enum Said {
    /// How it wants polls.
    Settings(Settings),
    /// What it wants of a workspace, and the pull secrets that the agent is to copy.
    Wish(DesiredWorkspace, Content, PullSecrets),
    /// A poll is answered.
    Answered(u64),
    /// Something that no reconcile can be made of.
    Nonsense(String),
}

/// When polls are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// `None`: as before.
    pub(super) full_interval: Option<Duration>,
    /// `None`: when there is something to report, since the server says by itself what it wants. Otherwise at this
    /// interval, with reports or without.
    pub(super) partial_interval: Option<Duration>,
}

/// Why a conversation ended.
#[derive(Debug)]
pub(super) enum Broken {
    /// A call failed.
    Call(Status),
    /// The server answered, and said no.
    Refused(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

/// One way to speak with the server.
pub(super) trait Link: Send + Sync {
    /// Its name in the log.
    fn name(&self) -> &'static str;

    /// Opens a conversation, and holds it to its end: sends [`Event::Opened`] when it is open, what it sends after that
    /// belongs to it. It ends well when the driver is gone, or when it may be worth to try another language.
    fn converse<'a>(&'a self, events: &'a mpsc::Sender<Event>)
    -> BoxFuture<'a, Result<(), Broken>>;
}

/// Keeps a conversation open until it is dropped.
pub(super) async fn run(
    control: Arc<Control>,
    api: Api,
    agent_id: i64,
    term: u64,
    events: mpsc::Sender<Event>,
) {
    let typed = Typed {
        control: &control,
        api: api.clone(),
        term,
    };
    let gitlab = Gitlab {
        control: &control,
        api,
        agent_id,
    };
    let mut delays = Delays::default();
    loop {
        let opened = Instant::now();
        let mut link: &dyn Link = &typed;
        let mut ended = link.converse(&events).await;
        if matches!(&ended, Err(Broken::Call(status)) if status.code() == Code::Unimplemented) {
            tracing::debug!("the server has no typed reconcile: trying GitLab's");
            link = &gitlab;
            ended = link.converse(&events).await;
        }
        let class = match &ended {
            Ok(()) => DelayClass::AtOnce,
            Err(Broken::Call(status)) => delay_class(control.health.failed(link.name(), status)),
            Err(Broken::Refused(status)) => {
                control.health.failed(link.name(), status);
                DelayClass::Refused
            }
        };
        if events.send(Event::Closed).await.is_err() {
            return;
        }
        let lived = opened.elapsed();
        if lived >= STABLE_AFTER {
            delays.reset();
        }
        match class {
            DelayClass::AtOnce if lived >= MIN_SPACING => {}
            class @ (DelayClass::AtOnce
            | DelayClass::Outage
            | DelayClass::Refused
            | DelayClass::OtherCluster
            | DelayClass::Unsupported) => {
                tokio::time::sleep(delays.next_delay(class)).await;
            }
        }
    }
}

/// Why a conversation ends whose poll was not answered.
pub(super) fn not_answered() -> Status {
    Status::unavailable(format!(
        "a poll was not answered within {} s",
        ANSWER_TIMEOUT.as_secs()
    ))
}

/// Whether a poll sent at `sent` should have been answered.
pub(super) fn is_overdue(sent: Instant) -> bool {
    sent.elapsed() > ANSWER_TIMEOUT
}

/// When a poll sent at `sent` is overdue.
pub(super) fn overdue_at(sent: Instant) -> Instant {
    sent + ANSWER_TIMEOUT
}
