//! The server's side of one Connect stream: the response stream that tonic polls.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Future as _, Stream};
use proto::reverse_tunnel::rpc::{
    CloseSend, ConnectRequest, ConnectResponse, connect_request::Msg, connect_response::Msg as Sent,
};
use tokio::{sync::mpsc, time::Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::{
    ConnectionId, Inbound, Phase, Tunnel,
    registry::{AgentTunnels, Tunnels, frame},
};
use crate::{directory::Cut, listener::EndingToken};

/// How long an agent may take to say what a new tunnel serves.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may take to end a stream whose call is done.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames that may still come on such a stream.
const MAX_DRAINED_FRAMES: usize = 64;
/// Services times methods that one descriptor may name.
const MAX_METHODS: usize = 256;
/// Longest full path of a method.
const MAX_METHOD_PATH: usize = 512;

/// Frames from the server to the agent on one Connect stream.
pub(crate) struct ConnectStream {
    state: State,
    tunnels: Arc<Tunnels>,
    agent: Arc<AgentTunnels>,
    connection: ConnectionId,
    /// A request was sent, and not yet its end. A call that is done says it still, else an agent that reads its request
    /// to the end would wait for it.
    owes_close: bool,
    /// Ends when the agent's token is revoked.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends an idle tunnel whose connection is to carry nothing more; one that carries a call stays.
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// The agent has not said yet what it serves.
    Descriptor(Inbound),
    /// In the registry; what happens next is in the tunnel's phase.
    Open(Arc<Tunnel>),
    /// A call sends.
    Sending {
        tunnel: Arc<Tunnel>,
        first: std::vec::IntoIter<ConnectResponse>,
        rest: mpsc::Receiver<ConnectResponse>,
    },
    Draining {
        inbound: Inbound,
        frames: usize,
    },
    End,
}

impl ConnectStream {
    pub(crate) fn new(
        tunnels: &Arc<Tunnels>,
        agent_id: u64,
        connection: ConnectionId,
        cut: Cut,
        ending: EndingToken,
        inbound: Inbound,
    ) -> Result<Self, Status> {
        if tunnels.is_stopping() {
            return Err(Status::unavailable("server is stopping"));
        }
        Ok(Self {
            state: State::Descriptor(inbound),
            agent: tunnels.agent(agent_id),
            tunnels: Arc::clone(tunnels),
            connection,
            owes_close: false,
            cut: Box::pin(cut.cancelled_owned()),
            ending: Box::pin(ending.cancelled_owned()),
            deadline: None,
        })
    }

    /// The end of the stream, with the call told when there is one.
    fn end(&mut self, status: Status) {
        let (State::Open(tunnel) | State::Sending { tunnel, .. }) =
            std::mem::replace(&mut self.state, State::End)
        else {
            return;
        };
        let was = std::mem::replace(&mut tunnel.slot().phase, Phase::Ended(status));
        match was {
            Phase::Idle => self.agent.remove(&tunnel),
            Phase::Taken { .. }
            | Phase::Active
            | Phase::Draining
            | Phase::Cancelled(_)
            | Phase::Dismissed
            | Phase::Ended(_) => tunnel.call_waker.wake(),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, after: Duration) -> Poll<()> {
        self.deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(after)))
            .as_mut()
            .poll(cx)
    }

    fn poll_descriptor(
        &mut self,
        cx: &mut Context<'_>,
        mut inbound: Inbound,
    ) -> Poll<Option<Result<ConnectResponse, Status>>> {
        match inbound.poll_frame(cx) {
            Poll::Pending => {
                self.state = State::Descriptor(inbound);
                if self.poll_deadline(cx, DESCRIPTOR_TIMEOUT).is_pending() {
                    return Poll::Pending;
                }
                self.state = State::End;
                Poll::Ready(Some(Err(Status::deadline_exceeded("no descriptor"))))
            }
            Poll::Ready(None | Some(Err(_))) => {
                self.state = State::End;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => match served_methods(frame) {
                Err(status) => {
                    self.state = State::End;
                    Poll::Ready(Some(Err(status)))
                }
                Ok(methods) => {
                    self.deadline = None;
                    let tunnel = Arc::new(Tunnel::new(self.connection, methods, inbound));
                    self.state = State::Open(Arc::clone(&tunnel));
                    if let Err(status) = self.agent.offer(tunnel) {
                        self.state = State::End;
                        return Poll::Ready(Some(Err(status)));
                    }
                    // Stopping came between the check and the offer: nobody would dismiss this tunnel.
                    if self.tunnels.is_stopping() {
                        self.end(Status::unavailable("server is stopping"));
                        return Poll::Ready(None);
                    }
                    self.poll_phase(cx)
                }
            },
        }
    }

    /// Acts on the tunnel's phase, while no call has frames to send.
    fn poll_phase(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ConnectResponse, Status>>> {
        let State::Open(tunnel) = &self.state else {
            return Poll::Ready(None);
        };
        let tunnel = Arc::clone(tunnel);
        tunnel.stream_waker.register(cx.waker());
        let mut slot = tunnel.slot();
        match &mut slot.phase {
            Phase::Active => Poll::Pending,
            Phase::Idle if self.ending.as_mut().poll(cx).is_ready() => {
                // Under the same lock: a call that comes now looks for another tunnel.
                slot.phase = Phase::Ended(Status::unavailable("the connection is ending"));
                drop(slot);
                self.agent.remove(&tunnel);
                self.state = State::End;
                Poll::Ready(None)
            }
            Phase::Idle => {
                let frame = match slot.inbound.as_mut() {
                    Some(inbound) => inbound.poll_frame(cx),
                    None => Poll::Ready(None),
                };
                drop(slot);
                let Poll::Ready(frame) = frame else {
                    return Poll::Pending;
                };
                self.end(Status::unavailable("agent closed the tunnel"));
                match frame.and_then(Result::ok).and_then(|frame| frame.msg) {
                    // The agent goes away, or says why it will not serve.
                    None | Some(Msg::Error(_)) => Poll::Ready(None),
                    Some(_) => Poll::Ready(Some(Err(Status::invalid_argument(
                        "frame before a request",
                    )))),
                }
            }
            Phase::Taken { .. } => {
                let phase = std::mem::replace(&mut slot.phase, Phase::Active);
                drop(slot);
                if let Phase::Taken { first, rest } = phase {
                    self.state = State::Sending {
                        tunnel,
                        first: first.into_iter(),
                        rest,
                    };
                }
                self.poll_sending(cx)
            }
            Phase::Draining => {
                let inbound = slot.inbound.take();
                slot.phase = Phase::Ended(Status::ok(""));
                drop(slot);
                self.state = match inbound {
                    Some(inbound) => State::Draining { inbound, frames: 0 },
                    None => State::End,
                };
                self.poll_draining(cx)
            }
            Phase::Cancelled(status) => {
                let status = status.clone();
                slot.phase = Phase::Ended(status.clone());
                drop(slot);
                self.state = State::End;
                Poll::Ready(Some(Err(status)))
            }
            Phase::Dismissed => {
                slot.phase = Phase::Ended(Status::unavailable("server is stopping"));
                drop(slot);
                self.state = State::End;
                Poll::Ready(None)
            }
            Phase::Ended(_) => {
                drop(slot);
                self.state = State::End;
                Poll::Ready(None)
            }
        }
    }

    fn poll_sending(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ConnectResponse, Status>>> {
        let State::Sending {
            tunnel,
            first,
            rest,
        } = &mut self.state
        else {
            return Poll::Ready(None);
        };
        tunnel.stream_waker.register(cx.waker());
        let active = matches!(tunnel.slot().phase, Phase::Active);
        if active || matches!(tunnel.slot().phase, Phase::Draining) {
            let frame = match first.next() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => rest.poll_recv(cx),
            };
            match frame {
                Poll::Ready(Some(frame)) => {
                    self.owes_close = !matches!(frame.msg, Some(Sent::CloseSend(_)));
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Pending if active => return Poll::Pending,
                Poll::Pending | Poll::Ready(None) => {}
            }
        }
        // The call has nothing more to send, or is over.
        if let State::Sending { tunnel, .. } = std::mem::replace(&mut self.state, State::End) {
            self.state = State::Open(tunnel);
        }
        self.poll_phase(cx)
    }

    fn poll_draining(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ConnectResponse, Status>>> {
        if self.owes_close && matches!(self.state, State::Draining { .. }) {
            self.owes_close = false;
            return Poll::Ready(Some(Ok(frame(Sent::CloseSend(CloseSend {})))));
        }
        loop {
            let State::Draining { inbound, frames } = &mut self.state else {
                return Poll::Ready(None);
            };
            match inbound.poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) if *frames < MAX_DRAINED_FRAMES => *frames += 1,
                Poll::Ready(_) => self.state = State::End,
                Poll::Pending => {
                    std::task::ready!(self.poll_deadline(cx, DRAIN_TIMEOUT));
                    self.state = State::End;
                }
            }
        }
    }
}

impl Stream for ConnectStream {
    type Item = Result<ConnectResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !matches!(this.state, State::End) && this.cut.as_mut().poll(cx).is_ready() {
            let status = Status::unauthenticated("unauthenticated");
            this.end(status.clone());
            this.state = State::End;
            return Poll::Ready(Some(Err(status)));
        }
        match std::mem::replace(&mut this.state, State::End) {
            State::Descriptor(inbound) => this.poll_descriptor(cx, inbound),
            state @ State::Open(_) => {
                this.state = state;
                this.poll_phase(cx)
            }
            state @ State::Sending { .. } => {
                this.state = state;
                this.poll_sending(cx)
            }
            state @ State::Draining { .. } => {
                this.state = state;
                this.poll_draining(cx)
            }
            State::End => Poll::Ready(None),
        }
    }
}

impl Drop for ConnectStream {
    fn drop(&mut self) {
        self.end(Status::unavailable("connection to the agent was lost"));
    }
}

impl std::fmt::Debug for ConnectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectStream")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The full paths of all methods in a descriptor.
fn served_methods(frame: ConnectRequest) -> Result<Vec<String>, Status> {
    let Some(Msg::Descriptor(descriptor)) = frame.msg else {
        return Err(Status::invalid_argument(
            "the first frame is the descriptor",
        ));
    };
    let services = descriptor.agent_descriptor.unwrap_or_default().services;
    let count: usize = services.iter().map(|service| service.methods.len()).sum();
    if count > MAX_METHODS {
        return Err(Status::invalid_argument(
            "the descriptor names too many methods",
        ));
    }
    let mut paths = Vec::with_capacity(count);
    for service in &services {
        for method in &service.methods {
            if service.name.is_empty() || method.name.is_empty() {
                return Err(Status::invalid_argument(
                    "the descriptor has a service or method without a name",
                ));
            }
            let path = format!("/{}/{}", service.name, method.name);
            if path.len() > MAX_METHOD_PATH {
                return Err(Status::invalid_argument(
                    "the descriptor has a name that is too long",
                ));
            }
            paths.push(path);
        }
    }
    Ok(paths)
}
