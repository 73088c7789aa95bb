//! Hosts of workspaces: `<port>-<workspace>.<domain>` on the port of people.
//!
//! ```text
//!  browser ─▶ hosts (which workspace) ─▶ gate (who) ─▶ forward (HTTP, WebSocket) ─▶ dial ─▶ tunnel ─▶ agent ─▶ port
//!                                          └─▶ pages (what people see in the workspace's place)
//! ```
//!
//! The head of a request is read to decide, and our own cookies are taken out of it; everything else passes as it is.

mod dial;
mod forward;
mod gate;
mod hosts;
mod pages;

use std::{net::IpAddr, path::Path, sync::Arc, time::Instant};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use model::ActualState;
use proto::remote_development::rpc::Target;
use tokio_util::task::TaskTracker;

use crate::{
    api::page::STYLE,
    audit::{Audit, Event},
    authorization::{Action, Decision, Principal, Resource, authorize},
    connection_headers::is_upgrade,
    directory::{Authenticated, Cut, Directory},
    lingering::Lingering,
    listener::{ConnectionInfo, Lifetime},
    metrics::Metrics,
    secret::Digest,
    tunnel::Tunnels,
    workspaces::{Workspaces, endpoints::in_query, workspace::Workspace},
};
use gate::{Codes, HostCookies};
pub(crate) use hosts::WorkspaceHost;
use pages::{Links, Notice};

/// What hosts of workspaces are served with.
#[derive(Debug)]
pub(crate) struct Access {
    audit: Arc<Audit>,
    directory: Arc<Directory>,
    workspaces: Arc<Workspaces>,
    tunnels: Arc<Tunnels>,
    metrics: Arc<Metrics>,
    external_url: Arc<str>,
    domain: Arc<str>,
    cookies: HostCookies,
    codes: Codes,
    tasks: TaskTracker,
    killing: Cut,
}

/// What [`Access`] is made of.
#[derive(Debug)]
pub(crate) struct AccessParts<'a> {
    pub(crate) audit: Arc<Audit>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) external_url: Arc<str>,
    pub(crate) domain: Arc<str>,
    /// The file with the key of the hosts' cookies.
    pub(crate) key_file: &'a Path,
    pub(crate) lifetime: &'a Lifetime,
}

/// Who is let in, and until when.
struct Guest {
    principal: Principal,
    cut: Cut,
    /// By a cookie, which a browser sends along unasked.
    by_cookie: bool,
}

/// How a request ended that did not reach the workspace.
struct Refusal {
    outcome: &'static str,
    notice: Box<Notice>,
}

impl Access {
    pub(crate) fn open(parts: AccessParts<'_>) -> std::io::Result<Self> {
        let AccessParts {
            audit,
            directory,
            workspaces,
            tunnels,
            metrics,
            external_url,
            domain,
            key_file,
            lifetime,
        } = parts;
        let secure = external_url.starts_with("https://");
        Ok(Self {
            audit,
            directory,
            workspaces,
            tunnels,
            metrics,
            external_url,
            domain,
            cookies: HostCookies::open(key_file, secure)?,
            codes: Codes::default(),
            tasks: lifetime.tasks.clone(),
            killing: lifetime.killing.clone(),
        })
    }

    /// The workspace's host that a request is for; `None`: it is for the platform.
    pub(crate) fn host_of<B>(&self, request: &Request<B>) -> Option<WorkspaceHost> {
        let in_uri = request.uri().authority().map(|it| it.as_str());
        let in_header = || request.headers().get(header::HOST)?.to_str().ok();
        hosts::parse(in_uri.or_else(in_header)?, &self.domain)
    }

    /// The workspace of a host; `None` when the host is none, or there is no such workspace.
    pub(crate) fn find(&self, host: &str) -> Option<(WorkspaceHost, Arc<Workspace>)> {
        let host = hosts::parse(host, &self.domain)?;
        let workspace = self.workspace(&host)?;
        Some((host, workspace))
    }

    fn workspace(&self, host: &WorkspaceHost) -> Option<Arc<Workspace>> {
        let found = self.workspaces.by_name(host.workspace.as_str());
        found.filter(|it| !it.life.is_over())
    }

    /// Where a browser is signed in to a host; the session must be allowed to open it.
    pub(crate) fn sign_in_url(
        &self,
        host: &WorkspaceHost,
        session: Digest,
        path: &str,
        now: Instant,
    ) -> String {
        let code = self.codes.create(&host.name, session, path, now);
        let query = format!("sign-in?code={}", code.expose());
        format!("{}{}{query}", self.origin(&host.name), pages::PREFIX)
    }

    /// Scheme, host, and the port under which people reach the server.
    fn origin(&self, host: &str) -> String {
        let (scheme, authority) = self.external_url.split_once("://").unwrap_or_default();
        let after_host = authority.rsplit(']').next().unwrap_or_default();
        match after_host.split_once(':') {
            Some((_, port)) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    fn links(&self) -> Links<'_> {
        Links {
            external_url: &self.external_url,
            domain: &self.domain,
        }
    }

    /// Answers a request for a host of a workspace.
    pub(crate) async fn handle(
        &self,
        host: WorkspaceHost,
        request: Request<Lingering>,
        info: ConnectionInfo,
    ) -> Response<Body> {
        if let Some(own) = request.uri().path().strip_prefix(pages::PREFIX) {
            return self.own(&host, own, &request, info.peer);
        }
        let is_document = gate::is_document(&request);
        let guest = self.guest(&host.name, request.headers());
        if guest.is_none() && is_document {
            self.metrics.opened("sent_to_sign_in");
            return self.to_platform(&host, &request);
        }
        match self.forward(&host, guest, request, info).await {
            Ok(response) => {
                let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                self.metrics
                    .opened(if upgraded { "upgraded" } else { "answered" });
                response
            }
            Err(Refusal { outcome, notice }) => {
                self.metrics.opened(outcome);
                notice.into_response(is_document)
            }
        }
    }

    async fn forward(
        &self,
        host: &WorkspaceHost,
        guest: Option<Guest>,
        request: Request<Lingering>,
        info: ConnectionInfo,
    ) -> Result<Response<Body>, Refusal> {
        let refused = |outcome, notice| Refusal {
            outcome,
            notice: Box::new(notice),
        };
        let guest = guest.ok_or_else(|| refused("unauthenticated", pages::unauthenticated()))?;
        let workspace = self.admit(host, &guest, is_upgrade(&request), info.peer)?;
        if guest.by_cookie && gate::is_foreign(&request, host, &self.domain) {
            return Err(refused("foreign", pages::foreign()));
        }
        let port = host.port;
        let declared = &workspace.endpoints;
        if !declared.is_empty() && !declared.iter().any(|it| it.port == port) {
            let notice = pages::no_such_port(&workspace, port, self.links());
            return Err(refused("no_such_port", notice));
        }
        if workspace.life.actual != ActualState::Running {
            let unknown = self.workspaces.leaders().unknown_since(workspace.agent_id);
            let now = self.workspaces.clock().now();
            let notice = pages::not_running(&workspace, unknown.is_none(), self.links(), now);
            return Err(refused("not_running", notice));
        }
        let target = Target {
            workspace_id: workspace.id.clone(),
            namespace: workspace.namespace.clone(),
            name: workspace.name.to_string(),
            port: port.into(),
        };
        let dialling = dial::dial(&self.tunnels, workspace.agent_id, target);
        let dialled = tokio::select! {
            biased;
            () = guest.cut.cancelled() => {
                return Err(refused("unauthenticated", pages::unauthenticated()));
            }
            dialled = dialling => dialled,
        };
        let stream = dialled.map_err(|error| {
            let notice = pages::no_connection(&error, &workspace, port, self.links());
            refused(error.outcome(), notice)
        })?;
        let forwarding = forward::Forwarding {
            tasks: &self.tasks,
            killing: &self.killing,
            cut: guest.cut.clone(),
            is_https: self.external_url.starts_with("https://"),
            peer: info.peer,
            pulse: self.workspaces.activity().pulse(&workspace.id),
        };
        let answer = forwarding.run(request, stream).await;
        answer.map_err(|error| {
            tracing::debug!(workspace = %workspace.name, port, %error, "workspace broke off");
            refused("broke_off", pages::broke_off(&workspace, port))
        })
    }

    /// Whether the guest may open the workspace.
    fn admit(
        &self,
        host: &WorkspaceHost,
        guest: &Guest,
        is_stream: bool,
        from: Option<IpAddr>,
    ) -> Result<Arc<Workspace>, Refusal> {
        let workspace = self.workspace(host);
        let decision = workspace.as_ref().map_or(Decision::Forbidden, |it| {
            let resource = Resource::Workspace { owner: it.owner };
            authorize(&guest.principal, Action::OpenWorkspace, resource)
        });
        let allowed = decision == Decision::Allowed;
        // A page has hundreds of parts: who came in is written when they sign in, and for each stream.
        if is_stream || !allowed {
            self.note(&guest.principal, host, allowed, from);
        }
        workspace.filter(|_| allowed).ok_or_else(|| Refusal {
            outcome: "forbidden",
            notice: Box::new(pages::no_such_workspace()),
        })
    }

    /// Who a request comes from: by the host's cookie, or a program's token.
    fn guest(&self, host: &str, headers: &HeaderMap) -> Option<Guest> {
        if let Some(token) = headers.get(gate::TOKEN_HEADER) {
            let token = self.directory.authenticate(token.to_str().ok()?)?;
            let Authenticated { principal, cut } = token;
            return principal.user_id().is_some().then_some(Guest {
                principal,
                cut,
                by_cookie: false,
            });
        }
        let session = self.cookies.session(host, headers)?;
        let (Authenticated { principal, cut }, _) = self.directory.session_by_digest(&session)?;
        Some(Guest {
            principal,
            cut,
            by_cookie: true,
        })
    }

    fn to_platform(&self, host: &WorkspaceHost, request: &Request<Lingering>) -> Response<Body> {
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
        let path = if hosts::is_local_path(path) {
            path
        } else {
            "/"
        };
        redirect(&format!(
            "{}/open-workspace?host={}&path={}",
            self.external_url,
            host.name,
            in_query(path)
        ))
    }

    /// What the host has of ours.
    fn own(
        &self,
        host: &WorkspaceHost,
        path: &str,
        request: &Request<Lingering>,
        from: Option<IpAddr>,
    ) -> Response<Body> {
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "style.css" if is_reading => {
                let mut response = Response::new(Body::from(STYLE));
                let css = HeaderValue::from_static("text/css; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, css);
                response
            }
            "sign-in" if is_reading => self.sign_in(host, request, from),
            "arrived" if is_reading => {
                let path = parameter(request, "path").unwrap_or_default();
                if self.guest(&host.name, request.headers()).is_none() {
                    return pages::cookies_blocked(&host.name).into_response(true);
                }
                redirect(if hosts::is_local_path(&path) {
                    &path
                } else {
                    "/"
                })
            }
            _ => Notice::new(
                StatusCode::NOT_FOUND,
                "Nothing here",
                "There is nothing here.".into(),
            )
            .into_response(true),
        }
    }

    /// Gives the browser that brings a code its cookie for this host.
    fn sign_in(
        &self,
        host: &WorkspaceHost,
        request: &Request<Lingering>,
        from: Option<IpAddr>,
    ) -> Response<Body> {
        let code = parameter(request, "code").unwrap_or_default();
        let taken = self.codes.take(&host.name, &code, Instant::now());
        let session = taken.and_then(|(digest, path)| {
            let (guest, session) = self.directory.session_by_digest(&digest)?;
            Some((guest, session, path))
        });
        let Some((guest, session, path)) = session else {
            return pages::code_spent().into_response(true);
        };
        self.note(&guest.principal, host, true, from);
        let to = format!("{}arrived?path={}", pages::PREFIX, in_query(&path));
        let mut response = redirect(&to);
        let cookie = self.cookies.set(&host.name, &session.digest());
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    fn note(
        &self,
        principal: &Principal,
        host: &WorkspaceHost,
        allowed: bool,
        from: Option<IpAddr>,
    ) {
        self.audit.record(&Event {
            principal,
            action: Action::OpenWorkspace,
            target: &format!("port {} of workspace {}", host.port, host.workspace),
            allowed,
            from,
        });
    }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    response
}

fn parameter(request: &Request<Lingering>, name: &str) -> Option<String> {
    let query: axum::extract::Query<Vec<(String, String)>> =
        axum::extract::Query::try_from_uri(request.uri()).ok()?;
    let mut all = query.0.into_iter();
    all.find_map(|(found, value)| (found == name).then_some(value))
}
