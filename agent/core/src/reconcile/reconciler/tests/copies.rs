//! Copies of pull secrets, against the same API server in memory.

use model::configuration::ImagePullSecret;

use super::*;
use crate::pull_secrets::{PULL_SECRET_TYPES, Source as Found, Sources};

fn secret() -> ImagePullSecret {
    ImagePullSecret {
        name: "registry".into(),
        namespace: "images".into(),
    }
}

fn found(data: &str) -> Found {
    Found::of_secret(&json!({"type": PULL_SECRET_TYPES[1], "data": {".dockerconfigjson": data}}))
}

impl World {
    fn wish_with(&mut self, generation: u64, content: Content, source: Found) {
        let wanted = desired(1, generation, D::Running);
        let id: WorkspaceId = wanted.id.as_str().into();
        self.reconciler.handle_wish(wanted, content, self.now);
        let sources = Sources::from([(secret(), source)]);
        self.reconciler
            .handle_pull_secrets(&id, vec![secret()], &sources);
        self.settle();
    }

    fn wish_objects(&mut self, generation: u64, source: Found) {
        let content = Content::Objects(objects(1, D::Running, "1"));
        self.wish_with(generation, content, source);
    }

    fn copy(&self) -> Option<&Value> {
        let key = ObjectKey {
            namespace: "gl-rd-ns-w1".into(),
            name: "registry".into(),
            group: String::new(),
            kind: "Secret".into(),
        };
        self.api.get(&key)
    }

    fn copied(&self) -> Option<String> {
        let data = &self.copy()?["data"][".dockerconfigjson"];
        data.as_str().map(str::to_owned)
    }

    fn codes(&mut self) -> Vec<FailureCode> {
        let reports = self.reconciler.take_reports(true, self.now);
        what(&reports[0]).2
    }
}

#[test]
fn a_copy_is_an_object_of_the_workspace_and_kept_in_step() {
    let mut world = World::new();
    world.wish_objects(1, found("one"));
    assert_eq!(world.copied(), Some("one".to_owned()));
    let copy = world.copy().unwrap();
    assert_eq!(
        copy["metadata"]["annotations"][WORKSPACE_ID_ANNOTATION],
        id(1).as_str()
    );
    assert_eq!(copy["metadata"]["labels"][AGENT_ID_LABEL], "7");
    assert_eq!(world.codes(), []);
    assert_eq!(world.reconciler.pull_secrets(), [secret()].into());

    let writes = world.api.writes;
    let read = |source: Found| Sources::from([(secret(), source)]);
    world.reconciler.handle_sources(&read(found("one")));
    world.settle();
    assert_eq!(world.api.writes, writes, "the same is not written again");
    world.reconciler.handle_sources(&read(found("two")));
    world.settle();
    assert_eq!(world.copied(), Some("two".to_owned()));
    // What cannot be read stays as it is, and what is gone goes; the workspace runs.
    world
        .reconciler
        .handle_sources(&read(Found::Unreadable("broken".into())));
    world.settle();
    assert_eq!(
        (world.copied(), world.codes()),
        (
            Some("two".to_owned()),
            vec![FailureCode::PullSecretNotCopied]
        )
    );
    world.reconciler.handle_sources(&read(Found::Missing));
    world.settle();
    assert_eq!(
        (world.copied(), world.codes()),
        (None, vec![FailureCode::PullSecretNotCopied])
    );
    assert_eq!(world.replicas(1), Some(1));
    world.reconciler.handle_sources(&read(found("three")));
    world.settle();
    assert_eq!(
        (world.copied(), world.codes()),
        (Some("three".to_owned()), vec![])
    );
}

#[test]
fn a_missing_one_keeps_nothing_else_from_being_applied() {
    let mut world = World::new();
    world.wish_objects(1, Found::NotAllowed("forbidden".into()));
    assert_eq!((world.copied(), world.replicas(1)), (None, Some(1)));
    assert_eq!(world.codes(), [FailureCode::PullSecretNotCopied]);
}

#[test]
fn a_new_wish_an_unchanged_one_and_a_new_agent_keep_the_copy() {
    let mut world = World::new();
    world.wish_objects(1, found("one"));
    // A newer generation while the source cannot be read: it is not pruned.
    world.wish_objects(2, Found::Unreadable(String::new()));
    assert_eq!(world.copied(), Some("one".to_owned()));
    world.restart();
    world.wish_with(2, Content::Unchanged, Found::Unreadable(String::new()));
    assert_eq!(
        (world.copied(), world.api.writes),
        (Some("one".to_owned()), 0)
    );
    world.restart();
    world.wish_with(2, Content::Unchanged, found("one"));
    assert_eq!(
        (world.copied(), world.api.writes),
        (Some("one".to_owned()), 0)
    );
    world.restart();
    world.wish_with(2, Content::Unchanged, found("two"));
    assert_eq!(world.copied(), Some("two".to_owned()));
    // No longer wanted: pruned with the next generation.
    let wanted = desired(1, 3, D::Running);
    let content = Content::Objects(objects(1, D::Running, "1"));
    world.reconciler.handle_wish(wanted, content, world.now);
    world
        .reconciler
        .handle_pull_secrets(&id(1).as_str().into(), Vec::new(), &Sources::new());
    world.settle();
    assert_eq!(world.copied(), None);
}

#[test]
fn a_workspaces_own_secret_of_that_name_stays_its_own() {
    let mut world = World::new();
    let mut own = objects(1, D::Running, "1");
    let text = own[2].1.replace("w1-env", "registry");
    own[2] = ("own".into(), text.as_str().into());
    world.wish_with(1, Content::Objects(own), found("one"));
    assert_eq!(world.copy().unwrap()["data"], json!({}));
    assert_eq!(world.codes(), [FailureCode::PullSecretNotCopied]);
}

#[test]
fn with_the_workspace_the_copy_goes() {
    let mut world = World::new();
    world.wish_objects(1, found("one"));
    let wanted = desired(1, 2, D::Terminated);
    world
        .reconciler
        .handle_wish(wanted, Content::Objects(Vec::new()), world.now);
    world
        .reconciler
        .handle_pull_secrets(&id(1).as_str().into(), vec![secret()], &Sources::new());
    world.settle();
    assert_eq!(
        (world.copied(), world.reconciler.pull_secrets().len()),
        (None, 0)
    );
}
