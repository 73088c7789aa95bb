//! The client's handshake.

use std::io;

use http::header::{CONNECTION, HOST, LOCATION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::SUBPROTOCOL;
use crate::tunnel::{Tunnel, config};

/// Longest `Location` that is kept for an error's text.
const MAX_LOCATION: usize = 500;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host` or `host:port`, as it stands in `Host`.
    pub authority: String,
    /// The exact path; redirects are not followed.
    pub path: String,
    /// Further headers: user agent, and what a proxy on the way wants.
    pub headers: HeaderMap,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Address or headers make no request.
    #[error("the WebSocket request cannot be made: {0}")]
    Request(#[source] http::Error),
    /// The answer leads elsewhere. Following it would send secret headers to whoever is named there.
    #[error("the answer is {status}, a redirect to {location:?}")]
    Redirect {
        /// 3xx.
        status: StatusCode,
        /// As it was answered, cut and with what cannot be printed escaped by its user.
        location: String,
    },
    /// Any other answer than 101.
    #[error("the answer is {status} instead of 101 Switching Protocols")]
    Status {
        /// What was answered.
        status: StatusCode,
    },
    /// A WebSocket server, but none of these.
    #[error("the server has a WebSocket there but does not speak {SUBPROTOCOL}")]
    Subprotocol,
    /// What came is no answer to the handshake.
    #[error("no WebSocket is answered there: {0}")]
    Protocol(String),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Shakes hands over `stream`, which is connected and, for `wss`, encrypted already.
///
/// # Errors
///
/// [`ConnectError`]. There is no timeout here.
pub async fn connect<S>(stream: S, target: &Target) -> Result<Tunnel<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Request::get(format!("ws://{}{}", target.authority, target.path))
        .header(HOST, &target.authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(())
        .map_err(ConnectError::Request)?;
    for (name, value) in &target.headers {
        request.headers_mut().append(name, value.clone());
    }
    match client_async_with_config(request, stream, Some(config())).await {
        Ok((socket, _)) => Ok(Tunnel::client(socket)),
        Err(Error::Http(response)) => Err(answered(response.status(), response.headers())),
        Err(Error::Io(error)) => Err(error.into()),
        Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol | SubProtocolError::InvalidSubProtocol,
        ))) => Err(ConnectError::Subprotocol),
        Err(error) => Err(ConnectError::Protocol(error.to_string())),
    }
}

fn answered(status: StatusCode, headers: &HeaderMap) -> ConnectError {
    match headers.get(LOCATION).map(HeaderValue::to_str) {
        Some(Ok(location)) if status.is_redirection() => ConnectError::Redirect {
            status,
            location: location.chars().take(MAX_LOCATION).collect(),
        },
        _ => ConnectError::Status { status },
    }
}
