//! Who sent a request.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts, uri::Authority},
};

use super::{Api, Problem};
use crate::{
    agents::bearer,
    audit::{Audit, Event},
    authorization::{Action, Decision, Principal, Proof, Resource, Scopes, authorize},
    directory::{Agent, Cut, Session},
    listener::ConnectionInfo,
};

/// The browser's session.
pub(crate) const COOKIE: &str = "kas_stub_session";

/// A request's principal; asks `authorize` for it, and writes the audit log.
#[derive(Debug)]
pub(super) struct Caller {
    principal: Principal,
    session: Option<Arc<Session>>,
    /// Ends when the token or session does that it came with, or when its person may less.
    cut: Option<Cut>,
    /// A session with a request that another site may have made.
    cross_site: bool,
    /// Over TLS: cookies are then for TLS only.
    pub(super) tls: bool,
    /// Where it comes from; none by the socket.
    pub(super) from: Option<IpAddr>,
    audit: Arc<Audit>,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let connection = parts.extensions.get::<ConnectionInfo>();
        let (socket, tls) = connection.map_or((false, false), |info| (info.socket, info.tls));
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(bearer)
            .and_then(|secret| api.directory.authenticate(secret));
        let by_session =
            cookie(&parts.headers, COOKIE).and_then(|secret| api.directory.session(secret));
        let (guest, session) = by_session.unzip();
        let (principal, cut) = if let Some(token) = token {
            (token.principal, Some(token.cut))
        } else if parts.headers.contains_key(header::AUTHORIZATION) {
            // A wrong token is not made good by a cookie or the socket.
            (Principal::Anonymous, None)
        } else if socket {
            (api.directory.at_the_socket(), None)
        } else if let Some(guest) = guest {
            (guest.principal, Some(guest.cut))
        } else {
            (Principal::Anonymous, None)
        };
        Ok(Self {
            cross_site: !matches!(parts.method, Method::GET | Method::HEAD)
                && !is_same_site(&parts.headers, parts.uri.authority()),
            principal,
            session,
            cut,
            tls,
            from: connection.and_then(|info| info.peer),
            audit: Arc::clone(&api.audit),
        })
    }
}

impl Caller {
    pub(super) fn allow(&self, action: Action, resource: Resource) -> Result<(), Problem> {
        self.allow_on(action, resource, "")
    }

    /// The same; `target` says in the audit log on what.
    pub(super) fn allow_on(
        &self,
        action: Action,
        resource: Resource,
        target: &str,
    ) -> Result<(), Problem> {
        let decision = authorize(&self.principal, action, resource);
        self.note(action, target, decision == Decision::Allowed);
        if let Some(problem) = Problem::refused(decision) {
            return Err(problem);
        }
        if self.is_by_session() && self.cross_site {
            return Err(Problem::cross_site());
        }
        Ok(())
    }

    /// The person, when they may do this with what is their own.
    pub(super) fn own(&self, action: Action) -> Result<u64, Problem> {
        self.allow(action, Resource::Server)?;
        let nobody = || Problem::not_found("who asks is no person");
        self.user_id().ok_or_else(nobody)
    }

    /// Whether it would be allowed; for what is left out of an answer when it is not.
    pub(super) fn may(&self, action: Action, resource: Resource) -> bool {
        authorize(&self.principal, action, resource) == Decision::Allowed
    }

    /// Writes a decision into the audit log.
    pub(super) fn note(&self, action: Action, target: &str, allowed: bool) {
        self.note_as(&self.principal, action, target, allowed);
    }

    /// The same for somebody whom the request made known.
    pub(super) fn note_as(
        &self,
        principal: &Principal,
        action: Action,
        target: &str,
        allowed: bool,
    ) {
        self.audit.record(&Event {
            principal,
            action,
            target,
            allowed,
            from: self.from,
        });
    }

    /// As the webhook of the agent, when it has the agent's secret.
    pub(super) fn or_webhook(self, agent: &Agent, secret: Option<&str>) -> Self {
        match secret {
            Some(secret) if agent.webhook_matches(secret) => Self {
                principal: Principal::Webhook { agent_id: agent.id },
                ..self
            },
            Some(_) | None => self,
        }
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The person, for what belongs to one.
    pub(super) fn user_id(&self) -> Option<u64> {
        self.principal.user_id()
    }

    /// The token that it came with, and what that is for.
    pub(super) fn token(&self) -> Option<(u64, Scopes)> {
        match self.principal {
            Principal::Person {
                by: Proof::Token { token_id, scopes },
                ..
            } => Some((token_id, scopes)),
            Principal::Person { .. }
            | Principal::Anonymous
            | Principal::Agent { .. }
            | Principal::Webhook { .. } => None,
        }
    }

    /// Ends when the caller's token or session does; for answers that go on.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    pub(super) fn is_cross_site(&self) -> bool {
        self.cross_site
    }

    fn is_by_session(&self) -> bool {
        matches!(
            self.principal,
            Principal::Person {
                by: Proof::Session,
                ..
            }
        )
    }
}

/// The value of one of our cookies.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// A `Set-Cookie` for one of our cookies; no seconds and it is gone.
pub(super) fn set_cookie(name: &str, value: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Whether a request that changes something comes from one of our own pages: browsers say so. Over HTTP/2 the host stands in
/// the address.
fn is_same_site(headers: &HeaderMap, authority: Option<&Authority>) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    let host = authority.map(Authority::as_str);
    match (text(header::ORIGIN), host.or_else(|| text(header::HOST))) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority == host),
        // There the browser's own judgement is taken.
        _ => text(header::HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn only_our_own_pages_are_the_same_site() {
        let own = headers(&[("origin", "https://a:1"), ("host", "a:1")]);
        assert!(is_same_site(&own, None));
        let own = headers(&[("sec-fetch-site", "same-origin")]);
        assert!(is_same_site(&own, None));
        // Over HTTP/2.
        let from = headers(&[("origin", "https://a:1")]);
        assert!(is_same_site(&from, Some(&Authority::from_static("a:1"))));
        assert!(!is_same_site(&from, Some(&Authority::from_static("a:2"))));
        for other in [
            headers(&[]),
            headers(&[
                ("origin", "https://b"),
                ("host", "a"),
                ("sec-fetch-site", "same-origin"),
            ]),
            headers(&[("origin", "null"), ("host", "a")]),
            headers(&[("sec-fetch-site", "cross-site")]),
        ] {
            assert!(!is_same_site(&other, None), "{other:?}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "x=1; kas_stub_session=abc; y=2")]);
        assert_eq!(cookie(&found, COOKIE), Some("abc"));
        assert_eq!(
            cookie(&headers(&[("cookie", "kas_stub_sessions=abc")]), COOKIE),
            None
        );
    }
}
