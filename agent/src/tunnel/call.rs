//! A call that came through the tunnel, as its handler sees it.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::convert::tunnel::Outgoing;

/// Metadata of a call: lower-case keys with their values.
pub type Metadata = Vec<(String, Vec<Bytes>)>;

/// gRPC's codes, as far as the agent answers with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The call was cancelled.
    Cancelled,
    /// The request makes no sense.
    InvalidArgument,
    /// The deadline passed.
    DeadlineExceeded,
    /// What was asked for does not exist.
    NotFound,
    /// What was asked for is not allowed.
    PermissionDenied,
    /// What was asked for is not as it would have to be.
    FailedPrecondition,
    /// Nothing serves this method.
    Unimplemented,
    /// A defect, or a peer that breaks the protocol.
    Internal,
    /// What was asked cannot be reached now.
    Unavailable,
}

impl From<Code> for i32 {
    fn from(code: Code) -> Self {
        match code {
            Code::Cancelled => 1,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::NotFound => 5,
            Code::PermissionDenied => 7,
            Code::FailedPrecondition => 9,
            Code::Unimplemented => 12,
            Code::Internal => 13,
            Code::Unavailable => 14,
        }
    }
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The kind.
    pub code: Code,
    /// For the caller.
    pub message: String,
}

impl CallError {
    /// Makes one.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CallError {}

/// Answers calls of one method.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call. The future is dropped when the server ends the call; whatever it started must end with it.
    fn handle(&self, call: Call) -> BoxFuture<'static, Result<Metadata, CallError>>;
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// What came with it. Keys of the server's own connections are taken out.
    pub metadata: Metadata,
    /// The request's messages.
    pub inbound: Inbound,
    /// Takes the answer's messages.
    pub outbound: Outbound,
}

/// The request's messages.
#[derive(Debug)]
pub struct Inbound(pub(super) mpsc::Receiver<Bytes>);

impl Inbound {
    /// The next message; `None` when the caller has sent all. Cancel-safe.
    pub async fn message(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    /// As [`Self::message`].
    pub fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(context)
    }
}

/// The tunnel connection is gone: nobody reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl From<Gone> for CallError {
    fn from(Gone: Gone) -> Self {
        Self::new(Code::Cancelled, "the tunnel connection is gone")
    }
}

/// Takes the answer's messages. When the server reads slowly, sending waits.
#[derive(Debug)]
pub struct Outbound(pub(super) mpsc::Sender<Outgoing>);

impl Outbound {
    /// Sends the answer's metadata. Without this, an empty one goes before the first message.
    ///
    /// # Errors
    ///
    /// [`Gone`]
    pub async fn header(&mut self, metadata: Metadata) -> Result<(), Gone> {
        self.send(Outgoing::Header(metadata)).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`Gone`]
    pub async fn message(&mut self, message: Bytes) -> Result<(), Gone> {
        self.send(Outgoing::Message(message)).await
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<(), Gone> {
        self.0.send(outgoing).await.map_err(|_| Gone)
    }
}
