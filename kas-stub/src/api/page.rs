//! The page: small and rendered here, from `templates/`. A script makes it live; without it everything works by reloading.

pub(super) mod account;
pub(super) mod administration;
pub(crate) mod filters;
pub(super) mod live;
pub(super) mod sign_in;
pub(super) mod wanted;
mod words;
pub(super) mod workspaces;

use std::any::Any;

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};

use jiff::Timestamp;

use super::Problem;

const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";
pub(crate) const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

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

pub(super) async fn script() -> impl IntoResponse {
    let javascript = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, javascript)], SCRIPT)
}

/// One sentence, and the way back.
#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
    command: Option<&'a str>,
}

/// A template as an answer.
fn show(status: StatusCode, template: &impl Template) -> Response {
    show_at(Timestamp::now(), status, template)
}

/// As [`show`], at this time of the server's clock.
fn show_at(now: Timestamp, status: StatusCode, template: &impl Template) -> Response {
    let now: &dyn Any = &now;
    match template.render_with_values(&(filters::NOW, now)) {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What went wrong, for somebody with a browser.
pub(super) struct Failed(Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Problem {
            status,
            detail,
            hint,
            retry_after,
            ..
        } = self.0;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::UNAUTHORIZED {
            // The first page says how to sign in.
            let mut response = Redirect::to("/").into_response();
            response.extensions_mut().insert(wanted::SignInFirst);
            return response;
        }
        let message = Message {
            title: status.canonical_reason().unwrap_or("It did not work"),
            text: &detail,
            command: hint.as_deref(),
        };
        let mut response = show(status, &message);
        if let Some(seconds) = retry_after {
            let seconds = HeaderValue::from(seconds.get());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
