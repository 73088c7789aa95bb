//! A link that is fast and far: a relay that passes bytes late and no faster than the link would. Kernels can do this
//! better (netem), where they have it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What is read at once.
const PIECE: usize = 64 * 1024;
/// Pieces under way: far more than the link holds, so that only the ends decide how much is.
const PIECES: usize = 1024;

/// A link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// There and back.
    pub(crate) round_trip: Duration,
    /// In each direction.
    pub(crate) bits_per_second: f64,
}

impl Link {
    /// What it carries, in MiB/s.
    pub(crate) fn mib_per_s(self) -> f64 {
        self.bits_per_second / 8.0 / (1024.0 * 1024.0)
    }

    fn time_of(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_second)
    }
}

/// Listens for connections that go over a link to `to`; dropping it ends the listening.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(link: Link, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).ok();
                }
                let (near_reader, near_writer) = near.into_split();
                let (far_reader, far_writer) = far.into_split();
                tokio::spawn(carry(link, near_reader, far_writer));
                tokio::spawn(carry(link, far_reader, near_writer));
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of a connection.
async fn carry(link: Link, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (pieces, mut coming) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        // When the link is free for the next piece.
        let mut free = Instant::now();
        loop {
            let mut piece = vec![0; PIECE];
            match from.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => piece.truncate(read),
            }
            free = free.max(Instant::now()) + link.time_of(piece.len());
            if pieces
                .send((free + link.round_trip / 2, piece))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = coming.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(reading, writing);
}
