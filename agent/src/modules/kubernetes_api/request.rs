//! From the head of a request to the request that the API server gets. Pure.

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request};

use super::impersonation::{Refused, impersonate};
use crate::convert::http::{Entries, RequestHead};

/// Headers that concern one connection, not the request. `Host` and `Content-Length` are set anew; credentials are the
/// agent's own.
const DROPPED: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];
const DROPPED_FROM_REQUESTS: [HeaderName; 2] = [header::CONTENT_LENGTH, header::AUTHORIZATION];

/// A request that can be sent.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) target: PathAndQuery,
    pub(super) request: Request<()>,
    pub(super) body: BodyKind,
}

/// How a request's body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// There is none.
    None,
    /// With its length, if it is known.
    Stream(Option<u64>),
    /// The request asks for an upgrade of its connection.
    Upgrade,
}

/// Why a request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Forbidden(String),
    #[error("{0:?} is no method")]
    Method(String),
    #[error("the path does not start with a slash")]
    Path,
    #[error("the path or query cannot be sent")]
    Target(#[source] http::uri::InvalidUri),
    #[error("{0:?} is no header name")]
    HeaderName(String),
    #[error("the value of header {0} cannot be sent")]
    HeaderValue(HeaderName),
}

impl From<Refused> for Error {
    fn from(Refused(message): Refused) -> Self {
        Self::Forbidden(message)
    }
}

/// Makes the request; `user_access` is the user name for people's requests.
pub(super) fn plan(head: RequestHead, user_access: Option<&str>) -> Result<Planned, Error> {
    let RequestHead {
        method,
        path,
        query,
        headers: given,
        content_length,
        impersonation,
    } = head;
    let target = target(&path, &query)?;
    let mut headers = headers(given)?;
    let upgrade = headers.get(header::UPGRADE).cloned();
    remove_hop_by_hop(&mut headers);
    for name in DROPPED_FROM_REQUESTS {
        headers.remove(name);
    }
    impersonate(&mut headers, impersonation.as_ref(), user_access)?;
    headers.append(header::VIA, via("gRPC/1.0"));
    let body = match (upgrade, content_length) {
        (Some(upgrade), _) => {
            headers.insert(header::UPGRADE, upgrade);
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            BodyKind::Upgrade
        }
        (None, Some(0)) => BodyKind::None,
        (None, length) => BodyKind::Stream(length),
    };
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Error::Method(method))?;
    *request.headers_mut() = headers;
    Ok(Planned {
        target,
        request,
        body,
    })
}

/// `Via`, for what came over `protocol`.
pub(super) fn via(protocol: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{protocol} {}", crate::user_agent()))
        .unwrap_or_else(|_| HeaderValue::from_static("gitlab-agent"))
}

/// Removes what concerns one connection only, also what `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(DROPPED) {
        headers.remove(name);
    }
}

fn headers(entries: Entries) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(entries.len() + 4);
    for (name, values) in entries {
        let name = HeaderName::from_bytes(&name)
            .map_err(|_| Error::HeaderName(String::from_utf8_lossy(&name).into_owned()))?;
        for value in values {
            let value = HeaderValue::from_maybe_shared(value)
                .map_err(|_| Error::HeaderValue(name.clone()))?;
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

fn target(path: &str, query: &[(Bytes, Vec<Bytes>)]) -> Result<PathAndQuery, Error> {
    if !path.starts_with('/') {
        return Err(Error::Path);
    }
    let mut target = BytesMut::with_capacity(path.len() + 32 * query.len() + 1);
    encode_path(path.as_bytes(), &mut target);
    let mut separator = b'?';
    for (key, values) in query {
        for value in values {
            target.extend_from_slice(&[separator]);
            encode_query(key, &mut target);
            target.extend_from_slice(b"=");
            encode_query(value, &mut target);
            separator = b'&';
        }
    }
    PathAndQuery::from_maybe_shared(target.freeze()).map_err(Error::Target)
}

/// GitLab's server sends the path decoded, ours as it was. Escapes stay; what a path may not have is escaped, so that no
/// path can begin a query.
fn encode_path(path: &[u8], out: &mut BytesMut) {
    for (place, byte) in path.iter().enumerate() {
        let escape = |place: usize| path.get(place).is_some_and(u8::is_ascii_hexdigit);
        match byte {
            b'%' if escape(place + 1) && escape(place + 2) => out.extend_from_slice(b"%"),
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@'
            | b'/' => out.extend_from_slice(&[*byte]),
            _ => percent(*byte, out),
        }
    }
}

fn encode_query(text: &[u8], out: &mut BytesMut) {
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.extend_from_slice(&[*byte]);
            }
            _ => percent(*byte, out),
        }
    }
}

fn percent(byte: u8, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(&'static str, &[&'static str])]) -> Entries {
        list.iter()
            .map(|(key, values)| {
                let values = values
                    .iter()
                    .map(|value| Bytes::from_static(value.as_bytes()));
                (Bytes::from_static(key.as_bytes()), values.collect())
            })
            .collect()
    }

    fn head(path: &str) -> RequestHead {
        RequestHead {
            method: "GET".to_owned(),
            path: path.to_owned(),
            content_length: Some(0),
            ..RequestHead::default()
        }
    }

    #[test]
    fn the_query_is_encoded_again() {
        let mut head = head("/api/v1/pods");
        head.query = entries(&[
            ("labelSelector", &["a in (b,c)&d=e"]),
            ("watch", &["1", "ü"]),
        ]);
        assert_eq!(
            plan(head, None).unwrap().target.as_str(),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29%26d%3De&watch=1&watch=%C3%BC"
        );
    }

    #[test]
    fn a_path_can_neither_begin_a_query_nor_name_a_host() {
        let cases = [
            ("/api/v1/a?b#c", "/api/v1/a%3Fb%23c"),
            ("/api/v1/a%2Fb", "/api/v1/a%2Fb"),
            ("/api/v1/100%", "/api/v1/100%25"),
            ("//elsewhere/x", "//elsewhere/x"),
            ("/a b/ü", "/a%20b/%C3%BC"),
        ];
        for (path, expected) in cases {
            let planned = plan(head(path), None).unwrap();
            assert_eq!(planned.target.as_str(), expected);
        }
        assert!(matches!(plan(head("elsewhere"), None), Err(Error::Path)));
    }

    #[test]
    fn headers_of_the_connection_and_credentials_are_dropped() {
        let mut head = head("/");
        head.headers = entries(&[
            ("Accept", &["a", "b"]),
            ("Connection", &["keep-alive, X-Hop"]),
            ("X-Hop", &["1"]),
            ("Host", &["elsewhere"]),
            ("Content-Length", &["7"]),
            ("Transfer-Encoding", &["chunked"]),
            ("Authorization", &["Bearer stolen"]),
            ("Via", &["gRPC/1.0 gitlab-kas/1"]),
        ]);
        let planned = plan(head, None).unwrap();
        let headers = planned.request.headers();
        assert_eq!(headers.get_all("accept").iter().count(), 2);
        assert_eq!(headers.get_all("via").iter().count(), 2);
        assert_eq!(headers.len(), 4);
        assert_eq!(planned.body, BodyKind::None);
    }

    #[test]
    fn an_upgrade_keeps_what_it_needs() {
        let mut head = head("/exec");
        head.headers = entries(&[
            ("Upgrade", &["SPDY/3.1"]),
            ("Connection", &["Upgrade"]),
            ("X-Stream-Protocol-Version", &["v4", "v3"]),
        ]);
        let planned = plan(head, None).unwrap();
        let headers = planned.request.headers();
        assert_eq!(headers["upgrade"], "SPDY/3.1");
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(
            headers.get_all("x-stream-protocol-version").iter().count(),
            2
        );
        assert_eq!(planned.body, BodyKind::Upgrade);
    }

    #[test]
    fn the_length_decides_how_the_body_is_sent() {
        for (length, expected) in [
            (Some(0), BodyKind::None),
            (Some(7), BodyKind::Stream(Some(7))),
            (None, BodyKind::Stream(None)),
        ] {
            let mut head = head("/");
            head.content_length = length;
            assert_eq!(plan(head, None).unwrap().body, expected);
        }
    }
}
