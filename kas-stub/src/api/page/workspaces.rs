//! Workspaces: the list, the form for a new one, and the page of each.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use model::{ActualState, DesiredState, OperatorState};
use serde::Deserialize;

use super::{
    Failed, filters, show as show_page, show_at, sign_in,
    words::{EventRow, Next, against, in_words, of_operator, short, tone, waits_for},
};
use crate::{
    api::{
        Api, Problem,
        agents::{self, AgentView},
        caller::Caller,
        whose::{self, ListQuery},
        workspaces::{self, CreateWorkspace, EndpointView, WorkspaceView},
    },
    authorization::{Action, Resource},
    configuration::ConfigurationError,
    workspaces::workspace::{FailureSeen, Note},
};

/// Steps shown of a workspace's life, the newest.
const SHOWN_EVENTS: usize = 50;
/// Problems shown of a configuration file; a person mends the first few and looks again.
const SHOWN_PROBLEMS: usize = 5;

/// What list and page show alike.
struct Shown {
    name: String,
    state: String,
    tone: &'static str,
    since: Timestamp,
    running: bool,
    failures: Vec<FailureSeen>,
    repository: String,
    agent: String,
    editor_url: Option<String>,
}

impl From<&WorkspaceView> for Shown {
    fn from(view: &WorkspaceView) -> Self {
        Self {
            name: view.name.clone(),
            state: in_words(view.actual_state).to_owned(),
            tone: tone(view.actual_state),
            since: view.actual_state_changed_at,
            running: view.actual_state == ActualState::Running,
            failures: view.failures.clone(),
            repository: view.repository.clone(),
            agent: view.agent.clone().unwrap_or_else(|| "that is gone".into()),
            editor_url: view.editor_url.clone(),
        }
    }
}

struct AgentRow {
    name: String,
    connected: bool,
    pods: usize,
    commit: Option<String>,
    errors: Vec<String>,
}

impl From<AgentView> for AgentRow {
    fn from(view: AgentView) -> Self {
        let refused = view.cluster.and_then(|it| it.refused);
        let refused = refused.map(|_| "a second cluster uses its token, and is refused".to_owned());
        let configuration = view.configuration.error.map_or_else(Vec::new, in_lines);
        // Without the operator native workspaces run: that is no error until somebody has it.
        let operator = view.devworkspaces.filter(|it| {
            let is_wrong = it.code == OperatorState::WEBHOOK_DOWN || it.available;
            is_wrong && !it.reason.is_empty()
        });
        let operator = operator.map(|it| format!("DevWorkspaces: {}", it.reason));
        Self {
            name: view.name,
            connected: view.connected,
            pods: view.pods.len(),
            commit: view.configuration.commit.as_deref().map(short),
            errors: configuration
                .into_iter()
                .chain(refused)
                .chain(operator)
                .collect(),
        }
    }
}

/// What is wrong with a configuration file: the message has it all where it is one thing.
fn in_lines(error: ConfigurationError) -> Vec<String> {
    let several = match error.problems.as_slice() {
        [_] => &[],
        several => several,
    };
    let places = several.iter().take(SHOWN_PROBLEMS);
    let places: Vec<_> = places.map(ToString::to_string).collect();
    [error.message].into_iter().chain(places).collect()
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage {
    workspaces: Vec<Shown>,
    agents: Vec<AgentRow>,
}

/// One's own workspaces and agents; for strangers, how to sign in.
pub(in crate::api) async fn index(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Failed> {
    caller.allow(Action::OpenPage, Resource::Server)?;
    if !caller.may(Action::ListAgents, Resource::Server) {
        return Ok(sign_in::how(&api, StatusCode::OK));
    }
    let workspaces = whose::listed(&api, &caller, query.owner.as_deref())?;
    let agents = agents::readable(&api, &caller);
    let page = IndexPage {
        workspaces: workspaces
            .iter()
            .filter(|it| !it.life.is_over())
            .map(|it| Shown::from(&workspaces::view(&api, it)))
            .collect(),
        agents: agents
            .iter()
            .map(|agent| agents::view(&api, &caller, agent).into())
            .collect(),
    };
    Ok(show_at(api.workspaces.clock().now(), StatusCode::OK, &page))
}

/// The form's fields; also those of a link that comes with some filled in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::api) struct NewForm {
    repository: String,
    #[serde(rename = "ref")]
    reference: String,
    devfile_path: String,
    name: String,
    agent: String,
    backend: String,
    editor: String,
    class: String,
}

struct Wrong {
    field: Option<&'static str>,
    text: String,
    hint: Option<String>,
    places: Vec<String>,
}

#[derive(Template)]
#[template(path = "new.html")]
struct NewPage {
    form: NewForm,
    agents: Vec<String>,
    /// Of all agents; the chosen one's configuration decides.
    editors: BTreeSet<String>,
    classes: BTreeSet<String>,
    problem: Option<Wrong>,
}

impl NewPage {
    fn is_wrong(&self, field: &str) -> bool {
        self.problem
            .as_ref()
            .is_some_and(|problem| problem.field == Some(field))
    }
}

pub(in crate::api) async fn form(
    State(api): State<Api>,
    caller: Caller,
    Query(form): Query<NewForm>,
) -> Result<Response, Failed> {
    caller.own(Action::ListWorkspaces)?;
    let page = new_page(&api, &caller, form, None);
    Ok(show_page(StatusCode::OK, &page))
}

fn new_page(api: &Api, caller: &Caller, form: NewForm, problem: Option<Wrong>) -> NewPage {
    let agents = agents::which(api, caller, Action::CreateWorkspace);
    let views = agents.iter().map(|it| agents::view(api, caller, it));
    let views: Vec<_> = views.collect();
    let choices = || views.iter().filter_map(|it| it.workspaces.as_ref());
    let class_names = choices().flat_map(|it| it.classes.iter().map(|class| class.name.clone()));
    let classes = class_names.collect();
    NewPage {
        form,
        editors: choices().flat_map(|it| it.editors.clone()).collect(),
        classes,
        agents: agents.iter().map(|agent| agent.name.to_string()).collect(),
        problem,
    }
}

/// Makes a workspace and shows it; what is wrong comes back with the form as it was filled in.
pub(in crate::api) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Form(form): Form<NewForm>,
) -> Result<Response, Failed> {
    caller.own(Action::ListWorkspaces)?;
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let asked = CreateWorkspace {
        repository: form.repository.trim().to_owned(),
        reference: given(&form.reference),
        devfile_path: given(&form.devfile_path),
        agent: given(&form.agent),
        backend: given(&form.backend),
        editor: given(&form.editor),
        class: given(&form.class),
        name: given(&form.name),
        adopt: None,
    };
    match workspaces::make(&api, &caller, asked).await {
        Ok((workspace, _)) => Ok(to_workspace(workspace.name.as_str())),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
            let page = new_page(&api, &caller, form, Some(wrong(problem)));
            Ok(show_page(status, &page))
        }
    }
}

fn to_workspace(name: &str) -> Response {
    Redirect::to(&format!("/workspaces/{name}")).into_response()
}

fn wrong(problem: Problem) -> Wrong {
    let places = problem.problems.as_deref().and_then(|it| it.as_array());
    let place = |it: &serde_json::Value| {
        let text = |field: &str| it[field].as_str().unwrap_or_default().to_owned();
        format!(
            "line {}, {}: {}",
            it["line"].as_u64().unwrap_or_default(),
            text("field"),
            text("reason")
        )
    };
    Wrong {
        places: places.into_iter().flatten().map(place).collect(),
        field: problem.field,
        text: problem.detail,
        hint: problem.hint.map(Into::into),
    }
}

/// What a button does.
struct Button {
    path: &'static str,
    label: &'static str,
    question: Option<&'static str>,
}

const START: Button = Button {
    path: "start",
    label: "Start",
    question: None,
};
const STOP: Button = Button {
    path: "stop",
    label: "Stop",
    question: None,
};
const RESTART: Button = Button {
    path: "restart",
    label: "Restart",
    question: None,
};
const DELETE: Button = Button {
    path: "delete",
    label: "Delete",
    question: Some("Delete this workspace with all its files? What is not pushed is lost."),
};

/// What can be asked of a workspace with this wish.
fn buttons(desired: DesiredState) -> Vec<Button> {
    match desired {
        DesiredState::Running => vec![STOP, RESTART, DELETE],
        DesiredState::RestartRequested => vec![STOP, DELETE],
        DesiredState::Stopped => vec![START, DELETE],
        DesiredState::Terminated => Vec::new(),
    }
}

#[derive(Template)]
#[template(path = "workspace.html")]
struct WorkspacePage {
    it: Shown,
    wish: Option<&'static str>,
    unknown_since: Option<Timestamp>,
    next: Option<Next>,
    settings: Option<String>,
    actions: Vec<Button>,
    endpoints: Vec<EndpointView>,
    reference: Option<String>,
    commit: String,
    devfile_path: String,
    namespace: String,
    backend: &'static str,
    desired_reason: Option<String>,
    operator: Option<String>,
    notes: Vec<Note>,
    events: Vec<EventRow>,
}

pub(in crate::api) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let workspace = whose::reach(&api, &caller, Action::ReadWorkspace, &name)?;
    let view = workspaces::view(&api, &workspace);
    let content = api.workspaces.content(&workspace.id).await;
    let mut events: Vec<EventRow> = workspace.events.after(0).map(EventRow::from).collect();
    events.reverse();
    events.truncate(SHOWN_EVENTS);
    let page = WorkspacePage {
        it: Shown::from(&view),
        wish: waits_for(view.desired_state, view.actual_state),
        unknown_since: view.unknown_since,
        next: view.next_change.map(Next::from),
        settings: view.configuration.map(|it| against(&it)),
        actions: buttons(view.desired_state),
        endpoints: view.endpoints,
        reference: view.reference,
        commit: short(&view.commit),
        devfile_path: view.devfile_path,
        namespace: view.namespace,
        backend: view.backend.as_str(),
        desired_reason: view.desired_state_reason,
        operator: view.operator.as_ref().map(of_operator),
        notes: content.map_err(Problem::from)?.all_notes(),
        events,
    };
    Ok(show_at(api.workspaces.clock().now(), StatusCode::OK, &page))
}

pub(in crate::api) async fn act(
    State(api): State<Api>,
    caller: Caller,
    Path((name, action)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let desired = match action.as_str() {
        "start" => DesiredState::Running,
        "stop" => DesiredState::Stopped,
        "restart" => DesiredState::RestartRequested,
        "delete" => DesiredState::Terminated,
        _ => return Err(Problem::not_found("there is nothing at this path").into()),
    };
    workspaces::wish(&api, &caller, &name, desired).await?;
    Ok(to_workspace(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_that_goes_can_be_asked_nothing() {
        assert!(buttons(DesiredState::Terminated).is_empty());
        let paths = |desired| -> Vec<_> { buttons(desired).iter().map(|it| it.path).collect() };
        assert_eq!(paths(DesiredState::Stopped), ["start", "delete"]);
        assert_eq!(paths(DesiredState::Running), ["stop", "restart", "delete"]);
    }
}
