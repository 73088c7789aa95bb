//! Errors of the API, as `application/problem+json` (RFC 9457).

use std::num::NonZeroU32;

use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    authorization::Decision,
    configuration::chain,
    directory::{self, Busy},
    sign_in::TooMany,
};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    pub(super) status: u16,
    pub(super) detail: String,
    /// For programs; does not change.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<Box<str>>,
    /// Seconds to wait, where waiting helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<NonZeroU32>,
    /// All that is wrong, where there may be several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problems: Option<Box<serde_json::Value>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            field: None,
            hint: None,
            retry_after: None,
            problems: None,
        }
    }

    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// A field of the request is wrong.
    pub(super) fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail)
        }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body has at most {} KiB here", limit / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn cross_site() -> Self {
        let detail = "a browser's session is only accepted from this server's own pages";
        Self::new(StatusCode::FORBIDDEN, "cross_site", detail)
    }

    /// Too many of these were asked for.
    pub(super) fn too_many(too_many: TooMany) -> Self {
        let seconds = u32::try_from(too_many.retry_after.as_secs()).unwrap_or(u32::MAX);
        let seconds = NonZeroU32::MIN.saturating_add(seconds);
        let detail = format!("too many attempts; try again in {seconds} seconds");
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail)
        }
    }

    /// Too many passwords are being looked at.
    pub(super) fn busy(busy: Busy) -> Self {
        Self {
            retry_after: Some(NonZeroU32::MIN),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", busy.to_string())
        }
    }

    /// A field of the request is wrong in a way that programs tell apart.
    pub(super) fn unprocessable(
        field: &'static str,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
        }
    }

    pub(super) fn conflict(
        field: &'static str,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::CONFLICT, code, detail)
        }
    }

    pub(super) fn problems(self, problems: serde_json::Value) -> Self {
        Self {
            problems: Some(Box::new(problems)),
            ..self
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into().into()),
            ..self
        }
    }

    /// The server's own trouble: the log says which.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = chain(error), "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server could not keep it; its log says why",
        )
    }

    /// Who asks is known and may not.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code == "forbidden"
    }

    /// A refusal of `authorize`.
    pub(super) fn refused(decision: Decision) -> Option<Self> {
        match decision {
            Decision::Allowed => None,
            Decision::Unauthenticated => Some(
                Self::new(
                    StatusCode::UNAUTHORIZED,
                    "unauthenticated",
                    "who asks is not known here",
                )
                .hint("send Authorization: Bearer <token>; kas-stub token create makes one"),
            ),
            Decision::Forbidden => Some(Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "who asks may not do this",
            )),
            Decision::TokenTooNarrow(scopes) => {
                let names: Vec<_> = scopes.iter().map(|it| it.as_str()).collect();
                let detail = format!("the token has no scope for this: {}", names.join(" or "));
                Some(
                    Self::new(StatusCode::FORBIDDEN, "token_too_narrow", detail)
                        .hint("kas-stub token create --scope NAME makes one that has it"),
                )
            }
        }
    }
}

impl From<directory::Error> for Problem {
    fn from(error: directory::Error) -> Self {
        use directory::Error;
        let detail = error.to_string();
        match error {
            Error::AgentExists(_) => Self::conflict("name", "agent_exists", detail),
            Error::UserExists(_) => Self::conflict("name", "user_exists", detail),
            Error::ProjectExists(_) => Self::conflict("path", "project_exists", detail),
            Error::IdentityTaken(_) => Self::conflict("subject", "identity_taken", detail),
            Error::TooManyAgents
            | Error::TooManyAgentTokens(_)
            | Error::TooManyPersonalTokens
            | Error::TooManyUsers
            | Error::TooManyProjects
            | Error::TooManyMembers => Self::new(StatusCode::CONFLICT, "limit_reached", detail),
            Error::LocalAdministrator => {
                Self::new(StatusCode::CONFLICT, "local_administrator", detail)
            }
            Error::Suspended(_) => Self::new(StatusCode::CONFLICT, "suspended", detail),
            Error::ProjectHasAgents(_) => {
                Self::new(StatusCode::CONFLICT, "project_has_agents", detail)
                    .hint("kas-stub agent move NAME --to OTHER-PROJECT")
            }
            Error::NoSuchUser(_) => {
                Self::not_found(detail).hint("kas-stub user list shows the users there are")
            }
            Error::NoSuchProject(_) => {
                Self::not_found(detail).hint("kas-stub project list shows those you are in")
            }
            Error::NoSuchAgent(_) | Error::NoSuchMember(_) | Error::NoSuchSession => {
                Self::not_found(detail)
            }
            Error::TokenName => Self::invalid("name", detail),
            Error::ImportedToken => Self::invalid("token", detail),
            Error::ImportedId => Self::invalid("id", detail),
            Error::ImportedTwice => Self::conflict("id", "agent_exists", detail),
            Error::NoSuchToken => Self::not_found(detail),
            Error::Store(_) | Error::Corrupt { .. } => Self::internal(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(seconds) = self.retry_after {
            let seconds = HeaderValue::from(seconds.get());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// The JSON object of a request. By hand, so that its errors are problems too; no body is an empty object.
pub(super) fn object<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            format!("the body is not the JSON object expected here: {error}"),
        )
    })
}

pub(super) async fn no_such_path() -> Problem {
    Problem::not_found("there is nothing at this path")
}

pub(super) async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path knows other methods",
    )
}
