use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::guard::Policy;

const AGENT: i64 = 7;

fn place() -> Place {
    Place {
        namespace: "gl-rd-ns-one".into(),
        name: "one".parse().unwrap(),
    }
}

fn inventory(group: &str) -> Value {
    let name = format!("one-{group}-inventory");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": name, "namespace": "gl-rd-ns-one", "labels": {INVENTORY_ID_LABEL: name}}})
}

fn object(kind: &str, name: &str, group: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {
    "name": name, "namespace": "gl-rd-ns-one",
    "labels": {AGENT_ID_LABEL: "7"},
    "annotations": {
        OWNING_INVENTORY_ANNOTATION: format!("one-{group}-inventory"), WORKSPACE_ID_ANNOTATION: "42",
    }}})
}

fn info(desired: DesiredState, documents: Vec<Value>) -> Info {
    Info {
        name: "one".parse().unwrap(),
        namespace: "gl-rd-ns-one".into(),
        desired,
        actual: ActualState::Running,
        documents: Ok(documents),
        pull_secrets: Some(Vec::new()),
    }
}

fn all() -> Vec<Value> {
    vec![
        inventory("workspace"),
        object("Service", "one", "workspace"),
        object("ResourceQuota", "one", "workspace"),
        inventory("secrets"),
        object("Secret", "one-env-var", "secrets"),
    ]
}

/// Kinds and names.
fn names(content: &Content) -> Vec<String> {
    let Content::Objects(objects) = content else {
        panic!("{content:?}");
    };
    let name = |(_, text): &(String, Arc<str>)| {
        let object: Value = serde_json::from_str(text).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        format!(
            "{} {}",
            text(&object["kind"]),
            text(&object["metadata"]["name"])
        )
    };
    objects.iter().map(name).collect()
}

fn take(book: &mut Book, documents: Vec<Value>) -> (DesiredWorkspace, Content) {
    book.take(info(DesiredState::Running, documents), false)
        .unwrap()
}

fn broken(content: Content) -> String {
    match content {
        Content::Broken(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_inventories_become_one_set_that_the_reconciler_takes() {
    let mut book = Book::new(AGENT, None);
    let (desired, content) = take(&mut book, all());
    assert_eq!(
        names(&content),
        ["ResourceQuota one", "Secret one-env-var", "Service one"]
    );
    assert_eq!((&*desired.id, desired.own_namespace), ("42", true));
    let Content::Objects(objects) = content else {
        unreachable!()
    };
    let desired = desired
        .with_objects(AGENT, &Policy::default(), objects)
        .unwrap();
    assert_eq!(desired.objects.len(), 3);
    let shared = Some("gl-rd-ns-one".to_owned());
    let (desired, _) = take(&mut Book::new(AGENT, shared), all());
    assert!(!desired.own_namespace);
}

#[test]
fn a_partial_answer_takes_nothing_away_and_a_whole_one_does() {
    let mut book = Book::new(AGENT, None);
    take(&mut book, all());
    let mut changed = object("Service", "one", "workspace");
    changed["spec"] = json!({"x": 1});
    let (_, content) = take(&mut book, vec![inventory("workspace"), changed.clone()]);
    assert_eq!(
        names(&content),
        ["ResourceQuota one", "Secret one-env-var", "Service one"]
    );
    let Content::Objects(objects) = &content else {
        unreachable!()
    };
    assert!(objects[2].1.contains(r#""spec":{"x":1}"#));

    let whole = vec![
        inventory("workspace"),
        changed.clone(),
        inventory("secrets"),
    ];
    let (_, content) = take(&mut book, whole);
    assert_eq!(names(&content), ["Service one"]);
    // Servers before the second inventory: what a full poll is answered with is all there is.
    take(&mut book, all());
    let full = info(DesiredState::Running, vec![inventory("workspace"), changed]);
    let (_, content) = book.take(full, true).unwrap();
    assert_eq!(names(&content), ["Service one"]);
}

#[test]
fn an_answer_without_config_changes_nothing() {
    let mut book = Book::new(AGENT, None);
    // Nothing is known of it, here or there.
    let nothing = info(DesiredState::Running, vec![]);
    assert_eq!(book.take(nothing.clone(), false), None);
    book.holds(&place(), &"42".into());
    let (desired, content) = book.take(nothing, false).unwrap();
    assert_eq!((&*desired.id, content), ("42", Content::Unchanged));
}

#[test]
fn pull_secrets_are_part_of_the_workspace_until_they_are_gone_or_cannot_be_read() {
    let mut book = Book::new(AGENT, None);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "pull", "namespace": "gl-rd-ns-one"}});
    let mut with = info(DesiredState::Running, all());
    with.pull_secrets = Some(vec![secret]);
    let (desired, content) = book.take(with, true).unwrap();
    assert!(names(&content).contains(&"Secret pull".to_owned()));
    let Content::Objects(objects) = content else {
        unreachable!()
    };
    desired
        .with_objects(AGENT, &Policy::default(), objects)
        .unwrap();
    let mut unread = info(DesiredState::Running, vec![]);
    unread.pull_secrets = None;
    assert_eq!(book.take(unread, false).unwrap().1, Content::Unchanged);
    let (_, content) = take(&mut book, vec![]);
    assert_eq!(names(&content).len(), 3);
}

#[test]
fn an_end_needs_no_objects_and_deletes_nothing_that_is_not_known() {
    let mut book = Book::new(AGENT, None);
    let inventories = || vec![inventory("workspace"), inventory("secrets")];
    let end = || info(DesiredState::Terminated, inventories());
    let (desired, content) = book.take(end(), false).unwrap();
    assert_eq!(content, Content::Objects(vec![]));
    assert_eq!(desired.id, "gl-rd-ns-one/one");
    book.holds(&place(), &"42".into());
    assert_eq!(book.take(end(), false).unwrap().0.id, "42");
    let mut over = end();
    over.actual = ActualState::Terminated;
    assert_eq!(book.take(over, false), None);
}

#[test]
fn a_report_of_another_workspace_in_the_place_is_not_meant() {
    let mut book = Book::new(AGENT, None);
    book.holds(&place(), &"41".into());
    assert!(book.means(&place(), &"41".into()));
    take(&mut book, all());
    assert!(!book.means(&place(), &"41".into()));
    book.holds(&place(), &"41".into());
    assert!(book.means(&place(), &"42".into()));
}

#[test]
fn what_cannot_be_sorted_out_is_broken() {
    let said = |documents: Vec<Value>| {
        let mut book = Book::new(AGENT, None);
        broken(take(&mut book, documents).1)
    };
    assert_eq!(said(all().split_off(4)), "no inventory found");
    let stray = vec![inventory("workspace"), object("Secret", "a", "secrets")];
    assert_eq!(said(stray), "no owning inventory found of the Secret \"a\"");
    let mut two = all();
    two[1]["metadata"]["annotations"][WORKSPACE_ID_ANNOTATION] = "43".into();
    assert!(said(two).contains("two different values"));
    assert!(said(vec![inventory("workspace")]).contains("no object has the annotation"));
    let many = (0..=MAX_OBJECTS).map(|n| object("Service", &n.to_string(), "workspace"));
    let many: Vec<_> = [inventory("workspace")].into_iter().chain(many).collect();
    assert!(said(many).contains("201 objects"));
    let mut book = Book::new(AGENT, None);
    let mut unread = info(DesiredState::Running, vec![]);
    unread.documents = Err("no YAML".into());
    assert_eq!(broken(book.take(unread, true).unwrap().1), "no YAML");
}

/// The marks of another are never painted over.
#[test]
fn another_agents_objects_are_refused() {
    let mut book = Book::new(AGENT, None);
    let mut theirs = all();
    theirs[1]["metadata"]["labels"][AGENT_ID_LABEL] = "8".into();
    let (desired, content) = take(&mut book, theirs);
    let Content::Objects(objects) = content else {
        panic!("{content:?}");
    };
    assert!(
        desired
            .with_objects(AGENT, &Policy::default(), objects)
            .is_err()
    );
}

proptest! {
    /// However answers come: only one that is complete makes the set smaller, and memory has its limit.
    #[test]
    fn absent_never_means_delete(answers in prop::collection::vec(
        (prop::collection::vec(0_u16..300, 0..80), any::<bool>(), any::<bool>()), 1..12,
    )) {
        let mut book = Book::new(AGENT, None);
        let mut before: BTreeSet<String> = BTreeSet::new();
        for (numbers, is_full, has_secrets) in answers {
            let mut documents = vec![inventory("workspace")];
            documents.extend(has_secrets.then(|| inventory("secrets")));
            documents.extend(numbers.iter().map(|n| object("Service", &n.to_string(), "workspace")));
            let content = book.take(info(DesiredState::Running, documents), is_full);
            let Some((_, Content::Objects(objects))) = content else { continue };
            prop_assert!(objects.len() <= MAX_OBJECTS);
            let now: BTreeSet<_> = names(&Content::Objects(objects)).into_iter().collect();
            prop_assert!(is_full || has_secrets || now.is_superset(&before));
            before = now;
        }
    }

    /// Nothing that a server sends makes it panic.
    #[test]
    fn any_document_is_sorted_out(kind in "[a-zA-Z]{0,8}", owner in any::<Option<u8>>(), shape in 0..5) {
        let odd = match shape {
            0 => json!({"kind": kind, "metadata": 1}),
            1 => json!({"kind": kind, "metadata": {"labels": "x", "annotations": []}}),
            2 => json!({"kind": [kind], "metadata": {"annotations": {OWNING_INVENTORY_ANNOTATION: owner}}}),
            3 => json!({}),
            _ => json!({"metadata": {"labels": {INVENTORY_ID_LABEL: kind}}}),
        };
        let mut documents = all();
        documents.push(odd);
        let (desired, content) = take(&mut Book::new(AGENT, None), documents);
        if let Content::Objects(objects) = content {
            let _ = desired.with_objects(AGENT, &Policy::default(), objects);
        }
    }
}
