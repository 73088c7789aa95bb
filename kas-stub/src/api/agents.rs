//! `/api/v1/agents`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use model::{
    OperatorState,
    agent_name::AgentName,
    configuration::{Note, Section},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Caller, Problem, problem, projects};
use crate::{
    agents::{ClusterError, ClusterView, Pod},
    authorization::{Action, Resource},
    configuration::{ConfigurationError, Good, NO_COMMIT},
    directory::{Agent, Token, TokenOwner},
    git::ProjectUrl,
    membership,
    workspaces::{
        choice::{Choices, choices},
        reconcile::{AgentOrphans, Leader},
    },
};

/// A push hook's body is not looked at; Git servers put the commits of the push in it.
const MAX_HOOK_BODY: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateAgent {
    name: String,
    #[serde(default)]
    project_url: Option<String>,
    /// The path of the project whose members may use it.
    #[serde(default)]
    project: Option<String>,
    /// Of an agent that another server made; then its token too.
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    token: Option<String>,
}

/// An agent, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct AgentView {
    pub(super) id: u64,
    pub(super) name: String,
    project_url: Option<String>,
    /// The project whose members may use it.
    project: Option<String>,
    pub(super) connected: bool,
    pub(super) pods: Vec<Pod>,
    /// The cluster it runs in, when it says so, and another one that was refused.
    pub(super) cluster: Option<ClusterView>,
    tunnels: TunnelsView,
    pub(super) configuration: ConfigurationView,
    tokens: Vec<TokenView>,
    /// What workspaces can be made with; null while its configuration is not known.
    pub(super) workspaces: Option<Choices>,
    /// The Pod that reconciles workspaces.
    leader: Option<Leader>,
    /// Workspaces in its cluster that this server does not know; nothing is done to them.
    orphans: AgentOrphans,
    /// Whether its cluster runs DevWorkspaces; null while it has said nothing of it.
    pub(super) devworkspaces: Option<OperatorState>,
}

#[derive(Debug, Serialize)]
struct TunnelsView {
    idle: usize,
    active: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct ConfigurationView {
    pub(super) commit: Option<String>,
    /// Sections that an older commit's value is in force of, since the newest's are wrong; none: the default.
    older: BTreeMap<Section, Option<String>>,
    applied_at: Option<Timestamp>,
    pub(super) error: Option<ConfigurationError>,
    notes: Vec<Note>,
}

#[derive(Debug, Serialize)]
pub(super) struct TokenView {
    id: u64,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id,
            created_at: token.created_at,
            last_used_at: token.last_used_at(),
            revoked_at: token.revoked_at(),
        }
    }
}

/// What the caller may know of the agent: tokens and orphans are for those who may do something about them.
pub(super) fn view(api: &Api, caller: &Caller, agent: &Agent) -> AgentView {
    let resource = on(api, caller, agent);
    let pods = api.presence.pods(agent.id);
    let counts = api.tunnels.counts(agent.id);
    let state = api.configurations.state(agent);
    let good = state.good.as_ref();
    AgentView {
        id: agent.id,
        name: agent.name.to_string(),
        project_url: agent.project_url.clone(),
        project: agent
            .project
            .and_then(|id| api.directory.project_by_id(id))
            .map(|it| it.path.to_string()),
        connected: !pods.is_empty() || counts.idle + counts.active > 0,
        pods,
        cluster: api.clusters.view(agent.id),
        tunnels: TunnelsView {
            idle: counts.idle,
            active: counts.active,
        },
        configuration: ConfigurationView {
            commit: good
                .map(|good| good.commit.clone())
                .filter(|commit| commit != NO_COMMIT),
            older: good.map_or_else(BTreeMap::new, older_sections),
            applied_at: good.map(|good| good.applied_at),
            error: state.error.clone(),
            notes: good.map_or_else(Vec::new, |good: &Good| good.notes.to_vec()),
        },
        tokens: match caller.may(Action::ManageAgentTokens, resource) {
            true => token_views(api, agent),
            false => Vec::new(),
        },
        workspaces: state
            .known()
            .map(|good| choices(&good.configuration.remote_development, api.maker.editors())),
        leader: api.workspaces.leaders().leader(agent.id),
        orphans: match caller.may(Action::ManageOrphans, resource) {
            true => api.workspaces.orphans().of(agent.id),
            false => AgentOrphans::default(),
        },
        devworkspaces: api.workspaces.operators().of(agent.id),
    }
}

fn older_sections(good: &Good) -> BTreeMap<Section, Option<String>> {
    let older = good.older.iter().map(|(section, commit)| {
        let commit = Some(commit.clone()).filter(|it| it != NO_COMMIT);
        (*section, commit)
    });
    older.collect()
}

fn token_views(api: &Api, agent: &Agent) -> Vec<TokenView> {
    let tokens = api.directory.tokens(TokenOwner::Agent { id: agent.id });
    tokens
        .iter()
        .map(|token| TokenView::from(&**token))
        .collect()
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<AgentView>>, Problem> {
    caller.allow(Action::ListAgents, Resource::Server)?;
    let agents = readable(&api, &caller);
    let views = agents.iter().map(|agent| view(&api, &caller, agent));
    Ok(Json(views.collect()))
}

/// The agents that the caller may know of.
pub(super) fn readable(api: &Api, caller: &Caller) -> Vec<Arc<Agent>> {
    which(api, caller, Action::ReadAgent)
}

/// The agents to which the caller may do this.
pub(super) fn which(api: &Api, caller: &Caller, action: Action) -> Vec<Arc<Agent>> {
    let agents = api.directory.agents().into_iter();
    agents
        .filter(|agent| caller.may(action, on(api, caller, agent)))
        .collect()
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    // Who is not known is not told what is wrong with what they send.
    caller.allow(Action::ListAgents, Resource::Server)?;
    let CreateAgent {
        name,
        project_url,
        project,
        id,
        token,
    } = problem::object(&body)?;
    let project = match project {
        None => {
            caller.allow_on(Action::CreateAgent, Resource::Server, &name)?;
            None
        }
        Some(path) => Some(projects::find(&api, &caller, Action::CreateAgent, &path)?.id),
    };
    let name: AgentName = name
        .parse()
        .map_err(|error| Problem::invalid("name", format!("{error}")))?;
    if let Some(url) = &project_url {
        ProjectUrl::parse(url, api.git_policy).map_err(|error| {
            let problem = Problem::invalid("project_url", error.to_string());
            problem.hint("for example https://git.example.com/group/project.git")
        })?;
    }
    let created = match (id, token) {
        (None, None) => {
            let created = api.directory.create_agent(name, project_url, project);
            created.await?
        }
        (Some(id), Some(token)) => {
            api.directory
                .import_agent(name, project_url, project, id, &token)
                .await?
        }
        (Some(_), None) => return Err(Problem::invalid("token", "an id comes with its token")),
        (None, Some(_)) => return Err(Problem::invalid("id", "a token comes with its agent's id")),
    };
    api.configurations.watch(&created.agent).await;
    let agent = &created.agent;
    tracing::info!(agent = %agent.name, id = agent.id, "agent created");
    let hook = format!(
        "{}/api/v1/agents/{}/push-hook",
        api.external_url, agent.name
    );
    let answer = json!({
        "id": agent.id,
        "name": agent.name.as_str(),
        "project_url": agent.project_url,
        "token": created.token.expose(),
        "agent_url": &*api.agent_url,
        "webhook": { "url": hook, "secret": created.webhook_secret.expose() },
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Problem> {
    let agent = find(&api, &caller, Action::ReadAgent, &name)?;
    Ok(Json(view(&api, &caller, &agent)))
}

pub(super) async fn list_tokens(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<TokenView>>, Problem> {
    let agent = find(&api, &caller, Action::ManageAgentTokens, &name)?;
    Ok(Json(token_views(&api, &agent)))
}

pub(super) async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let agent = find(&api, &caller, Action::ManageAgentTokens, &name)?;
    let (token, secret) = api.directory.create_agent_token(&agent).await?;
    let answer = json!({
        "id": token.id,
        "token": secret.expose(),
        "created_at": token.created_at,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn revoke_token(
    State(api): State<Api>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<TokenView>, Problem> {
    let agent = find(&api, &caller, Action::ManageAgentTokens, &name)?;
    let id = super::tokens::token_id(&id)?;
    let owner = TokenOwner::Agent { id: agent.id };
    let token = api.directory.revoke_token(owner, id).await?;
    tracing::info!(agent = %agent.name, token = id, "agent token revoked");
    Ok(Json(TokenView::from(&*token)))
}

/// Makes the cluster that was refused the agent's own, once the other one is gone.
pub(super) async fn accept_cluster(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ClusterView>, Problem> {
    let agent = find(&api, &caller, Action::ManageAgentTokens, &name)?;
    if !api.presence.pods(agent.id).is_empty() {
        let detail = "the agent is connected from the cluster that it has";
        return Err(
            Problem::new(StatusCode::CONFLICT, "agent_connected", detail)
                .hint("uninstall it there first, or make another agent for the other cluster"),
        );
    }
    let accepted = api
        .clusters
        .accept(agent.id)
        .await
        .map_err(|error| match error {
            ClusterError::NothingRefused => {
                Problem::new(StatusCode::CONFLICT, "no_other_cluster", error.to_string())
            }
            ClusterError::Store(_) | ClusterError::Corrupt(..) => Problem::internal(&error),
        })?;
    tracing::info!(agent = %agent.name, "another cluster was accepted");
    Ok(Json(accepted))
}

pub(super) async fn push_hook(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let agent = api.directory.agent(&name);
    let secret = headers
        .get("x-gitlab-token")
        .and_then(|value| value.to_str().ok());
    let caller = match &agent {
        Some(agent) => caller.or_webhook(agent, secret),
        None => caller,
    };
    let resource = agent.as_deref().map(|agent| on(&api, &caller, agent));
    caller.allow(Action::NotifyPush, resource.unwrap_or(Resource::Server))?;
    let agent = agent.ok_or_else(|| no_such_agent(&name))?;
    axum::body::to_bytes(body, MAX_HOOK_BODY)
        .await
        .map_err(|_| Problem::too_large(MAX_HOOK_BODY))?;
    api.configurations.pushed(&agent);
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveAgent {
    /// None: only administrators use it then, and whom its configuration file lets in.
    project: Option<String>,
}

/// Puts the agent into another project.
pub(super) async fn move_to(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<AgentView>, Problem> {
    find(&api, &caller, Action::MoveAgent, &name)?;
    let MoveAgent { project } = problem::object(&body)?;
    let to = project.as_deref().map(projects::path).transpose()?;
    let moved = api.directory.move_agent(&name, to.as_ref()).await?;
    tracing::info!(agent = %moved.name, project, "agent moved");
    Ok(Json(view(&api, &caller, &moved)))
}

/// The agent, when the caller may do that to it. Whether it exists is told only to who may know.
pub(super) fn find(
    api: &Api,
    caller: &Caller,
    action: Action,
    name: &str,
) -> Result<Arc<Agent>, Problem> {
    let agent = api.directory.agent(name);
    let resource = agent.as_deref().map(|agent| on(api, caller, agent));
    let resource = resource.unwrap_or(Resource::Server);
    let allowed = caller.allow_on(action, resource, &format!("agent {}", shown(name)));
    let is_known = agent.is_some() && caller.may(Action::ReadAgent, resource);
    match (allowed, agent) {
        (Ok(()), Some(agent)) => Ok(agent),
        (Ok(()), None) => Err(no_such_agent(name)),
        // For who may not know of it there is no such agent.
        (Err(problem), _) if problem.is_forbidden() && !is_known => Err(no_such_agent(name)),
        (Err(problem), _) => Err(problem),
    }
}

/// The agent as the caller asks for it.
pub(super) fn on(api: &Api, caller: &Caller, agent: &Agent) -> Resource {
    let principal = caller.principal();
    membership::on_agent(&api.directory, &api.configurations, principal, agent)
}

/// A name that somebody sent, short enough to be repeated.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

fn no_such_agent(name: &str) -> Problem {
    Problem::not_found(format!("there is no agent named {}", shown(name)))
        .hint("kas-stub agent list shows the agents there are")
}
