//! How the agent stops: first softly, then hard.
//!
//! Every task holds a [`Stop`]. `draining` means: start nothing new, finish what is under way. `aborted` means: end now.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two signals, and the tasks that listen to them.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    draining: CancellationToken,
    aborted: CancellationToken,
    /// Everything that `app` spawns; what these tasks spawn in turn they join themselves or spawn here too.
    pub tasks: TaskTracker,
}

impl Stop {
    /// The same signals for other tasks, which are waited for on their own.
    pub fn beside(&self) -> Self {
        Self {
            tasks: TaskTracker::new(),
            ..self.clone()
        }
    }

    /// Asks to finish.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Asks to end now.
    pub fn abort(&self) {
        self.draining.cancel();
        self.aborted.cancel();
    }

    /// Whether the agent is finishing.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Returns when the agent is to finish. Cancel-safe.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Returns when the agent is to end now. Cancel-safe.
    pub async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    /// Runs `future` to its end, or until the agent is to finish: then `None`.
    pub async fn until_draining<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.draining() => None,
            output = future => Some(output),
        }
    }

    /// Runs `future` to its end, or until the agent is to end now: then `None`.
    pub async fn until_aborted<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.aborted() => None,
            output = future => Some(output),
        }
    }
}
