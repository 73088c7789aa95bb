//! Signing in by a single-use link, and out.

use std::time::Instant;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Failed, Message, show, wanted};
use crate::{
    api::{
        Api, Problem,
        caller::{COOKIE, Caller, set_cookie},
    },
    authorization::{Action, Resource},
    directory::SESSION_LENGTH,
    sign_in::Attempt,
};

#[derive(Deserialize)]
pub(in crate::api) struct SignInForm {
    code: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    code: Option<&'a str>,
}

/// How one signs in.
pub(in crate::api) fn how(status: StatusCode) -> Response {
    let mut response = show(status, &SignInPage { code: None });
    response.extensions_mut().insert(wanted::SignInFirst);
    response
}

/// Asks before it signs in: a preview of the link, which only reads, does not use it up.
pub(in crate::api) async fn confirm(Path(code): Path<String>) -> Response {
    show(StatusCode::OK, &SignInPage { code: Some(&code) })
}

pub(in crate::api) async fn sign_in(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<SignInForm>,
) -> Result<Response, Failed> {
    caller.allow(Action::SignIn, Resource::Server)?;
    let (status, text, command) = match api.sign_in.attempt(&form.code, Instant::now()) {
        Attempt::SignedIn => {
            let user = api.directory.administrator();
            let session = api.directory.create_session(user).await;
            let secret = session.map_err(Problem::from)?;
            let length = SESSION_LENGTH.as_secs();
            let cookies = AppendHeaders(
                [
                    set_cookie(COOKIE, secret.expose(), length, caller.tls),
                    wanted::forget(caller.tls),
                ]
                .map(|it| (header::SET_COOKIE, it)),
            );
            let to = wanted::page(&headers).unwrap_or_else(|| "/".to_owned());
            return Ok((cookies, Redirect::to(&to)).into_response());
        }
        Attempt::NoSuchLink => (
            StatusCode::FORBIDDEN,
            "This link was used already, or is too old. This makes a new one:",
            Some("kas-stub sign-in-link"),
        ),
        Attempt::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many attempts. Try again in a minute.",
            None,
        ),
    };
    let message = Message {
        title: "Sign in",
        text,
        command,
    };
    Ok(show(status, &message))
}

pub(in crate::api) async fn sign_out(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Response, Failed> {
    if caller.is_cross_site() {
        return Err(Problem::cross_site().into());
    }
    if let Some(session) = caller.session() {
        let ended = api.directory.end_session(session).await;
        ended.map_err(Problem::from)?;
    }
    let cookie = set_cookie(COOKIE, "", 0, caller.tls);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn nothing_of_a_request_becomes_markup() {
        let shown = confirm(Path("\"><script>'&".into())).await;
        let body = shown.into_body().collect().await.unwrap().to_bytes();
        let shown = std::str::from_utf8(&body).unwrap();
        assert!(
            shown.contains("value=\"&#34;&#62;&#60;script&#62;&#39;&#38;\""),
            "{shown}"
        );
    }
}
