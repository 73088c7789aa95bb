//! The configuration that the server read from the agent's project and pushed.

use std::sync::Arc;

use model::configuration::Observability;
use tokio::sync::watch;

use crate::drain::Stop;

/// What the server pushed. Each module takes its section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The commit it was read from.
    pub commit: String,
    /// The agent's id at the server.
    pub agent_id: i64,
    /// The project that holds the file.
    pub project_path: String,
    /// Section `observability`.
    pub observability: Observability,
}

/// Where the present configuration is found; `None` until the first arrives.
pub type Watch = watch::Receiver<Option<Arc<Configuration>>>;

/// One section of the configuration, as its module sees it: only changes of this section are changes.
#[derive(Debug)]
pub struct Section<T> {
    watch: Watch,
    stop: Stop,
    select: fn(&Configuration) -> T,
    last: Option<T>,
}

impl<T: Clone + PartialEq> Section<T> {
    pub(crate) fn new(watch: Watch, stop: Stop, select: fn(&Configuration) -> T) -> Self {
        Self {
            watch,
            stop,
            select,
            last: None,
        }
    }

    /// Waits until the section is another than last time (the first time: until there is one). `None` when the agent
    /// stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            let present = self
                .watch
                .borrow_and_update()
                .as_deref()
                .map(|configuration| (self.select)(configuration));
            if present.is_some() && present != self.last {
                self.last.clone_from(&present);
                return present;
            }
            self.stop.until_draining(self.watch.changed()).await?.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(commit: &str, project_path: &str) -> Option<Arc<Configuration>> {
        Some(Arc::new(Configuration {
            commit: commit.to_owned(),
            agent_id: 1,
            project_path: project_path.to_owned(),
            observability: Observability::default(),
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn only_changes_of_the_section_are_changes() {
        let (sender, watch) = watch::channel(None);
        let stop = Stop::default();
        let mut section = Section::new(watch, stop.clone(), |all| all.project_path.clone());
        sender.send(configuration("1", "a")).unwrap();
        assert_eq!(section.next().await.as_deref(), Some("a"));
        sender.send(configuration("2", "a")).unwrap();
        let unchanged =
            tokio::time::timeout(std::time::Duration::from_secs(1), section.next()).await;
        assert!(unchanged.is_err());
        sender.send(configuration("3", "b")).unwrap();
        assert_eq!(section.next().await.as_deref(), Some("b"));
        stop.drain();
        assert_eq!(section.next().await, None);
    }
}
