//! What went wrong at the other end, told so that somebody knows what to change.
//!
//! None of these texts repeats more of an answer than a status and where it leads; an answer may come from anybody.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::header::LOCATION;
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::CertificateError;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::transport::channel::ResponseFuture;
use wstunnel::ConnectError;

use crate::config::{KasAddress, Proxy, Transport};

/// Longest redirect that is shown.
const MAX_LOCATION: usize = 200;
/// A TLS record that carries an alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A TLS handshake failed.
pub(super) fn tls(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let explanation = match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server does not speak TLS on this port; perhaps it is unencrypted there (grpc://, ws://)"
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            "the server does not speak this protocol over TLS (ALPN). Where a proxy takes only HTTP/1.1 use wss://, else grpcs://"
        }
        // The latter when the authority was made anew under its old name.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {
            "the server's certificate is of an authority that is not known here; give that in --kas-ca-cert-file"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the server's certificate is over; renew it there, or mend this machine's clock",
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => "the server's certificate is not valid yet; mend this machine's clock",
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            "the server's certificate is for another name; use that in --kas-address or --kas-tls-server-name, or add this one on the server (kas-stub serve --tls-san)"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{explanation} ({error})"))
}

/// The proxy of the environment did not connect us. The library does not export its error's type, only its texts; a test
/// sees to it that they are these.
pub(super) fn proxy(error: &(dyn std::error::Error + 'static), proxy: &Proxy) -> io::Error {
    let text = error.to_string();
    let why = if text.ends_with("proxy authorization required") {
        "wants credentials: HTTPS_PROXY may be http://USER:PASSWORD@HOST:PORT".to_owned()
    } else if text.ends_with("unsuccessful") {
        "refuses to connect to the server; it has to allow CONNECT to its host and port, or NO_PROXY has to name the host"
            .to_owned()
    } else {
        let error = super::health::chain(error);
        return io::Error::other(format!("the proxy {} cannot be used: {error}", proxy.uri));
    };
    io::Error::other(format!("the proxy {} {why}", proxy.uri))
}

/// The handshake of a WebSocket failed.
pub(super) fn websocket(error: ConnectError, address: &KasAddress) -> io::Error {
    let text = match error {
        ConnectError::Io(error) => return error,
        ConnectError::Redirect { status, location } => {
            format!(
                "{address} is answered with {}",
                redirect(status, &location, address)
            )
        }
        ConnectError::Status { status } => {
            format!("{address} is answered with {status}; {}", advice(status))
        }
        error @ (ConnectError::Subprotocol
        | ConnectError::Protocol(_)
        | ConnectError::Request(_)) => {
            format!(
                "{address}: {error}; is this the address of an agent server, and does it take WebSockets? If not, use grpcs://"
            )
        }
    };
    io::Error::new(ErrorKind::InvalidData, text)
}

fn redirect(status: StatusCode, location: &str, address: &KasAddress) -> String {
    let shown: String = location.chars().take(MAX_LOCATION).collect();
    let begin = format!("{status}, a redirect to {shown:?}, which is not followed");
    match redirected(location, address) {
        Some(to) if to == with_slash(address) => {
            format!("{begin}: the path needs the slash at its end, --kas-address={to}")
        }
        Some(to) => format!("{begin}: if that is right, use --kas-address={to}"),
        None => format!("{begin}: set --kas-address to where the agent server is"),
    }
}

/// The address that a redirect leads to, if it is one.
fn redirected(location: &str, address: &KasAddress) -> Option<KasAddress> {
    let scheme = if address.tls { "wss" } else { "ws" };
    let text = if let Some(rest) = location.strip_prefix("https://") {
        format!("wss://{rest}")
    } else if let Some(rest) = location.strip_prefix("http://") {
        format!("ws://{rest}")
    } else if location.starts_with('/') && !location.starts_with("//") {
        format!("{scheme}://{}{location}", address.authority())
    } else {
        location.to_owned()
    };
    text.parse().ok()
}

fn with_slash(address: &KasAddress) -> KasAddress {
    let mut address = address.clone();
    if let Transport::WebSocket { path } = &mut address.transport {
        path.push('/');
    }
    address
}

/// What to do about an answer of something that is no agent server.
fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "set --kas-address to where the agent server is",
        401 | 407 => "a proxy on the way wants credentials: give them in --kas-header",
        403 => "a proxy on the way refuses the agent; perhaps it wants a header (--kas-header)",
        404 | 405 => {
            "nothing serves agents at this address: check host, port and path. GitLab's own is wss://HOST/-/kubernetes-agent/"
        }
        400 | 426 | 501 => {
            "what answers there does not take this kind of connection: use wss:// where a proxy takes only HTTP/1.1, else grpcs://"
        }
        500.. => "a proxy is there, and the agent server behind it is not",
        _ => "something else than an agent server answers there: check host, port and path",
    }
}

/// Looks at the first bytes of a server that should speak HTTP/2.
pub(super) fn greeting(first: &[u8]) -> io::Result<()> {
    let text = if first.starts_with(b"HTTP/1") {
        "the server answers with HTTP/1.1 instead of HTTP/2: use ws:// or wss:// if it takes agents in WebSockets, else check host and port"
    } else if first.starts_with(&TLS_ALERT) {
        "the server speaks TLS on this port: use grpcs://"
    } else {
        return Ok(());
    };
    Err(io::Error::new(ErrorKind::InvalidData, text))
}

/// A channel on which answers without gRPC, of a proxy for example, are errors that say what to do. tonic would make codes
/// of their HTTP status that look like the agent server's own: 401 like a refused token.
#[derive(Clone, Debug)]
pub(super) struct GrpcOnly(pub(super) Channel);

type Answer = Result<Response<Body>, tower::BoxError>;

impl tower::Service<Request<Body>> for GrpcOnly {
    type Response = Response<Body>;
    type Error = tower::BoxError;
    type Future = futures::future::Map<
        ResponseFuture,
        fn(Result<Response<Body>, tonic::transport::Error>) -> Answer,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request).map(judge)
    }
}

fn judge(answer: Result<Response<Body>, tonic::transport::Error>) -> Answer {
    let response = answer?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let text = no_grpc(response.status(), response.headers());
    Err(Status::unavailable(text).into())
}

fn no_grpc(status: StatusCode, headers: &HeaderMap) -> String {
    let location = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .map(|location| {
            let location: String = location.chars().take(MAX_LOCATION).collect();
            format!(", a redirect to {location:?}, which is not followed")
        });
    format!(
        "no gRPC but HTTP {status} is answered{}; {}",
        location.unwrap_or_default(),
        advice(status)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_the_address_to_use() {
        let address: KasAddress = "wss://example.com/-/kubernetes-agent".parse().unwrap();
        let explained = |location: &str| {
            let error = ConnectError::Redirect {
                status: StatusCode::MOVED_PERMANENTLY,
                location: location.to_owned(),
            };
            websocket(error, &address).to_string()
        };
        for slash in [
            "https://example.com/-/kubernetes-agent/",
            "/-/kubernetes-agent/",
        ] {
            let text = explained(slash);
            assert!(
                text.contains(
                    "slash at its end, --kas-address=wss://example.com:443/-/kubernetes-agent/"
                ),
                "{text}"
            );
        }
        let text = explained("https://kas.example.com/");
        assert!(
            text.contains("if that is right, use --kas-address=wss://kas.example.com:443/"),
            "{text}"
        );
        for elsewhere in [
            "https://example.com/sign_in?return=secret",
            "mailto:x",
            "//a/b",
        ] {
            let text = explained(elsewhere);
            assert!(
                text.contains("set --kas-address to where the agent server is"),
                "{text}"
            );
        }
        let text = explained(&"\u{1b}x".repeat(1000));
        assert!(text.len() < 1600 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn an_answer_of_a_proxy_says_what_to_do() {
        let none = HeaderMap::new();
        for (code, expected) in [
            (407, "--kas-header"),
            (404, "/-/kubernetes-agent/"),
            (426, "wss://"),
            (502, "the agent server behind it is not"),
            (200, "something else"),
        ] {
            let text = no_grpc(StatusCode::from_u16(code).unwrap(), &none);
            assert!(text.contains(expected), "{text}");
        }
        let location = HeaderMap::from_iter([(LOCATION, "https://elsewhere/".parse().unwrap())]);
        let text = no_grpc(StatusCode::PERMANENT_REDIRECT, &location);
        assert!(
            text.contains("308") && text.contains("https://elsewhere/"),
            "{text}"
        );
    }

    #[test]
    fn a_wrong_protocol_is_seen_by_its_first_bytes() {
        assert!(greeting(b"HTTP/1.1 400 Bad Request").is_err());
        assert!(greeting(&[0x15, 0x03, 0x03, 0, 2, 2, 70]).is_err());
        // An HTTP/2 server's settings.
        assert!(greeting(&[0, 0, 18, 4, 0, 0, 0, 0, 0]).is_ok());
        assert!(greeting(&[]).is_ok());
    }
}
