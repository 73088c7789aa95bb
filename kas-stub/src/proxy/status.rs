//! Failures of the proxy itself, as the Kubernetes `Status` that kubectl shows.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::metrics::Outcome;

/// GitLab's server begins its messages so; it tells them from the API server's own.
const MESSAGE_PREFIX: &str = "GitLab Agent Server: ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unauthenticated(&'static str),
    Forbidden(&'static str),
    NotFound(&'static str),
    BadRequest(&'static str),
    TooLarge(&'static str),
    Timeout(&'static str),
    /// No tunnel within the time.
    NoTunnel(String),
    /// Too many wait for one.
    Busy(String),
    Stopping(String),
    /// The agent, or the way to it, failed.
    Agent(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: Metadata,
    status: &'a str,
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    code: u16,
}

#[derive(Serialize)]
struct Metadata {}

impl Failure {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unauthenticated(_) => Outcome::Unauthenticated,
            Self::Forbidden(_) => Outcome::Forbidden,
            Self::NotFound(_) | Self::BadRequest(_) | Self::TooLarge(_) | Self::Timeout(_) => {
                Outcome::BadRequest
            }
            Self::NoTunnel(_) | Self::Busy(_) | Self::Stopping(_) => Outcome::NoTunnel,
            Self::Agent(_) => Outcome::AgentFailed,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let (code, reason) = match self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Timeout(_) => (StatusCode::REQUEST_TIMEOUT, "Timeout"),
            Self::NoTunnel(_) | Self::Agent(_) => (StatusCode::BAD_GATEWAY, ""),
            Self::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Stopping(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        let unauthenticated = matches!(self, Self::Unauthenticated(_));
        let message = match self {
            Self::Unauthenticated(text) => format!("{MESSAGE_PREFIX}Unauthorized: {text}"),
            Self::Forbidden(text) => format!("{MESSAGE_PREFIX}Forbidden: {text}"),
            Self::NotFound(text)
            | Self::BadRequest(text)
            | Self::TooLarge(text)
            | Self::Timeout(text) => format!("{MESSAGE_PREFIX}{text}"),
            Self::NoTunnel(text) | Self::Busy(text) | Self::Stopping(text) | Self::Agent(text) => {
                format!("{MESSAGE_PREFIX}{text}")
            }
        };
        let status = Status {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata {},
            status: "Failure",
            message,
            reason,
            code: code.as_u16(),
        };
        let body = serde_json::to_string(&status).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if unauthenticated {
            let yes = HeaderValue::from_static("true");
            headers.insert("gitlab-unauthorized", yes);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn failures_are_kubernetes_statuses() {
        let response = Failure::Unauthenticated("who?").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["gitlab-unauthorized"], "true");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            status,
            serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "GitLab Agent Server: Unauthorized: who?", "reason": "Unauthorized", "code": 401,
            })
        );
        let response = Failure::NoTunnel("none".into()).into_response();
        assert_eq!(response.status(), 502);
        assert!(!response.headers().contains_key("gitlab-unauthorized"));
    }
}
