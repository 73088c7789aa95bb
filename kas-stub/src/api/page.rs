//! The page: small, rendered here, without scripts.

use std::{fmt::Write as _, time::Instant};

use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Api, Problem,
    agents::{self, AgentView},
    caller::{COOKIE, Caller},
};
use crate::{
    authorization::{Action, Resource},
    directory::SESSION_LENGTH,
    sign_in::Attempt,
};

const CSP: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
pub(crate) const STYLE: &str = include_str!("style.css");

#[derive(Deserialize)]
pub(super) struct SignInForm {
    code: String,
}

/// Headers of every page.
pub(super) async fn strict(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

pub(super) async fn index(State(api): State<Api>, caller: Caller) -> Result<Html<String>, Problem> {
    caller.allow(Action::OpenPage, Resource::Server)?;
    if caller.allow(Action::ListAgents, Resource::Server).is_err() {
        return Ok(ask_to_sign_in());
    }
    let mut body = String::from("<h2>Agents</h2>");
    let agents = api.directory.agents();
    if agents.is_empty() {
        body.push_str(
            "<p>There is none yet. <code>kas-stub agent create NAME</code> makes one.</p>",
        );
    } else {
        body.push_str(
            "<table><tr><th>Name</th><th>Connected</th><th>Pods</th><th>Configuration</th></tr>",
        );
        for agent in &agents {
            row(&mut body, &agents::view(&api, agent));
        }
        body.push_str("</table>");
    }
    if caller.session().is_some() {
        body.push_str("<form method=post action=/sign-out><button>Sign out</button></form>");
    }
    Ok(page("Agents", &body))
}

/// For who is not signed in.
pub(super) fn ask_to_sign_in() -> Html<String> {
    page(
        "Sign in",
        "<p>To sign in, run this on the server's machine and open the link that it prints:</p>\
         <pre>kas-stub sign-in-link --data-dir DIR</pre>",
    )
}

fn row(body: &mut String, agent: &AgentView) {
    let connected = if agent.connected { "yes" } else { "no" };
    let commit = match agent.configuration.commit.as_deref() {
        Some(commit) => format!(
            "<code>{}</code>",
            escape(commit.get(..12).unwrap_or(commit))
        ),
        None => "–".to_owned(),
    };
    let error = match &agent.configuration.error {
        Some(error) => format!("<p class=error>{}</p>", escape(&error.message)),
        None => String::new(),
    };
    // Writing into a String does not fail.
    let _ = write!(
        body,
        "<tr><td>{}</td><td class={connected}>{connected}</td><td>{}</td><td>{commit}{error}</td></tr>",
        escape(&agent.name),
        agent.pods.len(),
    );
}

/// Asks before it signs in: a preview of the link, which only reads, does not use it up.
pub(super) async fn confirm_sign_in(Path(code): Path<String>) -> Html<String> {
    page(
        "Sign in",
        &format!(
            "<form method=post action=/sign-in><input type=hidden name=code value=\"{}\">\
             <p>Sign in to this server as its administrator?</p><button>Sign in</button></form>",
            escape(&code)
        ),
    )
}

pub(super) async fn sign_in(
    State(api): State<Api>,
    caller: Caller,
    Form(form): Form<SignInForm>,
) -> Result<Response, Problem> {
    caller.allow(Action::SignIn, Resource::Server)?;
    let (status, text) = match api.sign_in.attempt(&form.code, Instant::now()) {
        Attempt::SignedIn => {
            let user = api.directory.administrator();
            let secret = api.directory.create_session(user).await?;
            let cookie = set_cookie(secret.expose(), SESSION_LENGTH.as_secs(), caller.tls);
            return Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response());
        }
        Attempt::NoSuchLink => (
            StatusCode::FORBIDDEN,
            "<p>This link was used already, or is too old. \
             <code>kas-stub sign-in-link</code> makes a new one.</p>",
        ),
        Attempt::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "<p>Too many attempts. Try again in a minute.</p>",
        ),
    };
    Ok((status, page("Sign in", text)).into_response())
}

pub(super) async fn sign_out(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    if caller.is_cross_site() {
        return Err(Problem::cross_site());
    }
    if let Some(session) = caller.session() {
        api.directory.end_session(session).await?;
    }
    let cookie = set_cookie("", 0, caller.tls);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

fn set_cookie(value: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\">\
         <title>{title} – kas-stub</title><link rel=stylesheet href=/style.css>\
         <h1>kas-stub</h1>{body}</html>"
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_a_request_becomes_markup() {
        let Html(shown) = confirm_sign_in(Path("\"><script>'&".into())).await;
        assert!(
            shown.contains("value=\"&quot;&gt;&lt;script&gt;&#39;&amp;\""),
            "{shown}"
        );
    }
}
