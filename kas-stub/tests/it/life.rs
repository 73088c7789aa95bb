//! What time, quotas and a changed configuration file make of workspaces.

use futures::future::join_all;
use http::Method;
use kas_stub::config::ServeConfig;
use serde_json::{Value, json};

use crate::json::world::{Told, World, deployment, info};

impl World {
    async fn call(&self, name: &str, method: Method, path: &str) -> u16 {
        let path = format!("/api/v1/workspaces/{name}{path}");
        let answer = self.server.admin(method, &path, None).await;
        answer.status.as_u16()
    }

    /// The steps of a workspace that is over, or those of the page.
    async fn page(&self, name: &str) -> String {
        let path = format!("/workspaces/{name}");
        self.server.admin(Method::GET, &path, None).await.text()
    }
}

fn hours_between(from: &Value, to: &Value) -> i64 {
    let time = |value: &Value| -> jiff::Timestamp { value.as_str().unwrap().parse().unwrap() };
    time(to).duration_since(time(from)).as_hours()
}

#[tokio::test]
async fn limits_stop_and_terminate_and_say_why_over_restarts_of_the_server() {
    let mut world = World::start().await;
    world.configure("{enabled: true, max_active_hours_before_stop: 10, max_stopped_hours_before_termination: 100}").await;
    world.create("one").await;
    let shown = world.show("one").await;
    let next = &shown["next_change"];
    assert_eq!(
        (&next["state"], &next["reason"]),
        (
            &json!("Stopped"),
            &json!("active for 10 hours, the limit in the configuration of agent a")
        )
    );
    assert_eq!(hours_between(&shown["created_at"], &next["at"]), 10);
    let origin = &next["origin"];
    assert_eq!(
        (
            &origin["level"],
            &origin["name"],
            &origin["field"],
            &origin["hours"]
        ),
        (
            &json!("agent"),
            &json!("a"),
            &json!("max_active_hours_before_stop"),
            &json!(10)
        )
    );
    // A restart is a new wish to run; another hour is none.
    world.pass(9);
    world.ask(Method::POST, "/restart").await;
    world.pass(9);
    world.create("two").await;
    assert_eq!(world.show("one").await["desired_state"], "RestartRequested");
    world.pass(2);
    let shown = world.wait_desired("one", "Stopped").await;
    assert_eq!(shown["next_change"]["state"], "Terminated");
    assert!(world.page("one").await.contains(
        "By itself: stop (active for 10 hours, the limit in the configuration of agent a)"
    ));
    assert_eq!(world.show("two").await["desired_state"], "Running");

    // The server is away for longer than every limit. What runs is stopped at once; what was stopped is announced.
    let mut world = world.restart(1000, |_| {}).await;
    world.wait_desired("two", "Stopped").await;
    let shown = world.show("one").await;
    assert_eq!(shown["desired_state"], "Stopped");
    let reason = shown["next_change"]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with("; put off, so that it can be seen coming"),
        "{reason}"
    );
    let page = world.page("one").await;
    assert!(page.contains("Deleted, with its files,"), "{page}");
    world.pass(13);
    let shown = world.wait_desired("one", "Terminated").await;
    assert_eq!(shown["next_change"], Value::Null);
    assert_eq!(world.show("two").await["desired_state"], "Stopped");
    world.pass(100);
    world.wait_desired("two", "Terminated").await;
}

#[tokio::test]
async fn a_changed_limit_counts_at_once_for_what_is_there_but_takes_nothing_by_surprise() {
    let mut world = World::start().await;
    world.create("one").await;
    world.create("two").await;
    world.pass(5);
    world.ask(Method::POST, "/stop").await;
    world.pass(20);
    // Both are over by now: what runs is stopped, what is stopped is announced first.
    world
        .configure("{enabled: true, max_active_hours_before_stop: 3, max_stopped_hours_before_termination: 10}")
        .await;
    world.wait_desired("two", "Stopped").await;
    let shown = world.show("one").await;
    assert_eq!(shown["desired_state"], "Stopped");
    assert_eq!(
        hours_between(
            &shown["actual_state_changed_at"],
            &shown["next_change"]["at"]
        ),
        25 + 12
    );
    // Turned off, time takes nothing.
    world.configure("{enabled: false}").await;
    assert_eq!(world.show("one").await["next_change"], Value::Null);
    world.pass(100_000);
    let commit = world.configure("{enabled: true, max_active_hours_before_stop: 3, max_stopped_hours_before_termination: 10}").await;
    let shown = world
        .wait_for("one", |it| it["next_change"]["origin"]["commit"] == *commit)
        .await;
    assert_eq!(shown["desired_state"], "Stopped");
    world.pass(13);
    world.wait_desired("one", "Terminated").await;
}

#[tokio::test]
async fn a_quota_holds_also_when_many_ask_at_once() {
    let world = World::start().await;
    world
        .configure("{enabled: true, workspaces_quota: 3}")
        .await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let asked = names.map(|name| world.try_create(name));
    let answers = join_all(asked).await;
    let made = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(made, 3, "{answers:?}");
    let (status, problem) = answers.iter().find(|(status, _)| *status != 201).unwrap();
    assert_eq!(
        (*status, &problem["code"], &problem["detail"]),
        (
            409,
            &json!("quota_reached"),
            &json!("the agent has 3 workspaces, and workspaces_quota allows 3")
        )
    );
    let hint = problem["hint"].as_str().unwrap();
    assert!(
        hint.contains("remote_development.workspaces_quota"),
        "{hint}"
    );

    // What is to be terminated does not count.
    let (first, _) = names
        .iter()
        .zip(&answers)
        .find(|(_, (status, _))| *status == 201)
        .unwrap();
    assert_eq!(world.call(first, Method::DELETE, "").await, 202);
    world.create("g").await;

    // A smaller one takes nothing away; 0 is none at all.
    world
        .configure("{enabled: true, workspaces_per_user_quota: 0}")
        .await;
    assert_eq!(world.show("g").await["desired_state"], "Running");
    assert_eq!(world.call("g", Method::POST, "/restart").await, 202);
    let (status, problem) = world.try_create("h").await;
    assert_eq!(status, 409);
    let detail = "you have on this agent 3 workspaces, and workspaces_per_user_quota allows 0";
    assert_eq!(problem["detail"], detail);
    world
        .configure("{enabled: true, workspaces_per_user_quota: 4}")
        .await;
    world.create("h").await;
}

fn memory(told: &Told) -> &Value {
    let deployment = told.documents.iter().find(|it| it["kind"] == "Deployment");
    let containers = &deployment.unwrap()["spec"]["template"]["spec"]["containers"];
    &containers[0]["resources"]["requests"]["memory"]
}

/// Of the file, on the Deployment.
fn label(told: &Told) -> &Value {
    let mut documents = told.documents.iter();
    let deployment = documents.find(|it| it["kind"] == "Deployment").unwrap();
    &deployment["metadata"]["labels"]["team"]
}

fn volume_size(told: &Told) -> &Value {
    let mut documents = told.documents.iter();
    let volume = documents.find(|it| it["kind"] == "PersistentVolumeClaim");
    &volume.unwrap()["spec"]["resources"]["requests"]["storage"]
}

/// Other defaults of the server, which objects are made of too.
fn larger(config: &mut ServeConfig) {
    config.editors.editor = "none".into();
    config.workspaces.memory_request = "200Mi".into();
    config.workspaces.volume_size = "20Gi".into();
}

fn small(config: &mut ServeConfig) {
    config.editors.editor = "none".into();
}

#[tokio::test]
async fn what_a_workspace_is_made_of_changes_when_it_is_started_and_its_volume_does_not() {
    let world = World::start_with(small).await;
    let first = world.configure("{enabled: true}").await;
    let created = world.create("one").await;
    assert_eq!(
        created["configuration"],
        json!({ "commit": first, "current": true, "differs": [], "applies": "on_restart" })
    );
    let told = world.poll_one("full", json!([])).await;
    assert_eq!(
        (memory(&told), volume_size(&told)),
        (&json!("128Mi"), &json!("10Gi"))
    );
    world.poll("partial", info(deployment("Running", 1))).await;

    let world = world.restart(0, larger).await;
    let second = world
        .configure("{enabled: true, labels: {team: a}, annotations: {example.com/a: b}, max_active_hours_before_stop: 100}")
        .await;
    let shown = world.show("one").await;
    assert_eq!(
        shown["configuration"],
        json!({ "commit": first, "current": false, "differs": ["annotations", "labels"], "applies": "on_restart" })
    );
    assert_eq!(shown["generation"], 1);
    // Nothing reaches it by itself.
    let told = world.poll_one("full", info(deployment("Running", 1))).await;
    assert_eq!(
        (memory(&told), volume_size(&told)),
        (&json!("128Mi"), &json!("10Gi"))
    );

    world.ask(Method::POST, "/restart").await;
    let shown = world.show("one").await;
    assert_eq!(
        shown["configuration"],
        json!({ "commit": second, "current": true, "differs": [], "applies": "on_restart" })
    );
    // Everything is told, also what a mere wish does not change.
    let told = world
        .poll_one("partial", info(deployment("Running", 1)))
        .await;
    assert_eq!(told.states().0, "RestartRequested");
    assert_eq!(told.documents.len(), 8);
    assert_eq!(label(&told), "a");
    assert_eq!(
        (memory(&told), volume_size(&told), told.replicas()),
        (&json!("200Mi"), &json!("10Gi"), Some(0))
    );
    let told = world
        .poll_one("partial", info(deployment("Stopped", 2)))
        .await;
    assert_eq!((told.states().0, told.replicas()), ("Running", Some(1)));
    assert_eq!(
        (memory(&told), volume_size(&told)),
        (&json!("200Mi"), &json!("10Gi"))
    );
    let page = world.page("one").await;
    let short = &second[..12];
    let line =
        format!("Rendered again, with the configuration of commit {short}: annotations, labels");
    assert!(page.contains(&line), "{page}");
}

#[tokio::test]
async fn a_changed_file_reaches_workspaces_at_once_or_never_as_it_says() {
    let world = World::start_with(small).await;
    world
        .configure("{enabled: true, apply_changes: never}")
        .await;
    world.create("one").await;
    world.poll("full", json!([])).await;
    let world = world.restart(0, larger).await;
    world
        .configure("{enabled: true, apply_changes: never, labels: {team: a}}")
        .await;
    world.ask(Method::POST, "/stop").await;
    world.ask(Method::POST, "/start").await;
    let shown = world.show("one").await;
    assert_eq!(shown["configuration"]["differs"], json!(["labels"]));
    assert_eq!(shown["configuration"]["applies"], "never");
    let told = world.poll_one("full", json!([])).await;
    assert_eq!(
        (memory(&told), label(&told)),
        (&json!("128Mi"), &Value::Null)
    );

    let commit = world
        .configure("{enabled: true, apply_changes: now, labels: {team: a}}")
        .await;
    let is_current = |it: &Value| it["configuration"]["current"] == true;
    let shown = world.wait_for("one", is_current).await;
    assert_eq!(shown["configuration"]["commit"], commit.as_str());
    assert_eq!(shown["generation"], 4, "{shown:#}");
    let told = world.poll_one("partial", json!([])).await;
    assert_eq!(label(&told), "a");
    assert_eq!(
        (memory(&told), volume_size(&told)),
        (&json!("200Mi"), &json!("10Gi"))
    );

    // What makes no other objects restarts nobody: it asks for as much memory already.
    let commit = world
        .configure("{enabled: true, apply_changes: now, labels: {team: a}, default_resources_per_workspace_container: {requests: {memory: 200Mi}}}")
        .await;
    let is_of = |it: &Value| it["configuration"]["commit"] == *commit;
    let shown = world.wait_for("one", is_of).await;
    assert_eq!(shown["generation"], 4);
    // A person's wish goes before a file's: what is to go is left alone.
    world.ask(Method::DELETE, "").await;
    world
        .configure("{enabled: true, apply_changes: now, labels: {team: b}}")
        .await;
    let shown = world.show("one").await;
    assert_eq!(
        (&shown["generation"], &shown["configuration"]),
        (&json!(5), &Value::Null)
    );
}

#[tokio::test]
async fn what_cannot_be_rendered_keeps_what_it_had_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("editors.yaml");
    let own = "- { name: mine, image: a, path: /e, command: run, port: 1, health: /, memory_limit: 1Gi, memory_request: 1Mi }";
    std::fs::write(&file, own).unwrap();
    let with_own_editor = |config: &mut ServeConfig| {
        config.editors.editor = "mine".into();
        config.editors.editors_file = Some(file.clone());
    };
    let world = World::start_with(with_own_editor).await;
    world.create("one").await;
    let before = world.poll_one("full", json!([])).await;
    // A server without the editor that the workspace has.
    let world = world.restart(0, |_| {}).await;
    world
        .configure("{enabled: true, apply_changes: now, labels: {team: a}}")
        .await;
    let shown = world
        .wait_for("one", |it| !it["failures"].as_array().unwrap().is_empty())
        .await;
    let failure = &shown["failures"][0];
    assert_eq!(
        (&failure["code"], &failure["evidence"]),
        (
            &json!("SettingsNotApplied"),
            &json!("the server has no editor named mine any more")
        )
    );
    assert_eq!(shown["configuration"]["differs"], json!(["labels"]));
    // It runs on, stops and starts with what it had; an agent's report does not take the failure away.
    world.ask(Method::POST, "/stop").await;
    world.ask(Method::POST, "/start").await;
    let after = world.poll_one("full", info(deployment("Running", 1))).await;
    assert_eq!(after.documents, before.documents);
    assert_eq!(
        world.show("one").await["failures"][0]["since"],
        failure["since"]
    );

    let world = world.restart(0, with_own_editor).await;
    world.ask(Method::POST, "/stop").await;
    world.ask(Method::POST, "/start").await;
    let shown = world.show("one").await;
    assert_eq!(shown["failures"], json!([]));
    assert_eq!(shown["configuration"]["current"], true);
}
