//! A network between agent and server that does what networks do: it loses a connection without a word, resets it, closes
//! one half, forgets what is idle, is slow.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces under way in one direction: with a delay, what the link holds.
const UNDER_WAY: usize = 1024;
const PIECE: usize = 16 * 1024;

/// What befalls the connections that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Nothing passes any more, and nobody is told.
    Silence,
    Reset,
    /// The client reads the end of the stream; what it sends still arrives.
    HalfClose,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    network: Arc<Network>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Network {
    target: SocketAddr,
    /// Each connection looks at the faults that were sent after it began.
    faults: watch::Sender<Fault>,
    /// New connections are lost without a word, too.
    closed: AtomicBool,
    delay: Mutex<Duration>,
    /// Connections without traffic for so long are closed.
    idle_limit: Mutex<Option<Duration>>,
    /// For each idle limit that a connection reached.
    forgotten: AtomicUsize,
    accepted: AtomicUsize,
    open: watch::Sender<usize>,
}

impl Relay {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(Network {
            target,
            faults: watch::Sender::new(Fault::None),
            closed: AtomicBool::new(false),
            delay: Mutex::default(),
            idle_limit: Mutex::default(),
            forgotten: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            open: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&network)));
        Self {
            address,
            network,
            accepting,
        }
    }

    /// Lets something happen to the connections that are open now.
    pub(crate) fn strike(&self, fault: Fault) {
        self.network.faults.send_replace(fault);
    }

    /// Whether new connections are lost without a word.
    pub(crate) fn lose_new(&self, lose: bool) {
        self.network.closed.store(lose, Relaxed);
    }

    /// Every piece arrives so much later, on connections that begin from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.network.delay.lock().unwrap() = delay;
    }

    /// Closes connections, of those that begin from now on, on which nothing passed for so long.
    pub(crate) fn forget_idle(&self, after: Duration) {
        *self.network.idle_limit.lock().unwrap() = Some(after);
    }

    /// How many connections were closed for their idleness.
    pub(crate) fn forgotten(&self) -> usize {
        self.network.forgotten.load(Relaxed)
    }

    /// How many connections there were, the present ones included.
    pub(crate) fn accepted(&self) -> usize {
        self.network.accepted.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.strike(Fault::Reset);
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    while let Ok((client, _)) = listener.accept().await {
        network.accepted.fetch_add(1, Relaxed);
        let network = Arc::clone(&network);
        tokio::spawn(async move {
            network.open.send_modify(|open| *open += 1);
            relay(client, &network).await.ok();
            network.open.send_modify(|open| *open -= 1);
        });
    }
}

async fn relay(client: TcpStream, network: &Network) -> io::Result<()> {
    let mut faults = network.faults.subscribe();
    if network.closed.load(Relaxed) {
        // It stays so even when later ones pass.
        faults.wait_for(|fault| *fault == Fault::Reset).await.ok();
        return Ok(());
    }
    let server = TcpStream::connect(network.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let traffic = Traffic::new(*network.delay.lock().unwrap());
    let idle_limit = *network.idle_limit.lock().unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Box::pin(traffic.copy(from_client, to_server));
    let mut down = Box::pin(traffic.copy(from_server, to_client).fuse());
    let mut both = Box::pin(async { tokio::join!(&mut up, &mut down) });
    let fault = async {
        loop {
            if faults.changed().await.is_err() {
                return Fault::Reset;
            }
            let fault = *faults.borrow_and_update();
            if fault != Fault::None {
                return fault;
            }
        }
    };
    tokio::select! {
        biased;
        fault = fault => match fault {
            Fault::None => {}
            // Both sockets stay open.
            Fault::Silence => {
                faults.wait_for(|fault| *fault == Fault::Reset).await.ok();
            }
            Fault::Reset => traffic.reset(),
            Fault::HalfClose => {
                drop(both);
                drop(down);
                up.await;
            }
        },
        _ = &mut both => {}
        () = traffic.idle(idle_limit) => {
            network.forgotten.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

/// What passes on one connection.
struct Traffic {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
    delay: Duration,
    resetting: AtomicBool,
}

impl Traffic {
    fn new(delay: Duration) -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            delay,
            resetting: AtomicBool::new(false),
        }
    }

    fn reset(&self) {
        self.resetting.store(true, Relaxed);
    }

    /// Carries bytes until their end, and then that.
    async fn copy(&self, mut from: OwnedReadHalf, to: OwnedWriteHalf) {
        let mut to = Resettable(to, self);
        let (under_way, mut arriving) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
        let reading = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                match from.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                self.touch();
                let piece = (Instant::now() + self.delay, buffer.split().freeze());
                if under_way.send(piece).await.is_err() {
                    return;
                }
            }
        };
        let writing = async {
            while let Some((due, piece)) = arriving.recv().await {
                tokio::time::sleep_until(due).await;
                if to.0.write_all(&piece).await.is_err() {
                    arriving.close();
                    return;
                }
            }
            to.0.shutdown().await.ok();
        };
        tokio::join!(reading, writing);
    }

    fn touch(&self) {
        let passed = self.began.elapsed().as_millis();
        self.last.store(passed.try_into().unwrap(), Relaxed);
    }

    /// Ends when nothing has passed for so long.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let end = self.began + Duration::from_millis(self.last.load(Relaxed)) + limit;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// Closed by a reset when it was asked for.
struct Resettable<'a>(OwnedWriteHalf, &'a Traffic);

impl Drop for Resettable<'_> {
    fn drop(&mut self) {
        if self.1.resetting.load(Relaxed) {
            self.0.as_ref().set_zero_linger().ok();
        }
    }
}
