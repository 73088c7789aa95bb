//! One call through a tunnel, from its opener's side.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use proto::reverse_tunnel::rpc::{
    CloseSend, ConnectResponse, connect_request::Msg, connect_response,
};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use tonic::{Code, Status};

use super::{
    Inbound, Phase, Tunnel,
    order::Order,
    registry::{AgentTunnels, frame, message},
};

/// What the agent answers.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The inner call was accepted.
    Header,
    Message(Bytes),
    /// The inner call is over and went well.
    End,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The agent refused before it began, for example because it drains: another tunnel may be tried.
    #[error("agent did not start the call: {}", .0.message())]
    NotStarted(Status),
    /// The inner call failed.
    #[error("agent answered {:?}: {}", .0.code(), .0.message())]
    Failed(Status),
    /// The tunnel broke, the agent's connection with it perhaps.
    #[error("tunnel broke: {}", .0.message())]
    Broken(Status),
}

/// A call. Dropping it early cancels the call inside the agent.
#[derive(Debug)]
pub(crate) struct Call {
    agent: Arc<AgentTunnels>,
    pub(super) tunnel: Arc<Tunnel>,
    inbound: Option<Inbound>,
    outbound: Option<mpsc::Sender<ConnectResponse>>,
    order: Order,
}

/// The sending half of a call, for a body that is sent while the answer is read.
#[derive(Clone, Debug)]
pub(crate) struct CallSender(mpsc::Sender<ConnectResponse>);

/// The sending half of a call, for a writer that is polled. It sends nothing more after [`Self::close`].
#[derive(Debug)]
pub(crate) struct PolledSender(PollSender<ConnectResponse>);

/// The call is over; nothing more can be sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the call is over")]
pub(crate) struct CallOver;

impl Call {
    pub(super) fn new(
        agent: Arc<AgentTunnels>,
        tunnel: Arc<Tunnel>,
        inbound: Inbound,
        outbound: Option<mpsc::Sender<ConnectResponse>>,
    ) -> Self {
        agent.call_began();
        Self {
            agent,
            tunnel,
            inbound: Some(inbound),
            outbound,
            order: Order::Header,
        }
    }

    /// The sending half, once; `None` when all was sent with the opening.
    pub(crate) fn take_sender(&mut self) -> Option<CallSender> {
        self.outbound.take().map(CallSender)
    }

    /// The next answer. After [`Event::End`] or an error the call is over.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, CallError>> {
        loop {
            let Some(inbound) = self.inbound.as_mut() else {
                return Poll::Ready(Ok(Event::End));
            };
            let received = match inbound.poll_frame(cx) {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    self.tunnel.call_waker.register(cx.waker());
                    let Phase::Ended(status) = &self.tunnel.slot().phase else {
                        return Poll::Pending;
                    };
                    let status = status.clone();
                    self.inbound = None;
                    return Poll::Ready(Err(CallError::Broken(status)));
                }
            };
            let msg = match received {
                Some(Ok(frame)) => frame.msg,
                Some(Err(status)) => {
                    self.inbound = None;
                    return Poll::Ready(Err(CallError::Broken(status)));
                }
                None => {
                    let complete = self.order.may_end();
                    self.finish();
                    return Poll::Ready(if complete {
                        Ok(Event::End)
                    } else {
                        Err(CallError::Broken(Status::unavailable(
                            "agent ended the stream early",
                        )))
                    });
                }
            };
            let Some(msg) = msg else {
                let status = Status::internal("agent sent a frame without content");
                self.cancel(status.clone());
                return Poll::Ready(Err(CallError::Broken(status)));
            };
            let began = self.order != Order::Header;
            match self.order.next(&msg) {
                Ok(order) => self.order = order,
                Err(out_of_order) => {
                    let status = Status::internal(out_of_order.to_string());
                    self.cancel(status.clone());
                    return Poll::Ready(Err(CallError::Broken(status)));
                }
            }
            match msg {
                Msg::Header(_) => return Poll::Ready(Ok(Event::Header)),
                Msg::Message(message) => return Poll::Ready(Ok(Event::Message(message.data))),
                // OK unless an error follows.
                Msg::Trailer(_) | Msg::Descriptor(_) => {}
                Msg::Error(error) => {
                    let status = error.status.unwrap_or_default();
                    let code = Code::from_i32(status.code);
                    let status = Status::new(code, status.message);
                    self.finish();
                    let not_started = !began && code == Code::Unavailable;
                    return Poll::Ready(Err(if not_started {
                        CallError::NotStarted(status)
                    } else {
                        CallError::Failed(status)
                    }));
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) async fn recv(&mut self) -> Result<Event, CallError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Ends a call whose answer is complete for its opener: what is left is read, the agent sees OK.
    pub(crate) fn finish(&mut self) {
        self.outbound = None;
        if let Some(inbound) = self.inbound.take() {
            self.tunnel.change(Phase::Draining, Some(inbound));
        }
    }

    /// Ends a call early: the agent ends it too.
    fn cancel(&mut self, status: Status) {
        self.outbound = None;
        if let Some(inbound) = self.inbound.take() {
            self.tunnel.change(Phase::Cancelled(status), Some(inbound));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.cancel(Status::cancelled("caller went away"));
        self.agent.call_ended();
    }
}

impl CallSender {
    /// Sends a message, waiting until the tunnel takes it.
    pub(crate) async fn send(&self, data: Bytes) -> Result<(), CallOver> {
        self.0.send(message(data)).await.map_err(|_| CallOver)
    }

    /// The same for writers that are polled.
    pub(crate) fn into_polled(self) -> PolledSender {
        PolledSender(PollSender::new(self.0))
    }

    /// Says that no more messages come.
    pub(crate) async fn close(self) -> Result<(), CallOver> {
        let close = frame(connect_response::Msg::CloseSend(CloseSend {}));
        self.0.send(close).await.map_err(|_| CallOver)
    }
}

impl PolledSender {
    /// Waits until the tunnel takes one more message.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallOver>> {
        self.0.poll_reserve(cx).map_err(|_| CallOver)
    }

    /// Sends a message; only after [`Self::poll_ready`] said that it may.
    pub(crate) fn send(&mut self, data: Bytes) -> Result<(), CallOver> {
        self.0.send_item(message(data)).map_err(|_| CallOver)
    }

    /// Says that no more messages come; only after [`Self::poll_ready`] said that it may.
    pub(crate) fn close(&mut self) -> Result<(), CallOver> {
        let close = frame(connect_response::Msg::CloseSend(CloseSend {}));
        let closed = self.0.send_item(close).map_err(|_| CallOver);
        self.0.close();
        closed
    }
}
