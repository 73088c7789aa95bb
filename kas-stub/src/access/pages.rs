//! What people see in a workspace's place.

use askama::Template;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use model::{ActualState, DesiredState};

use super::dial::DialError;
use crate::{
    api::page::filters::{self, span},
    workspaces::{
        endpoints::url,
        workspace::{FailureSeen, Workspace},
    },
};

/// Nothing but our own style sheet; no script.
const CSP: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Where a host has its own things; nothing below it reaches the workspace.
pub(super) const PREFIX: &str = "/.kas-stub/";
/// Seconds until a page looks again whether the workspace is there.
const SOON: u32 = 2;
/// The same where it takes a person to change something.
const LATER: u32 = 5;
/// Endpoints that a page lists.
const MAX_LISTED: usize = 50;

/// Links on the pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links<'a> {
    pub(super) external_url: &'a str,
    pub(super) domain: &'a str,
}

/// An answer of ours: a page for who looks at it, a line for a program.
#[derive(Debug, Template)]
#[template(path = "notice.html")]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    title: String,
    /// One line.
    text: String,
    failures: Vec<FailureSeen>,
    more: Option<&'static str>,
    links: Vec<Link>,
    /// Seconds until the page looks again.
    refresh: Option<u32>,
}

#[derive(Debug)]
struct Link {
    to: String,
    label: String,
}

impl Notice {
    pub(super) fn new(status: StatusCode, title: &str, text: String) -> Self {
        Self {
            status,
            title: title.to_owned(),
            text,
            failures: Vec::new(),
            more: None,
            links: Vec::new(),
            refresh: None,
        }
    }

    fn refresh(self, seconds: u32) -> Self {
        Self {
            refresh: Some(seconds),
            ..self
        }
    }

    fn more(self, more: &'static str) -> Self {
        Self {
            more: Some(more),
            ..self
        }
    }

    fn link(mut self, to: impl Into<String>, label: impl Into<String>) -> Self {
        self.links.push(Link {
            to: to.into(),
            label: label.into(),
        });
        self
    }

    pub(super) fn into_response(self, is_document: bool) -> Response<Body> {
        let (content_type, content) = match is_document.then(|| self.render()) {
            Some(Ok(page)) => ("text/html; charset=utf-8", page),
            Some(Err(_)) | None => ("text/plain; charset=utf-8", format!("{}\n", self.text)),
        };
        let mut response = Response::new(Body::from(content));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_SECURITY_POLICY, CSP),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The workspace is not Running.
pub(super) fn not_running(
    workspace: &Workspace,
    agent_connected: bool,
    links: Links<'_>,
    now: Timestamp,
) -> Notice {
    let Workspace { name, life, .. } = workspace;
    let state = format!("{:?}", life.actual);
    let ended = life.desired == DesiredState::Terminated;
    let is_stopped = life.desired == DesiredState::Stopped;
    let age = span(life.actual_at, now);
    let title = match (is_stopped, ended) {
        (true, _) if life.actual == ActualState::Stopped => format!("{name} is stopped"),
        (_, true) => format!("{name} is being deleted"),
        _ => format!("{name} is {state}"),
    };
    let mut text = format!("Workspace {name} is {state}, since {age}.");
    if !agent_connected {
        text.push_str(
            " Its agent is away, or cannot reach its cluster, so this is the last that is known.",
        );
    }
    let mut notice = Notice::new(StatusCode::SERVICE_UNAVAILABLE, &title, text);
    notice.failures = life.failures.clone();
    let page = format!("{}/workspaces/{name}", links.external_url);
    if is_stopped {
        notice.link(page, "Start it on its page").refresh(LATER)
    } else if ended {
        notice
    } else {
        notice
            .more("This page becomes the workspace by itself.")
            .link(page, "More about it")
            .refresh(SOON)
    }
}

/// It is Running, and there is no connection.
pub(super) fn no_connection(
    error: &DialError,
    workspace: &Workspace,
    port: u16,
    links: Links<'_>,
) -> Notice {
    let name = &workspace.name;
    let unavailable = |title: &str, text: String| {
        Notice::new(StatusCode::SERVICE_UNAVAILABLE, title, text).refresh(SOON)
    };
    match error {
        DialError::NotDeclared => no_such_port(workspace, port, links),
        DialError::NobodyListens => Notice::new(
            StatusCode::BAD_GATEWAY,
            &format!("Nobody listens on port {port}"),
            format!(
                "Nobody listens on port {port} of workspace {name}. Start the program that is to be there, \
                 and let it listen on all addresses (0.0.0.0), not only on 127.0.0.1."
            ),
        )
        .more("This page becomes the program's by itself.")
        .refresh(SOON),
        DialError::TimedOut => Notice::new(
            StatusCode::GATEWAY_TIMEOUT,
            &format!("Port {port} does not answer"),
            format!("Port {port} of workspace {name} did not answer in time."),
        )
        .refresh(LATER),
        DialError::NoSuchWorkspace => unavailable(
            &format!("{name} is not there yet"),
            format!("The agent finds no Service of workspace {name} in its cluster."),
        ),
        DialError::Agent(why) => unavailable(
            "The cluster is not reached",
            format!("Workspace {name} runs in a cluster that is not reached now: {why}."),
        ),
    }
}

/// The workspace broke off before it answered.
pub(super) fn broke_off(workspace: &Workspace, port: u16) -> Notice {
    Notice::new(
        StatusCode::BAD_GATEWAY,
        &format!("Port {port} broke off"),
        format!(
            "Port {port} of workspace {} closed the connection before it answered, or answered with something that is no HTTP.",
            workspace.name
        ),
    )
    .refresh(LATER)
}

/// There is no such port, and which there are.
pub(super) fn no_such_port(workspace: &Workspace, port: u16, links: Links<'_>) -> Notice {
    let name = &workspace.name;
    let notice = Notice::new(
        StatusCode::NOT_FOUND,
        &format!("{name} has no port {port}"),
        format!("The devfile of workspace {name} declares no endpoint with port {port}."),
    );
    if workspace.endpoints.is_empty() {
        return notice.more("It declares none at all.");
    }
    let known = workspace.endpoints.iter().take(MAX_LISTED);
    known.fold(notice.more("These there are:"), |notice, endpoint| {
        let to = url(links.external_url, links.domain, name.as_str(), endpoint);
        notice.link(to, format!("{} {}", endpoint.port, endpoint.name))
    })
}

/// Nothing of that name, or not the caller's: which of them is not said.
pub(super) fn no_such_workspace() -> Notice {
    Notice::new(
        StatusCode::NOT_FOUND,
        "No such workspace",
        "There is no workspace of this name, or it is not yours.".into(),
    )
}

/// The cookie did not come back.
pub(super) fn cookies_blocked(host: &str) -> Notice {
    Notice::new(
        StatusCode::FORBIDDEN,
        "Your browser keeps no cookie",
        format!("You are signed in, but your browser does not keep the cookie of {host}. Allow cookies for it, and do not open it inside a page of another site."),
    )
    .link("/", "Try again")
}

/// A code that cannot be used.
pub(super) fn code_spent() -> Notice {
    Notice::new(
        StatusCode::FORBIDDEN,
        "This link was used",
        "A sign-in link of a workspace works once and for a minute.".into(),
    )
    .link("/", "Open the workspace")
}

/// A program, or a part of a page, without a cookie.
pub(super) fn unauthenticated() -> Notice {
    Notice::new(
        StatusCode::UNAUTHORIZED,
        "Not signed in",
        "Not signed in: open this host in a browser first.".into(),
    )
}

/// A request of another site's page.
pub(super) fn foreign() -> Notice {
    Notice::new(
        StatusCode::FORBIDDEN,
        "Another site's request",
        "A page of another site, or of another workspace, may not call this one.".into(),
    )
}
