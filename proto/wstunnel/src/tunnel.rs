//! Reads and writes bytes as messages.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use crate::MAX_MESSAGE;
use crate::authority::Mender;

/// Largest message sent: two frames of HTTP/2's usual size. Larger ones would only wait longer at a peer that takes whole
/// messages.
const SENT_MESSAGE: usize = 32 * 1024;
/// Bytes of messages that are collected before they are written unasked; HTTP/2 flushes by itself when it has no more.
const WRITE_BUFFER: usize = 64 * 1024;
/// What one read from the network may bring.
const READ_BUFFER: usize = 64 * 1024;
/// What the server says at its end, as GitLab's does.
const GOING_AWAY: &str = "Shutting down";

/// One end of a tunnel: a stream of bytes. Ending it sends a close message, which the peer reads as the end of the stream;
/// unlike TCP there is no half that stays open.
pub struct Tunnel<S> {
    socket: WebSocketStream<S>,
    role: Role,
    /// At the server's end.
    mender: Option<Mender>,
    /// What is left of the last message.
    unread: Bytes,
    /// The next message, kept for its memory.
    message: BytesMut,
    closing: bool,
}

impl<S> fmt::Debug for Tunnel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // One message is added before the buffer is looked at again.
        .max_write_buffer_size(WRITE_BUFFER + 2 * SENT_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tunnel<S> {
    /// The server's end, after it has answered the handshake ([`crate::accept`]).
    pub async fn server(stream: S) -> Self {
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
        Self::new(socket, Role::Server)
    }

    pub(crate) fn client(socket: WebSocketStream<S>) -> Self {
        Self::new(socket, Role::Client)
    }

    fn new(socket: WebSocketStream<S>, role: Role) -> Self {
        Self {
            socket,
            mender: (role == Role::Server).then(Mender::default),
            role,
            unread: Bytes::new(),
            message: BytesMut::new(),
            closing: false,
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.socket)
            .poll_ready(context)
            .map_err(into_io)
    }

    /// What is said at the end.
    fn farewell(&self) -> CloseFrame {
        match self.role {
            Role::Client => CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            },
            Role::Server => CloseFrame {
                code: CloseCode::Away,
                reason: GOING_AWAY.into(),
            },
        }
    }

    fn send(&mut self) -> io::Result<usize> {
        // Once the message is written its memory is ours again: `reserve` in the next write finds it.
        let message = self.message.split().freeze();
        let sent = message.len();
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(message))
            .map_err(into_io)?;
        Ok(sent)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            // Pings are answered inside.
            match ready!(Pin::new(&mut this.socket).poll_next(context)) {
                Some(Ok(Message::Binary(message))) => {
                    this.unread = match &mut this.mender {
                        Some(mender) => mender.mend(message),
                        None => message,
                    };
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let text = "WebSocket message is not binary";
                    return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, text)));
                }
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ready(context))?;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut room = total.min(SENT_MESSAGE);
        this.message.reserve(room);
        for slice in slices {
            let part = &slice[..slice.len().min(room)];
            this.message.extend_from_slice(part);
            room -= part.len();
        }
        Poll::Ready(this.send())
    }

    fn is_write_vectored(&self) -> bool {
        // HTTP/2 then gives the head of a frame and its content together, and they become one message.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.socket).poll_flush(context)) {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) if this.closing => {
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result.map_err(into_io)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let farewell = Message::Close(Some(self.farewell()));
            let sent = match ready!(self.poll_ready(context)) {
                Ok(()) => Pin::new(&mut self.socket)
                    .start_send(farewell)
                    .map_err(into_io),
                Err(error) => Err(error),
            };
            match sent {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    return Poll::Ready(Err(error));
                }
                // Or the peer was first, and is to get the answer to its close message.
                Ok(()) | Err(_) => self.closing = true,
            }
        }
        self.poll_flush(context)
    }
}

/// The error as the stream's reader or writer sees it.
fn into_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io(_) => match error {
            Error::Io(error) => return error,
            _ => ErrorKind::Other,
        },
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::SendAfterClosing) => ErrorKind::BrokenPipe,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ErrorKind::UnexpectedEof,
        _ => ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
