//! The configuration of each agent: read from its Git project, judged, kept.
//!
//! One task for each agent with a project looks at the project's head every minute, and at once after a push hook. A
//! section with a problem changes nothing but the error that people see: its last good value stays, over a restart too,
//! and the other sections take effect.

pub(crate) mod convert;
mod record;
mod watcher;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use model::configuration::{ConfigurationFile, Note, Problem, Section};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use record::chain;

use crate::{config::Timing, directory::Agent, git::Git, store::Store};

/// Stands for the commit where there is none: no project, an empty one, or one that cannot be read. Agents expect a
/// commit with every configuration.
pub(crate) const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// A configuration that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    /// The newest commit of which anything is in force.
    pub(crate) commit: String,
    /// Sections that are older, because that commit's are wrong, with the commit that each is of.
    pub(crate) older: Arc<BTreeMap<Section, String>>,
    pub(crate) configuration: Arc<ConfigurationFile>,
    pub(crate) notes: Arc<Vec<Note>>,
    pub(crate) applied_at: Timestamp,
}

/// Why the newest commit is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigurationError {
    /// The commit with the wrong file; none when the project cannot be read at all.
    pub(crate) commit: Option<String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
}

/// What is known of an agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// What the agent gets; none only until the project was looked at for the first time.
    pub(crate) good: Option<Good>,
    pub(crate) error: Option<ConfigurationError>,
}

#[derive(Debug)]
pub(crate) struct Configurations {
    store: Arc<dyn Store>,
    git: Arc<Git>,
    timing: Timing,
    tasks: TaskTracker,
    stopping: CancellationToken,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    /// Counts changes of any agent's.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    states: watch::Sender<Arc<State>>,
    pushed: Notify,
    /// Of all agents.
    changes: watch::Sender<u64>,
}

impl Entry {
    fn set(&self, state: State) {
        self.states.send_replace(Arc::new(state));
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Configurations {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        git: Arc<Git>,
        timing: Timing,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            store,
            git,
            timing,
            tasks,
            stopping,
            entries: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Begins to look after an agent's configuration; once for each agent.
    pub(crate) async fn watch(&self, agent: &Arc<Agent>) {
        let kept = record::load(&*self.store, agent.id).await;
        let mut state = kept.state();
        let project = agent.project_url.as_deref();
        let project = project.map(|url| crate::git::ProjectUrl::parse(url, self.git.policy()));
        let message = match &project {
            None => {
                state = State::without_commit(Vec::new());
                None
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(format!("project cannot be read: {error}")),
        };
        if let Some(message) = message {
            state.fail(None, message, Vec::new());
        }
        let entry = Arc::new(Entry {
            states: watch::Sender::new(Arc::new(state)),
            pushed: Notify::new(),
            changes: self.changes.clone(),
        });
        self.entries().insert(agent.id, Arc::clone(&entry));
        self.changes.send_modify(|count| *count += 1);
        if let Some(Ok(project)) = project {
            let watcher = watcher::Watcher {
                agent: Arc::clone(agent),
                project,
                git: Arc::clone(&self.git),
                store: Arc::clone(&self.store),
                entry,
                kept,
                timing: self.timing.clone(),
            };
            let stopping = self.stopping.clone();
            self.tasks.spawn(async move {
                // Stopping drops the watcher where it waits; a running git is killed with it.
                stopping.run_until_cancelled(watcher.run()).await;
            });
        }
    }

    pub(crate) fn subscribe(&self, agent: &Agent) -> watch::Receiver<Arc<State>> {
        match self.entries().get(&agent.id) {
            Some(entry) => entry.states.subscribe(),
            // Between its creation and `watch` an agent has no state yet; the stream then ends and is opened again.
            None => watch::Sender::new(Arc::default()).subscribe(),
        }
    }

    /// Changes whenever what is known of any agent's configuration does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn state(&self, agent: &Agent) -> Arc<State> {
        match self.entries().get(&agent.id) {
            Some(entry) => Arc::clone(&entry.states.borrow()),
            None => Arc::default(),
        }
    }

    /// Says that the agent's project was pushed to. Many at once are one.
    pub(crate) fn pushed(&self, agent: &Agent) {
        if let Some(entry) = self.entries().get(&agent.id) {
            entry.pushed.notify_one();
        }
    }

    /// Agents whose newest configuration is not in force.
    pub(crate) fn failing(&self) -> usize {
        let entries = self.entries();
        let failing = |entry: &&Arc<Entry>| entry.states.borrow().error.is_some();
        entries.values().filter(failing).count()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the agent's file says of workspaces; none while that is not known. (The agent itself gets defaults then.)
    pub(crate) fn known(&self) -> Option<&Good> {
        let is_stand_in =
            |good: &&Good| self.error.is_some() && good.workspaces_commit() == NO_COMMIT;
        self.good.as_ref().filter(|good| !is_stand_in(good))
    }

    /// The configuration of an agent without a file.
    fn without_commit(notes: Vec<Note>) -> Self {
        Self {
            good: Some(Good::empty(NO_COMMIT, notes)),
            error: None,
        }
    }

    /// Notes an error; `since` stays that of an error that goes on. An agent that has nothing yet gets the empty
    /// configuration, so that it can serve calls while its project is away.
    fn fail(&mut self, commit: Option<String>, message: String, problems: Vec<Problem>) {
        let since = match &self.error {
            Some(error) if error.commit == commit && error.message == message => error.since,
            Some(_) | None => Timestamp::now(),
        };
        self.error = Some(ConfigurationError {
            commit,
            problems,
            message,
            since,
        });
        self.ensure_good();
    }

    fn ensure_good(&mut self) {
        self.good
            .get_or_insert_with(|| Good::empty(NO_COMMIT, Vec::new()));
    }
}

impl Good {
    /// Whether it is the very same, without a look at what it says.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.configuration, &other.configuration) && self.commit == other.commit
    }

    /// The commit that the section `remote_development` is of.
    pub(crate) fn workspaces_commit(&self) -> &str {
        let older = self.older.get(&Section::RemoteDevelopment);
        older.unwrap_or(&self.commit)
    }

    fn empty(commit: &str, notes: Vec<Note>) -> Self {
        Self {
            commit: commit.to_owned(),
            older: Arc::default(),
            configuration: Arc::default(),
            notes: Arc::new(notes),
            applied_at: Timestamp::now(),
        }
    }
}
