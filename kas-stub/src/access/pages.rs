//! What people see in a workspace's place.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use model::{ActualState, DesiredState};

use super::dial::DialError;
use crate::workspaces::{
    endpoints::{WorkspaceEndpoint, url},
    workspace::{FailureSeen, Workspace},
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
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    title: String,
    /// Markup.
    body: String,
    /// One line.
    text: String,
    refresh: Option<u32>,
}

impl Notice {
    pub(super) fn new(status: StatusCode, title: &str, text: String) -> Self {
        Self {
            status,
            title: title.to_owned(),
            body: format!("<p>{}</p>", escape(&text)),
            text,
            refresh: None,
        }
    }

    fn refresh(self, seconds: u32) -> Self {
        Self {
            refresh: Some(seconds),
            ..self
        }
    }

    fn add(mut self, markup: &str) -> Self {
        self.body.push_str(markup);
        self
    }

    pub(super) fn into_response(self, is_document: bool) -> Response<Body> {
        let Self {
            status,
            title,
            body,
            text,
            refresh,
        } = self;
        let (content_type, content) = if is_document {
            let refresh = refresh.map_or(String::new(), |seconds| {
                format!("<meta http-equiv=refresh content={seconds}>")
            });
            let title = escape(&title);
            let page = format!(
                "<!doctype html><html lang=en><meta charset=utf-8>\
                 <meta name=viewport content=\"width=device-width\">{refresh}\
                 <title>{title}</title><link rel=stylesheet href={PREFIX}style.css>\
                 <h1>{title}</h1>{body}</html>"
            );
            ("text/html; charset=utf-8", page)
        } else {
            ("text/plain; charset=utf-8", format!("{text}\n"))
        };
        let mut response = Response::new(Body::from(content));
        *response.status_mut() = status;
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
    let age = age(life.actual_at, now);
    let title = match (is_stopped, ended) {
        (true, _) if life.actual == ActualState::Stopped => format!("{name} is stopped"),
        (_, true) => format!("{name} is being deleted"),
        _ => format!("{name} is {state}"),
    };
    let mut text = format!("Workspace {name} is {state}, since {age}.");
    if !agent_connected {
        text.push_str(" Its agent is not connected, so this is the last that was heard.");
    }
    let mut notice = Notice::new(StatusCode::SERVICE_UNAVAILABLE, &title, text);
    for failure in &life.failures {
        notice = notice.add(&shown(failure, now));
    }
    let page = escape(&format!("{}/workspaces/{name}", links.external_url));
    if is_stopped {
        notice
            .add(&format!(
                "<p><a href=\"{page}\">Start it</a> on its page.</p>"
            ))
            .refresh(LATER)
    } else if ended {
        notice
    } else {
        notice
            .add(&format!(
                "<p>This page becomes the workspace by itself. <a href=\"{page}\">More about it</a>.</p>"
            ))
            .refresh(SOON)
    }
}

fn shown(failure: &FailureSeen, now: Timestamp) -> String {
    let FailureSeen {
        code,
        component,
        message,
        evidence: _,
        since,
        next_try_at: _,
    } = failure;
    let place = if component.is_empty() {
        String::new()
    } else {
        format!(" ({})", escape(component))
    };
    format!(
        "<p class=error><strong>{}</strong>{place}, since {}: {}</p>",
        escape(code),
        age(*since, now),
        escape(message)
    )
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
        .add("<p>This page becomes the program's by itself.</p>")
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
    let known = workspace.endpoints.iter().take(MAX_LISTED);
    let mut list = String::new();
    for endpoint in known {
        let WorkspaceEndpoint {
            name: label, port, ..
        } = endpoint;
        let address = url(links.external_url, links.domain, name.as_str(), endpoint);
        list.push_str(&format!(
            "<li><a href=\"{}\">{port}</a> {}</li>",
            escape(&address),
            escape(label)
        ));
    }
    let notice = Notice::new(
        StatusCode::NOT_FOUND,
        &format!("{name} has no port {port}"),
        format!("The devfile of workspace {name} declares no endpoint with port {port}."),
    );
    if list.is_empty() {
        notice.add("<p>It declares none at all.</p>")
    } else {
        notice.add(&format!("<p>These there are:</p><ul>{list}</ul>"))
    }
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
    .add("<p><a href=\"/\">Try again</a></p>")
}

/// A code that cannot be used.
pub(super) fn code_spent() -> Notice {
    Notice::new(
        StatusCode::FORBIDDEN,
        "This link was used",
        "A sign-in link of a workspace works once and for a minute.".into(),
    )
    .add("<p><a href=\"/\">Open the workspace</a></p>")
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

/// For people: `42 s`, `5 min`, `3 h`, `2 d`.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text inside HTML, also inside a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
