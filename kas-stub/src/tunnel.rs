//! The tunnels that agents opened, and the calls that go through them.
//!
//! ```text
//!                    offer                 take
//!  agent ─Connect─▶ [`ConnectStream`] ─▶ [`Tunnels`] ─▶ [`Call`] ◀─ proxy
//!        ◀──── what the call sends ◀──── a short queue ◀─────┘ │
//!        ───── what the agent answers, read by the call itself ▶┘
//! ```
//!
//! One Connect stream carries one call. While it idles, the stream's own task watches it, so that a tunnel whose
//! agent went away is gone from the registry at once. When a call takes it, the receiving half moves into the call:
//! answers reach their reader without a task or a copy in between, and an unread answer fills HTTP/2's window of that
//! one stream and nothing else.

mod call;
mod connect;
mod order;
mod registry;

use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use proto::reverse_tunnel::rpc::{ConnectRequest, ConnectResponse};
use tokio::sync::mpsc;
use tonic::Status;

pub(crate) use call::{Call, CallError, CallSender, Event, PolledSender};
pub(crate) use connect::ConnectStream;
pub(crate) use registry::{OpenError, Opening, TunnelCounts, Tunnels};

/// Frames of a call that wait for HTTP/2 to take them: enough to keep it busy, little to hold back a cancellation.
const OUTBOUND_FRAMES: usize = 8;

/// The connection a tunnel came by; calls are spread over connections, and so over an agent's Pods.
pub(crate) type ConnectionId = u64;

/// What an agent sends on a Connect stream.
#[cfg_attr(
    test,
    expect(clippy::large_enum_variant, reason = "the small one is for tests")
)]
pub(crate) enum Inbound {
    Grpc(tonic::Streaming<ConnectRequest>),
    #[cfg(test)]
    Scripted(mpsc::Receiver<Result<ConnectRequest, Status>>),
}

impl Inbound {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ConnectRequest, Status>>> {
        match self {
            Self::Grpc(streaming) => Pin::new(streaming).poll_next(cx),
            #[cfg(test)]
            Self::Scripted(frames) => frames.poll_recv(cx),
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbound")
    }
}

/// One Connect stream, shared by the stream's task, the registry and the call.
#[derive(Debug)]
pub(crate) struct Tunnel {
    connection: ConnectionId,
    methods: Vec<String>,
    slot: Mutex<Slot>,
    /// Wakes the stream's task when a call took, finished or dropped the tunnel.
    stream_waker: AtomicWaker,
    /// Wakes the call when the stream's task ended.
    call_waker: AtomicWaker,
}

#[derive(Debug)]
struct Slot {
    phase: Phase,
    /// With the stream's task while idle or draining, with the call in between.
    inbound: Option<Inbound>,
}

/// Where in its life a tunnel is; changed only under the lock of its slot.
#[derive(Debug)]
enum Phase {
    /// Waits for a call.
    Idle,
    /// A call took it, and left these for the stream's task to send.
    Taken {
        first: Vec<ConnectResponse>,
        rest: mpsc::Receiver<ConnectResponse>,
    },
    /// A call has it.
    Active,
    /// The call has all it wants; the stream's task reads on until the agent ends the stream.
    Draining,
    /// The call went away early; the agent is told.
    Cancelled(Status),
    /// The server stops: an idle tunnel ends with OK.
    Dismissed,
    /// The stream is over; the call learns why.
    Ended(Status),
}

impl Tunnel {
    fn new(connection: ConnectionId, methods: Vec<String>, inbound: Inbound) -> Self {
        Self {
            connection,
            methods,
            slot: Mutex::new(Slot {
                phase: Phase::Idle,
                inbound: Some(inbound),
            }),
            stream_waker: AtomicWaker::new(),
            call_waker: AtomicWaker::new(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serves(&self, method: &str) -> bool {
        self.methods.iter().any(|served| served == method)
    }

    /// Changes the phase and wakes the stream's task to look at it; a tunnel that has ended stays so.
    fn change(&self, phase: Phase, inbound: Option<Inbound>) {
        let mut slot = self.slot();
        if !matches!(slot.phase, Phase::Ended(_)) {
            slot.phase = phase;
            slot.inbound = inbound;
        }
        drop(slot);
        self.stream_waker.wake();
    }
}

#[cfg(test)]
mod tests;
