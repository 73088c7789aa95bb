//! When workspaces were used last: a connection to one of its ports was opened, or bytes passed on one.
//!
//! In memory. A server that starts takes its start for the last use of everything, so that a restart stops nothing at once.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;

/// Workspaces that are remembered; beyond it those go that nobody uses.
const MAX_KEPT: usize = 20_000;

/// The last use of each workspace.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Clock,
    started_at: Timestamp,
    /// By id, in seconds.
    used: Mutex<HashMap<String, Arc<AtomicI64>>>,
}

/// Notes the use of one workspace.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    used: Arc<AtomicI64>,
}

impl Activity {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            started_at: clock.now(),
            clock,
            used: Mutex::default(),
        }
    }

    /// Somebody came for a workspace.
    pub(crate) fn pulse(&self, id: &str) -> Pulse {
        let mut used = self.used();
        if used.len() >= MAX_KEPT && !used.contains_key(id) {
            used.retain(|_, it| Arc::strong_count(it) > 1);
        }
        let pulse = Pulse {
            clock: self.clock.clone(),
            used: Arc::clone(used.entry(id.to_owned()).or_default()),
        };
        pulse.beat();
        pulse
    }

    /// When it was used last, as far as this server knows.
    pub(crate) fn used_at(&self, id: &str) -> Timestamp {
        let used = self.used();
        let seconds = used.get(id).map(|it| it.load(Ordering::Relaxed));
        let at = seconds.and_then(|it| Timestamp::from_second(it).ok());
        at.map_or(self.started_at, |at| at.max(self.started_at))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicI64>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// It is used now.
    pub(crate) fn beat(&self) {
        let now = self.clock.now().as_second();
        self.used.store(now, Ordering::Relaxed);
    }
}

/// A stream on which every byte is a use.
#[derive(Debug)]
pub(crate) struct Beating<S> {
    stream: S,
    pulse: Pulse,
}

impl<S> Beating<S> {
    pub(crate) fn new(stream: S, pulse: Pulse) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beating<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.beat();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beating<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.pulse.beat();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.pulse.beat();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn every_byte_is_a_use_and_silence_is_none() {
        let clock = Clock::default();
        let activity = Activity::new(clock.clone());
        let minutes = |count| SignedDuration::from_mins(count);
        let ago = |id: &str| {
            let age = clock.now().duration_since(activity.used_at(id));
            (age.as_secs() + 5) / 60
        };
        clock.set_ahead(minutes(10));
        assert_eq!((ago("a"), ago("b")), (10, 10), "since the server's start");
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Beating::new(near, activity.pulse("a"));
        assert_eq!((ago("a"), ago("b")), (0, 10));
        clock.set_ahead(minutes(20));
        assert_eq!(ago("a"), 10, "open and silent");
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(ago("a"), 0);
        clock.set_ahead(minutes(30));
        near.write_all(b"x").await.unwrap();
        assert_eq!(ago("a"), 0);
        clock.set_ahead(minutes(40));
        near.flush().await.unwrap();
        drop(far);
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        assert_eq!((ago("a"), ago("b")), (10, 40), "an end is no use");
    }

    #[test]
    fn what_nobody_uses_makes_room() {
        let activity = Activity::new(Clock::default());
        let used = activity.pulse("used");
        for number in 0..MAX_KEPT + 10 {
            activity.pulse(&number.to_string());
        }
        assert!(activity.used().len() <= MAX_KEPT);
        assert!(activity.used().contains_key("used"));
        used.beat();
    }
}
