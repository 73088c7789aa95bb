//! GitLab's JSON reconcile: an agent that sends what a real agentk sends.

pub(crate) mod world;

use http::Method;
use proto::grpctool::http_request;
use serde_json::{Value, json};
use tonic::Code;

use crate::agent::{ScriptedAgent, gitlab_request};
use world::{Told, World, deployment, info, termination};

/// Kinds of a whole answer: two inventories, and what the devfile makes.
const ALL: [&str; 8] = [
    "ConfigMap one-workspace-inventory",
    "Deployment one",
    "Service one",
    "PersistentVolumeClaim one-projects",
    "ServiceAccount one",
    "NetworkPolicy one",
    "ConfigMap one-secrets-inventory",
    "Secret password",
];
const INVENTORIES: [&str; 2] = [
    "ConfigMap one-workspace-inventory",
    "ConfigMap one-secrets-inventory",
];

/// GitLab's own scenario of 15 polls, with its time limits.
#[tokio::test]
async fn gitlabs_scenario_of_fifteen_polls() {
    let mut world = World::start().await;
    world.create("one").await;
    let running = || info(deployment("Running", 1));
    let is_partial = |told: &Told| told.names() == ALL[..6];
    let is_all = |told: &Told| told.names() == ALL;

    // 1, 2
    assert_eq!(world.show("one").await["agent_connected"], false);
    let told = world.poll_one("partial", json!([])).await;
    assert_eq!(told.states(), ("Running", "CreationRequested", None));
    assert_eq!(told.names(), ALL);
    assert_eq!(told.replicas(), Some(1));
    assert_eq!(world.show("one").await["agent_connected"], true);
    let told = world.poll_one("partial", running()).await;
    assert_eq!(told.states(), ("Running", "Running", Some("1")));
    assert!(is_all(&told), "{:?}", told.names());

    // 3, 4, 5
    world.ask(Method::POST, "/stop").await;
    let told = world.poll_one("partial", running()).await;
    assert_eq!(told.states(), ("Stopped", "Running", Some("1")));
    assert_eq!((is_partial(&told), told.replicas()), (true, Some(0)));
    for (state, version) in [("Stopping", 2), ("Stopped", 3)] {
        let told = world
            .poll_one("partial", info(deployment(state, version)))
            .await;
        let version = version.to_string();
        assert_eq!(told.states(), ("Stopped", state, Some(&*version)));
        assert_eq!((is_all(&told), told.replicas()), (true, Some(0)));
    }

    // 6, 7
    assert_eq!(world.poll("partial", json!([])).await.len(), 0);
    let stopped = || info(deployment("Stopped", 3));
    let told = world.poll_one("full", stopped()).await;
    assert_eq!(told.states(), ("Stopped", "Stopped", Some("3")));
    assert!(is_all(&told));

    // 8, 9
    world.ask(Method::POST, "/start").await;
    let told = world.poll_one("partial", stopped()).await;
    assert_eq!(told.states(), ("Running", "Stopped", Some("3")));
    assert_eq!((is_partial(&told), told.replicas()), (true, Some(1)));
    let running = || info(deployment("Running", 4));
    let told = world.poll_one("partial", running()).await;
    assert_eq!(told.states(), ("Running", "Running", Some("4")));
    assert!(is_all(&told));

    // 10, 11, 12
    world.pass(37);
    world.wait_desired("one", "Stopped").await;
    let told = world.poll_one("partial", running()).await;
    assert_eq!(told.states(), ("Stopped", "Running", Some("4")));
    assert_eq!((is_partial(&told), told.replicas()), (true, Some(0)));
    for (state, version) in [("Stopping", 5), ("Stopped", 6)] {
        let told = world
            .poll_one("partial", info(deployment(state, version)))
            .await;
        let version = version.to_string();
        assert_eq!(told.states(), ("Stopped", state, Some(&*version)));
        assert!(is_all(&told));
    }

    // 13, 14, 15
    world.pass(745);
    world.wait_desired("one", "Terminated").await;
    let stopped = info(deployment("Stopped", 6));
    let told = world.poll_one("partial", stopped).await;
    assert_eq!(told.states(), ("Terminated", "Stopped", Some("6")));
    assert_eq!(told.names(), INVENTORIES);
    for progress in ["Terminating", "Terminated"] {
        let told = world.poll_one("partial", termination(progress)).await;
        assert_eq!(told.states(), ("Terminated", progress, Some("6")));
        assert_eq!(told.names(), INVENTORIES);
    }

    // It is over.
    assert_eq!(world.poll("partial", json!([])).await.len(), 0);
    assert_eq!(world.poll("full", json!([])).await.len(), 0);
    let shown = world.show("one").await;
    assert_eq!(shown["actual_state"], "Terminated", "{shown}");
    // An agent that did not hear it tells it again, and hears it.
    let told = world.poll_one("partial", termination("Terminated")).await;
    assert_eq!(told.states().1, "Terminated");
}

/// GitLab's table, a row after the other, of a workspace that was just asked for.
#[tokio::test]
async fn the_state_table() {
    let world = World::start().await;
    world.create("one").await;
    const DONE: &str = "NewReplicaSetAvailable";
    const AVAILABLE: &str = "MinimumReplicasAvailable";
    const UNAVAILABLE: &str = "MinimumReplicasUnavailable";
    let with = |progressing: Option<&str>, availability: Option<&str>, numbers: [u64; 3]| {
        let [replicas, available, unavailable] = numbers;
        let condition = |kind: &str, reason: Option<&str>| match reason {
            Some(reason) => json!({ "type": kind, "reason": reason }),
            None => json!({ "type": format!("No{kind}") }),
        };
        let mut deployment = json!({
            "metadata": { "resourceVersion": "1" },
            "spec": { "replicas": replicas },
            "status": { "conditions": [
                condition("Progressing", progressing),
                condition("Available", availability),
            ] },
        });
        for (field, number) in [
            ("availableReplicas", available),
            ("unavailableReplicas", unavailable),
        ] {
            if number > 0 {
                deployment["status"][field] = number.into();
            }
        }
        deployment
    };
    let without = |pointer: &str| {
        let mut whole = with(Some(DONE), Some(AVAILABLE), [1, 1, 0]);
        *whole.pointer_mut(pointer).unwrap() = Value::Null;
        whole
    };
    let running = || with(Some(DONE), Some(AVAILABLE), [1, 1, 0]);
    let error = json!({ "error_type": "applier", "error_message": "no" });
    let mut rows = vec![
        // 4, before anything else was seen
        (json!({}), "Unknown"),
        // 2, 3
        (
            json!({ "error_details": error, "latest_k8s_deployment_info": running() }),
            "Error",
        ),
        (
            json!({ "error_details": error, "termination_progress": "Terminating" }),
            "Error",
        ),
        (
            json!({ "termination_progress": "Terminating", "latest_k8s_deployment_info": running() }),
            "Terminating",
        ),
    ];
    let deployments = [
        (json!({}), "Unknown"),
        (without("/spec"), "Unknown"),
        (without("/status"), "Unknown"),
        (without("/status/conditions"), "Unknown"),
        (without("/status/conditions/0"), "Unknown"),
        (without("/status/conditions/0/reason"), "Unknown"),
        (without("/spec/replicas"), "Unknown"),
        (with(None, Some(AVAILABLE), [1, 1, 0]), "Unknown"),
        // 5, 6, 7
        (
            with(
                Some("ProgressDeadlineExceeded"),
                Some(UNAVAILABLE),
                [1, 0, 1],
            ),
            "Failed",
        ),
        (
            with(Some("ProgressDeadlineExceeded"), None, [0, 0, 0]),
            "Failed",
        ),
        (
            with(Some("NewReplicaSetCreated"), None, [0, 0, 0]),
            "Stopping",
        ),
        (
            with(Some("FoundNewReplicaSet"), Some(AVAILABLE), [0, 1, 0]),
            "Stopping",
        ),
        (
            with(Some("ReplicaSetUpdated"), Some(AVAILABLE), [0, 1, 0]),
            "Stopping",
        ),
        (
            with(Some("NewReplicaSetCreated"), None, [1, 0, 1]),
            "Starting",
        ),
        (
            with(Some("FoundNewReplicaSet"), Some(UNAVAILABLE), [1, 0, 1]),
            "Starting",
        ),
        (
            with(Some("ReplicaSetUpdated"), Some(AVAILABLE), [1, 1, 0]),
            "Starting",
        ),
        // 8
        (without("/status/conditions/1"), "Unknown"),
        (without("/status/conditions/1/reason"), "Unknown"),
        // 9, 10, 11, 12
        (with(Some(DONE), Some(AVAILABLE), [0, 0, 0]), "Stopped"),
        (with(Some(DONE), Some(AVAILABLE), [1, 1, 0]), "Running"),
        (with(Some(DONE), Some(AVAILABLE), [2, 2, 0]), "Running"),
        (with(Some(DONE), Some(AVAILABLE), [0, 1, 0]), "Stopping"),
        (with(Some(DONE), Some(AVAILABLE), [1, 0, 1]), "Starting"),
        (with(Some(DONE), Some(UNAVAILABLE), [1, 0, 1]), "Starting"),
        // 13
        (with(Some(DONE), Some(AVAILABLE), [1, 1, 1]), "Unknown"),
        (with(Some(DONE), Some(UNAVAILABLE), [0, 0, 0]), "Unknown"),
        (
            with(Some("SomethingElse"), Some(AVAILABLE), [1, 1, 0]),
            "Unknown",
        ),
    ];
    rows.extend(
        deployments.map(|(it, state)| (json!({ "latest_k8s_deployment_info": it }), state)),
    );
    for (mut row, expected) in rows {
        row["name"] = "one".into();
        row["namespace"] = "gl-rd-ns-one".into();
        let told = world.poll_one("partial", json!([row])).await;
        assert_eq!(told.states().1, expected, "{row}");
        assert_eq!(world.show("one").await["actual_state"], expected, "{row}");
    }
    // 1, which is taken for the end only where it was asked for.
    world.ask(Method::DELETE, "").await;
    let end = json!([{
        "name": "one", "namespace": "gl-rd-ns-one", "termination_progress": "Terminated",
        "error_details": error, "latest_k8s_deployment_info": running(),
    }]);
    let told = world.poll_one("partial", end).await;
    assert_eq!(told.states().1, "Terminated");
}

#[tokio::test]
async fn what_is_applied_is_marked_and_grouped() {
    let world = World::start().await;
    let created = world.create("one").await;
    let told = world.poll_one("full", json!([])).await;
    assert_eq!(told.info["name"], "one");
    assert_eq!(told.info["namespace"], "gl-rd-ns-one");
    assert_eq!(told.info["image_pull_secrets"], json!([]));
    let agent_id = world.created.id.to_string();
    for document in &told.documents {
        let metadata = &document["metadata"];
        assert_eq!(metadata["namespace"], "gl-rd-ns-one", "{document}");
        assert_eq!(
            metadata["labels"]["agent.gitlab.com/id"], *agent_id,
            "{document}"
        );
        assert_eq!(
            metadata["annotations"]["workspaces.gitlab.com/id"], created["id"],
            "{document}"
        );
        let inventory = &metadata["labels"]["cli-utils.sigs.k8s.io/inventory-id"];
        let owner = &metadata["annotations"]["config.k8s.io/owning-inventory"];
        match document["kind"].as_str().unwrap() {
            "ConfigMap" => assert_eq!(*inventory, metadata["name"], "{document}"),
            "Secret" => assert_eq!(*owner, "one-secrets-inventory", "{document}"),
            _ => assert_eq!(*owner, "one-workspace-inventory", "{document}"),
        }
    }
    // Text that looks like another type stays text.
    assert_eq!(told.documents[7]["stringData"]["value"], "yes");
}

#[tokio::test]
async fn a_restart_goes_through_stopped() {
    let world = World::start().await;
    world.create("one").await;
    world.poll("full", json!([])).await;
    world.poll("partial", info(deployment("Running", 1))).await;
    world.ask(Method::POST, "/restart").await;
    // What the agent saw before it heard of the wish is no end of it.
    let told = world
        .poll_one("partial", info(deployment("Running", 1)))
        .await;
    assert_eq!(
        (told.states().0, told.replicas()),
        ("RestartRequested", Some(0))
    );
    let told = world
        .poll_one("partial", info(deployment("Stopping", 2)))
        .await;
    assert_eq!(told.states().0, "RestartRequested");
    let told = world
        .poll_one("partial", info(deployment("Stopped", 3)))
        .await;
    assert_eq!(told.states(), ("Running", "Stopped", Some("3")));
    assert_eq!((told.names().len(), told.replicas()), (ALL.len(), Some(1)));
}

#[tokio::test]
async fn an_error_is_told_to_people_and_ends_with_the_next_report() {
    let world = World::start().await;
    world.create("one").await;
    world.poll("full", json!([])).await;
    let failed = json!([{
        "name": "one", "namespace": "gl-rd-ns-one",
        "error_details": { "error_type": "applier", "error_message": "exceeded quota" },
    }]);
    world.poll("partial", failed).await;
    let shown = world.show("one").await;
    assert_eq!(shown["actual_state"], "Error");
    assert_eq!(shown["failures"][0]["code"], "ObjectRefused");
    assert_eq!(shown["failures"][0]["evidence"], "exceeded quota");
    world.poll("partial", info(deployment("Starting", 1))).await;
    let shown = world.show("one").await;
    assert_eq!(
        (&shown["actual_state"], &shown["failures"]),
        (&"Starting".into(), &json!([]))
    );
}

#[tokio::test]
async fn what_is_not_this_servers_is_listed_and_left_alone() {
    let world = World::start().await;
    world.create("one").await;
    // Of another name, of another namespace, of another workspace's id.
    let mut stranger = deployment("Running", 1);
    stranger["metadata"]["annotations"] = json!({ "workspaces.gitlab.com/id": "other" });
    let infos = json!([
        { "name": "two", "namespace": "gl-rd-ns-two", "latest_k8s_deployment_info": stranger },
        { "name": "one", "namespace": "elsewhere", "latest_k8s_deployment_info": deployment("Running", 1) },
    ]);
    let told = world.poll_one("full", infos).await;
    assert_eq!(told.states().1, "CreationRequested");
    assert_eq!(world.poll("full", info(stranger)).await.len(), 0);
    assert_eq!(world.poll("partial", json!([])).await.len(), 0);
    let shown = world.show("one").await;
    assert_eq!(shown["failures"][0]["code"], "ForeignObject");
    assert_eq!(shown["actual_state"], "CreationRequested");
    // When it is gone, all is well.
    world.poll("full", info(deployment("Starting", 2))).await;
    assert_eq!(world.show("one").await["failures"], json!([]));
}

/// The old one's end is told until the agent has heard of it.
#[tokio::test]
async fn a_name_can_be_used_again() {
    let world = World::start().await;
    world.create("one").await;
    world.poll("full", json!([])).await;
    world.ask(Method::DELETE, "").await;
    world.poll("partial", termination("Terminated")).await;
    world.create("one").await;
    let told = world.poll("partial", termination("Terminated")).await;
    let states: Vec<_> = told.iter().map(Told::states).collect();
    let mut sorted = states.clone();
    sorted.sort_unstable();
    let expected = [
        ("Running", "CreationRequested", None),
        ("Terminated", "Terminated", None),
    ];
    assert_eq!(sorted, expected);
    assert_eq!(world.show("one").await["actual_state"], "CreationRequested");
}

#[tokio::test]
async fn what_cannot_be_answered_is_said_in_http() {
    let world = World::start().await;
    let agent = &world.agent;
    let asked = agent
        .gitlab("remote_development", "GET", "/prerequisites", b"")
        .await;
    assert_eq!(asked.unwrap(), (200, r#"{"shared_namespace":""}"#.into()));
    let large = vec![b' '; 64 * 1024 * 1024 + 1];
    for (module, method, path, body, expected) in [
        ("remote_development", "POST", "/reconcile", &b"{"[..], 400),
        ("remote_development", "POST", "/reconcile", b"{}", 400),
        ("remote_development", "POST", "/reconcile", &large, 413),
        ("remote_development", "PUT", "/reconcile", b"", 405),
        ("remote_development", "GET", "/other", b"", 404),
        ("flux", "POST", "/reconcile", b"", 404),
    ] {
        let (status, body) = agent.gitlab(module, method, path, body).await.unwrap();
        assert_eq!(status, expected, "{module} {method} {path}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
    // After all that it answers still.
    assert_eq!(world.poll("full", json!([])).await.len(), 0);
    let trailer = http_request::Message::Trailer(http_request::Trailer {});
    let broken = agent.gitlab_messages(vec![trailer]).await;
    assert_eq!(broken.unwrap_err().code(), Code::InvalidArgument);
}

/// Two agents under one identity would undo each other's work.
#[tokio::test]
async fn who_reconciles_by_the_typed_service_is_not_disturbed() {
    let world = World::start().await;
    let stream = world.agent.reconcile().await;
    let body = json!({ "update_type": "full", "workspace_agent_infos": [] });
    let (status, answer) = world.post(&body).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("Pod pod "));
    drop(stream);
    let began = std::time::Instant::now();
    while world.post(&body).await.0 != 201 {
        assert!(began.elapsed() < crate::support::LIMIT);
    }
}

/// What a lost answer told is told again.
#[tokio::test]
async fn an_answer_that_did_not_arrive_does_not_count() {
    let world = World::start().await;
    for number in 0..30 {
        world.create(&format!("w{number}")).await;
    }
    let narrow = ScriptedAgent::connect_narrow(world.server.server.agents, &world.created.token);
    let body = br#"{"update_type":"partial","workspace_agent_infos":[]}"#;
    let request = gitlab_request("remote_development", "POST", "/reconcile", body);
    // It is longer than what a stream takes unread.
    drop(narrow.await.gitlab_answer(request).await.unwrap());
    assert_eq!(world.poll("partial", json!([])).await.len(), 30);
    assert_eq!(world.poll("partial", json!([])).await.len(), 0);
}
