//! A connection to a port of a workspace, through the agent's tunnel.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use proto::remote_development::rpc::{
    DialRequest, DialResponse, EndReason, Target, dial_request::Message as Sent,
    dial_response::Message as Received,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Code;

use crate::tunnel::{Call, CallError, Event, OpenError, Opening, PolledSender, Tunnels};

const METHOD: &str = "/remote_development.rpc.WorkspaceAccess/Dial";
/// The largest piece that goes as one message.
const MAX_DATA: usize = 64 * 1024;
/// Tunnels that one dial may try.
const MAX_ATTEMPTS: usize = 3;
/// From the call's beginning to the connection. The agent needs up to 5 s each for its list, its question and the dial.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    /// The agent has no such workspace.
    #[error("the agent does not know the workspace")]
    NoSuchWorkspace,
    /// The agent's rule: no declared port.
    #[error("the workspace has no such port")]
    NotDeclared,
    /// The workspace accepts no connection there.
    #[error("nobody listens on the port")]
    NobodyListens,
    #[error("the port did not answer in time")]
    TimedOut,
    /// No tunnel, or it broke.
    #[error("{0}")]
    Agent(String),
}

impl DialError {
    /// For metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::NoSuchWorkspace => "no_such_workspace",
            Self::NotDeclared => "no_such_port",
            Self::NobodyListens => "nobody_listens",
            Self::TimedOut => "timed_out",
            Self::Agent(_) => "agent_failed",
        }
    }
}

/// Connects. Nothing of the connection was used yet when it fails, so another tunnel is tried where one broke.
pub(crate) async fn dial(
    tunnels: &Tunnels,
    agent_id: u64,
    target: Target,
) -> Result<DialStream, DialError> {
    let opening = Opening {
        method: METHOD,
        messages: vec![encode(Sent::Target(target))],
        close_send: false,
    };
    for attempt in 1.. {
        let open = tunnels.open(agent_id, &opening).await;
        let mut call = open.map_err(|error| DialError::Agent(open_text(error)))?;
        let Some(sender) = call.take_sender() else {
            return Err(DialError::Agent("the call cannot be sent to".into()));
        };
        let mut stream = DialStream {
            call,
            sender: Some(sender.into_polled()),
            unread: Bytes::new(),
            ended: false,
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, stream.connected()).await;
        match connected.unwrap_or(Err(Failed::Final(DialError::TimedOut))) {
            Ok(()) => return Ok(stream),
            Err(Failed::Tunnel(why)) if attempt < MAX_ATTEMPTS => {
                tracing::debug!(agent = agent_id, why, attempt, "trying another tunnel");
            }
            Err(Failed::Tunnel(why)) => return Err(DialError::Agent(why)),
            Err(Failed::Final(error)) => return Err(error),
        }
    }
    unreachable!("the last attempt returns");
}

fn open_text(error: OpenError) -> String {
    match error {
        OpenError::NoTunnel => "the agent is not connected".into(),
        OpenError::TooManyWaiting | OpenError::Stopping => error.to_string(),
    }
}

enum Failed {
    /// The way there; another may do.
    Tunnel(String),
    Final(DialError),
}

/// Bytes to and from a port of a workspace. Dropping it closes the connection.
///
/// Reading ends when the workspace closed its half; shutting down closes ours, and the workspace may still send. A broken
/// connection is an error of the reader, with the agent's reason.
#[derive(Debug)]
pub(crate) struct DialStream {
    call: Call,
    sender: Option<PolledSender>,
    unread: Bytes,
    /// The workspace said all.
    ended: bool,
}

impl DialStream {
    async fn connected(&mut self) -> Result<(), Failed> {
        match std::future::poll_fn(|cx| self.poll_message(cx)).await {
            Ok(Some(Received::Connected(_))) => Ok(()),
            Ok(_) => Err(Failed::Final(DialError::Agent(
                "the agent did not keep to the protocol".into(),
            ))),
            Err(CallError::NotStarted(status)) => Err(Failed::Tunnel(status.message().to_owned())),
            Err(CallError::Broken(status)) => Err(Failed::Tunnel(status.message().to_owned())),
            Err(CallError::Failed(status)) => Err(Failed::Final(match status.code() {
                Code::NotFound => DialError::NoSuchWorkspace,
                Code::PermissionDenied => DialError::NotDeclared,
                Code::FailedPrecondition => DialError::NobodyListens,
                Code::DeadlineExceeded => DialError::TimedOut,
                _ => DialError::Agent(status.message().to_owned()),
            })),
        }
    }

    /// The next message; none when the call is over.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Received>, CallError>> {
        loop {
            match ready!(self.call.poll_recv(cx))? {
                Event::Header => {}
                Event::End => return Poll::Ready(Ok(None)),
                Event::Message(data) => {
                    // Data is a view into the message, not a copy.
                    let decoded = DialResponse::decode(data).map_err(|error| {
                        CallError::Failed(tonic::Status::internal(error.to_string()))
                    })?;
                    return Poll::Ready(Ok(decoded.message));
                }
            }
        }
    }
}

impl AsyncRead for DialStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.poll_message(cx)).map_err(broken)? {
                Some(Received::Data(data)) => this.unread = data,
                Some(Received::Closed(_)) => this.ended = true,
                Some(Received::End(end)) if end.reason() == EndReason::Broken => {
                    this.ended = true;
                    return Poll::Ready(Err(broken(end.message)));
                }
                Some(Received::End(_) | Received::Connected(_)) | None => this.ended = true,
            }
        }
        let length = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DialStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(sender) = &mut self.get_mut().sender else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        ready!(sender.poll_ready(cx)).map_err(gone)?;
        let length = data.len().min(MAX_DATA);
        let piece = Bytes::copy_from_slice(&data[..length]);
        sender.send(encode(Sent::Data(piece))).map_err(gone)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(sender) = &mut this.sender else {
            return Poll::Ready(Ok(()));
        };
        // A call that is over needs no end of ours.
        if ready!(sender.poll_ready(cx)).is_ok() {
            let _ = sender.close();
        }
        this.sender = None;
        Poll::Ready(Ok(()))
    }
}

fn broken(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error.to_string())
}

fn gone(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error.to_string())
}

fn encode(message: Sent) -> Bytes {
    DialRequest {
        message: Some(message),
    }
    .encode_to_vec()
    .into()
}
