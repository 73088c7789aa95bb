//! The pool of tunnel connections, without the connections.
//!
//! A tunnel connection is one `Connect` stream that the agent opened to the server; it carries one call and ends. The
//! owner of a [`TunnelPool`] tells it what happened (`handle_*`), then asks [`TunnelPool::poll_command`] until it has
//! nothing more to say, and asks again at [`TunnelPool::next_wake`].
//!
//! ```text
//!            Open               opened               request arrives
//!  (nothing) ─────▶ Connecting ─────────▶ Idle ───────────────────────▶ Active
//!                       │  Close           │ Close (surplus, draining)     │ call over
//!                       └────────▶ Closing ◀┘                              │
//!                                     └───────────▶ (gone) ◀───────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::reconnect::MIN_SPACING;

#[cfg(test)]
mod tests;

/// Names a connection for as long as the pool lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The pool's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many connections wait for a call at least.
    pub min_idle: usize,
    /// So many are opened at most when one becomes active and too few are left.
    pub scale_up_step: usize,
    /// There are never more, in whichever state.
    pub max: usize,
    /// An idle connection above the minimum is closed after this time.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    /// The numbers of GitLab's agent.
    fn default() -> Self {
        Self {
            min_idle: 2,
            scale_up_step: 10,
            max: 500,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The call was started; the server may not have it yet.
    Connecting,
    /// The server has it and may use it.
    Idle { since: Duration },
    /// It carries a call.
    Active,
    /// It was told to close and is not gone yet.
    Closing,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It carried a call, whatever became of that.
    Served,
    /// The server, or the agent, closed it while it was idle.
    Closed,
    /// It broke or was refused. Nothing is opened before this time has passed.
    Failed {
        /// See [`TunnelPool::is_delayed`].
        delay: Duration,
    },
}

/// Why an idle connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// There have been more than needed for a while.
    Surplus,
    /// The agent is about to stop.
    Draining,
}

/// What the owner of the pool is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Open a connection.
    Open(ConnectionId),
    /// Close an idle connection; its end is still to be reported.
    Close(ConnectionId, CloseReason),
}

/// How many connections are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Started, not yet known to have reached the server.
    pub connecting: usize,
    /// Waiting for a call.
    pub idle: usize,
    /// Carrying a call.
    pub active: usize,
    /// Told to close.
    pub closing: usize,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> usize {
        self.connecting + self.idle + self.active + self.closing
    }

    /// Those that serve the next call, now or soon.
    fn waiting(self) -> usize {
        self.connecting + self.idle
    }
}

/// Decides how many tunnel connections there are.
#[derive(Debug)]
pub struct TunnelPool {
    settings: Settings,
    connections: BTreeMap<ConnectionId, State>,
    /// Kept beside the map, so that no event walks through it; changed only in `enter` and `leave`.
    counts: Counts,
    next_id: u64,
    /// How many to open beyond the minimum, as the load asked.
    extra: usize,
    /// Nothing is opened before.
    delayed_until: Duration,
    draining: bool,
}

impl TunnelPool {
    /// Makes a pool without connections.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            connections: BTreeMap::new(),
            counts: Counts::default(),
            next_id: 0,
            extra: 0,
            delayed_until: Duration::ZERO,
            draining: false,
        }
    }

    /// The server has the connection.
    pub fn handle_opened(&mut self, id: ConnectionId, now: Duration) {
        if self.connections.get(&id) == Some(&State::Connecting) {
            self.enter(id, State::Idle { since: now });
        }
    }

    /// The connection got a call. If too few remain idle, more are opened.
    pub fn handle_active(&mut self, id: ConnectionId) {
        match self.connections.get(&id) {
            // A connection that was told to close may still have got a call, and then serves it.
            Some(State::Connecting | State::Idle { .. } | State::Closing) => {
                self.enter(id, State::Active);
            }
            Some(State::Active) | None => return,
        }
        if self.counts.waiting() < self.settings.min_idle {
            let room = self.settings.max - self.counts.total();
            self.extra = self.settings.scale_up_step.min(room);
        }
    }

    /// The connection is gone.
    pub fn handle_ended(&mut self, id: ConnectionId, end: End, now: Duration) {
        let Some(state) = self.leave(id) else {
            return;
        };
        match end {
            End::Served => {
                // Under load each call's place is taken by a new connection at once; a past peak is forgotten.
                if self.counts.waiting() + self.extra
                    < self.settings.min_idle + self.settings.scale_up_step
                {
                    self.extra += 1;
                }
            }
            End::Closed => {
                let lived = match state {
                    State::Idle { since } => now.saturating_sub(since),
                    State::Connecting => Duration::ZERO,
                    // It was asked for: nothing to slow down.
                    State::Closing | State::Active => MIN_SPACING,
                };
                if lived < MIN_SPACING {
                    self.delay(MIN_SPACING, now);
                }
            }
            End::Failed { delay } => {
                // The load of before the failure is over; the minimum is enough to learn that the server is back.
                self.extra = 0;
                self.delay(delay, now);
            }
        }
    }

    /// The server was reached on another connection: whatever delay there was is pointless now.
    pub fn handle_reachable(&mut self, now: Duration) {
        self.delayed_until = now;
    }

    /// The agent is about to stop: idle connections are closed, active ones may finish, nothing is opened any more.
    pub fn handle_drain(&mut self) {
        self.draining = true;
        self.extra = 0;
    }

    /// Whether a failure has already put off the next attempt. A further failure then needs no longer delay: connections
    /// that break together are one failure.
    pub fn is_delayed(&self, now: Duration) -> bool {
        now < self.delayed_until
    }

    /// Whether a draining pool has no connection left.
    pub fn is_drained(&self) -> bool {
        self.draining && self.connections.is_empty()
    }

    /// How many connections are in which state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Says what to do next, or that there is nothing to do until the next event or [`Self::next_wake`].
    pub fn poll_command(&mut self, now: Duration) -> Option<Command> {
        if self.draining {
            let id = self.first(|state| matches!(state, State::Connecting | State::Idle { .. }))?;
            self.enter(id, State::Closing);
            return Some(Command::Close(id, CloseReason::Draining));
        }
        if let Some(id) = self.surplus(now) {
            // What the load asked for once and could not get is not wanted any more.
            self.extra = 0;
            self.enter(id, State::Closing);
            return Some(Command::Close(id, CloseReason::Surplus));
        }
        if self.wants_more() && !self.is_delayed(now) {
            self.extra = self.extra.saturating_sub(1);
            let id = ConnectionId(self.next_id);
            self.next_id += 1;
            self.enter(id, State::Connecting);
            return Some(Command::Open(id));
        }
        None
    }

    /// When to ask [`Self::poll_command`] again even if nothing happens.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        if self.draining {
            return None;
        }
        let open = (self.wants_more() && self.is_delayed(now)).then_some(self.delayed_until);
        let close = self
            .oldest_idle_above_minimum()
            .map(|(_, since)| since + self.settings.idle_timeout);
        match (open, close) {
            (Some(open), Some(close)) => Some(open.min(close)),
            (open, close) => open.or(close),
        }
    }

    fn wants_more(&self) -> bool {
        let wanted = self
            .extra
            .max(self.settings.min_idle.saturating_sub(self.counts.waiting()));
        wanted > 0 && self.counts.total() < self.settings.max
    }

    fn surplus(&self, now: Duration) -> Option<ConnectionId> {
        let (id, since) = self.oldest_idle_above_minimum()?;
        (now >= since + self.settings.idle_timeout).then_some(id)
    }

    /// The connection that has been idle for longest, if it is not needed.
    fn oldest_idle_above_minimum(&self) -> Option<(ConnectionId, Duration)> {
        if self.counts.idle <= self.settings.min_idle {
            return None;
        }
        self.connections
            .iter()
            .filter_map(|(id, state)| match state {
                State::Idle { since } => Some((*id, *since)),
                State::Connecting | State::Active | State::Closing => None,
            })
            .min_by_key(|(id, since)| (*since, *id))
    }

    fn first(&self, wanted: impl Fn(&State) -> bool) -> Option<ConnectionId> {
        self.connections
            .iter()
            .find(|(_, state)| wanted(state))
            .map(|(id, _)| *id)
    }

    fn delay(&mut self, delay: Duration, now: Duration) {
        self.delayed_until = self.delayed_until.max(now + delay);
    }

    /// The only place where a connection changes its state.
    fn enter(&mut self, id: ConnectionId, state: State) {
        if let Some(before) = self.connections.insert(id, state) {
            *self.count(before) -= 1;
        }
        *self.count(state) += 1;
    }

    fn leave(&mut self, id: ConnectionId) -> Option<State> {
        let before = self.connections.remove(&id)?;
        *self.count(before) -= 1;
        Some(before)
    }

    fn count(&mut self, state: State) -> &mut usize {
        match state {
            State::Connecting => &mut self.counts.connecting,
            State::Idle { .. } => &mut self.counts.idle,
            State::Active => &mut self.counts.active,
            State::Closing => &mut self.counts.closing,
        }
    }
}
