//! The tunnel: holds connections to the server open, each of which carries one call from it.
//!
//! How many is decided by [`agent_core::tunnel::TunnelPool`]; this module owns the pool in one task ([`run`]), gives each
//! connection a task (`connection`), and brings calls to the handlers of the modules (`services`). There is no gRPC server
//! in between: a handler gets the call's messages as bytes.

pub mod call;
mod connection;
pub(crate) mod services;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::reconnect::delay_class;
use agent_core::tunnel::{Command, ConnectionId, End, Settings, TunnelPool};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::Delays;
use crate::drain::Stop;
use crate::kas::health::Health;
use crate::kas::{Client, Connector};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use connection::{Connection, Ended};
use services::Services;

/// So many tunnel connections share one network connection: as many as fit into the window that our server gives to it,
/// should nobody read what comes on any of them. What goes wrong on one network connection leaves the others alone.
const STREAMS_PER_CONNECTION: usize = 15;

/// What happened to a tunnel connection.
#[derive(Debug)]
enum Event {
    Opened,
    Active,
    Ended(Ended),
}

/// What the tunnel needs.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) connector: Connector,
    pub(crate) services: Arc<Services>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Notified when the server was reached on the control connection.
    pub(crate) reachable: Arc<Notify>,
    /// See [`Settings::max`].
    pub(crate) max: usize,
    pub(crate) stop: Stop,
}

/// Runs the tunnel until it is drained or aborted.
pub(crate) async fn run(tunnel: Tunnel) {
    let stop = tunnel.stop.clone();
    stop.until_aborted(Driver::new(tunnel).run()).await;
}

struct Driver {
    tunnel: Tunnel,
    start: Instant,
    pool: TunnelPool,
    delays: Delays,
    events: mpsc::UnboundedSender<(ConnectionId, Event)>,
    /// Each connection sends three events in its life, and their number is limited: the queue is, too.
    incoming: mpsc::UnboundedReceiver<(ConnectionId, Event)>,
    links: Links,
    close: BTreeMap<ConnectionId, oneshot::Sender<agent_core::tunnel::CloseReason>>,
    tasks: JoinSet<()>,
}

impl Driver {
    fn new(tunnel: Tunnel) -> Self {
        let (events, incoming) = mpsc::unbounded_channel();
        let settings = Settings {
            max: tunnel.max,
            ..Settings::default()
        };
        Self {
            tunnel,
            start: Instant::now(),
            pool: TunnelPool::new(settings),
            delays: Delays::default(),
            events,
            incoming,
            links: Links::default(),
            close: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    async fn run(mut self) {
        let reachable = Arc::clone(&self.tunnel.reachable);
        let stop = self.tunnel.stop.clone();
        let mut draining = false;
        loop {
            let now = self.now();
            while let Some(command) = self.pool.poll_command(now) {
                self.execute(command);
            }
            let counts = self.pool.counts();
            self.tunnel.metrics.set_tunnels(counts.idle, counts.active);
            self.tunnel
                .readiness
                .set_tunnels(counts.idle + counts.active);
            if self.pool.is_drained() {
                return;
            }
            let wake = self.pool.next_wake(now).map(|wake| self.start + wake);
            tokio::select! {
                event = self.incoming.recv() => {
                    if let Some((id, event)) = event {
                        self.handle(id, event);
                    }
                }
                // Only to free what a finished task leaves behind; its end came as an event.
                Some(_) = self.tasks.join_next() => {}
                () = sleep_until(wake) => {}
                () = reachable.notified() => {
                    let now = self.now();
                    // The outage is over for the tunnel, too. How often this can happen is bounded by the control
                    // connection's own delays.
                    self.delays.reset();
                    self.pool.handle_reachable(now);
                }
                () = stop.draining(), if !draining => {
                    draining = true;
                    self.pool.handle_drain();
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Open(id) => self.open(id),
            Command::Close(id, reason) => {
                if let Some(close) = self.close.remove(&id) {
                    let _ = close.send(reason);
                }
            }
        }
    }

    fn open(&mut self, id: ConnectionId) {
        let (close, closed) = oneshot::channel();
        self.close.insert(id, close);
        let Tunnel {
            connector,
            services,
            health,
            metrics,
            readiness: _,
            reachable: _,
            max: _,
            stop: _,
        } = &self.tunnel;
        let connection = Connection {
            id,
            client: self.links.take(id, connector),
            services: Arc::clone(services),
            health: Arc::clone(health),
            metrics: metrics.clone(),
            events: self.events.clone(),
            close: closed,
        };
        let mut end = EndOnDrop {
            id,
            events: self.events.clone(),
            ended: Ended::Closed,
        };
        self.tasks.spawn(async move {
            end.set(connection.run().await);
        });
    }

    fn handle(&mut self, id: ConnectionId, event: Event) {
        let now = self.now();
        match event {
            Event::Opened => self.pool.handle_opened(id, now),
            Event::Active => {
                self.close.remove(&id);
                self.pool.handle_active(id);
            }
            Event::Ended(ended) => {
                self.close.remove(&id);
                self.links.give_back(id);
                let end = match ended {
                    Ended::Served => {
                        self.delays.reset();
                        End::Served
                    }
                    Ended::Closed => End::Closed,
                    Ended::Failed { outcome, lived } => End::Failed {
                        delay: if self.pool.is_delayed(now) {
                            Duration::ZERO
                        } else {
                            self.delays.after(delay_class(outcome), lived)
                        },
                    },
                };
                self.pool.handle_ended(id, end, now);
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Tells the pool that a connection is gone, even if its task panicked.
struct EndOnDrop {
    id: ConnectionId,
    events: mpsc::UnboundedSender<(ConnectionId, Event)>,
    ended: Ended,
}

impl EndOnDrop {
    fn set(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = self.events.send((self.id, Event::Ended(self.ended)));
    }
}

/// The network connections that tunnel connections share.
#[derive(Debug, Default)]
struct Links {
    links: Vec<Link>,
    by_id: BTreeMap<ConnectionId, usize>,
}

#[derive(Debug)]
struct Link {
    /// `None` while nobody uses it: the network connection is closed.
    client: Option<Client>,
    used: usize,
}

impl Links {
    fn take(&mut self, id: ConnectionId, connector: &Connector) -> Client {
        let free = self
            .links
            .iter()
            .position(|link| link.used < STREAMS_PER_CONNECTION);
        let place = free.unwrap_or_else(|| {
            self.links.push(Link {
                client: None,
                used: 0,
            });
            self.links.len() - 1
        });
        self.by_id.insert(id, place);
        let link = &mut self.links[place];
        link.used += 1;
        link.client
            .get_or_insert_with(|| connector.connect())
            .clone()
    }

    fn give_back(&mut self, id: ConnectionId) {
        if let Some(place) = self.by_id.remove(&id) {
            let link = &mut self.links[place];
            link.used -= 1;
            // The first is kept: it is used again at once.
            if link.used == 0 && place > 0 {
                link.client = None;
            }
        }
    }
}
