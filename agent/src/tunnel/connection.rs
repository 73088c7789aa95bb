//! One tunnel connection: a `Connect` stream that waits for a call, carries it, and ends.
//!
//! ```text
//!                     ┌────────────────── one task ──────────────────┐
//!  server ─frames──▶ pump ─Inbound──▶ handler ─Outbound──▶ AnswerStream ─frames──▶ server
//! ```
//!
//! Both channels are small: a caller that reads slowly slows the handler, and a handler that reads slowly slows the
//! caller, through HTTP/2's windows.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_core::reconnect::Outcome;
use agent_core::tunnel::{CloseReason, ConnectionId};
use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use proto::reverse_tunnel::rpc::{ConnectRequest, ConnectResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Streaming;

use super::Event;
use super::call::{Call, CallError, Code, Inbound, Metadata, Outbound};
use super::services::Services;
use crate::convert::tunnel::{Frames, Incoming, Order, Outgoing, incoming};
use crate::kas::Client;
use crate::kas::health::Health;
use crate::metrics::{CallOutcome, Metrics};

/// Messages of a request that wait for the handler. Each is at most 4 MiB (gRPC's limit), usually 32 KiB.
const INBOUND_MESSAGES: usize = 4;
/// Steps of an answer that wait for the server: with 64 KiB each, half a MiB. A small answer has five and never waits.
const OUTBOUND_STEPS: usize = 8;
/// How long a connection that has said everything waits for the server to end it. A server that never does loses it then.
const LINGER: Duration = Duration::from_secs(10);
/// The same for an idle connection that is to be closed: GitLab's server does not look at those, and has to be told by a
/// reset.
const IDLE_LINGER: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Served,
    Closed,
    Failed { outcome: Outcome, lived: Duration },
}

/// What a connection needs.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) client: Client,
    pub(super) services: Arc<Services>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Metrics,
    pub(super) events: mpsc::UnboundedSender<(ConnectionId, Event)>,
    pub(super) close: oneshot::Receiver<CloseReason>,
}

impl Connection {
    /// Lives until the connection is gone.
    pub(super) async fn run(mut self) -> Ended {
        let started = Instant::now();
        let (answer, steps) = mpsc::channel(OUTBOUND_STEPS);
        let stream = AnswerStream {
            descriptor: Some(self.services.descriptor()),
            opened: Some((self.id, self.events.clone())),
            order: Order::default(),
            frames: Frames::default(),
            steps,
        };
        // The await ends at the response headers, which GitLab's server sends only with its call: it is part of the wait.
        let client = self.client.clone();
        let first = async move {
            let mut responses = client.connect_tunnel(stream).await?;
            let first = responses.message().await?;
            Ok::<_, tonic::Status>((responses, first))
        };
        let mut first = std::pin::pin!(first);
        let first = tokio::select! {
            biased;
            result = &mut first => result,
            reason = &mut self.close => {
                // The server may be about to use this connection. The error tells it that nothing was started.
                let message = match reason {
                    Ok(CloseReason::Draining) => "agent is draining",
                    Ok(CloseReason::Surplus) | Err(_) => "agent closes an idle tunnel",
                };
                let error = CallError::new(Code::Unavailable, message);
                let _ = answer.try_send(Outgoing::End(Err(error)));
                drop(answer);
                let _ = tokio::time::timeout(IDLE_LINGER, &mut first).await;
                return Ended::Closed;
            }
        };
        match first {
            Ok((_, None)) => Ended::Closed,
            Err(status) => match self.health.failed("tunnel", &status) {
                Outcome::Ended | Outcome::Cancelled => Ended::Closed,
                outcome => Ended::Failed {
                    outcome,
                    lived: started.elapsed(),
                },
            },
            Ok((responses, Some(frame))) => {
                self.health.works("tunnel");
                self.serve(answer, responses, frame).await;
                Ended::Served
            }
        }
    }

    async fn serve(
        &self,
        answer: mpsc::Sender<Outgoing>,
        mut responses: Streaming<ConnectResponse>,
        first: ConnectResponse,
    ) {
        let _ = self.events.send((self.id, Event::Active));
        let Some(Incoming::Request { method, metadata }) = incoming(first) else {
            let error = CallError::new(Code::Internal, "the first frame is no request_info");
            finish(answer, responses, Err(error)).await;
            return;
        };
        let Some((service, handler)) = self.services.find(&method) else {
            self.metrics
                .count_call("unknown", CallOutcome::unknown_method);
            let error = CallError::new(
                Code::Unimplemented,
                format!("agent does not serve {method}"),
            );
            finish(answer, responses, Err(error)).await;
            return;
        };
        let (messages, inbound) = mpsc::channel(INBOUND_MESSAGES);
        let call = Call {
            metadata,
            inbound: Inbound(inbound),
            outbound: Outbound(answer.clone()),
        };
        tracing::trace!(method, id = self.id.0, "call");
        // The closure too: a handler may panic before it returns its future.
        let handling = AssertUnwindSafe(async { handler.handle(call).await }).catch_unwind();
        let result = tokio::select! {
            biased;
            result = handling => Some(result),
            broken = pump(&mut responses, messages) => broken.map(|error| Ok(Err(error))),
            () = answer.closed() => None,
        };
        let Some(result) = result else {
            self.metrics.count_call(service, CallOutcome::cancelled);
            tracing::debug!(method, id = self.id.0, "call cancelled by the server");
            return;
        };
        let (outcome, result) = match result {
            Ok(Ok(trailer)) => (CallOutcome::succeeded, Ok(trailer)),
            Ok(Err(error)) => {
                tracing::debug!(method, id = self.id.0, %error, "call failed");
                (CallOutcome::failed, Err(error))
            }
            Err(panic) => {
                let panic = panic_text(panic.as_ref());
                tracing::error!(method, panic, "a handler panicked; other calls go on");
                let error = CallError::new(Code::Internal, "the agent's handler panicked");
                (CallOutcome::panicked, Err(error))
            }
        };
        self.metrics.count_call(service, outcome);
        finish(answer, responses, result).await;
    }
}

/// Sends the end of the answer and waits until the server ends the stream: dropping it earlier would be a reset.
async fn finish(
    answer: mpsc::Sender<Outgoing>,
    mut responses: Streaming<ConnectResponse>,
    result: Result<Metadata, CallError>,
) {
    let ending = async {
        let _ = answer.send(Outgoing::End(result)).await;
        drop(answer);
        while let Ok(Some(_)) = responses.message().await {}
    };
    let _ = tokio::time::timeout(LINGER, ending).await;
}

/// Carries messages to the handler until the server ends the stream (`None`) or breaks the protocol.
async fn pump(
    responses: &mut Streaming<ConnectResponse>,
    messages: mpsc::Sender<Bytes>,
) -> Option<CallError> {
    let mut messages = Some(messages);
    loop {
        let frame = responses.message().await.ok()??;
        match (incoming(frame), &messages) {
            // A handler that has read enough is no reason to end the call.
            (Some(Incoming::Message(message)), Some(open)) => drop(open.send(message).await),
            (Some(Incoming::CloseSend), Some(_)) => messages = None,
            (Some(Incoming::Message(_) | Incoming::CloseSend), None) => {
                return Some(CallError::new(Code::Internal, "frame after close_send"));
            }
            (Some(Incoming::Request { .. }), _) => {
                return Some(CallError::new(Code::Internal, "second request_info"));
            }
            (None, _) => return Some(CallError::new(Code::Internal, "frame without content")),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// What the agent sends on the connection.
struct AnswerStream {
    descriptor: Option<ConnectRequest>,
    /// Taken with the descriptor: HTTP/2 asks for it once the stream exists.
    opened: Option<(ConnectionId, mpsc::UnboundedSender<(ConnectionId, Event)>)>,
    order: Order,
    frames: Frames,
    steps: mpsc::Receiver<Outgoing>,
}

impl Stream for AnswerStream {
    type Item = ConnectRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<ConnectRequest>> {
        if let Some(descriptor) = self.descriptor.take() {
            if let Some((id, events)) = self.opened.take() {
                let _ = events.send((id, Event::Opened));
            }
            return Poll::Ready(Some(descriptor));
        }
        loop {
            if let Some(frame) = self.frames.pop() {
                return Poll::Ready(Some(frame));
            }
            match ready!(self.steps.poll_recv(context)) {
                Some(step) => self.frames = self.order.frames(step),
                None => return Poll::Ready(None),
            }
        }
    }
}
