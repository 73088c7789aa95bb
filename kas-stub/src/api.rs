//! What people and machines ask the server over HTTP: the REST API and the page.

mod agents;
mod audit;
mod caller;
mod logs;
mod open_workspace;
pub(crate) mod page;
mod problem;
mod projects;
mod sessions;
mod tokens;
mod users;
mod whose;
mod workspace_events;
mod workspaces;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use model::configuration::SCHEMA;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    access::Access,
    agents::{Clusters, Presence},
    audit::Audit,
    authorization::{Action, Resource},
    configuration::Configurations,
    directory::{Directory, Passwords},
    git::guard::Policy,
    oidc,
    proxy::Proxy,
    sign_in::{LINK_LENGTH, SignIn},
    tls::Served,
    tunnel::Tunnels,
    workspaces::{Maker, Workspaces},
};
pub(crate) use caller::COOKIE;
use caller::Caller;
use problem::Problem;

/// The largest body of a request.
const MAX_BODY: usize = 1024 * 1024;

/// What the API works on.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) audit: Arc<Audit>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) configurations: Arc<Configurations>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) sign_in: Arc<SignIn>,
    pub(crate) passwords: Arc<Passwords>,
    /// With whom people sign in too, if there is one.
    pub(crate) provider: Option<Arc<oidc::Provider>>,
    pub(crate) external_url: Arc<str>,
    pub(crate) agent_url: Arc<str>,
    /// The domain under which workspaces have their hosts.
    pub(crate) workspaces_domain: Arc<str>,
    pub(crate) certificate: Arc<Served>,
    pub(crate) git_policy: Policy,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) maker: Arc<Maker>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) access: Arc<Access>,
    pub(crate) stopping: CancellationToken,
}

impl Api {
    pub(crate) fn router(self) -> Router {
        let rest = Router::new()
            .route("/server", get(server))
            .route("/agents", get(agents::list).post(agents::create))
            .route("/agents/{name}", get(agents::show))
            .route(
                "/agents/{name}/tokens",
                get(agents::list_tokens).post(agents::create_token),
            )
            .route("/agents/{name}/tokens/{id}", delete(agents::revoke_token))
            .route(
                "/agents/{name}/accept-cluster",
                post(agents::accept_cluster),
            )
            .route("/agents/{name}/project", put(agents::move_to))
            .route("/agents/{name}/push-hook", post(agents::push_hook))
            .route(
                "/agents/{name}/orphans/{id}",
                delete(workspaces::delete_orphan),
            )
            .route("/tokens", get(tokens::list).post(tokens::create))
            .route("/tokens/{id}", delete(tokens::revoke))
            .route("/sign-in-links", post(create_sign_in_link))
            .route("/user", get(users::own))
            .route("/user/password", put(users::change_own_password))
            .route("/sessions", get(sessions::list))
            .route("/sessions/{id}", delete(sessions::end))
            .merge(people())
            .route("/workspaces", get(whose::list).post(workspaces::create))
            .route(
                "/workspaces/{name}",
                get(workspaces::show).delete(workspaces::delete),
            )
            .route("/workspaces/{name}/start", post(workspaces::start))
            .route("/workspaces/{name}/stop", post(workspaces::stop))
            .route("/workspaces/{name}/restart", post(workspaces::restart))
            .route("/workspaces/{name}/events", get(workspace_events::events))
            .route("/workspaces/{name}/logs", get(logs::logs))
            .fallback(problem::no_such_path)
            .method_not_allowed_fallback(problem::no_such_method);
        let page = Router::new()
            .route("/", get(page::workspaces::index))
            .route("/workspaces/new", get(page::workspaces::form))
            .route("/workspaces", post(page::workspaces::create))
            .route("/workspaces/{name}", get(page::workspaces::show))
            .route("/workspaces/{name}/{action}", post(page::workspaces::act))
            .route("/live", get(page::live::changes))
            .route("/style.css", get(page::style))
            .route("/script.js", get(page::script))
            .route("/sign-in/{code}", get(page::sign_in::confirm))
            .route("/sign-in", post(page::sign_in::by_link))
            .route("/sign-in/password", post(page::sign_in::by_password))
            .route("/sign-in/oidc", get(page::sign_in::begin_oidc))
            .route(oidc::CALLBACK, get(page::sign_in::end_oidc))
            .merge(page::account::routes())
            .merge(page::administration::routes())
            .route("/sign-out", post(page::sign_in::sign_out))
            .route("/open-workspace", get(open_workspace::open))
            .layer(middleware::from_fn(page::wanted::remember))
            .layer(middleware::map_response(page::strict));
        Router::new()
            .nest("/api/v1", rest)
            // For people's editors, which sign in nowhere.
            .route("/schemas/agent-config.json", get(agent_config_schema))
            .merge(page)
            .fallback(problem::no_such_path)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(to_its_end))
            .with_state(self)
    }
}

/// What administrators do with people, and what projects' owners do with members.
fn people() -> Router<Api> {
    Router::new()
        .route("/users", get(users::list).post(users::create))
        .route("/users/{name}", get(users::show))
        .route("/users/{name}/suspend", post(users::suspend))
        .route("/users/{name}/reactivate", post(users::reactivate))
        .route("/users/{name}/role", put(users::set_role))
        .route("/users/{name}/password", put(users::reset_password))
        .route("/users/{name}/identity", put(users::link))
        .route("/users/{name}/tokens", get(users::list_tokens))
        .route("/users/{name}/tokens/{id}", delete(users::revoke_token))
        .route("/users/{name}/sessions", get(users::list_sessions))
        .route("/users/{name}/sessions/{id}", delete(users::end_session))
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{path}",
            get(projects::show).delete(projects::delete),
        )
        .route(
            "/projects/{path}/members/{user}",
            put(projects::set_member).delete(projects::remove_member),
        )
        .route("/audit", get(audit::list))
}

/// Runs what changes something to its end, also when the caller goes away in the middle: the store and what is kept in
/// memory of it change together.
async fn to_its_end(request: Request, next: Next) -> Result<Response, Problem> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let run = tokio::spawn(next.run(request).in_current_span());
    run.await.map_err(|error| {
        tracing::error!(%error, "request failed");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed; its log says why",
        )
    })
}

/// What an agent's configuration file may say. It is the same on every server of this version, and no secret.
async fn agent_config_schema() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/schema+json"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        // Editors in a browser.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (headers, SCHEMA)
}

/// What somebody needs to know before they have a token: where, and whom to trust.
async fn server(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<serde_json::Value>, Problem> {
    caller.allow(Action::ReadCertificateAuthority, Resource::Server)?;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "external_url": &*api.external_url,
        "agent_url": &*api.agent_url,
        "ca_certificate": &*api.certificate.trusted_pem(),
        "private_ca": api.certificate.has_private_authority(),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateLink {
    /// Whom it signs in; else the local administrator.
    #[serde(default)]
    user: Option<String>,
}

async fn create_sign_in_link(
    State(api): State<Api>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<serde_json::Value>), Problem> {
    caller.allow(Action::CreateSignInLink, Resource::Server)?;
    let CreateLink { user } = problem::object(&body)?;
    let user_id = match user {
        None => api.directory.administrator(),
        Some(name) => api.directory.user_by_name(&name)?.id,
    };
    let link = sign_in_link(&api.sign_in, user_id, &api.external_url);
    let answer = json!({ "url": link, "expires_in_seconds": LINK_LENGTH.as_secs() });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A new single-use link.
pub(crate) fn sign_in_link(sign_in: &SignIn, user_id: u64, external_url: &str) -> String {
    let code = sign_in.create(user_id, std::time::Instant::now());
    format!("{external_url}/sign-in/{}", code.expose())
}
