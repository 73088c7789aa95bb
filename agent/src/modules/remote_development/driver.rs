//! The task that owns the state of all workspaces: tells it what happens, and does what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::failures::EventSeen;
use agent_core::pull_secrets::Sources;
use agent_core::reconcile::{
    Definition, Look, MAX_CONCURRENT, Outcome, Reconciler, Source, Taken, WorkspaceId,
};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::api::Api;
use super::apply;
use super::config_maps;
use super::grants::Grants;
use super::link::{self, Event, Language, Poll, Said, Settings};
use super::operator;
use super::pull_secrets::{self, PullSecrets};
use super::watches::{self, Change, Scope};
use crate::config::Workspaces;
use crate::metrics::Metrics;
use crate::module::Context;

/// Changes of the cluster that wait to be taken in. A watch that is faster waits.
const MAX_CHANGES: usize = 256;
/// Changes taken in before anything is judged: a burst costs one judgement of each workspace.
const BATCH: usize = 256;
/// What the server said that waits to be taken in; each can be a whole workspace.
const MAX_SAID: usize = 8;
/// Polls are no closer together, so that many changes go in one.
const POLL_SPACING: Duration = Duration::from_millis(100);
/// The full poll's interval until the server says another, and its bounds.
const FULL_INTERVAL: Duration = Duration::from_secs(60 * 60);
const FULL_INTERVAL_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(24 * 60 * 60));
/// Bounds of the interval at which a server that says nothing by itself is asked.
const PARTIAL_INTERVAL_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(10 * 60));
/// Events are read of so many workspaces at the same time.
const MAX_LOOKS: usize = 4;
/// Events of one Pod; it has a few, of which the last matter.
const MAX_EVENTS: u32 = 50;
/// How often pull secrets are read again that workspaces have copies of: a few requests, however many workspaces.
const PULL_SECRETS_INTERVAL: Duration = Duration::from_secs(30);
/// However many things fall due: no tighter loop than this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// Reconciles until it is dropped, with everything it started.
pub(super) async fn run(
    client: &kube::Client,
    workspaces: &Workspaces,
    agent_id: i64,
    term: u64,
    context: &Context,
) {
    let Workspaces { policy, role } = workspaces.clone();
    let (changes, changed) = mpsc::channel(MAX_CHANGES);
    let (spaces, spaces_told) = mpsc::channel(MAX_CHANGES);
    let (events, said) = mpsc::channel(MAX_SAID);
    let scope = Scope {
        agent_id,
        shared_namespace: policy.shared_namespace.clone(),
        dev_workspaces: policy.allows("DevWorkspace"),
    };
    let mut tasks = watches::start(client, &scope, &changes, &spaces);
    let api = Api::new(client.clone());
    let grants = Arc::new(Grants::new(agent_id, role));
    // Also where there is nothing to list: its end would be taken for trouble.
    tasks.spawn(config_maps::follow(
        api.clone(),
        Arc::clone(&grants),
        agent_id,
        spaces_told,
        changes,
    ));
    tasks.spawn(link::run(
        Arc::clone(&context.control),
        api.clone(),
        agent_id,
        term,
        events,
    ));
    Driver {
        agent_id,
        description: operator::Description::new(api.clone()),
        api,
        grants,
        metrics: context.metrics.clone(),
        start: Instant::now(),
        reconciler: Reconciler::new(agent_id, policy),
        attempts: JoinSet::new(),
        attempt_ids: BTreeMap::new(),
        looks: JoinSet::new(),
        secrets: JoinSet::new(),
        next_secrets: Instant::now() + PULL_SECRETS_INTERVAL,
        stream: None,
        language: None,
        full_interval: FULL_INTERVAL,
    }
    .run(changed, said)
    .await;
    drop((tasks, spaces));
}

struct Driver {
    agent_id: i64,
    api: Api,
    grants: Arc<Grants>,
    metrics: Metrics,
    start: Instant,
    reconciler: Reconciler,
    attempts: JoinSet<Outcome>,
    attempt_ids: BTreeMap<Id, WorkspaceId>,
    looks: JoinSet<(WorkspaceId, Vec<EventSeen>)>,
    description: operator::Description,
    /// Reads the pull secrets again.
    secrets: JoinSet<Sources>,
    next_secrets: Instant,
    stream: Option<Stream>,
    /// Of the streams so far.
    language: Option<Language>,
    full_interval: Duration,
}

/// An open stream to the server.
#[derive(Debug)]
struct Stream {
    polls: mpsc::Sender<Poll>,
    /// `None`: it is polled when there is something to report.
    partial_interval: Option<Duration>,
    number: u64,
    /// The poll that is not answered yet. There is one at a time: what happens meanwhile goes into the next.
    unanswered: Option<Instant>,
    /// When the full poll began that is not answered yet.
    full_began: Option<Instant>,
    last_poll: Option<Instant>,
    next_full: Instant,
}

impl Stream {
    /// The least time between polls.
    fn spacing(&self) -> Duration {
        self.partial_interval.unwrap_or(POLL_SPACING)
    }
}

/// Why the driver woke. One is made at a time.
#[expect(clippy::large_enum_variant, reason = "none is kept")]
enum Wake {
    Changed(Source, Change),
    Link(Event),
    AttemptEnded(Result<(Id, Outcome), JoinError>),
    Looked(Result<(WorkspaceId, Vec<EventSeen>), JoinError>),
    Described(Definition),
    SecretsRead(Result<Sources, JoinError>),
    Due,
    /// A task that must not end has ended.
    Broken,
}

impl Driver {
    async fn run(
        mut self,
        mut changed: mpsc::Receiver<(Source, Change)>,
        mut said: mpsc::Receiver<Event>,
    ) {
        let mut was_ready = false;
        loop {
            self.act();
            if !was_ready && self.reconciler.is_ready() {
                was_ready = true;
                tracing::info!(workspaces = self.reconciler.len(), "the cluster is known");
            }
            let wake = self.next_wake();
            // Every branch is cancel-safe: channels and join sets lose nothing.
            let wake = tokio::select! {
                change = changed.recv() => change.map_or(Wake::Broken, |(source, change)| Wake::Changed(source, change)),
                event = said.recv() => event.map_or(Wake::Broken, Wake::Link),
                Some(ended) = self.attempts.join_next_with_id() => Wake::AttemptEnded(ended),
                Some(looked) = self.looks.join_next() => Wake::Looked(looked),
                definition = self.description.next() => Wake::Described(definition),
                Some(read) = self.secrets.join_next() => Wake::SecretsRead(read),
                () = tokio::time::sleep_until(wake) => Wake::Due,
            };
            match wake {
                Wake::Changed(source, change) => {
                    self.take_change(source, change);
                    for _ in 0..BATCH {
                        let Ok((source, change)) = changed.try_recv() else {
                            break;
                        };
                        self.take_change(source, change);
                    }
                }
                Wake::Link(Event::Opened(language, _))
                    if self.language.is_some_and(|before| before != language) =>
                {
                    // Another server, whose generations are others. What is known of the first one's is no measure.
                    tracing::info!(
                        ?language,
                        "the server speaks another language: beginning anew"
                    );
                    return;
                }
                Wake::Link(event) => self.take_event(event),
                Wake::AttemptEnded(ended) => self.end_attempt(ended),
                Wake::Looked(Ok((id, events))) => self.reconciler.handle_events(&id, events),
                Wake::Looked(Err(error)) => tracing::error!(%error, "reading events ended badly"),
                Wake::Described(definition) => self.reconciler.handle_definition(definition),
                Wake::SecretsRead(Ok(sources)) => self.reconciler.handle_sources(&sources),
                Wake::SecretsRead(Err(error)) => {
                    tracing::error!(%error, "reading pull secrets ended badly");
                }
                Wake::Due => {}
                Wake::Broken => return,
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn take_change(&mut self, source: Source, change: Change) {
        match change {
            Change::ListBegins => self.reconciler.handle_list_begins(source),
            Change::Seen(item) => self.reconciler.handle_seen(item),
            Change::Gone(item) => self.reconciler.handle_gone(item),
            Change::ConfigMaps {
                namespace,
                version,
                items,
            } => self
                .reconciler
                .handle_config_maps(&namespace, version, items),
            Change::ListComplete => {
                self.reconciler.handle_list_complete(source);
                if watches::is_of_operator(source) {
                    self.description.read();
                }
            }
            Change::NoSuchKind if watches::is_of_operator(source) => {
                self.operator_is_away(Definition::Missing);
            }
            Change::Forbidden if watches::is_of_operator(source) => {
                self.operator_is_away(Definition::Forbidden);
            }
            // Other kinds that are missing are trouble, which the log tells.
            Change::NoSuchKind | Change::Forbidden => {}
        }
    }

    fn operator_is_away(&mut self, definition: Definition) {
        self.description.stop();
        self.reconciler.handle_definition(definition);
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Opened(language, polls) => {
                self.language = Some(language);
                self.reconciler.forget_sent();
                self.stream = Some(Stream {
                    polls,
                    partial_interval: None,
                    number: 0,
                    unanswered: None,
                    full_began: None,
                    last_poll: None,
                    next_full: Instant::now(),
                });
            }
            Event::Closed => self.stream = None,
            Event::Said(Said::Settings(settings)) => self.take_settings(settings),
            Event::Said(Said::Wish(desired, content, secrets)) => {
                let (id, name) = (desired.id.clone(), desired.name.to_string());
                let (generation, state) = (desired.generation, desired.state);
                let taken = self.reconciler.handle_wish(desired, content, self.now());
                let PullSecrets { wanted, sources } = secrets;
                self.reconciler
                    .handle_pull_secrets(&id.as_str().into(), wanted, &sources);
                match taken {
                    Taken::New => tracing::info!(id, name, generation, ?state, "workspace wanted"),
                    Taken::Known | Taken::Older => {
                        tracing::debug!(id, name, generation, ?state, ?taken, "nothing new")
                    }
                    Taken::Rejected => tracing::warn!(
                        id,
                        name,
                        generation,
                        "what the server wants may not be applied"
                    ),
                }
            }
            Event::Said(Said::Answered(number)) => {
                if let Some(stream) = &mut self.stream
                    && stream.number == number
                    && stream.unanswered.take().is_some()
                {
                    self.reconciler.handle_answered();
                    if let Some(began) = stream.full_began.take() {
                        self.metrics.observe_full_poll(began.elapsed());
                    }
                }
            }
            Event::Said(Said::Nonsense(reason)) => {
                tracing::warn!(reason, "the server sent something unusable")
            }
        }
    }

    fn take_settings(&mut self, settings: Settings) {
        let Settings {
            full_interval,
            partial_interval,
        } = settings;
        if let Some(interval) = full_interval {
            let (shortest, longest) = FULL_INTERVAL_BOUNDS;
            self.full_interval = interval.clamp(shortest, longest);
        }
        let next = Instant::now() + self.full_interval;
        let Some(stream) = &mut self.stream else {
            return;
        };
        let (shortest, longest) = PARTIAL_INTERVAL_BOUNDS;
        stream.partial_interval = partial_interval.map(|it| it.clamp(shortest, longest));
        if stream.number > 0 {
            stream.next_full = stream.next_full.min(next);
        }
    }

    /// Does what there is to do now.
    fn act(&mut self) {
        let now = self.now();
        self.reconciler.decide(now);
        self.metrics.set_workspaces(self.reconciler.len());
        while self.attempts.len() < MAX_CONCURRENT
            && let Some((id, attempt)) = self.reconciler.next_attempt(now)
        {
            let (api, grants, agent_id) =
                (self.api.clone(), Arc::clone(&self.grants), self.agent_id);
            let task = self
                .attempts
                .spawn(async move { apply::attempt(&api, &grants, agent_id, attempt).await });
            self.attempt_ids.insert(task.id(), id);
        }
        while self.looks.len() < MAX_LOOKS
            && let Some(look) = self.reconciler.next_look(now)
        {
            self.looks.spawn(read_events(self.api.clone(), look));
        }
        if self.secrets.is_empty() && Instant::now() >= self.next_secrets {
            self.next_secrets = Instant::now() + PULL_SECRETS_INTERVAL;
            let wanted = self.reconciler.pull_secrets();
            if !wanted.is_empty() {
                let read = pull_secrets::read_all(self.api.clone(), wanted);
                self.secrets.spawn(read);
            }
        }
        self.poll(now);
    }

    fn end_attempt(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = match ended {
            Ok((task, outcome)) => (task, Some(outcome)),
            Err(error) => {
                tracing::error!(%error, "an attempt at a workspace ended badly");
                (error.id(), None)
            }
        };
        let name = outcome.as_ref().map_or("panicked", Outcome::name);
        self.metrics.count_attempt(name);
        if let Some(id) = self.attempt_ids.remove(&task) {
            self.reconciler.handle_ended(&id, outcome, self.now());
        }
    }

    fn poll(&mut self, now: Duration) {
        let full_due = self
            .reconciler
            .full_poll_due()
            .is_some_and(|due| due <= now);
        let Some(stream) = &mut self.stream else {
            return;
        };
        if stream.unanswered.is_some_and(link::is_overdue) {
            self.stream = None;
            return;
        }
        let spaced = stream
            .last_poll
            .is_none_or(|last| last.elapsed() >= stream.spacing());
        if !self.reconciler.is_ready() || stream.unanswered.is_some() || !spaced {
            return;
        }
        let interval_over = Instant::now() >= stream.next_full;
        let full = interval_over || full_due;
        let is_asked = full || stream.partial_interval.is_some();
        if !is_asked && !self.reconciler.has_reports() {
            return;
        }
        let began = Instant::now();
        if interval_over && stream.number > 0 {
            self.reconciler.mark_all();
            self.reconciler.decide(now);
        }
        let reports = self.reconciler.take_reports(full, now);
        let is_typed = self.language == Some(Language::Typed);
        let has_news = is_typed && self.reconciler.has_operator_news();
        if reports.is_empty() && !has_news && !is_asked {
            return;
        }
        stream.number += 1;
        let poll = Poll {
            number: stream.number,
            full,
            reports,
            operator: self.reconciler.take_operator_state(),
            now,
        };
        stream.last_poll = Some(Instant::now());
        stream.unanswered = stream.last_poll;
        if full {
            stream.full_began = Some(began);
            stream.next_full = Instant::now() + self.full_interval;
        }
        // There is room: the poll before is answered. If not, the stream has ended, and that is told next.
        stream.polls.try_send(poll).ok();
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self.next_secrets;
        if let Some(due) = self.reconciler.next_wake() {
            wake = wake.min(self.start + due);
        }
        if let Some(stream) = &self.stream {
            wake = wake.min(match stream.unanswered {
                Some(sent) => link::overdue_at(sent),
                None => stream.next_full,
            });
            let spaced = stream
                .last_poll
                .map_or(Instant::now(), |last| last + stream.spacing());
            if stream.unanswered.is_none() && self.reconciler.is_ready() {
                if self.reconciler.has_reports() || stream.partial_interval.is_some() {
                    wake = wake.min(spaced);
                }
                if let Some(due) = self.reconciler.full_poll_due() {
                    wake = wake.min(spaced.max(self.start + due));
                }
            }
        }
        wake.max(Instant::now() + SHORTEST_SLEEP)
    }
}

/// Events carry no labels: they are read by the UID of the Pod, and only while it waits.
async fn read_events(api: Api, look: Look) -> (WorkspaceId, Vec<EventSeen>) {
    let Look {
        id,
        namespace,
        uids,
    } = look;
    let mut events = Vec::new();
    for uid in uids {
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid%3D{uid}&limit={MAX_EVENTS}"
        );
        match api.get(&path).await {
            Ok(list) => {
                let mut items = list["items"].as_array().cloned().unwrap_or_default();
                items.sort_by_cached_key(|event| {
                    let time = |field: &str| event[field].as_str().map(str::to_owned);
                    time("lastTimestamp")
                        .or_else(|| time("eventTime"))
                        .unwrap_or_default()
                });
                events.extend(items.iter().map(EventSeen::from_json));
            }
            Err(error) => tracing::debug!(%error, "events not read"),
        }
    }
    (id, events)
}
