//! The server's handshake.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::SUBPROTOCOL;

/// Why a request opens no tunnel. The texts are for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing of a WebSocket.
    #[error("no WebSocket is asked for")]
    NoWebSocket,
    /// RFC 6455 knows version 13 alone.
    #[error("only version 13 of WebSocket is spoken")]
    Version,
    /// No key.
    #[error("the header Sec-WebSocket-Key is missing")]
    Key,
    /// The client offers another protocol or none.
    #[error("the sub-protocol {SUBPROTOCOL} is not offered")]
    Subprotocol,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoWebSocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Subprotocol => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whether a request asks for a WebSocket, of whatever protocol.
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(request.headers(), &CONNECTION, "upgrade")
        && names(request.headers(), &UPGRADE, "websocket")
}

/// The answer that opens a tunnel, on any path. After it has been sent the connection is a [`crate::Tunnel`]'s.
///
/// # Errors
///
/// [`Refusal`]
pub fn accept<B>(request: &Request<B>) -> Result<Response<()>, Refusal> {
    if !is_upgrade(request) {
        return Err(Refusal::NoWebSocket);
    }
    let headers = request.headers();
    if !names(headers, &SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
    if !names(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(Refusal::Subprotocol);
    }
    let accepted =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Key)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    headers.insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    Ok(response)
}

/// Whether one of the header's values is this, whatever its case.
fn names(headers: &HeaderMap, header: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(wanted))
}
