//! The server's clock: what time it is for the lives of workspaces, and for everything about them that is shown to people.
//!
//! A test moves it. Credentials do not ask it: no setting makes an expired one good again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// The longest sleep without a look at the clock, which may be set, or have gone on while the machine slept.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often the file of [`Clock::follow`] is read.
const FILE_INTERVAL: Duration = Duration::from_millis(200);

/// The system's clock, perhaps moved. Clones are one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead: Arc<watch::Sender<SignedDuration>>,
}

impl Clock {
    /// The time.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.saturating_add(*self.ahead.borrow()).unwrap_or(now)
    }

    /// Moves it: from now on it is so far ahead of the system's.
    pub fn set_ahead(&self, ahead: SignedDuration) {
        self.ahead.send_if_modified(|before| {
            let is_new = *before != ahead;
            *before = ahead;
            is_new
        });
    }

    /// Waits until a time has come, also when the clock is moved in between.
    pub(crate) async fn sleep_until(&self, at: Timestamp) {
        let mut moved = self.ahead.subscribe();
        loop {
            moved.borrow_and_update();
            let left = at.duration_since(self.now());
            let Some(left) = Duration::try_from(left).ok().filter(|it| !it.is_zero()) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_INTERVAL)) => {}
                // The sender is ours.
                _ = moved.changed() => {}
            }
        }
    }

    /// Reads how far ahead it is, in seconds, from a file; what is no number there changes nothing.
    pub(crate) async fn read_ahead(&self, file: &Path) {
        let text = tokio::fs::read_to_string(file).await.unwrap_or_default();
        if let Ok(seconds) = text.trim().parse() {
            self.set_ahead(SignedDuration::from_secs(seconds));
        }
    }

    /// Goes on reading it.
    pub(crate) async fn follow(self, file: PathBuf) {
        loop {
            self.read_ahead(&file).await;
            tokio::time::sleep(FILE_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved_past_its_time() {
        let clock = Clock::default();
        let at = clock.now() + SignedDuration::from_hours(36);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(at).await }
        });
        clock.set_ahead(SignedDuration::from_hours(35));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set_ahead(SignedDuration::from_hours(37));
        tokio::time::timeout(Duration::from_secs(20), sleeper)
            .await
            .unwrap()
            .unwrap();
        assert!(clock.now() > at);
    }

    #[tokio::test]
    async fn what_is_no_number_in_the_file_moves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ahead");
        let clock = Clock::default();
        for (text, hours) in [(None, 0), (Some("7200\n"), 2), (Some("soon"), 2)] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            clock.read_ahead(&file).await;
            assert_eq!(*clock.ahead.borrow(), SignedDuration::from_hours(hours));
        }
    }
}
