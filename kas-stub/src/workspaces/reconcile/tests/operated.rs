//! Workspaces that the DevWorkspace Operator runs, and agents that say whether it is there.

use proto::remote_development::rpc::{self as wire, ActualState as A, DesiredState as D};
use serde_json::{Value, json};

use super::{DEVFILE, Told, World, report};

#[tokio::test]
async fn a_devworkspace_is_started_and_stopped_by_its_own_switch() {
    let world = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;
    world
        .create(json!({ "name": "one", "backend": "devworkspace" }))
        .await;
    let told = agent.told().await;
    assert!(started(&told));
    world.call("POST", "/workspaces/one/stop", None).await;
    assert!(!started(&agent.told().await));
    world.stop().await;
}

/// `spec.started` of its DevWorkspace.
fn started(told: &Told) -> bool {
    let mut objects = told.objects.iter();
    let found = objects.find(|it| it["kind"] == "DevWorkspace");
    found
        .and_then(|it| it["spec"]["started"].as_bool())
        .unwrap()
}

/// A report of a DevWorkspace.
fn operated(
    id: &str,
    applied: u64,
    actual: A,
    phase: &str,
    started: bool,
) -> wire::WorkspaceReport {
    let condition = |number: usize| wire::DevWorkspaceCondition {
        r#type: format!("Odd{number}"),
        status: "True".into(),
        reason: "x".repeat(5000),
        message: "m".into(),
    };
    wire::WorkspaceReport {
        dev_workspace: Some(wire::DevWorkspaceStatus {
            phase: phase.into(),
            message: "of the operator".into(),
            main_url: "http://in.the.cluster:8080".into(),
            started,
            stopped_by: "inactivity".into(),
            conditions: (0..100).map(condition).collect(),
        }),
        ..report(id, applied, actual)
    }
}

#[tokio::test]
async fn what_the_operator_says_is_shown_and_what_it_stops_stays_stopped() {
    const MAIN: &str =
        "    - { name: web, targetPort: 8080, path: docs/, attributes: { type: main } }\n";
    let devfile = DEVFILE.replace("    - { name: web, targetPort: 8080, path: docs/ }\n", MAIN);
    let world = World::start(&[("devfile.yaml", &devfile)]).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;
    world
        .create(json!({ "name": "one", "backend": "devworkspace" }))
        .await;
    let id = agent.told().await.head.workspace_id;
    agent
        .poll(
            false,
            vec![operated(&id, 1, A::Unknown, "Hibernating", true)],
        )
        .await;
    let shown = world.show("one").await;
    assert_eq!(shown["actual_state"], "CreationRequested");
    let operator = &shown["operator"];
    assert_eq!(
        (&operator["phase"], &operator["started"]),
        (&json!("Hibernating"), &json!(true))
    );
    assert_eq!(operator["main_url"], "http://in.the.cluster:8080");
    let conditions = operator["conditions"].as_array().unwrap();
    assert_eq!(
        (conditions.len(), &conditions[0]["type"]),
        (30, &json!("Odd0"))
    );
    assert!(conditions[0]["reason"].as_str().unwrap().len() < 300);
    // People come to the main endpoint through this server.
    assert_eq!(shown["main_url"], shown["endpoints"][0]["url"]);
    assert!(shown["main_url"].as_str().unwrap().contains("8080-one."));

    agent
        .poll(false, vec![operated(&id, 1, A::Running, "Running", true)])
        .await;
    let told = agent
        .poll(false, vec![operated(&id, 1, A::Stopped, "Stopped", false)])
        .await;
    assert_eq!(
        (told[0].head.desired_state(), told[0].head.generation),
        (D::Stopped, 2)
    );
    let shown = world.show("one").await;
    assert_eq!(shown["desired_state"], "Stopped");
    let reason = shown["desired_state_reason"].as_str().unwrap();
    assert!(reason.contains("stopped in the cluster"), "{reason}");
    agent
        .poll(false, vec![operated(&id, 2, A::Stopped, "Stopped", false)])
        .await;
    // Somebody starts it again.
    world.call("POST", "/workspaces/one/start", None).await;
    let told = agent.told().await;
    assert!(started(&told));
    agent
        .poll(false, vec![operated(&id, 3, A::Failed, "Failed", false)])
        .await;
    let shown = world.show("one").await;
    assert_eq!(
        (
            &shown["desired_state"],
            &shown["actual_state"],
            &shown["desired_state_reason"]
        ),
        (&json!("Running"), &json!("Failed"), &Value::Null)
    );
    world.call("POST", "/workspaces/one/start", None).await;
    assert_eq!(agent.told().await.head.desired_state(), D::RestartRequested);
    world.stop().await;
}

#[tokio::test]
async fn without_the_operator_a_devworkspace_is_refused_and_native_ones_are_made() {
    let newer = format!(
        "{}dependentProjects:\n- {{ name: other, git: {{ remotes: {{ origin: 'https://git.example.com/o.git' }} }} }}\n",
        DEVFILE.replace("2.2.0", "2.3.0")
    );
    let world = World::start(&[("devfile.yaml", DEVFILE), ("newer.yaml", &newer)]).await;
    let mut agent = world.agent(1).await;
    let said = |available: bool, code: &str, missing: &[&str]| wire::DevWorkspaceOperator {
        available,
        code: code.into(),
        reason: "what would help".into(),
        missing_fields: missing.iter().map(|it| (*it).to_owned()).collect(),
    };
    let create = |name: &str, backend: &str, path: &str| {
        world.create(json!({ "name": name, "backend": backend, "devfile_path": path }))
    };
    assert_eq!(
        world.call("GET", "/agents/eu-1", None).await.1["devworkspaces"],
        Value::Null
    );
    for (number, code) in [
        "operator_missing",
        "operator_forbidden",
        "operator_webhook_down",
        "operator_something_new",
    ]
    .iter()
    .enumerate()
    {
        agent.operator = Some(said(false, code, &[]));
        agent.poll(number == 0, vec![]).await;
        let shown = world.call("GET", "/agents/eu-1", None).await.1;
        assert_eq!(shown["devworkspaces"]["code"], *code);
        let (status, problem) = create("one", "devworkspace", "devfile.yaml").await;
        assert_eq!((status, &problem["field"]), (409, &json!("backend")));
        let expected = match *code {
            "operator_something_new" => "operator_unavailable",
            code => code,
        };
        assert_eq!(problem["code"], expected);
        assert!(problem["detail"].as_str().unwrap().contains("would help"));
    }
    let (status, answer) = create("native", "native", "newer.yaml").await;
    assert_eq!(status, 201, "{answer}");
    // An old one.
    agent.operator = Some(said(true, "", &["dependentProjects"]));
    agent.poll(false, vec![]).await;
    let (status, problem) = create("old", "devworkspace", "newer.yaml").await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("operator_too_old"))
    );
    let (status, answer) = create("old", "devworkspace", "devfile.yaml").await;
    assert_eq!(status, 201, "{answer}");
    // Of one that has just begun nothing is known.
    agent.operator = Some(said(false, "operator_unknown", &[]));
    agent.poll(false, vec![]).await;
    let (status, answer) = create("unknown", "devworkspace", "devfile.yaml").await;
    assert_eq!(status, 201, "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn an_hour_in_which_nobody_comes_stops_a_devworkspace_and_no_native_one() {
    let world = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;
    for (name, backend) in [("idle", "devworkspace"), ("native", "native")] {
        world
            .create(json!({ "name": name, "backend": backend }))
            .await;
    }
    let told = [agent.told().await.head, agent.told().await.head];
    for head in &told {
        let running = match head.name.as_str() {
            "idle" => operated(&head.workspace_id, 1, A::Running, "Running", true),
            _ => report(&head.workspace_id, 1, A::Running),
        };
        agent.poll(false, vec![running]).await;
    }
    let shown = world.show("idle").await;
    assert_eq!(shown["next_change"]["origin"]["minutes"], 30);
    world.clock.set_ahead(jiff::SignedDuration::from_hours(1));
    let stopped = agent.told().await.head;
    assert_eq!(
        (stopped.name.as_str(), stopped.desired_state()),
        ("idle", D::Stopped)
    );
    let shown = world.show("idle").await;
    let reason = shown["desired_state_reason"].as_str().unwrap();
    assert!(reason.contains("not used for 30 minutes"), "{reason}");
    assert_eq!(world.show("native").await["desired_state"], "Running");
    world.stop().await;
}
