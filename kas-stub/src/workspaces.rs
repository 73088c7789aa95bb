//! Workspaces: from a devfile in a repository to the objects an agent applies, and back to what became of them.
//!
//! ```text
//!  people ──▶ api ──▶ source (Git) ──▶ render ──▶ Workspaces ──▶ store
//!                                                     ▲  │
//!                                             reports │  ▼ wishes
//!                                          agent ◀── reconcile
//! ```
//!
//! - `decide` is pure: what a report or a wish makes of a workspace.
//! - [`Workspaces`] is the in-memory index over the store, and the only writer.
//! - `backend` is the seam between a Deployment and a DevWorkspace; nothing above it knows which one runs.
//!
//! It does not talk to a cluster: an agent applies, and says what it sees.

pub(crate) mod activity;
mod again;
pub(crate) mod backend;
mod change;
pub(crate) mod choice;
mod decide;
pub(crate) mod editor;
pub(crate) mod endpoints;
pub(crate) mod events;
mod idle;
mod imports;
mod index;
pub(crate) mod json;
mod keeper;
pub(crate) mod limits;
mod maker;
pub(crate) mod quota;
pub(crate) mod reconcile;
mod render;
mod rendering;
pub(crate) mod settings;
mod source;
pub(crate) mod workspace;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;
use model::WorkspaceName;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    configuration::Good,
    store::{self, Kind, Store, Write},
};
use activity::Activity;
use decide::{Decision, Report};
pub(crate) use editor::Editors;
use events::Step;
use index::{Entry, Index};
pub(crate) use keeper::Keeper;
use limits::{NOTICE, NextChange, Rules};
pub(crate) use maker::{MakeError, Maker, Request, ending, name_from};
use quota::{Quota, Reached};
use reconcile::{Leaders, Operators, Orphans};
pub(crate) use rendering::Renderer;
use settings::RenderedWith;
use workspace::{Content, Workspace};

/// Workspaces that are not terminated.
const MAX_WORKSPACES: usize = 10_000;
/// Terminated ones that are kept for people to look back at; the oldest make room.
const MAX_TERMINATED: usize = 200;
/// Bytes of what is rendered for one workspace: it is held in memory while an agent is told.
const MAX_CONTENT_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a workspace named {0} exists already")]
    Exists(WorkspaceName),
    #[error("the server keeps at most {MAX_WORKSPACES} workspaces")]
    TooMany,
    #[error("{0}")]
    Quota(Reached),
    #[error("workspace {workspace} has a {object} in the shared namespace already")]
    ObjectTaken {
        object: String,
        workspace: WorkspaceName,
    },
    #[error("what is made of the devfile is larger than {} MiB", MAX_CONTENT_BYTES / 1024 / 1024)]
    TooLarge,
    #[error("there is no workspace named {0}")]
    Unknown(String),
    #[error("workspace {0} is terminated, which is final")]
    Terminated(WorkspaceName),
    #[error("keep it in the database")]
    Store(#[source] store::Error),
    #[error("workspace record {id} in the database cannot be read")]
    Corrupt {
        id: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("workspace record {0} is missing in the database")]
    Missing(String),
    /// The write goes on; who asked does not hear of it.
    #[error("server is stopping")]
    Stopping,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// All workspaces of the server.
#[derive(Debug)]
pub(crate) struct Workspaces {
    store: Arc<dyn Store>,
    clock: Clock,
    renderer: Arc<Renderer>,
    index: RwLock<Index>,
    /// Held over a write to the store and its entry into the index, so that the index is never ahead.
    writing: tokio::sync::Mutex<()>,
    /// Counts changes of any workspace.
    changes: watch::Sender<u64>,
    /// Counts changes of what is wished, by agent.
    wishes: Mutex<HashMap<u64, watch::Sender<u64>>>,
    leaders: Arc<Leaders>,
    orphans: Orphans,
    operators: Operators,
    activity: Activity,
    /// No time limit terminates anything before this.
    notice_until: Timestamp,
    /// The same, of agents whose limit was made shorter since.
    agents_notice_until: Mutex<HashMap<u64, Timestamp>>,
    /// What is rendered with an agent's file, made once for each.
    rendered_now: Mutex<HashMap<u64, (Good, Arc<RenderedWith>)>>,
}

impl Workspaces {
    /// Reads the store. `renderer` renders again what is there.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        renderer: Arc<Renderer>,
        clock: Clock,
    ) -> Result<Self> {
        let mut index = Index::default();
        for record in store.list(Kind::Workspace).await.map_err(Error::Store)? {
            let workspace: Workspace =
                serde_json::from_str(&record.body).map_err(|source| Error::Corrupt {
                    id: record.id.clone(),
                    source,
                })?;
            index.set(Entry {
                workspace: Arc::new(workspace),
                version: record.version,
            });
        }
        let activity = Activity::new(clock.clone());
        Ok(Self {
            leaders: Arc::new(Leaders::new(clock.clone())),
            notice_until: after_notice(clock.now()),
            agents_notice_until: Mutex::default(),
            rendered_now: Mutex::default(),
            store,
            clock,
            renderer,
            index: RwLock::new(index),
            writing: tokio::sync::Mutex::default(),
            changes: watch::Sender::default(),
            wishes: Mutex::default(),
            orphans: Orphans::default(),
            operators: Operators::default(),
            activity,
        })
    }

    /// All, by name and then age; terminated ones too.
    pub(crate) fn list(&self) -> Vec<Arc<Workspace>> {
        let index = self.read();
        let mut all: Vec<_> = index
            .by_id
            .values()
            .map(|it| Arc::clone(&it.workspace))
            .collect();
        all.sort_by(|a, b| (&a.name, a.created_at).cmp(&(&b.name, b.created_at)));
        all
    }

    /// The newest of that name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Workspace>> {
        let name: WorkspaceName = name.parse().ok()?;
        let index = self.read();
        let id = index.by_name.get(&name)?;
        index.by_id.get(id).map(|it| Arc::clone(&it.workspace))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Workspace>> {
        self.read()
            .by_id
            .get(id)
            .map(|it| Arc::clone(&it.workspace))
    }

    fn is_of_agent(&self, id: &str, agent_id: u64) -> bool {
        let index = self.read();
        index
            .by_id
            .get(id)
            .is_some_and(|it| it.workspace.agent_id == agent_id)
    }

    /// Whether the agent still has something to do for a workspace.
    pub(crate) fn has_any_of(&self, agent_id: u64) -> bool {
        let index = self.read();
        let mut workspaces = index.by_id.values().map(|it| &it.workspace);
        workspaces.any(|it| it.agent_id == agent_id && !it.life.is_over())
    }

    fn of_agent(&self, agent_id: u64) -> Vec<Arc<Workspace>> {
        let index = self.read();
        let workspaces = index.by_id.values().map(|it| &it.workspace);
        workspaces
            .filter(|it| it.agent_id == agent_id)
            .cloned()
            .collect()
    }

    /// What was rendered for a workspace.
    pub(crate) async fn content(&self, id: &str) -> Result<Content> {
        let record = self
            .store
            .load(Kind::WorkspaceContent, id)
            .await
            .map_err(Error::Store)?;
        let record = record.ok_or_else(|| Error::Missing(id.to_owned()))?;
        serde_json::from_str(&record.body).map_err(|source| Error::Corrupt {
            id: id.to_owned(),
            source,
        })
    }

    /// What the lives of an agent's workspaces are measured against.
    pub(crate) fn rules(&self, agent_id: u64, agent: &str, good: Good) -> Rules {
        let by_agent = self
            .agents_notice_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = by_agent.get(&agent_id).copied();
        Rules {
            agent: agent.to_owned(),
            good,
            notice_until: own.map_or(self.notice_until, |it| it.max(self.notice_until)),
        }
    }

    /// What a workspace of this agent would be rendered with now, whatever its class.
    pub(crate) fn rendered_now(&self, agent_id: u64, good: &Good) -> Arc<RenderedWith> {
        let mut known = self
            .rendered_now
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match known.get(&agent_id) {
            Some((of, rendered)) if of.is_same(good) => Arc::clone(rendered),
            Some(_) | None => {
                let rendered = Arc::new(RenderedWith::of(good));
                known.insert(agent_id, (good.clone(), Arc::clone(&rendered)));
                rendered
            }
        }
    }

    /// From now on an agent's workspaces may end sooner than somebody could see.
    fn give_notice(&self, agent_id: u64) {
        let mut by_agent = self
            .agents_notice_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_agent.insert(agent_id, after_notice(self.clock.now()));
    }

    /// Ids of what came, changed or went since this was asked last; at first all.
    fn take_touched(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.write().touched)
    }

    /// What time it is for workspaces.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn leaders(&self) -> &Arc<Leaders> {
        &self.leaders
    }

    pub(crate) fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// What becomes of a workspace by itself, and when: the first of all that may.
    pub(crate) fn next_change(&self, workspace: &Workspace, rules: &Rules) -> Option<NextChange> {
        let Workspace {
            id, backend, life, ..
        } = workspace;
        let used_at = self.activity.used_at(id);
        let limits = self.renderer.idle_limits();
        let idle = idle::next_stop(life, *backend, limits, used_at);
        let by_time = limits::next_change(life, rules);
        idle.into_iter().chain(by_time).min_by_key(|it| it.at)
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn operators(&self) -> &Operators {
        &self.operators
    }

    /// Changes whenever any workspace does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes whenever something else is wished of an agent.
    fn wishes(&self, agent_id: u64) -> watch::Receiver<u64> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.entry(agent_id).or_default().subscribe()
    }

    /// Whether a name is free; it may be taken a moment later.
    pub(crate) fn check_name(&self, name: &WorkspaceName) -> Result<()> {
        match self.by_name(name.as_str()) {
            Some(other) if !other.life.is_over() => Err(Error::Exists(name.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a quota leaves room for one more; it may be taken a moment later.
    pub(crate) fn check_quota(&self, agent_id: u64, owner: u64, quota: &Quota) -> Result<()> {
        let index = self.read();
        let all = index.by_id.values().map(|it| &*it.workspace);
        quota.check(agent_id, owner, all).map_err(Error::Quota)
    }

    /// Keeps a new workspace. Asked in the same breath as it is written: two creations do not share the last place.
    pub(crate) async fn create(
        self: &Arc<Self>,
        mut workspace: Workspace,
        content: Content,
        quota: Quota,
    ) -> Result<Arc<Workspace>> {
        let (at, life) = (workspace.created_at, &workspace.life);
        let (state, generation) = (life.desired, life.generation);
        workspace.events.add([
            (
                at,
                Step::Desired {
                    state,
                    generation,
                    reason: None,
                },
            ),
            (at, Step::Actual { state: life.actual }),
        ]);
        self.writing(move |this| async move {
            this.check_quota(workspace.agent_id, workspace.owner, &quota)?;
            this.check_objects(&workspace)?;
            let mut writes = this.room_for(&workspace)?;
            let body = to_json(&content);
            if body.len() > MAX_CONTENT_BYTES {
                return Err(Error::TooLarge);
            }
            let ends: Vec<_> = writes
                .iter()
                .filter(|write| write.kind == Kind::Workspace)
                .map(|write| write.id.clone())
                .collect();
            writes.push(Write {
                kind: Kind::WorkspaceContent,
                id: workspace.id.clone(),
                expected_version: 0,
                body: Some(body),
            });
            writes.push(write(&workspace, 0));
            this.store.append(writes).await.map_err(Error::Store)?;
            let workspace = Arc::new(workspace);
            {
                let mut index = this.write();
                for id in ends {
                    index.remove(&id);
                }
                index.set(Entry {
                    workspace: Arc::clone(&workspace),
                    version: 1,
                });
            }
            this.orphans.forget(workspace.agent_id, &workspace.id);
            this.notify(Some(workspace.agent_id));
            Ok(workspace)
        })
        .await
    }

    /// Whether its objects are other ones than those of the workspaces that share its namespace.
    fn check_objects(&self, workspace: &Workspace) -> Result<()> {
        let others = self.of_agent(workspace.agent_id);
        let mut others = others.iter().filter(|it| {
            it.id != workspace.id && it.namespace == workspace.namespace && !it.life.is_over()
        });
        let taken = others.find_map(|other| {
            let mut objects = workspace.shared_objects.iter();
            let object = objects.find(|it| other.shared_objects.contains(it))?;
            Some((object.clone(), other.name.clone()))
        });
        match taken {
            None => Ok(()),
            Some((object, workspace)) => Err(Error::ObjectTaken { object, workspace }),
        }
    }

    /// Whether one more fits, and the ends of those that make room.
    fn room_for(&self, workspace: &Workspace) -> Result<Vec<Write>> {
        let index = self.read();
        let same_name = index
            .by_name
            .get(&workspace.name)
            .and_then(|id| index.by_id.get(id));
        if same_name.is_some_and(|it| !it.workspace.life.is_over()) {
            return Err(Error::Exists(workspace.name.clone()));
        }
        let mut over: Vec<_> = index
            .by_id
            .values()
            .filter(|it| it.workspace.life.is_over())
            .collect();
        if index.by_id.len() - over.len() >= MAX_WORKSPACES {
            return Err(Error::TooMany);
        }
        over.sort_by_key(|it| it.workspace.life.actual_at);
        let too_many = over.len().saturating_sub(MAX_TERMINATED - 1);
        let ends = over.into_iter().take(too_many).flat_map(|it| {
            let end = |kind, expected_version| Write {
                kind,
                id: it.workspace.id.clone(),
                expected_version,
                body: None,
            };
            [
                end(Kind::Workspace, it.version),
                end(Kind::WorkspaceContent, it.workspace.content_version),
            ]
        });
        Ok(ends.collect())
    }

    /// Takes what an agent says of its workspaces; one write for all.
    async fn report(
        self: &Arc<Self>,
        agent_id: u64,
        reports: Vec<(String, Report)>,
        now: Timestamp,
    ) -> Result<()> {
        self.writing(move |this| async move {
            let mut decided: BTreeMap<String, Decision> = BTreeMap::new();
            for (id, report) in reports {
                let Some(workspace) = this.by_id(&id).filter(|it| it.agent_id == agent_id) else {
                    continue;
                };
                // Two reports of one workspace in one page: the later one goes on from the earlier.
                let before = decided.get(&id).map_or(&workspace.life, |it| &it.life);
                let Some(mut decision) = decide::decide(before, &report, now) else {
                    continue;
                };
                if let Some(earlier) = decided.remove(&id) {
                    decision.steps.splice(0..0, earlier.steps);
                }
                decided.insert(id, decision);
            }
            let changes = decided.into_iter().map(|(id, it)| (id, it.into()));
            this.keep(changes.collect()).await
        })
        .await
    }

    fn notify(&self, agent_id: Option<u64>) {
        let count = |changes: &mut u64| *changes += 1;
        if let Some(agent_id) = agent_id {
            let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
            wishes.entry(agent_id).or_default().send_modify(count);
        }
        self.changes.send_modify(count);
    }

    /// Runs a write to its end even when whoever asked for it goes away in the middle: a caller's future is dropped with
    /// its connection, and store and index would part.
    async fn writing<T: Send + 'static, F>(
        self: &Arc<Self>,
        write: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let this = Arc::clone(self);
        let run = async move {
            let _writing = this.writing.lock().await;
            write(Arc::clone(&this)).await
        };
        tokio::spawn(run).await.unwrap_or(Err(Error::Stopping))
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(workspace: &Workspace, expected_version: u64) -> Write {
    Write {
        kind: Kind::Workspace,
        id: workspace.id.clone(),
        expected_version,
        body: Some(to_json(workspace)),
    }
}

fn to_json(record: &impl serde::Serialize) -> String {
    serde_json::to_string(record).expect("records have no map with other keys than strings")
}

/// The end of the notice that begins at a time.
fn after_notice(from: Timestamp) -> Timestamp {
    from.saturating_add(NOTICE).unwrap_or(Timestamp::MAX)
}
