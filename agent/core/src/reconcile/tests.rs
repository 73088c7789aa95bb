//! A small cluster in memory, and what must hold for any order of events on it.

use std::collections::{BTreeMap, BTreeSet};

use model::DesiredState;
use model::actual_state::TerminationProgress;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::guard::Policy;

const AGENT: i64 = 7;
const ID: &str = "5f0c6d0e-0000-4000-8000-000000000001";
const NAMESPACE: &str = "gl-rd-ns-w";

/// What an API server would keep, as far as plans can tell.
#[derive(Debug, Clone, Default)]
struct Cluster {
    namespace: NamespaceSeen,
    inventory: Option<Inventory>,
    objects: BTreeMap<ObjectKey, (Marked, String)>,
    deleted: BTreeSet<ObjectKey>,
}

impl Cluster {
    fn observe(&self, keys: impl IntoIterator<Item = ObjectKey>) -> ObservedWorkspace {
        let seen = |key: &ObjectKey| {
            self.objects
                .get(key)
                .map_or(Seen::Absent, |(marked, _)| Seen::Present(*marked))
        };
        ObservedWorkspace {
            namespace: self.namespace,
            inventory: self.inventory.clone(),
            objects: keys
                .into_iter()
                .map(|key| (key.clone(), seen(&key)))
                .collect(),
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::CreateNamespace => self.namespace = NamespaceSeen::Present(Marked::Ours),
            Action::WriteInventory(inventory) => self.inventory = Some(inventory),
            Action::Apply(key, object) => {
                assert_ne!(
                    self.objects.get(&key).map(|(marked, _)| *marked),
                    Some(Marked::Foreign),
                    "took over {key}"
                );
                let listed = self
                    .inventory
                    .as_ref()
                    .is_some_and(|inventory| inventory.objects.contains_key(&key));
                assert!(listed, "{key} was made before it was on record");
                self.objects.insert(key, (Marked::Ours, object.hash));
            }
            Action::Delete(key) => {
                assert!(
                    self.inventory
                        .as_ref()
                        .is_some_and(|inventory| inventory.objects.contains_key(&key))
                );
                if self
                    .objects
                    .get(&key)
                    .is_some_and(|(marked, _)| *marked == Marked::Ours)
                {
                    self.objects.remove(&key);
                    self.deleted.insert(key);
                }
            }
            Action::DeleteInventory => self.inventory = None,
            Action::DeleteNamespace => {
                assert!(
                    self.objects.is_empty()
                        || self.namespace == NamespaceSeen::Present(Marked::Ours)
                );
                *self = Self {
                    deleted: self.deleted.clone(),
                    ..Self::default()
                };
            }
        }
    }

    /// Plans and executes until nothing is left to do; gives the last plan.
    fn settle(&mut self, desired: &DesiredWorkspace) -> Plan {
        for _ in 0..10 {
            let keys: BTreeSet<_> = desired
                .objects
                .keys()
                .chain(
                    self.inventory
                        .iter()
                        .flat_map(|inventory| inventory.objects.keys()),
                )
                .chain(self.objects.keys())
                .cloned()
                .collect();
            let plan = plan(desired, &self.observe(keys), AGENT);
            if plan.actions.is_empty() {
                return plan;
            }
            plan.actions
                .into_iter()
                .for_each(|action| self.execute(action));
        }
        panic!("ten rounds and no end: {self:?}");
    }
}

fn body(kind: &str, name: &str) -> Value {
    let (_, known) = KINDS
        .iter()
        .enumerate()
        .find(|(_, known)| known.kind == kind)
        .unwrap();
    let api_version = if known.group.is_empty() {
        known.version.to_owned()
    } else {
        format!("{}/{}", known.group, known.version)
    };
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": {AGENT_ID_LABEL: AGENT.to_string()},
            "annotations": {OWNING_INVENTORY_ANNOTATION: "w-workspace-inventory", WORKSPACE_ID_ANNOTATION: ID},
        },
    })
}

fn empty(state: DesiredState) -> DesiredWorkspace {
    DesiredWorkspace {
        id: ID.into(),
        name: "w".parse().unwrap(),
        namespace: NAMESPACE.into(),
        own_namespace: true,
        generation: 1,
        state,
        objects: BTreeMap::new(),
    }
}

fn desired(state: DesiredState, objects: &[(&str, &str, &str)]) -> DesiredWorkspace {
    let objects = objects
        .iter()
        .map(|(kind, name, hash)| ((*hash).to_owned(), body(kind, name).to_string().into()));
    empty(state)
        .with_objects(AGENT, &Policy::default(), objects)
        .unwrap()
}

fn lines(plan: &Plan) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::CreateNamespace => "create namespace".to_owned(),
        Action::WriteInventory(inventory) => format!("record {}", inventory.objects.len()),
        Action::Apply(key, object) => format!("apply {} {} {}", key.kind, key.name, object.hash),
        Action::Delete(key) => format!("delete {} {}", key.kind, key.name),
        Action::DeleteInventory => "delete inventory".to_owned(),
        Action::DeleteNamespace => "delete namespace".to_owned(),
    };
    plan.actions.iter().map(line).collect()
}

const SET: &[(&str, &str, &str)] = &[
    ("Deployment", "w", "d1"),
    ("PersistentVolumeClaim", "w-data", "p1"),
    ("ConfigMap", "w-scripts", "c1"),
];

#[test]
fn a_new_workspace_is_recorded_before_it_is_made_and_its_deployment_comes_last() {
    let plan = plan(
        &desired(DesiredState::Running, SET),
        &ObservedWorkspace::default(),
        AGENT,
    );
    assert_eq!(
        lines(&plan),
        [
            "create namespace",
            "record 3",
            "apply ConfigMap w-scripts c1",
            "apply PersistentVolumeClaim w-data p1",
            "apply Deployment w d1",
            "record 3",
        ]
    );
}

#[test]
fn only_what_changed_is_applied_again() {
    let mut cluster = Cluster::default();
    cluster.settle(&desired(DesiredState::Running, SET));
    let stopped = desired(
        DesiredState::Stopped,
        &[("Deployment", "w", "d2"), SET[1], SET[2]],
    );
    let plan = plan(&stopped, &cluster.observe([]), AGENT);
    assert_eq!(
        lines(&plan),
        ["record 3", "apply Deployment w d2", "record 3"]
    );
}

#[test]
fn an_object_that_left_the_set_is_pruned_but_a_volume_stays() {
    let mut cluster = Cluster::default();
    cluster.settle(&desired(DesiredState::Running, SET));
    cluster.settle(&desired(DesiredState::Running, &[SET[0]]));
    let kinds: Vec<_> = cluster
        .objects
        .keys()
        .map(|key| key.kind.as_str())
        .collect();
    assert_eq!(kinds, ["Deployment", "PersistentVolumeClaim"]);
}

#[test]
fn termination_deletes_in_order_and_ends_with_the_namespace() {
    let mut cluster = Cluster::default();
    cluster.settle(&desired(DesiredState::Running, SET));
    let terminated = empty(DesiredState::Terminated);
    let plan = plan(&terminated, &cluster.observe([]), AGENT);
    assert_eq!(
        lines(&plan),
        [
            "delete Deployment w",
            "delete PersistentVolumeClaim w-data",
            "delete ConfigMap w-scripts"
        ]
    );
    let last = cluster.settle(&terminated);
    assert_eq!(last.termination, Some(TerminationProgress::Terminated));
    assert_eq!(cluster.namespace, NamespaceSeen::Absent);
}

#[test]
fn a_deployment_deleted_by_hand_comes_back() {
    let mut cluster = Cluster::default();
    let wanted = desired(DesiredState::Running, SET);
    cluster.settle(&wanted);
    let deployment = wanted
        .objects
        .keys()
        .find(|key| key.kind == "Deployment")
        .unwrap()
        .clone();
    cluster.objects.remove(&deployment);
    let plan = plan(&wanted, &cluster.observe([deployment]), AGENT);
    assert_eq!(
        lines(&plan),
        ["record 3", "apply Deployment w d1", "record 3"]
    );
}

#[test]
fn what_is_somebody_elses_is_left_alone_and_named() {
    let wanted = desired(DesiredState::Running, SET);
    let config_map = wanted
        .objects
        .keys()
        .find(|key| key.kind == "ConfigMap")
        .unwrap()
        .clone();
    let mut cluster = Cluster {
        namespace: NamespaceSeen::Present(Marked::Ours),
        ..Cluster::default()
    };
    cluster
        .objects
        .insert(config_map.clone(), (Marked::Foreign, "theirs".into()));
    let last = cluster.settle(&wanted);
    assert_eq!(
        last.waiting_on,
        Some(WaitingOn::ForeignObjects(vec![config_map.clone()]))
    );
    cluster.settle(&empty(DesiredState::Terminated));
    assert!(!cluster.deleted.contains(&config_map));

    let foreign = Cluster {
        namespace: NamespaceSeen::Present(Marked::Foreign),
        ..Cluster::default()
    };
    assert_eq!(
        plan(&wanted, &foreign.observe([]), AGENT).waiting_on,
        Some(WaitingOn::ForeignNamespace)
    );
    let other_agent = {
        let mut cluster = Cluster::default();
        cluster.settle(&wanted);
        plan(
            &empty(DesiredState::Terminated),
            &cluster.observe([]),
            AGENT + 1,
        )
    };
    assert_eq!(
        (other_agent.actions.len(), other_agent.waiting_on),
        (0, Some(WaitingOn::ForeignInventory))
    );
}

#[test]
fn what_may_not_be_applied_is_rejected_by_name() {
    let reject = |body: Value| {
        empty(DesiredState::Running)
            .with_objects(
                AGENT,
                &Policy::default(),
                [("h".to_owned(), body.to_string().into())],
            )
            .unwrap_err()
            .to_string()
    };
    let mut role = body("ConfigMap", "x");
    role["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    role["kind"] = json!("ClusterRoleBinding");
    assert!(reject(role).contains("ClusterRoleBinding"));
    let mut elsewhere = body("Secret", "x");
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    assert!(reject(elsewhere).contains("kube-system"));
    let mut unmarked = body("Secret", "x");
    unmarked["metadata"]["annotations"] = json!({});
    assert!(reject(unmarked).contains(OWNING_INVENTORY_ANNOTATION));
    let mut of_another = body("Secret", "x");
    of_another["metadata"]["annotations"][WORKSPACE_ID_ANNOTATION] = json!("other");
    assert!(reject(of_another).contains(WORKSPACE_ID_ANNOTATION));
    let mut newer = body("Deployment", "x");
    newer["apiVersion"] = json!("apps/v2");
    assert!(reject(newer).contains("apps/v2"));
    let mut large = body("ConfigMap", "x");
    large["data"] = json!({"a": "x".repeat(MAX_OBJECT_BYTES)});
    assert!(reject(large).contains("larger"));
    assert!(reject(json!({"kind": "Secret"})).contains("no apiVersion"));
}

#[test]
fn an_inventory_is_read_as_it_was_written() {
    let mut cluster = Cluster::default();
    cluster.settle(&desired(DesiredState::Running, SET));
    let inventory = cluster.inventory.unwrap();
    let config_map = inventory.to_config_map();
    assert_eq!(config_map["data"]["gl-rd-ns-w_w_apps_Deployment"], "");
    assert_eq!(Inventory::from_config_map(&config_map), Ok(inventory));
    let mut broken = config_map;
    broken["data"]["nonsense"] = json!("");
    assert_eq!(
        Inventory::from_config_map(&broken),
        Err(InventoryError::Key("nonsense".into()))
    );
}

fn any_desired() -> impl Strategy<Value = DesiredWorkspace> {
    let objects = prop::collection::btree_map((0..KINDS.len(), 0..3_u8), 0..4_u8, 0..8);
    let state = prop_oneof![
        4 => Just(DesiredState::Running),
        2 => Just(DesiredState::Stopped),
        1 => Just(DesiredState::RestartRequested),
        1 => Just(DesiredState::Terminated),
    ];
    (state, objects).prop_map(|(state, objects)| {
        let objects = if state == DesiredState::Terminated {
            BTreeMap::new()
        } else {
            objects
        };
        let objects = objects.into_iter().map(|((kind, name), hash)| {
            (
                format!("h{hash}"),
                body(KINDS[kind].kind, &format!("o{name}"))
                    .to_string()
                    .into(),
            )
        });
        empty(state)
            .with_objects(AGENT, &Policy::default(), objects)
            .unwrap()
    })
}

/// What happens between two rounds, beyond a new wish.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody deletes our n-th object.
    Deleted(usize),
    /// Somebody deletes the namespace.
    NamespaceDeleted,
    /// The agent dies after so many actions.
    Died(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..8_usize).prop_map(Event::Deleted),
        Just(Event::NamespaceDeleted),
        (0..8_usize).prop_map(Event::Died),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happened before, the cluster ends as the last wish says, nothing foreign is touched, and data goes only
    /// with Terminated.
    #[test]
    fn converges_and_deletes_only_what_is_ours(
        wishes in prop::collection::vec((any_desired(), prop::option::of(any_event())), 1..6),
        foreign_name in 0..3_u8,
    ) {
        let mut cluster = Cluster { namespace: NamespaceSeen::Present(Marked::Ours), ..Cluster::default() };
        let theirs = ObjectKey {
            namespace: NAMESPACE.into(), name: format!("o{foreign_name}"), group: String::new(), kind: "ConfigMap".into(),
        };
        cluster.objects.insert(theirs.clone(), (Marked::Foreign, "theirs".into()));
        let mut foreign_is_there = true;
        for (desired, event) in wishes {
            let volumes = |cluster: &Cluster| -> BTreeSet<ObjectKey> {
                cluster.objects.keys().filter(|key| key.kind == "PersistentVolumeClaim").cloned().collect()
            };
            match event {
                Some(Event::Deleted(n)) => {
                    let key = cluster.objects.keys().filter(|key| **key != theirs).nth(n).cloned();
                    key.map(|key| cluster.objects.remove(&key));
                }
                Some(Event::NamespaceDeleted) => {
                    cluster = Cluster::default();
                    foreign_is_there = false;
                }
                Some(Event::Died(after)) => {
                    let seen: Vec<_> = cluster.objects.keys().chain(desired.objects.keys()).cloned().collect();
                    let plan = plan(&desired, &cluster.observe(seen), AGENT);
                    plan.actions.into_iter().take(after).for_each(|action| cluster.execute(action));
                }
                None => {}
            }
            if cluster.namespace == NamespaceSeen::Absent {
                foreign_is_there = false;
            }
            let before = volumes(&cluster);
            let last = cluster.settle(&desired);
            prop_assert!(last.actions.is_empty());
            if desired.state == DesiredState::Terminated {
                prop_assert_eq!(last.termination, Some(TerminationProgress::Terminated));
                prop_assert!(cluster.inventory.is_none());
                if cluster.namespace == NamespaceSeen::Absent {
                    foreign_is_there = false;
                }
            } else {
                prop_assert!(before.is_subset(&volumes(&cluster)), "a volume went");
                for (key, object) in &desired.objects {
                    if foreign_is_there && *key == theirs { continue; }
                    let there = cluster.objects.get(key).map(|(_, hash)| hash);
                    prop_assert_eq!(there, Some(&object.hash), "{}", key);
                }
            }
            if foreign_is_there {
                prop_assert!(cluster.objects.get(&theirs).is_some_and(|(marked, _)| *marked == Marked::Foreign));
            }
            prop_assert!(!cluster.deleted.contains(&theirs) || !foreign_is_there);
        }
    }
}
