//! A server, a Git server, and an agent that says what the test says.

mod operated;
mod scripted;

use proto::remote_development::rpc::{self as wire, ActualState as A};
use scripted::{Told, World};
use serde_json::{Value, json};

const DEVFILE: &str = "\
schemaVersion: 2.2.0
metadata: { name: app }
components:
- name: tools
  container:
    image: localhost/tools:1
    endpoints:
    - { name: web, targetPort: 8080, path: docs/ }
";

#[tokio::test]
async fn a_workspace_lives_from_creation_to_its_end() {
    let world = World::start(&[(".devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;

    let (status, created) = world.create(json!({ "name": "one" })).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["actual_state"], "CreationRequested");
    assert_eq!(created["commit"].as_str().unwrap().len(), 40);
    let web = created["endpoints"][0]["url"].as_str().unwrap();
    assert!(
        web.starts_with("https://8080-one.") && web.ends_with("/docs/"),
        "{web}"
    );

    // Unasked.
    let told = agent.told().await;
    assert_eq!(told.head.name, "one");
    assert_eq!(told.head.namespace, "gl-rd-ns-one");
    assert_eq!(
        (told.head.generation, told.head.desired_state()),
        (1, wire::DesiredState::Running)
    );
    assert_eq!(replicas(&told), 1);
    let kinds: Vec<_> = told
        .objects
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "NetworkPolicy",
            "ServiceAccount",
            "PersistentVolumeClaim",
            "Service",
            "Deployment"
        ]
    );

    let id = told.head.workspace_id.clone();
    agent.report(&id, 1, A::Starting).await;
    assert_eq!(world.show("one").await["actual_state"], "Starting");
    agent.report(&id, 1, A::Running).await;
    assert_eq!(world.show("one").await["actual_state"], "Running");

    let (status, _) = world.call("POST", "/workspaces/one/stop", None).await;
    assert_eq!(status, 202);
    let told = agent.told().await;
    assert_eq!(
        (told.head.generation, told.head.desired_state()),
        (2, wire::DesiredState::Stopped)
    );
    assert_eq!(replicas(&told), 0);
    agent.report(&id, 2, A::Stopping).await;
    agent.report(&id, 2, A::Stopped).await;
    world.call("POST", "/workspaces/one/start", None).await;
    assert_eq!((agent.told().await.head.generation, 3), (3, 3));
    agent.report(&id, 3, A::Running).await;

    world.call("POST", "/workspaces/one/restart", None).await;
    let told = agent.told().await;
    assert_eq!((told.head.generation, replicas(&told)), (4, 0));
    agent.report(&id, 4, A::Stopping).await;
    // Seen stopped: the wish to run comes with the answer of the poll that said so.
    let told = agent.report(&id, 4, A::Stopped).await;
    assert_eq!((told[0].head.generation, replicas(&told[0])), (5, 1));
    agent.report(&id, 5, A::Running).await;

    let (status, answer) = world.call("DELETE", "/workspaces/one", None).await;
    assert_eq!(
        (status, &answer["desired_state"]),
        (202, &json!("Terminated"))
    );
    let told = agent.told().await;
    assert_eq!(told.head.desired_state(), wire::DesiredState::Terminated);
    assert_eq!(told.objects, [Value::Null; 0]);
    agent.report(&id, 6, A::Terminating).await;
    agent.report(&id, 6, A::Terminated).await;
    assert_eq!(world.show("one").await["actual_state"], "Terminated");
    let (status, _) = world.call("POST", "/workspaces/one/start", None).await;
    assert_eq!(status, 409, "terminated is final");

    let steps = world.events("one").await;
    let told: Vec<_> = steps
        .iter()
        .filter(|it| it["type"] == "actual")
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "CreationRequested",
            "Starting",
            "Running",
            "Stopping",
            "Stopped",
            "Running",
            "Stopping",
            "Stopped",
            "Running",
            "Terminating",
            "Terminated"
        ]
    );

    // The name is free again, for another workspace.
    let (status, again) = world.create(json!({ "name": "one" })).await;
    assert_eq!(status, 201);
    assert_ne!(again["id"], id.as_str());
    world.stop().await;
}

#[tokio::test]
async fn an_older_report_or_leader_changes_nothing() {
    let world = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(5).await;
    agent.full_poll(vec![]).await;
    world.create(json!({ "name": "one" })).await;
    let id = agent.told().await.head.workspace_id;
    agent.report(&id, 1, A::Running).await;
    world.call("POST", "/workspaces/one/stop", None).await;
    agent.told().await;
    agent.report(&id, 2, A::Stopped).await;
    agent.report(&id, 1, A::Running).await;
    assert_eq!(world.show("one").await["actual_state"], "Stopped");

    let refused = world.agent(4).await.refusal().await;
    assert_eq!(refused.code(), tonic::Code::Aborted, "{refused}");
    let mut newer = world.agent(6).await;
    let ended = agent.refusal().await;
    assert_eq!(ended.code(), tonic::Code::Aborted, "{ended}");
    // What the new leader holds is not told again, only that it is wanted.
    let told = newer.full_poll(vec![report(&id, 2, A::Stopped)]).await;
    assert_eq!(told.len(), 1);
    assert!(told[0].head.unchanged && told[0].objects.is_empty());
    // It has lost it: then all of it is told.
    let told = newer.report(&id, 0, A::Unknown).await;
    assert!(!told[0].head.unchanged && !told[0].objects.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn what_the_server_does_not_know_is_listed_and_left_alone() {
    let world = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(1).await;
    let reports = (0..3).map(|n| wire::WorkspaceReport {
        name: format!("old-{n}"),
        namespace: format!("gl-rd-ns-old-{n}"),
        ..report(&format!("id-{n}"), 7, A::Running)
    });
    let told = agent.full_poll(reports.collect()).await;
    assert_eq!(told.len(), 0, "nothing is sent for them");
    let shown = world.call("GET", "/agents/eu-1", None).await.1;
    let listed = shown["orphans"]["listed"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(
        (&listed[1]["name"], &listed[1]["actual_state"]),
        (&json!("old-1"), &json!("Running"))
    );
    assert_eq!(shown["leader"]["pod_name"], "pod-1");
    // A workspace of the same name is another one.
    world.create(json!({ "name": "old-1" })).await;
    assert_ne!(agent.told().await.head.workspace_id, "id-1");

    // Adopted by name and id: told with all objects, as the next generation.
    let wrong = world
        .create(json!({ "name": "other", "adopt": "id-2" }))
        .await;
    assert_eq!((wrong.0, &wrong.1["field"]), (422, &json!("name")));
    let (status, adopted) = world
        .create(json!({ "name": "old-2", "adopt": "id-2" }))
        .await;
    assert_eq!((status, &adopted["id"]), (201, &json!("id-2")), "{adopted}");
    let told = agent.told().await;
    assert_eq!(
        (told.head.workspace_id.as_str(), told.head.generation),
        ("id-2", 8)
    );
    assert!(!told.objects.is_empty());
    // Deleted only when somebody says so.
    let (status, _) = world
        .call("DELETE", "/agents/eu-1/orphans/id-0", None)
        .await;
    assert_eq!(status, 202);
    let told = agent.told().await;
    assert_eq!(told.head.workspace_id, "id-0");
    assert_eq!(told.head.desired_state(), wire::DesiredState::Terminated);
    let shown = world.call("GET", "/agents/eu-1", None).await.1;
    assert_eq!(shown["orphans"]["listed"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_empty_server_with_the_same_agent_asks_nothing_of_it() {
    let before = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = before.agent(1).await;
    agent.full_poll(vec![]).await;
    before.create(json!({ "name": "one" })).await;
    let held = agent.told().await.head;
    let shown = before.call("GET", "/agents/eu-1", None).await.1;
    let import = json!({ "name": "eu-1", "id": shown["id"], "token": before.token() });
    before.stop().await;

    let mut after = World::start_empty().await;
    let (status, answer) = after.call("POST", "/agents", Some(import.clone())).await;
    assert_eq!((status, &answer["id"]), (201, &shown["id"]), "{answer}");
    after.use_token(answer["token"].as_str().unwrap());
    let mut agent = after.agent(1).await;
    let report = wire::WorkspaceReport {
        name: held.name.clone(),
        ..report(&held.workspace_id, 1, A::Running)
    };
    assert_eq!(agent.full_poll(vec![report]).await.len(), 0);
    let shown = after.call("GET", "/agents/eu-1", None).await.1;
    assert_eq!(
        shown["orphans"]["listed"][0]["workspace_id"],
        held.workspace_id.as_str()
    );

    for (id, token) in [
        (json!(1), json!("glagent-short")),
        (json!(0), import["token"].clone()),
    ] {
        let wrong = json!({ "name": "other", "id": id, "token": token });
        assert_eq!(after.call("POST", "/agents", Some(wrong)).await.0, 422);
    }
    let twice = json!({ "name": "other", "id": 5, "token": import["token"] });
    assert_eq!(after.call("POST", "/agents", Some(twice)).await.0, 409);
    after.stop().await;
}

#[tokio::test]
async fn a_restarted_server_goes_on_where_it_was() {
    let mut world = World::start(&[("devfile.yaml", DEVFILE)]).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;
    for name in ["one", "two"] {
        world.create(json!({ "name": name })).await;
    }
    let (one, two) = (agent.told().await, agent.told().await);
    agent.report(&one.head.workspace_id, 1, A::Running).await;
    let failure = wire::Failure {
        code: "ImageNotFound".into(),
        component: "tools".into(),
        message: "There is no such image.".into(),
        since_age_ms: 60_000,
        next_try_in_ms: Some(5_000),
        ..wire::Failure::default()
    };
    let failing = wire::WorkspaceReport {
        failures: vec![failure],
        ..report(&two.head.workspace_id, 1, A::Starting)
    };
    agent.poll(false, vec![failing.clone()]).await;
    let before = world.show("two").await;
    assert_eq!(before["failures"][0]["code"], "ImageNotFound");

    world.restart().await;
    assert_eq!(world.show("two").await["failures"], before["failures"]);
    let mut agent = world.agent(1).await;
    let held = vec![report(&one.head.workspace_id, 1, A::Running), failing];
    let told = agent.full_poll(held).await;
    assert!(told.iter().all(|it| it.head.unchanged) && told.len() == 2);
    let after = world.show("two").await;
    assert_eq!(
        after["failures"][0]["since"],
        before["failures"][0]["since"]
    );
    agent.report(&two.head.workspace_id, 1, A::Running).await;
    assert_eq!(world.show("two").await["failures"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn a_large_workspace_comes_in_pieces() {
    // Comments are not rendered; a long command line is.
    let long = "x".repeat(700 * 1024);
    let devfile = format!("{DEVFILE}    args: [\"{long}\"]\n");
    let world = World::start(&[("devfile.yaml", &devfile)]).await;
    let mut agent = world.agent(1).await;
    world.create(json!({ "name": "one" })).await;
    let told = agent.full_poll(vec![]).await;
    assert_eq!(told.len(), 1);
    assert!(
        told[0].largest_message < 300 * 1024,
        "{}",
        told[0].largest_message
    );
    let container = &deployment(&told[0])["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"][0].as_str().map(str::len),
        Some(long.len())
    );
    world.stop().await;
}

/// Field report B05, with fewer workspaces: together they are three times what one message of gRPC may be.
#[tokio::test]
async fn b05_a_state_larger_than_a_message_passes_whole_both_ways() {
    const COUNT: usize = 300;
    const GRPC_LIMIT: usize = 4 * 1024 * 1024;
    let long = "x".repeat(30 * 1024);
    let devfile = format!("{DEVFILE}    args: [\"{long}\"]\n");
    let world = World::start(&[("devfile.yaml", &devfile)]).await;
    for number in 0..COUNT {
        let (status, answer) = world.create(json!({ "name": format!("w{number}") })).await;
        assert_eq!(status, 201, "{answer}");
    }
    let mut agent = world.agent(1).await;
    let told = agent.full_poll(vec![]).await;
    assert_eq!(told.len(), COUNT);
    let size = |it: &Told| {
        it.objects
            .iter()
            .map(|it| it.to_string().len())
            .sum::<usize>()
    };
    assert!(told.iter().map(size).sum::<usize>() > 2 * GRPC_LIMIT);
    let largest = told.iter().map(|it| it.largest_message).max().unwrap();
    assert!(largest < GRPC_LIMIT / 4, "{largest}");

    // Back: each with a failure whose text is as long as agents may send it, in pages.
    let failure = wire::Failure {
        code: "CrashLoop".into(),
        component: "tools".into(),
        message: "m".repeat(1024),
        evidence: "e".repeat(4 * 1024),
        ..wire::Failure::default()
    };
    let reports = told.iter().map(|it| wire::WorkspaceReport {
        failures: vec![failure.clone()],
        ..report(&it.head.workspace_id, 1, A::Starting)
    });
    agent.full_poll(reports.collect()).await;
    let (_, all) = world.call("GET", "/workspaces", None).await;
    let shown = all.as_array().unwrap();
    assert_eq!(shown.len(), COUNT);
    for workspace in shown {
        assert_eq!(workspace["actual_state"], "Starting");
        assert_eq!(workspace["failures"][0]["code"], "CrashLoop");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_once() {
    let wrong = "\
schemaVersion: 2.2.0
components:
- name: tools
  container:
    memoryLimit: 1Gi
- name: tools
  container: { image: a, mountSource: true }
";
    let world = World::start(&[
        ("devfile.yaml", DEVFILE),
        ("wrong.yaml", wrong),
        ("text.yaml", "a: ["),
    ])
    .await;
    let refusals = [
        (json!({ "name": "Wrong" }), "name", "invalid_field"),
        (json!({ "ref": "no-such-branch" }), "ref", "no_such_ref"),
        (json!({ "ref": "a..b" }), "ref", "invalid_field"),
        (
            json!({ "devfile_path": "none.yaml" }),
            "devfile_path",
            "no_devfile",
        ),
        (
            json!({ "devfile_path": "../x" }),
            "devfile_path",
            "invalid_field",
        ),
        (json!({ "agent": "nobody" }), "agent", "no_such_agent"),
        (json!({ "backend": "docker" }), "backend", "invalid_field"),
        (
            json!({ "repository": "ftp://a/b" }),
            "repository",
            "invalid_field",
        ),
        (
            json!({ "repository": world.private_repository() }),
            "repository",
            "repository_private",
        ),
        (
            json!({ "devfile_path": "text.yaml" }),
            "devfile",
            "invalid_devfile",
        ),
    ];
    for (request, field, code) in refusals {
        let (status, problem) = world.create(request.clone()).await;
        assert_eq!(
            (status, &problem["field"], &problem["code"]),
            (422, &json!(field), &json!(code)),
            "{request} {problem}"
        );
    }
    let (status, problem) = world.create(json!({ "devfile_path": "wrong.yaml" })).await;
    assert_eq!(status, 422);
    let problems = problem["problems"].as_array().unwrap();
    assert!(problems.len() == 2, "{problem}");
    for one in problems {
        assert!(
            one["line"].as_u64().unwrap() >= 5 && one["reason"].is_string(),
            "{one}"
        );
    }
    assert_eq!(
        world.call("GET", "/workspaces", None).await.1,
        json!([]),
        "nothing was stored"
    );

    world.create(json!({ "name": "one", "ref": "main" })).await;
    let (status, problem) = world.create(json!({ "name": "one" })).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("workspace_exists"))
    );
    let (status, _) = world.call("POST", "/workspaces/two/stop", None).await;
    assert_eq!(status, 404);
    world.stop().await;
}

#[tokio::test]
async fn a_parent_in_the_same_repository_is_read() {
    let child = "\
schemaVersion: 2.2.0
parent: { uri: base/devfile.yaml }
components:
- name: cache
  volume: { size: 2Gi }
";
    let files = [("devfile.yaml", child), ("base/devfile.yaml", DEVFILE)];
    let world = World::start(&files).await;
    let mut agent = world.agent(1).await;
    agent.full_poll(vec![]).await;
    let (status, answer) = world.create(json!({ "name": "one" })).await;
    assert_eq!(status, 201, "{answer}");
    let told = agent.told().await;
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(
        deployment(&told).pointer(image),
        Some(&json!("localhost/tools:1"))
    );
    world.stop().await;
}

fn report(id: &str, applied_generation: u64, actual_state: A) -> wire::WorkspaceReport {
    wire::WorkspaceReport {
        workspace_id: id.into(),
        applied_generation,
        actual_state: actual_state.into(),
        ..wire::WorkspaceReport::default()
    }
}

fn deployment(told: &Told) -> &Value {
    let found = told.objects.iter().find(|it| it["kind"] == "Deployment");
    found.expect("a Deployment")
}

fn replicas(told: &Told) -> u64 {
    deployment(told)["spec"]["replicas"].as_u64().unwrap()
}
