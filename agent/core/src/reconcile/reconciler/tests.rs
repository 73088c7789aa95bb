//! The reconciler against an API server in memory, with watches that can lag, repeat and lose.

mod copies;

use model::ActualState as A;
use model::DesiredState as D;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::entry::EVENTS_AFTER;
use super::*;
use crate::guard::Policy;
use crate::reconcile::{
    AGENT_ID_LABEL, Inventory, KINDS, OWNING_INVENTORY_ANNOTATION, ObjectKey,
    WORKSPACE_ID_ANNOTATION, kind_of,
};

const AGENT: i64 = 7;
const SECOND: Duration = Duration::from_secs(1);

/// An API server, as far as it is needed.
#[derive(Default)]
struct Api {
    version: u64,
    objects: BTreeMap<(Source, String, String), Value>,
    writes: usize,
    /// What no watch has told yet.
    events: Vec<(Source, bool, Value)>,
}

impl Api {
    fn put(&mut self, source: Source, mut object: Value) -> Value {
        self.version += 1;
        let key = (source, text(&object, "namespace"), text(&object, "name"));
        let before = self.objects.get(&key);
        let generation = before.map_or(0, |before| {
            before["metadata"]["generation"].as_u64().unwrap()
        });
        let is_same = before.is_some_and(|before| before["spec"] == object["spec"]);
        object["metadata"]["generation"] = json!(generation + u64::from(!is_same));
        object["metadata"]["uid"] = json!(format!("{}-{}", key.1, key.2));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Source::Objects(place) = source
            && KINDS[place].kind == "Deployment"
        {
            let replicas = &object["spec"]["replicas"];
            object["status"] = json!({"availableReplicas": replicas, "conditions": [
                {"type": "Progressing", "reason": "NewReplicaSetAvailable"},
                {"type": "Available", "reason": "MinimumReplicasAvailable"},
            ]});
        }
        self.objects.insert(key, object.clone());
        self.events.push((source, true, object.clone()));
        object
    }

    fn delete(&mut self, source: Source, namespace: &str, name: &str) {
        let key = (source, namespace.to_owned(), name.to_owned());
        if let Some(mut object) = self.objects.remove(&key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.events.push((source, false, object));
        }
        if source == Source::Namespaces {
            let inside: Vec<_> = self
                .objects
                .keys()
                .filter(|key| key.1 == name)
                .cloned()
                .collect();
            inside
                .iter()
                .for_each(|(source, namespace, name)| self.delete(*source, namespace, name));
        }
    }

    fn get(&self, key: &ObjectKey) -> Option<&Value> {
        self.objects
            .get(&(source(key), key.namespace.clone(), key.name.clone()))
    }

    /// Carries out an attempt as the agent does.
    fn attempt(&mut self, mut attempt: Attempt) -> Outcome {
        for key in attempt.to_look_at() {
            let fact = self.look(&key);
            attempt.note(fact);
        }
        while let Some(plan) = attempt.next_plan() {
            for action in plan.actions {
                self.writes += 1;
                let place = attempt.desired.namespace.clone();
                let namespace = (Source::Namespaces, String::new(), place.clone());
                let needs_namespace =
                    matches!(&action, Action::WriteInventory(_) | Action::Apply(..));
                if needs_namespace && !self.objects.contains_key(&namespace) {
                    // Not found, the API server says.
                    return attempt.finish(Ended::Broken);
                }
                let fact = match action {
                    Action::CreateNamespace => {
                        let object = json!({"metadata": {"name": place, "annotations": {WORKSPACE_ID_ANNOTATION: attempt.desired.id}}});
                        Fact::NamespaceCreated(Item::read(
                            Source::Namespaces,
                            &self.put(Source::Namespaces, object),
                        ))
                    }
                    Action::WriteInventory(inventory) => {
                        let written = self.put(Source::Inventories, inventory.to_config_map());
                        Fact::Seen(Item::read(Source::Inventories, &written))
                    }
                    Action::Apply(key, object) => {
                        if !attempt.may_write(&key) {
                            let fact = self.look(&key);
                            let is_free = matches!(&fact, Fact::Absent(_))
                                || matches!(&fact, Fact::Seen(Item::Object(_, meta, _)) if attempt.is_ours(meta));
                            attempt.note(fact);
                            if !is_free {
                                break;
                            }
                        }
                        let body = serde_json::from_str(&object.body.unwrap()).unwrap();
                        Fact::Applied(Item::read(source(&key), &self.put(source(&key), body)))
                    }
                    Action::Delete(key) => {
                        self.delete(source(&key), &key.namespace, &key.name);
                        Fact::Absent(key)
                    }
                    Action::DeleteInventory => {
                        let name = Inventory::name_of(&attempt.desired.name);
                        self.delete(Source::Inventories, &place, &name);
                        Fact::InventoryAbsent
                    }
                    Action::DeleteNamespace => {
                        self.delete(Source::Namespaces, "", &place);
                        Fact::NamespaceAbsent
                    }
                };
                attempt.note(fact);
            }
        }
        attempt.finish(Ended::Planned)
    }

    fn look(&self, key: &ObjectKey) -> Fact {
        match self.get(key) {
            Some(object) => Fact::Seen(Item::read(source(key), object)),
            None => Fact::Absent(key.clone()),
        }
    }
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn source(key: &ObjectKey) -> Source {
    Source::Objects(kind_of(&key.group, &key.kind).unwrap().0)
}

/// An agent and its API server.
struct World {
    api: Api,
    reconciler: Reconciler,
    now: Duration,
    attempts: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            api: Api::default(),
            reconciler: Reconciler::new(AGENT, Policy::default()),
            now: Duration::ZERO,
            attempts: 0,
        };
        world.list();
        world
    }

    /// Another agent process takes over.
    fn restart(&mut self) {
        self.reconciler = Reconciler::new(AGENT, Policy::default());
        self.list();
        self.attempts = 0;
        self.api.writes = 0;
    }

    /// All watches have expired, and list again.
    fn list(&mut self) {
        self.api.events.clear();
        for source in Source::all() {
            self.reconciler.handle_list_begins(source);
            for ((of, _, _), object) in &self.api.objects {
                if *of == source {
                    self.reconciler.handle_seen(Item::read(source, object));
                }
            }
            self.reconciler.handle_list_complete(source);
        }
    }

    fn watch(&mut self) {
        for (source, is_there, object) in std::mem::take(&mut self.api.events) {
            let item = Item::read(source, &object);
            match is_there {
                true => self.reconciler.handle_seen(item),
                false => self.reconciler.handle_gone(item),
            }
        }
    }

    fn work(&mut self) {
        self.reconciler.decide(self.now);
        while let Some((id, attempt)) = self.reconciler.next_attempt(self.now) {
            self.attempts += 1;
            let outcome = self.api.attempt(attempt);
            self.reconciler.handle_ended(&id, Some(outcome), self.now);
            self.reconciler.decide(self.now);
        }
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.work();
            self.watch();
            self.now += SECOND;
        }
        self.reconciler.decide(self.now);
    }

    fn wish(&mut self, n: u32, generation: u64, state: D) -> Taken {
        let content = Content::Objects(objects(n, state, "1"));
        self.reconciler
            .handle_wish(desired(n, generation, state), content, self.now)
    }

    fn reports(&mut self) -> Vec<(u64, A, Vec<FailureCode>)> {
        let reports = self.reconciler.take_reports(false, self.now);
        reports.into_iter().map(|report| what(&report)).collect()
    }

    fn replicas(&self, n: u32) -> Option<u64> {
        self.api.get(&deployment(n))?["spec"]["replicas"].as_u64()
    }
}

fn what(report: &Report) -> (u64, A, Vec<FailureCode>) {
    let codes = report
        .status
        .failures
        .iter()
        .map(|failure| failure.failure.code)
        .collect();
    (
        report.status.applied_generation,
        report.status.actual_state,
        codes,
    )
}

fn id(n: u32) -> String {
    format!("5f0c6d0e-0000-4000-8000-{n:012}")
}

fn deployment(n: u32) -> ObjectKey {
    ObjectKey {
        namespace: format!("gl-rd-ns-w{n}"),
        name: format!("w{n}"),
        group: "apps".into(),
        kind: "Deployment".into(),
    }
}

fn desired(n: u32, generation: u64, state: D) -> DesiredWorkspace {
    DesiredWorkspace {
        id: id(n),
        name: format!("w{n}").parse().unwrap(),
        namespace: format!("gl-rd-ns-w{n}"),
        own_namespace: true,
        generation,
        state,
        objects: BTreeMap::new(),
    }
}

fn objects(n: u32, state: D, hash: &str) -> Vec<(String, Arc<str>)> {
    let object = |api_version: &str, kind: &str, name: String, spec: Value| {
        let part = if kind == "Secret" { "data" } else { "spec" };
        json!({"apiVersion": api_version, "kind": kind, part: spec, "metadata": {
            "name": name, "namespace": format!("gl-rd-ns-w{n}"),
            "labels": {AGENT_ID_LABEL: AGENT.to_string()},
            "annotations": {OWNING_INVENTORY_ANNOTATION: format!("w{n}-workspace-inventory"), WORKSPACE_ID_ANNOTATION: id(n)},
        }})
    };
    let replicas = state.replicas();
    [
        (
            format!("{hash}-{replicas}"),
            object(
                "apps/v1",
                "Deployment",
                format!("w{n}"),
                json!({"replicas": replicas}),
            ),
        ),
        (
            "p".to_owned(),
            object(
                "v1",
                "PersistentVolumeClaim",
                format!("w{n}-data"),
                json!({}),
            ),
        ),
        (
            "s".to_owned(),
            object("v1", "Secret", format!("w{n}-env"), json!({})),
        ),
    ]
    .into_iter()
    .map(|(hash, object)| (hash, object.to_string().into()))
    .collect()
}

#[test]
fn a_wish_is_carried_out_once_and_told() {
    let mut world = World::new();
    assert_eq!(world.wish(1, 1, D::Running), Taken::New);
    world.settle();
    assert_eq!((world.attempts, world.replicas(1)), (1, Some(1)));
    assert_eq!(world.reports(), [(1, A::Running, vec![])]);
    assert_eq!(world.reports(), []);
    assert_eq!(world.wish(1, 1, D::Running), Taken::Known);
    world.wish(1, 2, D::Stopped);
    world.settle();
    assert_eq!((world.attempts, world.replicas(1)), (2, Some(0)));
    assert_eq!(world.reports(), [(2, A::Stopped, vec![])]);
}

#[test]
fn a_restart_among_a_thousand_writes_nothing() {
    let mut world = World::new();
    for n in 0..1000 {
        world.wish(n, 3, D::Running);
    }
    world.settle();
    world.restart();
    world.settle();
    let reports = world.reconciler.take_reports(true, world.now);
    assert_eq!(reports.len(), 1000);
    assert!(
        reports
            .iter()
            .all(|report| what(report) == (3, A::Running, vec![]))
    );
    for n in 0..1000 {
        let taken =
            world
                .reconciler
                .handle_wish(desired(n, 3, D::Running), Content::Unchanged, world.now);
        assert_eq!(taken, Taken::New);
    }
    world.settle();
    world.reconciler.mark_all();
    world.settle();
    assert_eq!(
        (world.attempts, world.api.writes, world.reports()),
        (0, 0, vec![])
    );
}

#[test]
fn an_older_answer_undoes_nothing_and_terminated_is_final() {
    let mut world = World::new();
    world.wish(1, 5, D::Running);
    world.settle();
    assert_eq!(world.wish(1, 4, D::Stopped), Taken::Older);
    world.settle();
    assert_eq!(world.replicas(1), Some(1));
    world.wish(1, 6, D::Terminated);
    assert_eq!(world.wish(1, 7, D::Running), Taken::Older);
    world.settle();
    assert!(
        world.api.objects.is_empty(),
        "{:?}",
        world.api.objects.keys()
    );
    assert_eq!(world.reports(), [(6, A::Terminated, vec![])]);
    world.reconciler.handle_answered();
    assert!(world.reconciler.is_empty());
    assert_eq!(world.wish(1, 7, D::Running), Taken::Older);
    world.settle();
    assert!(world.api.objects.is_empty());
    // A server that has not heard it is told again.
    world.wish(1, 6, D::Terminated);
    assert_eq!(world.reports(), [(6, A::Terminated, vec![])]);
}

#[test]
fn a_wish_that_may_not_be_is_told_and_leaves_what_is_there() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.wish(2, 1, D::Running);
    world.settle();
    let mut wrong = objects(1, D::Running, "2");
    wrong[0].1 = wrong[0].1.replace("gl-rd-ns-w1", "kube-system").into();
    let taken = world.reconciler.handle_wish(
        desired(1, 2, D::Running),
        Content::Objects(wrong),
        world.now,
    );
    assert_eq!(taken, Taken::Rejected);
    world.reports();
    world.wish(2, 2, D::Stopped);
    world.settle();
    assert_eq!((world.replicas(1), world.replicas(2)), (Some(1), Some(0)));
    let reports: Vec<_> = world
        .reconciler
        .take_reports(true, world.now)
        .iter()
        .map(what)
        .collect();
    assert_eq!(
        reports,
        [
            (1, A::Error, vec![FailureCode::NotAllowed]),
            (2, A::Stopped, vec![])
        ]
    );
    assert_eq!(world.wish(1, 1, D::Stopped), Taken::Older);
    assert_eq!(world.wish(1, 3, D::Running), Taken::New);
    world.settle();
    assert_eq!(world.reports(), [(3, A::Running, vec![])]);
}

#[test]
fn what_a_watch_missed_is_found_by_its_next_list() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    let key = deployment(1);
    world.api.delete(source(&key), &key.namespace, &key.name);
    world.list();
    world.settle();
    assert_eq!((world.attempts, world.replicas(1)), (2, Some(1)));
}

#[test]
fn a_watch_that_lags_behind_our_own_writes_undoes_nothing() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.work();
    let old = std::mem::take(&mut world.api.events);
    world.wish(1, 2, D::Stopped);
    world.work();
    world.api.events = old;
    world.settle();
    assert_eq!((world.attempts, world.replicas(1)), (2, Some(0)));
}

#[test]
fn what_somebody_changed_is_made_right_again_with_growing_delays() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    let mut last = world.now;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let mut object = world.api.get(&deployment(1)).unwrap().clone();
        object["spec"]["replicas"] = json!(5);
        world.api.put(source(&deployment(1)), object);
        world.watch();
        while world.replicas(1) == Some(5) {
            world.now += Duration::from_millis(100);
            world.work();
        }
        pauses.push(world.now - last);
        last = world.now;
    }
    assert!(
        pauses[4] > 4 * SECOND && pauses[4] > pauses[1],
        "{pauses:?}"
    );
}

#[test]
fn objects_that_are_missing_here_are_asked_for() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    world.restart();
    world.reconciler.take_reports(true, world.now);
    world
        .reconciler
        .handle_wish(desired(1, 1, D::Running), Content::Unchanged, world.now);
    world.settle();
    assert_eq!(world.reconciler.full_poll_due(), None);
    world.api.delete(Source::Namespaces, "", "gl-rd-ns-w1");
    world.settle();
    assert_eq!(world.reports().last().map(|report| report.0), Some(0));
    assert!(world.reconciler.full_poll_due().is_some());
    world.wish(1, 1, D::Running);
    world.settle();
    assert_eq!(world.replicas(1), Some(1));
    assert_eq!(world.reports().last(), Some(&(1, A::Running, vec![])));
}

#[test]
fn what_no_server_wants_is_told_and_left_alone() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    world.restart();
    for _ in 0..10 {
        world.settle();
    }
    assert_eq!(world.api.writes, 0);
    let reports = world.reconciler.take_reports(true, world.now);
    assert_eq!(reports.len(), 1);
    assert_eq!(what(&reports[0]), (1, A::Running, vec![]));
}

#[test]
fn another_workspace_of_the_same_name_takes_nothing_over() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    let mut other = desired(1, 1, D::Running);
    other.id = id(99);
    let texts = objects(1, D::Running, "9")
        .into_iter()
        .map(|(hash, text)| (hash, text.replace(&id(1), &id(99)).into()));
    world
        .reconciler
        .handle_wish(other, Content::Objects(texts.collect()), world.now);
    world.reports();
    world.api.writes = 0;
    world.settle();
    assert_eq!(world.api.writes, 0);
    let reports: Vec<_> = world
        .reconciler
        .take_reports(true, world.now)
        .iter()
        .map(what)
        .collect();
    assert_eq!(reports[0], (1, A::Running, vec![]));
    assert_eq!(reports[1].2, [FailureCode::ForeignObject]);
}

#[test]
fn events_are_read_only_while_something_waits() {
    let mut world = World::new();
    world.wish(1, 1, D::Running);
    world.settle();
    assert_eq!(world.reconciler.next_look(world.now), None);
    let pod = json!({
        "metadata": {"name": "w1-x", "namespace": "gl-rd-ns-w1", "uid": "u", "resourceVersion": "900", "labels": {"workspaces.gitlab.com/name": "w1"}},
        "spec": {"containers": [{"name": "tools", "image": "i"}]},
        "status": {"containerStatuses": [{"name": "tools", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
    });
    world.reconciler.handle_seen(Item::read(Source::Pods, &pod));
    let mut object = world.api.get(&deployment(1)).unwrap().clone();
    object["status"] =
        json!({"conditions": [{"type": "Progressing", "reason": "ReplicaSetUpdated"}]});
    object["metadata"]["resourceVersion"] = json!("901");
    world
        .reconciler
        .handle_seen(Item::read(source(&deployment(1)), &object));
    world.reconciler.decide(world.now);
    assert_eq!(world.reconciler.next_look(world.now), None);
    world.now += EVENTS_AFTER;
    let look = world.reconciler.next_look(world.now).unwrap();
    assert_eq!(look.uids, ["u"]);
    assert_eq!(world.reconciler.next_look(world.now), None);
    let event = EventSeen {
        uid: "u".into(),
        reason: "Pulling".into(),
        message: "Pulling image \"i\"".into(),
    };
    world.reconciler.handle_events(&look.id, vec![event]);
    world.reconciler.decide(world.now);
    assert_eq!(
        world.reports().last(),
        Some(&(1, A::Starting, vec![FailureCode::ImagePulling]))
    );
}

#[derive(Debug, Clone)]
enum Step {
    Wish(u32, u64, D),
    Work,
    Watch,
    /// Events come twice, or the wrong way round.
    WatchBadly,
    /// Events are lost, and the watch lists again.
    List,
    Restart,
    DeleteDeployment(u32),
    DeleteNamespace(u32),
    Scale(u32, u64),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![4 => Just(D::Running), 3 => Just(D::Stopped), 1 => Just(D::Terminated)];
    prop_oneof![
        3 => (0..3_u32, 1..8_u64, state).prop_map(|(n, generation, state)| Step::Wish(n, generation, state)),
        3 => Just(Step::Work),
        2 => Just(Step::Watch),
        1 => Just(Step::WatchBadly),
        1 => Just(Step::List),
        1 => Just(Step::Restart),
        1 => (0..3_u32).prop_map(Step::DeleteDeployment),
        1 => (0..3_u32).prop_map(Step::DeleteNamespace),
        1 => (0..3_u32, 0..4_u64).prop_map(|(n, replicas)| Step::Scale(n, replicas)),
        1 => (0..100_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens, in the end the newest wish is true, Terminated stays so, nothing goes on by itself, and the
    /// stranger's object is untouched.
    #[test]
    fn the_newest_wish_wins_in_the_end(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut world = World::new();
        let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "elsewhere"}});
        let config_maps = Source::Objects(kind_of("", "ConfigMap").unwrap().0);
        world.api.put(config_maps, theirs);
        let mut newest: BTreeMap<u32, (u64, D)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wish(n, generation, state) => {
                    // A server numbers its wishes: one number is one wish, and nothing follows Terminated.
                    let known = newest.get(&n).copied();
                    let is_sent = match known {
                        Some((_, D::Terminated)) => false,
                        Some((last, _)) => generation > last,
                        None => true,
                    };
                    if is_sent { newest.insert(n, (generation, state)); }
                    let state = if is_sent { state } else { D::Running };
                    if is_sent || known.is_some_and(|(last, _)| generation < last) {
                        world.wish(n, generation, state);
                    }
                }
                Step::Work => world.work(),
                Step::Watch => world.watch(),
                Step::WatchBadly => {
                    let mut again = world.api.events.clone();
                    again.reverse();
                    world.api.events.append(&mut again);
                    let ordered = world.api.events.clone();
                    world.watch();
                    world.api.events = ordered;
                    world.watch();
                }
                Step::List => world.list(),
                Step::Restart => {
                    world.restart();
                    for (n, (generation, state)) in newest.clone() { world.wish(n, generation, state); }
                }
                Step::DeleteDeployment(n) => {
                    let key = deployment(n);
                    world.api.delete(source(&key), &key.namespace, &key.name);
                }
                Step::DeleteNamespace(n) => world.api.delete(Source::Namespaces, "", &format!("gl-rd-ns-w{n}")),
                Step::Scale(n, replicas) => if let Some(mut object) = world.api.get(&deployment(n)).cloned() {
                    object["spec"]["replicas"] = json!(replicas);
                    world.api.put(source(&deployment(n)), object);
                },
                Step::Pass(seconds) => world.now += SECOND * u32::try_from(seconds).unwrap(),
            }
        }
        // Delays after fights over a field are up to five minutes.
        world.list();
        for _ in 0..12 {
            world.settle();
            world.now += Duration::from_secs(60);
        }
        let writes = world.api.writes;
        world.reconciler.mark_all();
        world.settle();
        prop_assert_eq!(world.api.writes, writes, "it goes on by itself");
        for (n, (_, state)) in newest {
            let expected = (state != D::Terminated).then_some(u64::from(state.replicas()));
            prop_assert_eq!(world.replicas(n), expected, "workspace {}", n);
            if state == D::Terminated {
                let left = world.api.objects.keys().any(|key| key.1 == format!("gl-rd-ns-w{n}"));
                prop_assert!(!left);
            }
        }
        let stranger = (config_maps, "elsewhere".to_owned(), "theirs".to_owned());
        prop_assert!(world.api.objects.contains_key(&stranger));
    }
}
