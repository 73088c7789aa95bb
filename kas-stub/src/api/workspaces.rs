//! `/api/v1/workspaces`.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use model::{ActualState, DesiredState, OperatorState, OperatorStatus, WorkspaceName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Api, Caller, Problem,
    agents::{self, shown},
    problem,
    whose::reach,
};
use crate::{
    authorization::Action,
    configuration::{Good, chain},
    directory::Agent,
    workspaces::{
        self, MakeError, Request,
        backend::BackendKind,
        choice::{Asked, Refused, choose},
        editor::WorkspaceEditor,
        endpoints::url,
        limits::NextChange,
        name_from,
        quota::Quota,
        reconcile::Orphan,
        settings::{Against, against, applies},
        workspace::{Content, FailureSeen, Note, Workspace},
    },
};

/// What somebody asks for who wants a workspace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateWorkspace {
    #[serde(default)]
    pub(super) repository: String,
    #[serde(default, rename = "ref")]
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) devfile_path: Option<String>,
    #[serde(default)]
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) backend: Option<String>,
    /// One of those that the agent's configuration allows, or `none`.
    #[serde(default)]
    pub(super) editor: Option<String>,
    /// One of the classes of the agent's configuration.
    #[serde(default)]
    pub(super) class: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    /// Id of an orphan of the agent that this workspace takes over, with its volumes.
    #[serde(default)]
    pub(super) adopt: Option<String>,
}

/// A workspace, as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct WorkspaceView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) owner: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) agent_id: u64,
    /// Whether the agent reconciles now; else the actual state is the last that was heard of.
    pub(super) agent_connected: bool,
    /// Since when nothing is heard of it: the agent is away, or cannot reach its cluster. Null while it reconciles.
    pub(super) unknown_since: Option<Timestamp>,
    pub(super) namespace: String,
    pub(super) backend: BackendKind,
    pub(super) repository: String,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) commit: String,
    pub(super) devfile_path: String,
    pub(super) editor: Option<WorkspaceEditor>,
    /// The size it was made in; null: as its devfile says.
    pub(super) class: Option<String>,
    pub(super) desired_state: DesiredState,
    pub(super) desired_state_changed_at: Timestamp,
    pub(super) actual_state: ActualState,
    pub(super) actual_state_changed_at: Timestamp,
    pub(super) generation: u64,
    pub(super) applied_generation: u64,
    pub(super) failures: Vec<FailureSeen>,
    pub(super) created_at: Timestamp,
    /// What becomes of it by itself; null: it stays as it is.
    pub(super) next_change: Option<NextChange>,
    /// What it was rendered with, against the agent's configuration file as it is now; null while that is not known.
    pub(super) configuration: Option<Against>,
    pub(super) endpoints: Vec<EndpointView>,
    /// Why that is desired, where nobody asked for it: for example, the cluster stopped it.
    pub(super) desired_state_reason: Option<String>,
    /// What the DevWorkspace Operator says of it, as it says it; null where it does not run it. Its `main_url` leads
    /// somewhere inside the cluster only.
    pub(super) operator: Option<OperatorStatus>,
    /// Where its main endpoint is (attribute `type: main`), on this server; null without one.
    pub(super) main_url: Option<String>,
    /// Where its editor is; null without one.
    pub(super) editor_url: Option<String>,
}

/// A port of a workspace that people open.
#[derive(Clone, Debug, Serialize)]
pub(super) struct EndpointView {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) url: String,
    /// It is the editor.
    pub(super) editor: bool,
    /// It is the main one.
    pub(super) main: bool,
}

pub(super) fn view(api: &Api, workspace: &Workspace) -> WorkspaceView {
    let Workspace {
        id,
        name,
        owner,
        agent_id,
        namespace,
        own_namespace: _,
        backend,
        source,
        endpoints,
        editor,
        class,
        pull_secrets: _,
        shared_objects: _,
        rendered_with,
        not_applied: _,
        content_version: _,
        created_at,
        life,
        events: _,
    } = workspace.clone();
    let agent = api.directory.agent_by_id(agent_id);
    let good = agent.as_ref().and_then(|agent| good_of(api, agent));
    let endpoints: Vec<_> = endpoints
        .into_iter()
        .map(|it| EndpointView {
            url: url(
                &api.external_url,
                &api.workspaces_domain,
                name.as_str(),
                &it,
            ),
            name: it.name,
            port: it.port,
            editor: it.editor,
            main: it.main,
        })
        .collect();
    let unknown_since = api.workspaces.leaders().unknown_since(agent_id);
    WorkspaceView {
        id,
        name: name.to_string(),
        owner: api.directory.user(owner).map(|it| it.name.to_string()),
        next_change: good.clone().zip(agent.as_ref()).and_then(|(good, agent)| {
            let rules = api.workspaces.rules(agent_id, agent.name.as_str(), good);
            api.workspaces.next_change(workspace, &rules)
        }),
        configuration: good
            .filter(|_| life.desired != DesiredState::Terminated)
            .map(|good| {
                let now = api
                    .workspaces
                    .rendered_now(agent_id, &good)
                    .of_class(class.as_deref());
                against(rendered_with.as_ref(), &now, applies(&good))
            }),
        agent: agent.map(|it| it.name.to_string()),
        agent_id,
        agent_connected: unknown_since.is_none(),
        unknown_since,
        namespace,
        backend,
        repository: source.repository,
        reference: source.reference,
        commit: source.commit,
        devfile_path: source.devfile_path,
        editor,
        class,
        desired_state: life.desired,
        desired_state_changed_at: life.desired_at,
        actual_state: life.actual,
        actual_state_changed_at: life.actual_at,
        generation: life.generation,
        applied_generation: life.applied_generation,
        failures: workspace.failures(),
        desired_state_reason: life.desired_reason,
        operator: life.operator,
        main_url: endpoints.iter().find(|it| it.main).map(|it| it.url.clone()),
        editor_url: endpoints
            .iter()
            .find(|it| it.editor)
            .map(|it| it.url.clone()),
        endpoints,
        created_at,
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<serde_json::Value>), Problem> {
    caller.own(Action::ListWorkspaces)?;
    let (workspace, notes) = make(&api, &caller, problem::object(&body)?).await?;
    let mut answer = json!(view(&api, &workspace));
    answer["notes"] = json!(notes);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Makes a workspace for the caller, when they may use the agent.
pub(super) async fn make(
    api: &Api,
    caller: &Caller,
    asked: CreateWorkspace,
) -> Result<(Arc<Workspace>, Vec<Note>), Problem> {
    let CreateWorkspace {
        repository,
        reference,
        devfile_path,
        agent,
        backend,
        editor,
        class,
        name,
        adopt,
    } = asked;
    if repository.is_empty() {
        let problem = Problem::invalid("repository", "it is missing");
        return Err(problem.hint("for example https://git.example.com/group/project.git"));
    }
    let name = match name {
        None => name_from(&repository),
        Some(name) => name
            .parse::<WorkspaceName>()
            .map_err(|error| Problem::invalid("name", error.to_string()))?,
    };
    let agent = choose_agent(api, caller, agent.as_deref())?;
    let on_agent = agents::on(api, caller, &agent);
    let target = format!("workspace {name} on agent {}", agent.name);
    caller.allow_on(Action::CreateWorkspace, on_agent, &target)?;
    if adopt.is_some() {
        // With its volumes, which may be anybody's.
        caller.allow_on(Action::ManageOrphans, on_agent, &target)?;
    }
    let adopted = adopt.map(|id| find_orphan(api, &agent, &id)).transpose()?;
    if let Some(orphan) = &adopted
        && orphan.name != name.as_str()
    {
        let problem = Problem::invalid("name", "what is adopted keeps its name");
        return Err(problem.hint(format!("name it {}", orphan.name)));
    }
    let settings = settings_of(api, &agent)?;
    let asked = Asked {
        backend: read_backend(backend.as_deref())?,
        editor,
        class,
    };
    let remote_development = &settings.configuration.remote_development;
    let chosen = choose(asked, remote_development, api.maker.editors())?;
    let operator = match chosen.backend {
        BackendKind::Native => None,
        BackendKind::Devworkspace => api.workspaces.operators().of(agent.id),
    };
    check_operator(operator.as_ref(), agent.name.as_str())?;
    let request = Request {
        adopted,
        owner: caller.user_id().unwrap_or_default(),
        agent_id: agent.id,
        chosen,
        name,
        repository,
        reference,
        devfile_path,
        settings,
    };
    let quota = Quota::of(&request.settings.configuration.remote_development);
    // Before the repository is read: that takes longer than saying so.
    api.workspaces.check_name(&request.name)?;
    api.workspaces
        .check_quota(agent.id, request.owner, &quota)?;
    let (workspace, content) = api.maker.make(request).await?;
    check_fields(operator.as_ref(), &content.objects)?;
    let notes = content.all_notes();
    let workspace = api.workspaces.create(workspace, content, quota).await?;
    tracing::info!(workspace = %workspace.name, agent = %agent.name, "workspace created");
    Ok((workspace, notes))
}

/// The configuration that an agent's new workspaces are made with.
fn settings_of(api: &Api, agent: &Agent) -> Result<Good, Problem> {
    let good = good_of(api, agent).ok_or_else(|| {
        let detail = format!(
            "the configuration of agent {} was not read yet, so it is not known how to make workspaces there",
            agent.name
        );
        Problem::conflict("agent", "configuration_unknown", detail)
            .hint("try again in a few seconds; kas-stub agent show says when it cannot be read")
    })?;
    match good.configuration.remote_development.enabled {
        true => Ok(good),
        false => Err(turned_off(api, agent)),
    }
}

/// What to write where, for an agent that takes no workspaces.
fn turned_off(api: &Api, agent: &Agent) -> Problem {
    let name = &agent.name;
    let Some(project) = &agent.project_url else {
        let detail = format!(
            "agent {name} takes no workspaces: it has no project, and so no configuration file that allows them"
        );
        return Problem::unprocessable("agent", "workspaces_off", detail)
            .hint("make an agent with a project (kas-stub agent create NAME --project URL) and put `remote_development: {enabled: true}` into its configuration file");
    };
    let path = name.configuration_path();
    let mut detail = format!(
        "agent {name} takes no workspaces: remote_development.enabled is not true in {path} of {project}"
    );
    if let Some(error) = &api.configurations.state(agent).error {
        detail = format!("{detail}; {}", error.message);
    }
    Problem::unprocessable("agent", "workspaces_off", detail).hint(format!(
        "push {path} with `remote_development: {{enabled: true}}` to the project's default branch"
    ))
}

/// The configuration of an agent; none while its file is not known.
fn good_of(api: &Api, agent: &Agent) -> Option<Good> {
    api.configurations.state(agent).known().cloned()
}

fn find_orphan(api: &Api, agent: &Agent, id: &str) -> Result<Orphan, Problem> {
    let found = api.workspaces.orphans().find(agent.id, id);
    found.ok_or_else(|| {
        let detail = format!("agent {} has no orphan with this id", agent.name);
        Problem::unprocessable("adopt", "no_such_orphan", detail)
            .hint("kas-stub agent show lists the orphans of an agent")
    })
}

/// Deletes a workspace of another server from an agent's cluster, with its volumes.
pub(super) async fn delete_orphan(
    State(api): State<Api>,
    caller: Caller,
    Path((agent, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    let agent = agents::find(&api, &caller, Action::ManageOrphans, &agent)?;
    let orphan = find_orphan(&api, &agent, &id)?;
    let owner = caller.user_id().unwrap_or_default();
    let now = api.workspaces.clock().now();
    let workspace = workspaces::ending(orphan, owner, agent.id, now)
        .ok_or_else(|| Problem::invalid("id", "its name is none that a workspace can have"))?;
    api.workspaces.check_name(&workspace.name)?;
    // What goes takes no place.
    let creation = api
        .workspaces
        .create(workspace, Content::default(), Quota::default());
    let workspace = creation.await?;
    tracing::info!(workspace = %workspace.name, agent = %agent.name, "orphan is deleted");
    Ok((StatusCode::ACCEPTED, Json(view(&api, &workspace))))
}

/// The agent of that name, or the only one, of those that the caller may use.
fn choose_agent(api: &Api, caller: &Caller, name: Option<&str>) -> Result<Arc<Agent>, Problem> {
    let usable = agents::which(api, caller, Action::CreateWorkspace);
    if let Some(name) = name {
        let agent = usable.into_iter().find(|it| it.name.as_str() == name);
        return agent.ok_or_else(|| {
            let detail = format!("there is no agent named {} that you may use", shown(name));
            Problem::unprocessable("agent", "no_such_agent", detail)
                .hint("kas-stub agent list shows the agents there are")
        });
    }
    let agents = usable;
    match agents.as_slice() {
        [only] => Ok(Arc::clone(only)),
        [] => Err(Problem::unprocessable(
            "agent",
            "no_agent",
            "there is no agent that you may use",
        )
        .hint("kas-stub agent create NAME makes one; members of its project may use it")),
        several => {
            let names: Vec<_> = several.iter().map(|it| it.name.as_str()).take(10).collect();
            let detail = "there are several agents, so one must be chosen";
            Err(Problem::unprocessable("agent", "agent_needed", detail)
                .hint(format!("one of {}", names.join(", "))))
        }
    }
}

/// Whether the agent's cluster runs DevWorkspaces, as far as it is known.
fn check_operator(state: Option<&OperatorState>, agent: &str) -> Result<(), Problem> {
    let code = match state {
        Some(state) if !state.available => match state.code.as_str() {
            OperatorState::MISSING => "operator_missing",
            OperatorState::FORBIDDEN => "operator_forbidden",
            OperatorState::WEBHOOK_DOWN => "operator_webhook_down",
            // An agent that began a moment ago.
            OperatorState::UNKNOWN => return Ok(()),
            _ => "operator_unavailable",
        },
        Some(_) | None => return Ok(()),
    };
    let reason = state.map_or("", |it| it.reason.as_str());
    let detail = format!("agent {agent} cannot run DevWorkspaces: {reason}");
    Err(Problem::conflict("backend", code, detail)
        .hint("native workspaces need no operator: leave the backend out"))
}

/// Whether an old operator's DevWorkspaces have all that this one needs.
fn check_fields(
    state: Option<&OperatorState>,
    objects: &[serde_json::Value],
) -> Result<(), Problem> {
    let missing = state.map_or(&[][..], |it| &it.missing_fields);
    let is_used = |field: &&String| {
        let mut templates = objects.iter().map(|it| &it["spec"]["template"]);
        templates.any(|it| it.get(field.as_str()).is_some())
    };
    let Some(field) = missing.iter().find(is_used) else {
        return Ok(());
    };
    let detail = format!(
        "the devfile has {field}, which DevWorkspaces of this agent's cluster do not have: its operator is old"
    );
    Err(
        Problem::unprocessable("backend", "operator_too_old", detail)
            .hint("native workspaces have it: leave the backend out; or update the operator"),
    )
}

fn read_backend(name: Option<&str>) -> Result<Option<BackendKind>, Problem> {
    let Some(name) = name else {
        return Ok(None);
    };
    let found = BackendKind::ALL.into_iter().find(|it| it.as_str() == name);
    found.map(Some).ok_or_else(|| {
        let names = BackendKind::ALL.map(BackendKind::as_str);
        Problem::invalid("backend", "there is no such backend")
            .hint(format!("one of {}", names.join(", ")))
    })
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let workspace = reach(&api, &caller, Action::ReadWorkspace, &name)?;
    let mut answer = json!(view(&api, &workspace));
    answer["notes"] = json!(api.workspaces.content(&workspace.id).await?.all_notes());
    Ok(Json(answer))
}

pub(super) async fn start(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    change(&api, &caller, &name, DesiredState::Running).await
}

pub(super) async fn stop(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    change(&api, &caller, &name, DesiredState::Stopped).await
}

pub(super) async fn restart(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    change(&api, &caller, &name, DesiredState::RestartRequested).await
}

pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    change(&api, &caller, &name, DesiredState::Terminated).await
}

async fn change(
    api: &Api,
    caller: &Caller,
    name: &str,
    desired: DesiredState,
) -> Result<(StatusCode, Json<WorkspaceView>), Problem> {
    let workspace = wish(api, caller, name, desired).await?;
    Ok((StatusCode::ACCEPTED, Json(view(api, &workspace))))
}

/// Wishes something of a workspace that the caller may change.
pub(super) async fn wish(
    api: &Api,
    caller: &Caller,
    name: &str,
    desired: DesiredState,
) -> Result<Arc<Workspace>, Problem> {
    let workspace = reach(api, caller, Action::ChangeWorkspace, name)?;
    let agent = api.directory.agent_by_id(workspace.agent_id);
    let good = agent.and_then(|agent| good_of(api, &agent));
    tracing::info!(workspace = %workspace.name, ?desired, "workspace is to change");
    Ok(api.workspaces.wish(name, desired, good).await?)
}

impl From<MakeError> for Problem {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Source(error) => {
                let problem = Self::unprocessable(error.field, error.code, error.reason);
                match error.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
            MakeError::Devfile {
                path,
                commit,
                problems,
            } => {
                let short = commit.get(..12).unwrap_or(&commit);
                let detail = match problems.as_slice() {
                    [one] => format!(
                        "{path} at commit {short}, line {}, {}: {}",
                        one.line, one.field, one.reason
                    ),
                    several => format!("{path} at commit {short} has {} problems", several.len()),
                };
                Self::unprocessable("devfile", "invalid_devfile", detail).problems(json!(problems))
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let Refused {
            field,
            code,
            reason,
            hint,
        } = refused;
        Self::unprocessable(field, code, reason).hint(hint)
    }
}

impl From<workspaces::Error> for Problem {
    fn from(error: workspaces::Error) -> Self {
        use workspaces::Error;
        let detail = error.to_string();
        match error {
            Error::Exists(_) => Self::conflict("name", "workspace_exists", detail),
            Error::TooMany => Self::new(StatusCode::CONFLICT, "limit_reached", detail),
            Error::Quota(reached) => {
                let field = reached.kind.field();
                Self::conflict("agent", "quota_reached", detail).hint(format!(
                    "delete a workspace that is not needed any more, or raise remote_development.{field} in the agent's configuration file"
                ))
            }
            Error::ObjectTaken { .. } => Self::conflict("name", "object_taken", detail).hint(
                "another name of the workspace, or other names of the objects in its devfile",
            ),
            Error::TooLarge => Self::unprocessable("devfile", "too_large", detail),
            Error::Unknown(_) => Self::not_found(detail)
                .hint("kas-stub workspace list shows the workspaces there are"),
            Error::Terminated(_) => Self::new(StatusCode::CONFLICT, "terminated", detail),
            Error::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail),
            Error::Store(_) | Error::Corrupt { .. } | Error::Missing(_) => {
                tracing::error!(error = chain(&error), "request failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the server could not keep or read it; its log says why",
                )
            }
        }
    }
}
