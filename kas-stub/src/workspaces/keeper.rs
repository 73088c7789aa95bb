//! Does what time and changed configuration files bring to workspaces. One task, one timer.
//!
//! ```text
//!  workspaces changed ──┐
//!  a file changed ──────┼──▶ Keeper ──▶ Workspaces (pass_time, apply_now)
//!  the next time came ──┘      │
//!                            Queue: workspaces by the time of their next change
//! ```
//! It looks at what changed, and at nothing else: a workspace is looked at when it changed, when its agent's section of the
//! file did, and when its time has come.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use model::DesiredState;

use super::{
    Workspaces,
    change::is_behind,
    limits::{self, NextChange, Rules},
};
use crate::{
    configuration::{Configurations, Good, chain},
    directory::Directory,
};

/// After the database did not take something.
const RETRY_WAIT: Duration = Duration::from_secs(30);

/// The task.
#[derive(Debug)]
pub(crate) struct Keeper {
    workspaces: Arc<Workspaces>,
    configurations: Arc<Configurations>,
    directory: Arc<Directory>,
    /// Of agents with a configuration, as it was seen last.
    agents: HashMap<u64, Arc<Rules>>,
    queue: Queue,
}

impl Keeper {
    pub(crate) fn new(
        workspaces: Arc<Workspaces>,
        configurations: Arc<Configurations>,
        directory: Arc<Directory>,
    ) -> Self {
        Self {
            workspaces,
            configurations,
            directory,
            agents: HashMap::new(),
            queue: Queue::default(),
        }
    }

    /// Runs until it is dropped: it may be anywhere it waits, since what it began to write is written.
    pub(crate) async fn run(mut self) {
        let clock = self.workspaces.clock().clone();
        let mut changes = self.workspaces.changes();
        let mut files = self.configurations.changes();
        let (mut is_first, mut failed) = (true, false);
        let mut has_files = true;
        loop {
            has_files |= files.has_changed().unwrap_or(true);
            // Seen before it is looked, so that a change in between wakes us again.
            changes.borrow_and_update();
            files.borrow_and_update();
            // Before the files are looked at: what is due is judged by a file no older than that.
            let now = clock.now();
            let behind = if std::mem::take(&mut has_files) || failed {
                self.look_at_files(failed)
            } else {
                Vec::new()
            };
            self.look_at_workspaces();
            if std::mem::take(&mut is_first) {
                self.tell_what_waits();
            }
            failed = self.pass_time(now).await;
            for (id, good) in behind {
                failed |= said(self.workspaces.apply_now(&id, good).await);
            }
            let next = async {
                match self.queue.next() {
                    _ if failed => tokio::time::sleep(RETRY_WAIT).await,
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next => {}
                // The senders are ours.
                _ = changes.changed(), if !failed => {}
                // Waiting has seen it already.
                _ = files.changed(), if !failed => has_files = true,
            }
        }
    }

    /// Takes in what changed in files, or all of them; gives the workspaces that it is to reach now.
    fn look_at_files(&mut self, all: bool) -> Vec<(String, Good)> {
        let mut behind = Vec::new();
        for agent in self.directory.agents() {
            let Some(good) = self.configurations.state(&agent).known().cloned() else {
                continue;
            };
            let settings = &good.configuration.remote_development;
            let before = self.agents.get(&agent.id);
            let before = before.map(|it| &it.good.configuration.remote_development);
            if before == Some(settings) && !all {
                continue;
            }
            if before.is_some_and(|before| limits::ends_sooner(before, settings)) {
                self.workspaces.give_notice(agent.id);
            }
            let rules = self
                .workspaces
                .rules(agent.id, agent.name.as_str(), good.clone());
            self.agents.insert(agent.id, Arc::new(rules));
            let now = self.workspaces.rendered_now(agent.id, &good);
            for workspace in self.workspaces.of_agent(agent.id) {
                self.look_at(&workspace.id);
                if is_behind(&workspace, &good, &now) {
                    behind.push((workspace.id.clone(), good.clone()));
                }
            }
        }
        behind
    }

    fn look_at_workspaces(&mut self) {
        for id in self.workspaces.take_touched() {
            self.look_at(&id);
        }
    }

    fn look_at(&mut self, id: &str) {
        let next = self.next_change(id).map(|change| change.at);
        self.queue.set(id, next);
    }

    fn next_change(&self, id: &str) -> Option<NextChange> {
        let workspace = self.workspaces.by_id(id)?;
        let rules = self.agents.get(&workspace.agent_id)?;
        self.workspaces.next_change(&workspace, rules)
    }

    /// Says once, after a start, what would have been terminated already.
    fn tell_what_waits(&self) {
        let now = self.workspaces.clock().now();
        let is_over = |id: &String| {
            let workspace = self.workspaces.by_id(id)?;
            let rules = self.agents.get(&workspace.agent_id)?;
            let without_notice = Rules {
                notice_until: Timestamp::MIN,
                ..Rules::clone(rules)
            };
            let change = limits::due(&workspace.life, &without_notice, now)?;
            (change.state == DesiredState::Terminated).then_some(())
        };
        let waiting = self.queue.by_id.keys().filter_map(is_over).count();
        if waiting > 0 {
            tracing::warn!(
                workspaces = waiting,
                hours = limits::NOTICE.as_hours(),
                "workspaces have been stopped for longer than their limit; they are terminated, with their volumes, when these hours are over"
            );
        }
    }

    /// Does what is due; true: the database did not take it.
    async fn pass_time(&mut self, now: Timestamp) -> bool {
        let due: Vec<_> = self
            .queue
            .until(now)
            .filter_map(|id| {
                let workspace = self.workspaces.by_id(id)?;
                let rules = self.agents.get(&workspace.agent_id)?;
                Some((id.to_owned(), Arc::clone(rules)))
            })
            .collect();
        if due.is_empty() {
            return false;
        }
        // What changes is looked at again because of that; what does not has another time by now.
        for (id, _) in &due {
            self.queue.set(id, None);
        }
        let failed = said(self.workspaces.pass_time(due.clone(), now).await);
        for (id, _) in &due {
            self.look_at(id);
        }
        failed
    }
}

fn said(result: super::Result<()>) -> bool {
    if let Err(error) = &result {
        tracing::error!(
            error = chain(error),
            "what time or a configuration file brings to workspaces cannot be kept"
        );
    }
    result.is_err()
}

/// Workspaces by the time of their next change.
#[derive(Debug, Default)]
struct Queue {
    by_id: HashMap<String, Timestamp>,
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Queue {
    fn set(&mut self, id: &str, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.by_id.insert(id.to_owned(), at),
            None => self.by_id.remove(id),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, id.to_owned()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, id.to_owned()));
        }
    }

    fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Those whose time has come.
    fn until(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        self.by_time
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, id)| id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_queue_knows_each_workspace_once() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let mut queue = Queue::default();
        queue.set("a", Some(at(5)));
        queue.set("b", Some(at(3)));
        queue.set("a", Some(at(2)));
        queue.set("c", None);
        assert_eq!(queue.next(), Some(at(2)));
        assert_eq!(queue.until(at(1)).count(), 0);
        assert_eq!(queue.until(at(4)).collect::<Vec<_>>(), ["a", "b"]);
        queue.set("a", None);
        assert_eq!(queue.next(), Some(at(3)));
        queue.set("b", None);
        assert_eq!((queue.next(), queue.by_id.len()), (None, 0));
    }
}
