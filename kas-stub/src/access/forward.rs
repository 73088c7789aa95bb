//! One request to a workspace, and its answer: HTTP/1.1 over one dialled connection.

use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    uri::PathAndQuery,
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::{sync::WaitForCancellationFutureOwned, task::TaskTracker};

use super::{dial::DialStream, gate};
use crate::{
    connection_headers::{HOP_BY_HOP, connection_names, is_upgrade},
    directory::Cut,
    lingering::Lingering,
    workspaces::activity::{Beating, Pulse},
};

/// What hyper reads of a workspace at once, and so the largest head of an answer.
const BUFFER: usize = 128 * 1024;
/// Headers of an answer.
const MAX_HEADERS: usize = 256;
/// What is read of one side of an upgraded connection at once.
const PIECE: usize = 32 * 1024;
/// How long the browser's connection may take to be handed over after a 101.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// One side closed its half: how long the other may be silent before the connection is given up.
const SILENCE_AFTER_CLOSE: Duration = Duration::from_secs(30);

/// What a workspace hears of the way here, from nobody but us.
const FORWARDED: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a request is carried.
pub(super) struct Forwarding<'a> {
    pub(super) tasks: &'a TaskTracker,
    pub(super) killing: &'a Cut,
    /// Ends with what let the caller in; so does everything that runs.
    pub(super) cut: Cut,
    /// Whether people come over TLS.
    pub(super) is_https: bool,
    pub(super) peer: Option<IpAddr>,
    /// Of the workspace: it is used.
    pub(super) pulse: Pulse,
}

impl Forwarding<'_> {
    /// Sends the request and gives its answer, whose body comes as the workspace sends it.
    pub(super) async fn run(
        self,
        mut request: Request<Lingering>,
        stream: DialStream,
    ) -> Result<Response<Body>, hyper::Error> {
        let upgrade = is_upgrade(&request);
        let on_upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        let request = self.prepared(request, upgrade);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(Beating::new(stream, self.pulse.clone())))
            .await?;
        let (cut, killing) = (self.cut.clone(), self.killing.clone());
        // Ends by itself when request and answer are over or dropped.
        self.tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = killing.cancelled() => {}
                _ = connection.with_upgrades() => {}
            }
        });
        let mut response = sender.send_request(request).await?;
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        clean_answer(response.headers_mut(), upgraded);
        match on_upgrade {
            Some(on_upgrade) if upgraded => {
                let workspace = hyper::upgrade::on(&mut response);
                let passing = pass(on_upgrade, workspace);
                let (cut, killing) = (self.cut, self.killing.clone());
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = killing.cancelled() => {}
                        () = passing => {}
                    }
                });
                Ok(response.map(|_| Body::empty()))
            }
            _ => {
                let cut = Box::pin(self.cut.cancelled_owned());
                Ok(response.map(|body| Body::new(AnswerBody { body, cut })))
            }
        }
    }

    /// The request as the workspace gets it.
    fn prepared(&self, request: Request<Lingering>, upgrade: bool) -> Request<Lingering> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().map(|it| it.as_str().to_owned());
        clean_request(&mut parts.headers, upgrade);
        let headers = &mut parts.headers;
        if let Some(host) = authority.and_then(|it| HeaderValue::from_str(&it).ok()) {
            headers.insert(header::HOST, host);
        }
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.insert(X_FORWARDED_HOST, host);
        }
        let scheme = if self.is_https { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        let peer = self.peer.map(|it| HeaderValue::from_str(&it.to_string()));
        if let Some(Ok(peer)) = peer {
            headers.insert(X_FORWARDED_FOR, peer);
        }
        let slash = || PathAndQuery::from_static("/");
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(slash);
        parts.uri = Uri::from(path);
        parts.version = Version::HTTP_11;
        Request::from_parts(parts, body)
    }
}

/// Takes out what concerns one connection only; an upgrade keeps what it needs.
fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    let kept = upgrade
        .then(|| headers.get(header::UPGRADE).cloned())
        .flatten();
    let named: Vec<String> = connection_names(headers).collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        // The body's length is no matter of the connection, whoever says so.
        if name != "content-length" && name != "host" {
            headers.remove(name);
        }
    }
    if let Some(kept) = kept {
        headers.insert(header::UPGRADE, kept);
        let upgrade = HeaderValue::from_static("Upgrade");
        headers.insert(header::CONNECTION, upgrade);
    }
}

/// Takes out what is between the browser and us: cookies, tokens, who says where it comes from.
fn clean_request(headers: &mut HeaderMap, upgrade: bool) {
    remove_hop_by_hop(headers, upgrade);
    // A 100 was answered here.
    headers.remove(header::EXPECT);
    headers.remove(gate::TOKEN_HEADER);
    for name in FORWARDED {
        headers.remove(name);
    }
    let mut cookies = BytesMut::new();
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|it| *it == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_our_cookie(pair));
    // HTTP/2 may split it; HTTP/1.1 has one.
    for pair in pairs {
        if !cookies.is_empty() {
            cookies.extend_from_slice(b"; ");
        }
        cookies.extend_from_slice(pair);
    }
    headers.remove(header::COOKIE);
    if let (false, Ok(cookies)) = (
        cookies.is_empty(),
        HeaderValue::from_maybe_shared(cookies.freeze()),
    ) {
        headers.insert(header::COOKIE, cookies);
    }
}

/// Takes out of an answer what concerns the connection, and cookies that would take the place of ours.
fn clean_answer(headers: &mut HeaderMap, upgraded: bool) {
    remove_hop_by_hop(headers, upgraded);
    let set: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter(|value| !is_our_cookie(value.as_bytes()))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in set {
        headers.append(header::SET_COOKIE, value);
    }
}

fn is_our_cookie(pair: &[u8]) -> bool {
    let name = pair.split(|it| *it == b'=').next().unwrap_or_default();
    std::str::from_utf8(name.trim_ascii()).is_ok_and(gate::is_ours)
}

/// An answer's body, which ends with what let the caller in.
struct AnswerBody {
    body: Incoming,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The answer breaks off.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the session is over")]
    SignedOut,
    #[error(transparent)]
    Workspace(hyper::Error),
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::SignedOut)));
        }
        Pin::new(&mut this.body)
            .poll_frame(cx)
            .map_err(BodyError::Workspace)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Passes bytes of an upgraded connection unread. Each side may close its half; when one has, the other may not be silent
/// for ever.
async fn pass(browser: OnUpgrade, workspace: OnUpgrade) {
    let both = async { tokio::try_join!(browser, workspace) };
    let Ok(Ok((browser, workspace))) = tokio::time::timeout(HANDOVER_TIMEOUT, both).await else {
        return;
    };
    let (from_browser, to_browser) = tokio::io::split(TokioIo::new(browser));
    let (from_workspace, to_workspace) = tokio::io::split(TokioIo::new(workspace));
    let closed = Cut::new();
    let up = copy(from_browser, to_workspace, &closed);
    let down = copy(from_workspace, to_browser, &closed);
    // A side that breaks ends both.
    let _ = tokio::try_join!(up, down);
}

/// Copies until the reader's end, which closes the writer.
async fn copy(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    closed: &Cut,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let mut bounded = (&mut reader).take(PIECE as u64);
        let silence = async {
            closed.cancelled().await;
            tokio::time::sleep(SILENCE_AFTER_CLOSE).await;
        };
        let read = tokio::select! {
            read = bounded.read_buf(&mut buffer) => read?,
            () = silence => return Err(std::io::ErrorKind::TimedOut.into()),
        };
        if read == 0 {
            closed.cancel();
            return writer.shutdown().await;
        }
        writer.write_all(&buffer).await?;
        writer.flush().await?;
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn our_credentials_never_reach_the_workspace() {
        let mut sent = headers(&[
            ("cookie", "a=1; kas_stub_session=secret; b=2"),
            ("cookie", "__Host-kas_stub_workspace=x.y;c=3"),
            ("cookie", "kas_stub_workspace=x.y"),
            ("x-kas-stub-token", "rdpat-x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("connection", "keep-alive, x-hop, content-length"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "5"),
            ("authorization", "Basic eDp5"),
            ("host", "h"),
        ]);
        clean_request(&mut sent, false);
        assert_eq!(
            shown(&sent),
            [
                "authorization: Basic eDp5",
                "content-length: 5",
                "cookie: a=1; b=2; c=3",
                "host: h"
            ]
        );
        let mut only_ours = headers(&[("cookie", "kas_stub_session=secret")]);
        clean_request(&mut only_ours, false);
        assert!(only_ours.is_empty());
    }

    #[test]
    fn an_upgrade_keeps_its_headers() {
        let mut sent = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
        ]);
        clean_request(&mut sent, true);
        assert_eq!(
            shown(&sent),
            [
                "connection: Upgrade",
                "sec-websocket-key: x",
                "upgrade: websocket"
            ]
        );
    }

    #[test]
    fn a_workspace_sets_its_own_cookies_only() {
        let mut answer = headers(&[
            ("set-cookie", "a=1; Path=/"),
            (
                "set-cookie",
                "__Host-kas_stub_workspace=forged; Path=/; Secure",
            ),
            ("set-cookie", " kas_stub_session =forged; Domain=localhost"),
            ("set-cookie", "b=2"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
        ]);
        clean_answer(&mut answer, false);
        assert_eq!(
            shown(&answer),
            ["set-cookie: a=1; Path=/", "set-cookie: b=2"]
        );
    }
}
