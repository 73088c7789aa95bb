//! GitLab's JSON reconcile: what Rails answers a real agentk, from the same decisions as the typed stream.
//!
//! ```text
//!  agentk ──POST /reconcile──▶ convert ──reports──▶ Workspaces (decide) ──▶ store
//!         ◀──201, a workspace at a time── config ◀── session (what was told, what is due)
//! ```
//! Agents poll: nothing is sent unasked. GitLab's agents know no generations; which one a Deployment is of follows from
//! what was told and its replicas. Source: GitLab 18.9, `workspace_operations/reconcile`.

mod config;
mod convert;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use model::{DesiredState, FailureCode};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::{
    Workspaces,
    backend::{self, BackendKind},
    decide::Report,
    reconcile::{MAX_NAME_BYTES, Orphan, cut},
    workspace::{FailureSeen, Workspace},
};
use crate::{
    configuration::{Configurations, chain},
    directory::Agent,
};
use convert::{Info, Request};
use session::{Config, Session, Update};

/// The largest body of a request: some 6,000 workspaces with their Deployments.
pub(crate) const MAX_BODY: usize = 64 * 1024 * 1024;
/// An agent that missed as many polls is gone.
const MISSED_POLLS: u32 = 3;
/// How long a request waits for an earlier one of the same agent.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// The service: one for all agents.
#[derive(Clone, Debug)]
pub(crate) struct Json {
    workspaces: Arc<Workspaces>,
    configurations: Arc<Configurations>,
    full_interval: Duration,
    partial_interval: Duration,
    sessions: Arc<Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Session>>>>>,
}

/// An agent's turn: one request at a time, so that what one was told is known to the next.
#[derive(Debug)]
pub(crate) struct Turn(OwnedMutexGuard<Session>);

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

/// What a report is about, beside the workspaces that it concerns.
struct Reported {
    /// Of whom the agent spoke.
    ids: BTreeSet<String>,
    /// Of whom it must not hear.
    left_out: BTreeSet<String>,
}

impl Json {
    pub(crate) fn new(
        workspaces: Arc<Workspaces>,
        configurations: Arc<Configurations>,
        full_interval: Duration,
        partial_interval: Duration,
    ) -> Self {
        Self {
            workspaces,
            configurations,
            full_interval,
            partial_interval,
            sessions: Arc::default(),
        }
    }

    /// Waits for the agent's turn.
    pub(crate) async fn turn(&self, agent: &Agent) -> Result<Turn, Refusal> {
        let session = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(sessions.entry(agent.id).or_default())
        };
        let turn = tokio::time::timeout(TURN_TIMEOUT, session.lock_owned()).await;
        turn.map(Turn).map_err(|_| {
            let reason = "another request of this agent is still being answered";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
        })
    }

    /// `GET /prerequisites`: the namespace that all workspaces share; empty where each has its own.
    pub(crate) async fn prerequisites(&self, agent: &Agent) -> Result<Bytes, Refusal> {
        let state = self.configurations.state(agent);
        let good = state.known();
        let namespace = good.map_or("", |good| {
            &good.configuration.remote_development.shared_namespace
        });
        let Turn(mut session) = self.turn(agent).await?;
        session.knows_shared_namespace(namespace);
        Ok(json!({ "shared_namespace": namespace }).to_string().into())
    }

    /// `POST /reconcile`: takes the reports in. What is to be told follows from [`Answer::next`].
    pub(crate) async fn reconcile(
        &self,
        agent: &Agent,
        turn: Turn,
        body: &[u8],
    ) -> Result<Answer, Refusal> {
        if let Some(leader) = self.workspaces.leaders().leader(agent.id) {
            let reason = format!(
                "the Pod {} reconciles this agent's workspaces already, by the typed service",
                leader.pod_name
            );
            return Err(Refusal::new(StatusCode::CONFLICT, reason));
        }
        let request: Request = serde_json::from_slice(body).map_err(|error| {
            let reason = format!("the body is no reconcile request: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, reason)
        })?;
        let Request {
            update_type: update,
            workspace_agent_infos: infos,
        } = request;
        let Turn(mut session) = turn;
        let Reported { ids, left_out } = self
            .hear(agent, &mut session, update, infos)
            .await
            .map_err(|error| {
                tracing::error!(agent = %agent.name, error = %chain(&error), "reports cannot be kept");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "reports cannot be kept")
            })?;
        let heard_for = self.partial_interval * MISSED_POLLS;
        self.workspaces.leaders().polled(agent.id, heard_for);
        let workspaces = self.workspaces.of_agent(agent.id);
        if update == Update::Full {
            session.keep_only(&workspaces.iter().map(|it| it.id.clone()).collect());
        }
        let candidates = workspaces
            .into_iter()
            .filter(|it| !left_out.contains(&it.id));
        let due = session.due(update, candidates, &ids);
        Ok(Answer {
            workspaces: Arc::clone(&self.workspaces),
            full_interval: self.full_interval,
            partial_interval: self.partial_interval,
            session,
            due,
            told: Vec::new(),
            state: AnswerState::Beginning,
        })
    }

    async fn hear(
        &self,
        agent: &Agent,
        session: &mut Session,
        update: Update,
        infos: Vec<Info>,
    ) -> super::Result<Reported> {
        let now = self.workspaces.clock().now();
        let workspaces = self.workspaces.of_agent(agent.id);
        let mut by_name: BTreeMap<&str, Vec<&Workspace>> = BTreeMap::new();
        for workspace in &workspaces {
            let named = by_name.entry(workspace.name.as_str()).or_default();
            named.push(workspace);
        }
        session.begins(update);
        let mut reports: BTreeMap<String, Report> = BTreeMap::new();
        let (mut orphans, mut ids, mut left_out) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for info in infos {
            let named = by_name
                .get(info.name.as_str())
                .map_or(&[][..], Vec::as_slice);
            let Some(workspace) = find(&info, named) else {
                orphans.extend(orphan(info, now));
                continue;
            };
            let reported_id = info
                .deployment
                .as_ref()
                .and_then(|it| it.workspace_id.as_ref());
            if reported_id.is_some_and(|id| *id != workspace.id) {
                session.reported_other(&workspace.id);
                let message = "A Deployment of this name is another workspace's; nothing is applied over it. Remove it, or take another name.";
                reports.insert(
                    workspace.id.clone(),
                    unchanged(workspace, now, FailureCode::ForeignObject, message),
                );
                orphans.extend(orphan(info, now));
                continue;
            }
            let told = session.told_generation(&workspace.id);
            let report = report(&info, workspace, told, now);
            if let Some(version) = info.deployment.and_then(|it| it.resource_version) {
                session.reported_version(&workspace.id, cut(version, MAX_NAME_BYTES));
            }
            session.reported_own(&workspace.id);
            ids.insert(workspace.id.clone());
            reports.insert(workspace.id.clone(), report);
        }
        for workspace in &workspaces {
            if let Some(message) = cannot_be_told(workspace, session) {
                left_out.insert(workspace.id.clone());
                reports.insert(
                    workspace.id.clone(),
                    unchanged(workspace, now, FailureCode::NotAllowed, message),
                );
            }
        }
        for orphan in &orphans {
            tracing::debug!(agent = %agent.name, name = orphan.name, namespace = orphan.namespace, "no workspace of this server");
        }
        match update {
            Update::Full => self.workspaces.orphans().replace(agent.id, orphans),
            Update::Partial => self.workspaces.orphans().update(agent.id, orphans),
        }
        self.workspaces
            .report(agent.id, reports.into_iter().collect(), now)
            .await?;
        Ok(Reported { ids, left_out })
    }
}

/// The workspace that the agent speaks of. A name can be used again after its workspace was terminated; an agent that
/// still speaks of that end means the older one.
fn find<'a>(info: &Info, named: &[&'a Workspace]) -> Option<&'a Workspace> {
    let is_of_end = |it: &&&Workspace| {
        (it.life.desired == DesiredState::Terminated) == info.termination.is_some()
    };
    let there = || {
        let there = named.iter().filter(|it| it.namespace == info.namespace);
        there.filter(|it| info.termination.is_some() || !it.life.is_over())
    };
    let newest = |workspaces: &mut dyn Iterator<Item = &&'a Workspace>| {
        workspaces.max_by_key(|it| it.created_at).copied()
    };
    newest(&mut there().filter(is_of_end)).or_else(|| newest(&mut there()))
}

fn report(info: &Info, workspace: &Workspace, told_generation: u64, now: Timestamp) -> Report {
    let life = &workspace.life;
    let replicas = info.deployment.as_ref().and_then(|it| it.facts.replicas);
    let is_applied = info.error.is_none()
        && (info.termination.is_some() || replicas == Some(life.desired.replicas().into()));
    let failures = info.error.iter().map(|error| FailureSeen {
        code: FailureCode::ObjectRefused.as_str().to_owned(),
        component: String::new(),
        message: format!(
            "The agent could not do what it was told ({}).",
            cut(error.error_type.clone(), MAX_NAME_BYTES)
        ),
        evidence: cut(
            error.error_message.clone().unwrap_or_default(),
            model::failure::MAX_EVIDENCE_BYTES,
        ),
        since: now,
        next_try_at: None,
    });
    Report {
        applied_generation: match is_applied && told_generation == life.generation {
            true => life.generation,
            false => life.applied_generation,
        },
        actual: info.actual_state(),
        seen_at: now,
        failures: failures.collect(),
        operator: None,
        unknown_is_seen: true,
    }
}

/// A report that tells a failure and nothing else.
fn unchanged(workspace: &Workspace, now: Timestamp, code: FailureCode, message: &str) -> Report {
    let failure = FailureSeen {
        code: code.as_str().to_owned(),
        component: String::new(),
        message: message.to_owned(),
        evidence: String::new(),
        since: now,
        next_try_at: None,
    };
    Report {
        applied_generation: workspace.life.applied_generation,
        actual: workspace.life.actual,
        seen_at: now,
        failures: vec![failure],
        operator: None,
        unknown_is_seen: true,
    }
}

/// Why GitLab's agent must not hear of a workspace.
fn cannot_be_told(workspace: &Workspace, session: &Session) -> Option<&'static str> {
    if workspace.life.is_over() {
        return None;
    }
    match (workspace.backend, workspace.life.desired) {
        // It deletes the whole namespace of what is terminated, but that of which it asked whether it is shared.
        (_, DesiredState::Terminated)
            if !workspace.own_namespace && !session.shares(&workspace.namespace) =>
        {
            Some(
                "GitLab's agent would delete the whole namespace, which is not this workspace's alone; delete its objects by hand, or install this project's agent.",
            )
        }
        (_, DesiredState::Terminated) | (BackendKind::Native, _) => None,
        (BackendKind::Devworkspace, _) => {
            Some("GitLab's agent sees nothing of DevWorkspaces; install this project's agent.")
        }
    }
}

/// Only what names its workspace can be adopted; the rest is nothing that this server could have made.
fn orphan(info: Info, now: Timestamp) -> Option<Orphan> {
    let actual_state = info.actual_state();
    let workspace_id = info.deployment?.workspace_id?;
    Some(Orphan {
        workspace_id: cut(workspace_id, MAX_NAME_BYTES),
        name: cut(info.name, MAX_NAME_BYTES),
        namespace: cut(info.namespace, MAX_NAME_BYTES),
        actual_state,
        applied_generation: 0,
        first_seen_at: now,
    })
}

/// A body that is made as it is sent: one workspace's objects are in memory at a time.
#[derive(Debug)]
pub(crate) struct Answer {
    workspaces: Arc<Workspaces>,
    full_interval: Duration,
    partial_interval: Duration,
    /// The agent's turn ends with the answer.
    session: OwnedMutexGuard<Session>,
    due: VecDeque<(Arc<Workspace>, Config)>,
    /// As they were told: they count as told when the agent has all.
    told: Vec<Arc<Workspace>>,
    state: AnswerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerState {
    Beginning,
    Listing { is_first: bool },
    Complete,
}

impl Answer {
    /// The next part of the body; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            AnswerState::Beginning => {
                self.state = AnswerState::Listing { is_first: true };
                Some(Bytes::from_static(br#"{"workspace_rails_infos":["#))
            }
            AnswerState::Listing { is_first } => {
                while let Some((workspace, config)) = self.due.pop_front() {
                    if let Some(info) = self.info(workspace, config).await {
                        self.state = AnswerState::Listing { is_first: false };
                        let separator = if is_first { "" } else { "," };
                        return Some(format!("{separator}{info}").into());
                    }
                }
                self.state = AnswerState::Complete;
                let settings = json!({
                    "full_reconciliation_interval_seconds": self.full_interval.as_secs(),
                    "partial_reconciliation_interval_seconds": self.partial_interval.as_secs(),
                });
                Some(format!(r#"],"settings":{settings}}}"#).into())
            }
            AnswerState::Complete => None,
        }
    }

    /// All was sent.
    pub(crate) fn sent(mut self) {
        for workspace in &self.told {
            self.session.tells(workspace);
        }
    }

    /// A workspace as it was when the request was taken in; one that cannot be read is left for the next time.
    async fn info(&mut self, workspace: Arc<Workspace>, config: Config) -> Option<String> {
        let objects = match config {
            Config::Nothing | Config::Inventories => Vec::new(),
            Config::Partial | Config::All => {
                let content = self.workspaces.content(&workspace.id).await;
                let content = content.map_err(|error| {
                    tracing::error!(workspace = %workspace.name, error = %chain(&error), "objects cannot be read");
                });
                backend::for_kind(workspace.backend)
                    .in_state(content.ok()?.objects, workspace.life.desired)
            }
        };
        let text = config::config_to_apply(&workspace, objects, config);
        let info = convert::rails_info(&workspace, self.session.version(&workspace.id), &text);
        self.told.push(workspace);
        Some(info)
    }
}
