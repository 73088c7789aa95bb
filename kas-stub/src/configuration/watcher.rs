//! Looks after the project of one agent.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use model::configuration::{Judged, MAX_CONFIGURATION_BYTES, Section};

use super::{
    Entry, Good, NO_COMMIT, State,
    record::{FileRecord, GoodRecord, Kept, chain},
};
use crate::{
    config::Timing,
    directory::Agent,
    git::{self, File, Git, ProjectUrl},
    store::Store,
};

/// The first wait after a failure; doubled with each, up to the usual interval.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The shortest time between two looks, however many push hooks come.
const DEBOUNCE: Duration = Duration::from_millis(250);

pub(super) struct Watcher {
    pub(super) agent: Arc<Agent>,
    pub(super) project: ProjectUrl,
    pub(super) git: Arc<Git>,
    pub(super) store: Arc<dyn Store>,
    pub(super) entry: Arc<Entry>,
    pub(super) kept: Kept,
    pub(super) timing: Timing,
}

impl Watcher {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.look().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.note_failure(&error);
                }
            }
            let wait = jittered(wait_after(failures, self.timing.git_poll_interval));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.entry.pushed.notified() => tokio::time::sleep(DEBOUNCE).await,
            }
        }
    }

    async fn look(&mut self) -> Result<(), git::Error> {
        let head = self.git.head(&self.project).await?;
        let Some(head) = head else {
            self.take(NO_COMMIT.to_owned(), Ok(None), "").await;
            return Ok(());
        };
        if self.kept.record.seen.as_ref() == Some(&head) {
            self.clear_failure();
            return Ok(());
        }
        let path = self.agent.name.configuration_path();
        let cache = self.agent.id.to_string();
        let (commit, file) = self
            .git
            .read_head(&self.project, &cache, &path, MAX_CONFIGURATION_BYTES)
            .await?;
        self.take(commit, text_of(file, &path), &path).await;
        Ok(())
    }

    /// Takes what is right of a commit's file, if it can be read at all, and notes what is wrong.
    async fn take(&mut self, commit: String, text: Result<Option<String>, String>, path: &str) {
        if self.kept.record.seen.as_ref() == Some(&commit) && self.kept.record.error.is_none() {
            self.clear_failure();
            return;
        }
        let mut state = State::clone(&self.entry.states.borrow());
        let (message, problems) = match text {
            Err(message) => (Some(message), Vec::new()),
            Ok(text) => {
                let file = FileRecord {
                    commit: commit.clone(),
                    text,
                };
                let judged = file.judge();
                let before = self.kept.record.good.as_ref();
                let record = GoodRecord::follow(before, file, &judged, Timestamp::now());
                let good = record.as_ref().and_then(GoodRecord::good);
                // What is right of a wrong file may be no more than what is in force.
                let is_news = |good: &Good| {
                    let before = state.good.as_ref().map(|it| &it.configuration);
                    judged.problems.is_empty() || before != Some(&good.configuration)
                };
                if let Some(good) = good.filter(is_news) {
                    state.good = Some(good);
                    self.kept.record.good = record;
                    tracing::info!(agent = %self.agent.name, commit, "configuration in force");
                }
                (message_of(path, &judged), judged.problems)
            }
        };
        match message {
            None => state.error = None,
            Some(message) => {
                tracing::warn!(agent = %self.agent.name, commit, problems = problems.len(), message, "configuration refused");
                state.fail(Some(commit.clone()), message, problems);
            }
        }
        self.kept.record.seen = Some(commit);
        self.kept.record.error.clone_from(&state.error);
        // Kept first: what an agent was given is there after a crash.
        self.kept.write(&*self.store, self.agent.id).await;
        self.entry.set(state);
    }

    /// The project could not be read. Said when it begins or changes, not each time.
    fn note_failure(&self, error: &git::Error) {
        let message = format!("project cannot be read: {}", chain(error));
        let before = Arc::clone(&self.entry.states.borrow());
        let mut state = State::clone(&before);
        state.fail(None, message, Vec::new());
        if state != *before {
            tracing::warn!(agent = %self.agent.name, error = chain(error), "project cannot be read");
            self.entry.set(state);
        }
    }

    /// The project can be read again; what was wrong with its file before still is.
    fn clear_failure(&self) {
        let before = Arc::clone(&self.entry.states.borrow());
        if before.error != self.kept.record.error {
            let state = State {
                good: before.good.clone(),
                error: self.kept.record.error.clone(),
            };
            self.entry.set(state);
        }
    }
}

/// The text of a commit's file; none without a file.
///
/// # Errors
/// What is wrong with it as a whole.
fn text_of(file: File, path: &str) -> Result<Option<String>, String> {
    let content = match file {
        File::Missing => return Ok(None),
        File::TooLarge => {
            let limit = MAX_CONFIGURATION_BYTES / 1024;
            return Err(format!("{path} is larger than {limit} KiB"));
        }
        File::Content(content) => content,
    };
    let text = String::from_utf8(content);
    text.map(Some)
        .map_err(|_| format!("{path} is not UTF-8 text"))
}

/// What is wrong, and what that leaves as it was, in a line.
fn message_of(path: &str, judged: &Judged) -> Option<String> {
    let problems = match judged.problems.as_slice() {
        [] => return None,
        [problem] => format!("{path}, {problem}"),
        problems => format!("{path} has {} problems", problems.len()),
    };
    if judged.wrong.len() == Section::ALL.len() {
        return Some(format!("{problems}; nothing of it takes effect"));
    }
    let wrong: Vec<_> = judged.wrong.iter().map(|it| it.as_str()).collect();
    match wrong.as_slice() {
        // A key that nobody knows, and all sections are there.
        [] => Some(problems),
        [one] => Some(format!(
            "{problems}; {one} stays as it was, the rest takes effect"
        )),
        several => Some(format!(
            "{problems}; {} stay as they were, the rest takes effect",
            several.join(" and ")
        )),
    }
}

fn wait_after(failures: u32, interval: Duration) -> Duration {
    match failures {
        0 => interval,
        _ => (FIRST_RETRY * 2_u32.saturating_pow(failures.min(16) - 1)).min(interval),
    }
}

/// Up to a tenth longer or shorter, so that many agents do not ask at the same moment.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * (crate::secret::random_id() as f64 / (1_u64 << 53) as f64))
}

#[cfg(test)]
mod tests {
    use model::configuration::judge;

    use super::*;

    #[test]
    fn failures_are_retried_later_and_later_and_never_slower_than_the_interval() {
        let minute = Duration::from_secs(60);
        let waits: Vec<_> = (0..8).map(|n| wait_after(n, minute).as_secs()).collect();
        assert_eq!(waits, [60, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait_after(99, minute), minute);
    }

    #[test]
    fn what_is_no_text_has_a_reason_and_no_file_is_none() {
        for unreadable in [File::TooLarge, File::Content(vec![0xff])] {
            assert!(text_of(unreadable, "p").is_err_and(|it| it.starts_with("p is ")));
        }
        assert_eq!(text_of(File::Missing, "p"), Ok(None));
        assert_eq!(
            text_of(File::Content(b"a".into()), "p"),
            Ok(Some("a".into()))
        );
    }

    #[test]
    fn the_message_says_what_stays_as_it_was() {
        for (text, expected) in [
            ("observability: {}", None),
            (
                "observability: 1",
                Some(
                    "p, line 1, column 16, observability: this is a number; expected a mapping with the keys logging, google_profiler; observability stays as it was, the rest takes effect",
                ),
            ),
            ("a: [", Some("; nothing of it takes effect")),
            (
                "observability: 1\nuser_access: 1",
                Some(
                    "p has 2 problems; observability and user_access stay as they were, the rest takes effect",
                ),
            ),
        ] {
            let message = message_of("p", &judge(text));
            match expected {
                None => assert_eq!(message, None),
                Some(end) => assert!(
                    message.as_ref().is_some_and(|it| it.ends_with(end)),
                    "{message:?}"
                ),
            }
        }
    }
}
