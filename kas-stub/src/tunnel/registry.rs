//! Which tunnels are free, and who waits for one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::reverse_tunnel::rpc::{
    CloseSend, ConnectResponse, Message, RequestInfo, connect_response::Msg,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{Call, ConnectionId, OUTBOUND_FRAMES, Phase, Tunnel};

/// Calls that wait for a tunnel of one agent; more would only wait longer.
const MAX_WAITING: usize = 1000;
/// Idle tunnels of one agent: GitLab's agent opens at most 500 for each Pod.
const MAX_IDLE: usize = 4000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// GitLab's server says it with these words.
    #[error("Agent connection not found. Is agent up to date and connected?")]
    NoTunnel,
    #[error("{MAX_WAITING} requests wait for this agent already")]
    TooManyWaiting,
    #[error("server is stopping")]
    Stopping,
}

/// How a call begins.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// Full path: /package.Service/Method.
    pub(crate) method: &'static str,
    /// The first messages, sent together with the method in one go.
    pub(crate) messages: Vec<Bytes>,
    /// Whether these are all messages.
    pub(crate) close_send: bool,
}

/// Tunnels of one agent, for people to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TunnelCounts {
    pub(crate) idle: usize,
    pub(crate) active: usize,
    pub(crate) waiting: usize,
}

/// All tunnels of all agents.
#[derive(Debug)]
pub(crate) struct Tunnels {
    agents: RwLock<HashMap<u64, Arc<AgentTunnels>>>,
    find_timeout: Duration,
    stopping: AtomicBool,
}

/// The tunnels of one agent.
#[derive(Debug, Default)]
pub(super) struct AgentTunnels {
    ready: Mutex<Ready>,
    active: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ready {
    idle: BTreeMap<ConnectionId, Vec<Arc<Tunnel>>>,
    idle_count: usize,
    /// The connection that the last call was given to; the next one gets the next.
    last: ConnectionId,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    method: &'static str,
    found: oneshot::Sender<Handover>,
}

/// A tunnel on its way to a waiter; offered again when the waiter has gone away.
#[derive(Debug)]
struct Handover {
    agent: Arc<AgentTunnels>,
    tunnel: Option<Arc<Tunnel>>,
}

impl Tunnels {
    pub(crate) fn new(find_timeout: Duration) -> Self {
        Self {
            agents: RwLock::default(),
            find_timeout,
            stopping: AtomicBool::new(false),
        }
    }

    /// Opens a call through one of the agent's tunnels, waiting for one when none is free.
    pub(crate) async fn open(&self, agent_id: u64, opening: &Opening) -> Result<Call, OpenError> {
        let agent = self.agent(agent_id);
        loop {
            if self.stopping.load(Relaxed) {
                return Err(OpenError::Stopping);
            }
            // A statement of its own: its lock is taken again to wait.
            let idle = agent.ready().take(opening.method);
            let tunnel = match idle {
                Some(tunnel) => tunnel,
                None => {
                    let waiting = agent.wait(opening.method)?;
                    let handover = tokio::time::timeout(self.find_timeout, waiting).await;
                    match handover.ok().and_then(Result::ok) {
                        Some(handover) => handover.accept(),
                        None if self.stopping.load(Relaxed) => return Err(OpenError::Stopping),
                        None => return Err(OpenError::NoTunnel),
                    }
                }
            };
            if let Some(call) = begin(&agent, tunnel, opening) {
                return Ok(call);
            }
            // It ended in the moment it was taken: look for another.
        }
    }

    pub(crate) fn counts(&self, agent_id: u64) -> TunnelCounts {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents
            .get(&agent_id)
            .map_or_else(TunnelCounts::default, |agent| agent.counts())
    }

    /// The sum over all agents.
    pub(crate) fn total(&self) -> TunnelCounts {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents
            .values()
            .map(|agent| agent.counts())
            .fold(TunnelCounts::default(), |sum, one| TunnelCounts {
                idle: sum.idle + one.idle,
                active: sum.active + one.active,
                waiting: sum.waiting + one.waiting,
            })
    }

    /// Lets go of every idle tunnel (they end with OK) and of who waits; nothing new begins.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        for agent in agents.values() {
            let ready = std::mem::take(&mut *agent.ready());
            for tunnel in ready.idle.into_values().flatten() {
                let mut slot = tunnel.slot();
                if matches!(slot.phase, Phase::Idle) {
                    slot.phase = Phase::Dismissed;
                }
                drop(slot);
                tunnel.stream_waker.wake();
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    pub(super) fn agent(&self, agent_id: u64) -> Arc<AgentTunnels> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&agent_id) {
            return Arc::clone(agent);
        }
        drop(agents);
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(agents.entry(agent_id).or_default())
    }
}

impl AgentTunnels {
    /// Adds a free tunnel: to who waits longest for it, else to the idle ones.
    pub(super) fn offer(self: &Arc<Self>, mut tunnel: Arc<Tunnel>) -> Result<(), Status> {
        loop {
            let mut ready = self.ready();
            let waiter = ready
                .waiting
                .iter()
                .position(|waiter| tunnel.serves(waiter.method))
                .and_then(|place| ready.waiting.remove(place));
            let Some(waiter) = waiter else {
                ready.add(Arc::clone(&tunnel))?;
                drop(ready);
                // It may have ended on its way here, when there was nothing to take out yet.
                if !matches!(tunnel.slot().phase, Phase::Idle) {
                    self.remove(&tunnel);
                }
                return Ok(());
            };
            drop(ready);
            let handover = Handover {
                agent: Arc::clone(self),
                tunnel: Some(tunnel),
            };
            match waiter.found.send(handover) {
                Ok(()) => return Ok(()),
                Err(refused) => tunnel = refused.accept(),
            }
        }
    }

    /// Takes out a tunnel that ended while it was idle.
    pub(super) fn remove(&self, tunnel: &Arc<Tunnel>) {
        self.ready().remove(tunnel);
    }

    pub(super) fn call_began(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    pub(super) fn call_ended(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    fn wait(&self, method: &'static str) -> Result<oneshot::Receiver<Handover>, OpenError> {
        let mut ready = self.ready();
        ready.waiting.retain(|waiter| !waiter.found.is_closed());
        if ready.waiting.len() >= MAX_WAITING {
            return Err(OpenError::TooManyWaiting);
        }
        let (found, waiting) = oneshot::channel();
        ready.waiting.push_back(Waiter { method, found });
        Ok(waiting)
    }

    fn counts(&self) -> TunnelCounts {
        let ready = self.ready();
        TunnelCounts {
            idle: ready.idle_count,
            active: self.active.load(Relaxed),
            waiting: ready
                .waiting
                .iter()
                .filter(|waiter| !waiter.found.is_closed())
                .count(),
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ready {
    fn add(&mut self, tunnel: Arc<Tunnel>) -> Result<(), Status> {
        if self.idle_count >= MAX_IDLE {
            return Err(Status::resource_exhausted("too many idle tunnels"));
        }
        self.idle_count += 1;
        self.idle.entry(tunnel.connection).or_default().push(tunnel);
        Ok(())
    }

    /// The next connection's newest tunnel: agents close idle tunnels from the oldest on.
    fn take(&mut self, method: &str) -> Option<Arc<Tunnel>> {
        let after = self.idle.range((Excluded(self.last), Unbounded));
        let around = self.idle.range(..=self.last);
        let (connection, place) = after.chain(around).find_map(|(connection, tunnels)| {
            let place = tunnels.iter().rposition(|tunnel| tunnel.serves(method))?;
            Some((*connection, place))
        })?;
        self.last = connection;
        self.take_at(connection, place)
    }

    fn remove(&mut self, tunnel: &Arc<Tunnel>) {
        let place = self
            .idle
            .get(&tunnel.connection)
            .and_then(|tunnels| tunnels.iter().position(|idle| Arc::ptr_eq(idle, tunnel)));
        if let Some(place) = place {
            self.take_at(tunnel.connection, place);
        }
    }

    fn take_at(&mut self, connection: ConnectionId, place: usize) -> Option<Arc<Tunnel>> {
        let tunnels = self.idle.get_mut(&connection)?;
        let tunnel = tunnels.remove(place);
        if tunnels.is_empty() {
            self.idle.remove(&connection);
        }
        self.idle_count -= 1;
        Some(tunnel)
    }
}

impl Handover {
    fn accept(mut self) -> Arc<Tunnel> {
        self.tunnel.take().expect("a handover is accepted once")
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            // At the limit of idle tunnels it is dropped, and its stream idles on unused.
            let _ = self.agent.offer(tunnel);
        }
    }
}

/// Hands the call's first frames to the stream's task; `None` when the tunnel is no longer idle.
fn begin(agent: &Arc<AgentTunnels>, tunnel: Arc<Tunnel>, opening: &Opening) -> Option<Call> {
    let (outbound, rest) = mpsc::channel(OUTBOUND_FRAMES);
    let inbound = {
        let mut slot = tunnel.slot();
        if !matches!(slot.phase, Phase::Idle) {
            return None;
        }
        let inbound = slot.inbound.take()?;
        slot.phase = Phase::Taken {
            first: opening.frames(),
            rest,
        };
        inbound
    };
    tunnel.stream_waker.wake();
    let outbound = (!opening.close_send).then_some(outbound);
    Some(Call::new(Arc::clone(agent), tunnel, inbound, outbound))
}

impl Opening {
    fn frames(&self) -> Vec<ConnectResponse> {
        let mut frames = Vec::with_capacity(self.messages.len() + 2);
        frames.push(frame(Msg::RequestInfo(RequestInfo {
            method_name: self.method.to_owned(),
            // Nothing of the caller's metadata: credentials of people are none of the agent's business.
            meta: Vec::new(),
        })));
        frames.extend(self.messages.iter().map(|data| message(data.clone())));
        if self.close_send {
            frames.push(frame(Msg::CloseSend(CloseSend {})));
        }
        frames
    }
}

pub(super) fn message(data: Bytes) -> ConnectResponse {
    frame(Msg::Message(Message { data }))
}

pub(super) fn frame(msg: Msg) -> ConnectResponse {
    ConnectResponse { msg: Some(msg) }
}
