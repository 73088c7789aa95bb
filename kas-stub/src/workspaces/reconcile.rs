//! `RemoteDevelopment/Reconcile`: hears what an agent sees, tells it what is wanted.
//!
//! ```text
//!  agent ──Begin, Poll──▶ Exchange ──reports──▶ Workspaces ──▶ store
//!        ◀─Workspace, …── (one per stream) ◀──wishes changed──┘
//! ```
//!
//! A stream pulls: the next message is made when the last one was taken, from the workspaces as they are then. So a slow
//! agent costs one workspace's objects in memory, and a wish that changes twice in between is told once.

mod convert;
mod leaders;
mod operators;
mod orphans;
mod session;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use proto::remote_development::rpc::{
    Begin, Poll, ReconcileRequest, ReconcileResponse, reconcile_request,
    remote_development_server::RemoteDevelopment,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

pub(super) use convert::{MAX_NAME_BYTES, cut};
pub(crate) use leaders::{Leader, Leaders};
pub(crate) use operators::Operators;
pub(crate) use orphans::{AgentOrphans, Orphan, Orphans};

use super::{Workspaces, backend, render::admit_agent};
use crate::{agents::AgentCall, configuration::chain};
use leaders::Lead;
use session::{Session, Telling};

/// The largest message of an agent: a page of reports.
pub(crate) const MAX_MESSAGE: usize = 1024 * 1024;
/// Reports in one full poll.
const MAX_REPORTS: usize = 20_000;
/// How long a new stream may take to say who it is.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest name of a Pod.
const MAX_POD_NAME: usize = 253;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Reconcile {
    pub(crate) workspaces: Arc<Workspaces>,
    /// How often an agent reports everything it holds.
    pub(crate) full_interval: Duration,
}

#[tonic::async_trait]
impl RemoteDevelopment for Reconcile {
    type ReconcileStream = Pin<Box<dyn Stream<Item = Result<ReconcileResponse, Status>> + Send>>;

    async fn reconcile(
        &self,
        mut request: Request<Streaming<ReconcileRequest>>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let call = request
            .extensions_mut()
            .remove::<AgentCall>()
            .ok_or_else(|| Status::internal("call without its caller"))?;
        let opening = Opening {
            reconcile: self.clone(),
            call,
            requests: request.into_inner(),
        };
        let full_interval = self.full_interval;
        // The answer's head goes out at once: an agent may wait for it before it says anything.
        let responses =
            futures::stream::unfold(State::Opening(Box::new(opening)), move |state| async move {
                match state {
                    State::Opening(opening) => match opening.begin().await {
                        Ok(exchange) => Some((
                            Ok(convert::settings(full_interval)),
                            State::Open(Box::new(exchange)),
                        )),
                        Err(status) => Some((Err(status), State::Closed)),
                    },
                    State::Open(mut exchange) => match exchange.next().await {
                        Ok(Some(response)) => Some((Ok(response), State::Open(exchange))),
                        Ok(None) => None,
                        Err(status) => Some((Err(status), State::Closed)),
                    },
                    State::Closed => None,
                }
            });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Where a stream is.
enum State {
    /// Nothing was heard yet.
    Opening(Box<Opening>),
    Open(Box<Exchange>),
    /// Its last word was said.
    Closed,
}

struct Opening {
    reconcile: Reconcile,
    call: AgentCall,
    requests: Streaming<ReconcileRequest>,
}

impl Opening {
    /// Hears who it is, and lets it lead.
    async fn begin(self) -> Result<Exchange, Status> {
        let Self {
            reconcile:
                Reconcile {
                    workspaces,
                    full_interval: _,
                },
            call,
            mut requests,
        } = self;
        let first = tokio::select! {
            () = call.cut.cancelled() => return Err(Status::unauthenticated("unauthenticated")),
            () = call.ending.cancelled() => return Err(Status::unavailable("the connection is ending")),
            first = tokio::time::timeout(BEGIN_TIMEOUT, requests.message()) => first
                .map_err(|_| Status::deadline_exceeded("no message came"))??,
        };
        let Some(reconcile_request::Message::Begin(begin)) = first.and_then(|it| it.message) else {
            return Err(Status::invalid_argument("the first message must be Begin"));
        };
        let Begin {
            agent_meta,
            fencing_token,
        } = begin;
        let agent_meta = agent_meta.unwrap_or_default();
        let cut = |text: String| text.chars().take(MAX_POD_NAME).collect::<String>();
        let pod_name = cut(agent_meta.pod_name);
        let leader = Leader {
            pod_name: pod_name.clone(),
            since: workspaces.clock().now(),
        };
        let agent_id = call.agent.id;
        let lead = workspaces
            .leaders()
            .lead(agent_id, fencing_token, leader)
            .ok_or_else(|| Status::aborted("a newer leader reconciles"))?;
        tracing::info!(agent = %call.agent.name, pod = pod_name, "agent reconciles");
        Ok(Exchange {
            wishes: workspaces.wishes(agent_id),
            workspaces,
            call,
            requests,
            lead,
            pod_namespace: cut(agent_meta.pod_namespace),
            session: Session::default(),
            orphans: Vec::new(),
            due: VecDeque::new(),
            outgoing: VecDeque::new(),
            answering: None,
        })
    }
}

/// One open stream of a leader.
struct Exchange {
    workspaces: Arc<Workspaces>,
    call: AgentCall,
    requests: Streaming<ReconcileRequest>,
    lead: Lead,
    /// Of the leading Pod, and so of all Pods that the tunnel comes from.
    pod_namespace: String,
    wishes: watch::Receiver<u64>,
    session: Session,
    /// Found by the running poll.
    orphans: Vec<Orphan>,
    /// Workspaces to tell; each at most once, so no more than there are.
    due: VecDeque<(String, Telling)>,
    /// Messages of the workspace being told.
    outgoing: VecDeque<ReconcileResponse>,
    /// The poll to answer when everything due was told.
    answering: Option<u64>,
}

impl Exchange {
    /// The next message; `None` ends the stream.
    async fn next(&mut self) -> Result<Option<ReconcileResponse>, Status> {
        loop {
            if self.lead.fenced().is_cancelled() {
                return Err(Status::aborted("a newer leader reconciles"));
            }
            if let Some(message) = self.outgoing.pop_front() {
                return Ok(Some(message));
            }
            if let Some((id, telling)) = self.due.pop_front() {
                self.tell(&id, telling).await?;
                continue;
            }
            if let Some(number) = self.answering.take() {
                return Ok(Some(convert::poll_answered(number)));
            }
            // Every branch may be dropped: a message stays in its stream, a change of wishes stays seen.
            tokio::select! {
                biased;
                () = self.call.cut.cancelled() => return Err(Status::unauthenticated("unauthenticated")),
                () = self.lead.fenced().cancelled() => {}
                () = self.call.ending.cancelled() => return Ok(None),
                changed = self.wishes.changed() => {
                    changed.map_err(|_| Status::unavailable("server is stopping"))?;
                    self.find_due();
                }
                request = self.requests.message() => match request?.and_then(|it| it.message) {
                    None => return Ok(None),
                    Some(reconcile_request::Message::Begin(_)) => {
                        return Err(Status::invalid_argument("Begin comes once"));
                    }
                    Some(reconcile_request::Message::Poll(poll)) => self.hear(poll).await?,
                },
            }
        }
    }

    fn find_due(&mut self) {
        let workspaces = self.workspaces.of_agent(self.call.agent.id);
        self.due = self.session.due(workspaces.iter().map(|it| &**it)).into();
    }

    async fn hear(&mut self, poll: Poll) -> Result<(), Status> {
        let Poll {
            number,
            full,
            reports,
            more,
            dev_workspace_operator,
        } = poll;
        if full {
            self.session.full_poll_page();
            if self.session.full_poll_reports() + self.orphans.len() + reports.len() > MAX_REPORTS {
                return Err(Status::resource_exhausted("too many workspaces in a poll"));
            }
        }
        let now = self.workspaces.clock().now();
        let agent_id = self.call.agent.id;
        if let Some(state) = dev_workspace_operator {
            let state = convert::operator_state(state);
            self.workspaces.operators().tell(agent_id, state);
        }
        let mut known = Vec::new();
        for report in reports {
            let of = convert::report(report, now);
            if self.workspaces.is_of_agent(&of.workspace_id, agent_id) {
                let (applied, actual) = (of.report.applied_generation, of.report.actual);
                self.session.reported(&of.workspace_id, applied, actual);
                known.push((of.workspace_id, of.report));
            } else {
                self.orphans.push(Orphan {
                    workspace_id: of.workspace_id,
                    name: of.name,
                    namespace: of.namespace,
                    actual_state: of.report.actual,
                    applied_generation: of.report.applied_generation,
                    first_seen_at: of.report.seen_at,
                });
            }
        }
        if !known.is_empty() {
            let kept = self.workspaces.report(agent_id, known, now).await;
            kept.map_err(|error| {
                tracing::error!(agent = %self.call.agent.name, error = %chain(&error), "reports cannot be kept");
                Status::internal("reports cannot be kept")
            })?;
        }
        if more {
            return Ok(());
        }
        let orphans = std::mem::take(&mut self.orphans);
        if full {
            self.workspaces.orphans().replace(agent_id, orphans);
            let workspaces = self.workspaces.of_agent(agent_id);
            let all = self
                .session
                .end_full_poll(workspaces.iter().map(|it| &**it));
            self.due = all.into();
        } else {
            self.workspaces.orphans().update(agent_id, orphans);
            self.find_due();
        }
        self.answering = Some(number);
        Ok(())
    }

    /// Puts the messages of a workspace, as it is now, into the outgoing ones.
    async fn tell(&mut self, id: &str, telling: Telling) -> Result<(), Status> {
        let Some(workspace) = self.workspaces.by_id(id) else {
            return Ok(());
        };
        let desired = workspace.life.desired;
        let objects = match (telling, desired) {
            (Telling::Unchanged, _) | (_, model::DesiredState::Terminated) => Vec::new(),
            (Telling::Whole, _) => {
                let content = self.workspaces.content(id).await.map_err(|error| {
                    tracing::error!(workspace = %workspace.name, error = %chain(&error), "objects cannot be read");
                    Status::internal("objects cannot be read")
                })?;
                let objects =
                    backend::for_kind(workspace.backend).in_state(content.objects, desired);
                admit_agent(objects, workspace.name.as_str(), &self.pod_namespace)
            }
        };
        self.session.tells(id, workspace.life.generation, telling);
        let is_unchanged = telling == Telling::Unchanged;
        self.outgoing = convert::workspace(&workspace, is_unchanged, &objects).into();
        Ok(())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        tracing::info!(agent = %self.call.agent.name, "agent no longer reconciles");
    }
}
