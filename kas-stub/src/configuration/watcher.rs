//! Looks after the project of one agent.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use model::configuration::{MAX_CONFIGURATION_BYTES, Note, Parsed, Problem, parse};

use super::{
    Entry, Good, NO_COMMIT, State,
    record::{GoodRecord, Kept, chain},
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

/// What a commit turned out to be.
enum Judged {
    Good {
        text: Option<String>,
        parsed: Parsed,
    },
    Wrong {
        message: String,
        problems: Vec<Problem>,
    },
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
            self.accept(NO_COMMIT.to_owned(), None, without_file())
                .await;
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
        match judge(file, &path) {
            Judged::Good { text, parsed } => self.accept(commit, text, parsed).await,
            Judged::Wrong { message, problems } => self.refuse(commit, message, problems).await,
        }
        Ok(())
    }

    async fn accept(&mut self, commit: String, text: Option<String>, parsed: Parsed) {
        if self.kept.record.seen.as_ref() == Some(&commit) && self.kept.record.error.is_none() {
            self.clear_failure();
            return;
        }
        let good = Good {
            commit: commit.clone(),
            configuration: parsed.configuration.into(),
            notes: parsed.notes.into(),
            applied_at: Timestamp::now(),
        };
        tracing::info!(agent = %self.agent.name, commit, "configuration in force");
        self.kept.record.seen = Some(commit.clone());
        self.kept.record.error = None;
        self.kept.record.good = Some(GoodRecord {
            commit,
            text,
            applied_at: good.applied_at,
        });
        // Kept first: what an agent was given is there after a crash.
        self.kept.write(&*self.store, self.agent.id).await;
        self.entry.set(State {
            good: Some(good),
            error: None,
        });
    }

    async fn refuse(&mut self, commit: String, message: String, problems: Vec<Problem>) {
        tracing::warn!(agent = %self.agent.name, commit, problems = problems.len(), message, "configuration refused");
        let mut state = State::clone(&self.entry.states.borrow());
        state.fail(Some(commit.clone()), message, problems);
        self.kept.record.seen = Some(commit);
        self.kept.record.error = state.error.clone();
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

fn judge(file: File, path: &str) -> Judged {
    let wrong = |message: String| Judged::Wrong {
        message,
        problems: Vec::new(),
    };
    let content = match file {
        File::Missing => {
            return Judged::Good {
                text: None,
                parsed: without_file(),
            };
        }
        File::TooLarge => {
            let limit = MAX_CONFIGURATION_BYTES / 1024;
            return wrong(format!("{path} is larger than {limit} KiB"));
        }
        File::Content(content) => content,
    };
    let Ok(text) = String::from_utf8(content) else {
        return wrong(format!("{path} is not UTF-8 text"));
    };
    match parse(&text) {
        Ok(parsed) => Judged::Good {
            text: Some(text),
            parsed,
        },
        Err(problems) => Judged::Wrong {
            message: match problems.as_slice() {
                [problem] => format!("{path}, {problem}"),
                problems => format!("{path} has {} problems", problems.len()),
            },
            problems,
        },
    }
}

/// What a project without the file means.
pub(super) fn without_file() -> Parsed {
    Parsed {
        notes: vec![Note {
            field: String::new(),
            reason: "the project has no such file; the agent runs with the defaults".into(),
        }],
        ..Parsed::default()
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
    use super::*;

    #[test]
    fn failures_are_retried_later_and_later_and_never_slower_than_the_interval() {
        let minute = Duration::from_secs(60);
        let waits: Vec<_> = (0..8).map(|n| wait_after(n, minute).as_secs()).collect();
        assert_eq!(waits, [60, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait_after(99, minute), minute);
    }

    #[test]
    fn a_file_is_judged_with_its_place() {
        let wrong = File::Content(b"observability:\n  logging:\n    level: loud\n".to_vec());
        let Judged::Wrong { message, problems } = judge(wrong, "p") else {
            panic!("accepted");
        };
        assert_eq!((problems.len(), problems[0].line), (1, 3));
        assert!(message.starts_with("p, line 3"), "{message}");
        for unreadable in [File::TooLarge, File::Content(vec![0xff])] {
            assert!(matches!(judge(unreadable, "p"), Judged::Wrong { .. }));
        }
        assert!(matches!(
            judge(File::Missing, "p"),
            Judged::Good { text: None, .. }
        ));
    }
}
