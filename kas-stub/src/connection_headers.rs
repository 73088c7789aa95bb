//! Headers that are about one connection and not about the message; whoever passes a message on takes them out.

use http::{HeaderMap, Request, Version, header};

/// Meant for one connection (RFC 9110, section 7.6.1), whatever `Connection` names beside them.
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What `Connection` names, in lowercase.
pub(crate) fn connection_names(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
}

/// Whether a request asks to leave HTTP, as WebSocket, exec, attach and port-forward do.
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(header::UPGRADE)
        && connection_names(request.headers()).any(|name| name == "upgrade")
}
