//! Accepts connections and serves HTTP on them: TLS and plaintext on one port, told apart by the first byte. Agents may put
//! their HTTP/2 connection into a WebSocket, on the same port too (`websocket`).

mod first;
mod io;
mod websocket;

use std::{
    convert::Infallible,
    error::Error as StdError,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{metrics::Metrics, tunnel::ConnectionId};
use io::Io;

/// From the accepted connection to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection: a record of type handshake. No HTTP request begins so.
const TLS_HANDSHAKE: u8 = 0x16;
/// What a TLS server says to who does not begin with TLS: a fatal alert, protocol_version. HTTP/2 has no such word.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46];
/// After a failed accept, usually for want of file descriptors: others may close meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Agents' connections: a few for each Pod.
const MAX_AGENT_CONNECTIONS: usize = 4_000;
/// People's connections: a watch or a terminal holds one each.
const MAX_PEOPLE_CONNECTIONS: usize = 4_000;
/// Connections of machines that observe.
const MAX_OBSERVABILITY_CONNECTIONS: usize = 100;
/// Command lines on the server's own machine.
const MAX_SOCKET_CONNECTIONS: usize = 100;

/// Window of one HTTP/2 stream of an agent, the bytes under way before their reader takes them. HTTP/2's own 64 KiB stall a
/// link that is fast or distant: one round trip of 50 ms would bound a body to 1 MiB/s. 8 MiB fill a line of 1 Gbit/s there,
/// though only half of it is opened anew at a time.
const AGENT_STREAM_WINDOW: u32 = 8 * 1024 * 1024;
/// Window of a whole agent connection. hyper's 1 MiB would let one unread stream stop all others on its connection, the
/// agent's configuration too; this leaves room for all 15 tunnels that our agent has on one connection, should nobody read
/// any of them, and bounds what an agent can make us hold.
const AGENT_CONNECTION_WINDOW: u32 = 16 * AGENT_STREAM_WINDOW;
/// Window of one HTTP/2 stream of a person: an upload.
const PEOPLE_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Window of a whole connection of a person: a few uploads at a time.
const PEOPLE_CONNECTION_WINDOW: u32 = 8 * PEOPLE_STREAM_WINDOW;
/// Largest HTTP/2 frame taken. 16 KiB, the least, would cut each piece of a body in three; a frame holds up the
/// connection while it arrives, which at this size is short.
const FRAME_SIZE: u32 = 64 * 1024;
/// Streams of one agent connection: GitLab's agent keeps up to 500 tunnels on one.
const AGENT_STREAMS: u32 = 2_000;
/// Streams of one person's connection, each a request.
const PEOPLE_STREAMS: u32 = 250;
/// Bytes of response that wait for a slow reader, in each stream.
const SEND_BUFFER: usize = 512 * 1024;
/// All headers of one request together.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Count of headers of an HTTP/1 request.
const MAX_HEADERS: usize = 128;
/// HTTP/1's read buffer: bounds the head, and is the largest piece a body is read in.
const HTTP1_BUFFER: usize = 64 * 1024;
/// How long any connection may take for its first request, and one of HTTP/1 for each head, idling before it included
/// (GitLab's server: idle 1 min).
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that is silently gone is noticed after this and the timeout, and routers do not forget an idle connection.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Unanswered TCP probes until a connection is given up.
const KEEPALIVE_PROBES: u32 = 3;
/// How long written bytes may stay unacknowledged.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(60);

/// Which listener it is: its limits, its protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Agents,
    People,
    Observability,
    Socket,
}

impl Audience {
    fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::People => "people",
            Self::Observability => "observability",
            Self::Socket => "socket",
        }
    }

    fn max_connections(self) -> usize {
        match self {
            Self::Agents => MAX_AGENT_CONNECTIONS,
            Self::People => MAX_PEOPLE_CONNECTIONS,
            Self::Observability => MAX_OBSERVABILITY_CONNECTIONS,
            Self::Socket => MAX_SOCKET_CONNECTIONS,
        }
    }
}

/// What a connection is, for who serves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) id: ConnectionId,
    pub(crate) tls: bool,
    /// By the Unix socket: the peer is the server's own user.
    pub(crate) socket: bool,
    /// Where it comes from; none by the socket.
    pub(crate) peer: Option<IpAddr>,
}

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Source {
    Tcp {
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        plaintext: bool,
    },
    Unix(UnixListener),
}

/// How long an agent's connection lives, and how it is seen that it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTiming {
    /// No new calls begin on an older one (GOAWAY).
    pub(crate) age: Duration,
    pub(crate) keepalive: Keepalive,
}

/// HTTP/2 pings: a peer that is silently gone is noticed, and nothing on the way forgets an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The peer was silent for so long: it is asked.
    pub interval: Duration,
    /// It has not answered for so long: it is gone.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Proxies and routers commonly forget a connection that was idle for 60 s.
    fn default() -> Self {
        Self {
            interval: PING_INTERVAL,
            timeout: PING_TIMEOUT,
        }
    }
}

/// Of one connection: cancelled after the peer was told (GOAWAY) to begin nothing more on it, because it is old or the
/// server stops. What waits for something to do then ends; what does something goes on.
pub(crate) type EndingToken = CancellationToken;

/// What all accept loops share.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    pub(crate) tasks: TaskTracker,
    /// Nothing new begins; what runs may end by itself.
    pub(crate) stopping: CancellationToken,
    /// Everything ends now.
    pub(crate) killing: CancellationToken,
}

/// Accepts until the server stops; `service` makes the service of one connection.
pub(crate) async fn accept<F, S, B>(
    audience: Audience,
    source: Source,
    timing: ConnectionTiming,
    metrics: Arc<Metrics>,
    lifetime: Lifetime,
    service: F,
) where
    F: Fn(ConnectionInfo, EndingToken) -> S + Clone + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(audience.max_connections()));
    let open = metrics.connections(audience.name());
    loop {
        let accepted = tokio::select! {
            () = lifetime.stopping.cancelled() => return,
            accepted = source.accept() => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = audience.name(), %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            metrics.connection_refused(audience.name());
            continue;
        };
        let (service, open, stopping) = (service.clone(), open.clone(), lifetime.stopping.clone());
        let killing = lifetime.killing.clone();
        open.inc();
        lifetime.tasks.spawn(async move {
            let serve = async move {
                let handshake = accepted.handshake(audience);
                let Some(Some((io, info))) = stopping.run_until_cancelled(handshake).await else {
                    return;
                };
                let ending = Ending {
                    stopping,
                    age: (audience == Audience::Agents).then(|| goaway_after(timing.age, info.id)),
                    told: EndingToken::new(),
                };
                if audience == Audience::Agents {
                    serve_agent(io, info, service, timing.keepalive, ending).await;
                } else {
                    let builder = builder(audience, Keepalive::default());
                    let service = service(info, ending.told.clone());
                    serve(audience, builder, io, service, ending).await;
                }
            };
            killing.run_until_cancelled(serve).await;
            open.dec();
            drop(permit);
        });
    }
}

/// A connection before its first byte.
enum Accepted {
    Tcp {
        stream: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        plaintext: bool,
    },
    Unix(tokio::net::UnixStream),
}

impl Source {
    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Tcp {
                listener,
                tls,
                plaintext,
            } => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp {
                    stream,
                    peer,
                    tls: tls.clone(),
                    plaintext: *plaintext,
                })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}

impl Accepted {
    /// The connection, ready for HTTP. Failures are the peer's business and go to the debug log.
    async fn handshake(self, audience: Audience) -> Option<(Io, ConnectionInfo)> {
        let id = next_connection_id();
        let (stream, peer, tls, plaintext) = match self {
            Self::Unix(stream) => {
                let info = ConnectionInfo {
                    id,
                    tls: false,
                    socket: true,
                    peer: None,
                };
                return Some((Io::Unix(stream), info));
            }
            Self::Tcp {
                stream,
                peer,
                tls,
                plaintext,
            } => (stream, peer, tls, plaintext),
        };
        // A frame is sent when it is written; waiting for more would delay every small answer.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        let handshake = async {
            let mut first = [0];
            let is_tls = stream.peek(&mut first).await? == 1 && first[0] == TLS_HANDSHAKE;
            match tls {
                Some(config) if is_tls => {
                    let stream = TlsAcceptor::from(config).accept(stream).await?;
                    Ok(Some((Io::Tls(Box::new(stream)), true)))
                }
                Some(_) | None if plaintext => Ok(Some((Io::Plain(stream), false))),
                Some(_) | None => {
                    refuse_plaintext(audience, first[0], stream).await;
                    Ok(None)
                }
            }
        };
        let result: std::io::Result<_> = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match result {
            Ok(Some((io, tls))) => Some((
                io,
                ConnectionInfo {
                    id,
                    tls,
                    socket: false,
                    peer: Some(peer.ip()),
                },
            )),
            Ok(None) => {
                tracing::debug!(listener = audience.name(), %peer, "refused connection without TLS");
                None
            }
            Err(error) => {
                tracing::debug!(listener = audience.name(), %peer, %error, "handshake failed");
                None
            }
        }
    }
}

/// Asks TCP to notice a peer that is silently gone; a watch or a terminal over HTTP/1 has nothing else for that.
fn keep_alive(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(PING_INTERVAL)
        .with_interval(PING_TIMEOUT)
        .with_retries(KEEPALIVE_PROBES);
    // A platform without it has its own, slower limits.
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
}

/// Says why: to somebody with a browser or curl, and to an agent that is told to connect without TLS.
async fn refuse_plaintext(audience: Audience, first: u8, mut stream: TcpStream) {
    let answer: &[u8] = match (audience, first) {
        (Audience::People, _) => {
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
            This port speaks HTTPS: use https:// (or start the server with --allow-plaintext).\n"
        }
        // The first byte of `GET`.
        (Audience::Agents, b'G') => {
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
            This port speaks TLS: use wss:// or grpcs:// (or start the server with --allow-plaintext).\n"
        }
        (Audience::Agents, _) => &TLS_ALERT,
        (Audience::Observability | Audience::Socket, _) => return,
    };
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

fn next_connection_id() -> ConnectionId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Serves an agent's connection: HTTP/2, as it comes or inside a WebSocket.
async fn serve_agent<F, S, B>(
    io: Io,
    info: ConnectionInfo,
    service: F,
    keepalive: Keepalive,
    ending: Ending,
) where
    F: Fn(ConnectionInfo, EndingToken) -> S,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let audience = Audience::Agents;
    let inside_service = service(info, ending.told.clone());
    let (front, mut upgrade) = websocket::Front::new(service(info, ending.told.clone()));
    let outside = builder(audience, keepalive);
    serve(audience, outside, io, front, ending.clone()).await;
    if let Some(tunnel) = upgrade.tunnel().await {
        let inside = builder(audience, keepalive).http2_only();
        serve(audience, inside, tunnel, inside_service, ending).await;
    }
}

/// Between four fifths of the age and all of it, other for each connection, so that those that came together do not all
/// come back together.
fn goaway_after(age: Duration, id: ConnectionId) -> Duration {
    // Fibonacci hashing: ids that follow each other lie far apart.
    let spread = u32::try_from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or(0);
    age.mul_f64(1.0 - 0.2 * f64::from(spread) / f64::from(u32::MAX))
}

/// When and how the peer of a connection is told to begin nothing more.
#[derive(Clone, Debug)]
struct Ending {
    stopping: CancellationToken,
    age: Option<Duration>,
    told: EndingToken,
}

impl Ending {
    async fn due(&self) {
        match self.age {
            None => self.stopping.cancelled().await,
            Some(age) => {
                let old = tokio::time::sleep(age);
                self.stopping.run_until_cancelled(old).await;
            }
        }
    }
}

/// Serves one connection until it ends; one that is told to end (it is old, or the server stops) lets its running requests
/// end first, however long they take.
async fn serve<S, B>(
    audience: Audience,
    builder: auto::Builder<TokioExecutor>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    ending: Ending,
) where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (service, unused) = first::notice(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = unused.for_long(HEAD_TIMEOUT) => {
            tracing::debug!(listener = audience.name(), "connection without a request ended");
            return;
        }
        () = ending.due() => {
            connection.as_mut().graceful_shutdown();
            // Its GOAWAY is on its way before anything that waits is ended: the peer begins that anew elsewhere.
            match futures::poll!(connection.as_mut()) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    ending.told.cancel();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(listener = audience.name(), error = %error, "connection ended with an error");
    }
}

fn builder(audience: Audience, keepalive: Keepalive) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let (stream_window, connection_window, streams) = match audience {
        Audience::Agents => (AGENT_STREAM_WINDOW, AGENT_CONNECTION_WINDOW, AGENT_STREAMS),
        Audience::People | Audience::Observability | Audience::Socket => (
            PEOPLE_STREAM_WINDOW,
            PEOPLE_CONNECTION_WINDOW,
            PEOPLE_STREAMS,
        ),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(streams)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(keepalive.interval)
        .keep_alive_timeout(keepalive.timeout);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_moment_end_in_different_ones() {
        let age = Duration::from_secs(1000);
        let mut ends: Vec<_> = (1..=100).map(|id| goaway_after(age, id)).collect();
        ends.sort_unstable();
        assert!(ends[0] >= age.mul_f64(0.8) && ends[99] <= age);
        // 200 s for 100 connections: never ten at once.
        let tenths = ends.windows(10).map(|some| some[9] - some[0]);
        assert!(
            tenths
                .min()
                .is_some_and(|least| least > Duration::from_secs(5))
        );
    }
}
