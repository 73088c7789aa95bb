//! What the agent's configuration file means for workspaces: seen by people, and by GitLab's agent.

use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::{
    json::world::{World, deployment},
    support::{collect, no_body, person},
};

/// Asks for a workspace; the answer's status and body.
async fn create(world: &World, more: Value) -> (u16, Value) {
    let mut body = json!({ "repository": world.project.url, "agent": "a" });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let path = "/api/v1/workspaces";
    let answer = world.server.admin(Method::POST, path, Some(body)).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn an_agent_whose_file_does_not_say_so_takes_no_workspaces() {
    let world = World::start().await;
    world.create("one").await;
    for section in ["{}", "{enabled: false}"] {
        world.configure(section).await;
        let (status, problem) = create(&world, json!({ "name": "two" })).await;
        assert_eq!(
            (status, &problem["code"]),
            (422, &json!("workspaces_off")),
            "{problem}"
        );
        let text = format!("{} {}", problem["detail"], problem["hint"]);
        for part in [
            "remote_development.enabled is not true",
            ".gitlab/agents/a/config.yaml",
            &world.project.url,
            "remote_development: {enabled: true}",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    // What there is can be used as before.
    world.ask(Method::POST, "/stop").await;
    world.ask(Method::DELETE, "").await;
    world.server.create_agent("b", None).await;
    let (status, problem) = create(&world, json!({ "agent": "b" })).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("it has no project"),
        "{problem}"
    );
}

#[tokio::test]
async fn people_choose_among_what_the_file_names() {
    let world = World::start().await;
    world
        .configure(
            "{enabled: true, backend: devworkspace, editors: [gitlab-vscode, none], classes: [{name: small, resources: {limits: {memory: 1Gi}}}, {name: large, resources: {limits: {memory: 9Gi}}}]}",
        )
        .await;
    let agent = world.server.show_agent("a").await;
    assert_eq!(
        agent["workspaces"],
        json!({
            "enabled": true,
            "backend": "devworkspace",
            "editors": ["gitlab-vscode", "none"],
            "classes": [
                {"name": "small", "resources": {"limits": {"cpu": null, "memory": "1Gi"}, "requests": {"cpu": null, "memory": null}}},
                {"name": "large", "resources": {"limits": {"cpu": null, "memory": "9Gi"}, "requests": {"cpu": null, "memory": null}}},
            ],
            "shared_namespace": null,
        })
    );
    let (status, shown) = create(&world, json!({ "name": "usual" })).await;
    assert_eq!(status, 201, "{shown}");
    assert_eq!(
        (&shown["backend"], &shown["class"]),
        (&json!("devworkspace"), &json!("small"))
    );
    let chosen =
        json!({ "name": "one", "backend": "native", "editor": "gitlab-vscode", "class": "large" });
    let (status, shown) = create(&world, chosen).await;
    assert_eq!(status, 201, "{shown}");
    assert_eq!(
        (&shown["class"], &shown["editor"]["name"]),
        (&json!("large"), &json!("gitlab-vscode"))
    );
    let told = world.poll("full", json!([])).await;
    let told = told.iter().find(|it| it.info["name"] == "one").unwrap();
    let deployment = told
        .documents
        .iter()
        .find(|it| it["kind"] == "Deployment")
        .unwrap();
    let limits = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    // The editor's comes on top.
    assert_eq!(limits["memory"], "10240Mi", "{deployment}");
    let (_, shown) = create(
        &world,
        json!({ "name": "two", "backend": "native", "editor": "none" }),
    )
    .await;
    assert_eq!(shown["editor"], Value::Null);
    for (asked, field, hint) in [
        (json!({ "class": "huge" }), "class", "one of small, large"),
        (
            json!({ "editor": "code-server" }),
            "editor",
            "one of gitlab-vscode, none",
        ),
        (
            json!({ "backend": "k8s" }),
            "backend",
            "one of native, devworkspace",
        ),
    ] {
        let (status, problem) = create(&world, asked).await;
        assert_eq!(
            (status, &problem["field"], &problem["hint"]),
            (422, &json!(field), &json!(hint)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn gitlabs_agent_hears_of_pull_secrets_and_quotas() {
    let world = World::start().await;
    world
        .configure(
            "{enabled: true, image_pull_secrets: [{name: registry, namespace: images}], max_resources_per_workspace: {limits: {memory: 8Gi}}, labels: {team: red}}",
        )
        .await;
    world.create("one").await;
    let told = world.poll_one("full", json!([])).await;
    assert_eq!(
        told.info["image_pull_secrets"],
        json!([{ "name": "registry", "namespace": "images" }])
    );
    let names = told.names();
    assert_eq!(
        names[names.len() - 3..],
        [
            "ConfigMap one-secrets-inventory",
            "ResourceQuota one",
            "Secret password"
        ]
    );
    let quota = told
        .documents
        .iter()
        .find(|it| it["kind"] == "ResourceQuota")
        .unwrap();
    assert_eq!(quota["spec"]["hard"], json!({ "limits.memory": "8Gi" }));
    assert_eq!(
        quota["metadata"]["annotations"]["config.k8s.io/owning-inventory"],
        "one-workspace-inventory"
    );
    assert!(
        told.documents
            .iter()
            .filter(|it| it["kind"] != "ConfigMap")
            .all(|it| it["metadata"]["labels"]["team"] == "red")
    );
    world.ask(Method::POST, "/stop").await;
    let told = world.poll_one("partial", json!([])).await;
    assert_eq!(
        told.names().last().unwrap(),
        "ResourceQuota one",
        "else it would be pruned"
    );
}

#[tokio::test]
async fn in_a_shared_namespace_names_differ_and_the_namespace_outlives_its_workspaces() {
    let world = World::start().await;
    world
        .configure("{enabled: true, shared_namespace: team}")
        .await;
    world.create("one").await;
    let shown = world.show("one").await;
    assert_eq!(shown["namespace"], "team");
    // `one` has the claim one-projects; so would this: its objects have the names of its devfile.
    let (status, problem) = create(&world, json!({ "name": "two" })).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("object_taken")),
        "{problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("workspace one has a Secret password"),
        "{problem}"
    );

    let asked = world
        .agent
        .gitlab("remote_development", "GET", "/prerequisites", b"")
        .await;
    assert_eq!(
        asked.unwrap(),
        (200, r#"{"shared_namespace":"team"}"#.into())
    );
    let told = world.poll_one("full", json!([])).await;
    assert_eq!(told.info["namespace"], "team");
    assert!(!told.names().iter().any(|it| it.starts_with("Namespace")));
    for document in &told.documents {
        assert_eq!(document["metadata"]["namespace"], "team");
    }
    let mut seen = deployment("Running", 1);
    seen["metadata"]["namespace"] = "team".into();
    let info = json!([{ "name": "one", "namespace": "team", "latest_k8s_deployment_info": seen }]);
    world.poll("partial", info).await;
    world.ask(Method::DELETE, "").await;
    // It knows that the namespace stays: the inventories end what they list.
    let told = world.poll_one("partial", json!([])).await;
    assert_eq!(told.states().0, "Terminated");
    assert_eq!(
        told.names(),
        [
            "ConfigMap one-workspace-inventory",
            "ConfigMap one-secrets-inventory"
        ]
    );
    let ended =
        json!([{ "name": "one", "namespace": "team", "termination_progress": "Terminated" }]);
    world.poll("partial", ended).await;
    assert_eq!(world.show("one").await["actual_state"], "Terminated");
    // What it had is free again.
    let (status, _) = create(&world, json!({ "name": "two" })).await;
    assert_eq!(status, 201);
}

/// An agent before GitLab 18.0 does not ask whether the namespace is shared, and would delete it.
#[tokio::test]
async fn an_older_agent_is_not_told_to_end_what_is_in_a_shared_namespace() {
    let world = World::start().await;
    world
        .configure("{enabled: true, shared_namespace: team}")
        .await;
    world.create("one").await;
    world.poll("full", json!([])).await;
    world.ask(Method::DELETE, "").await;
    assert_eq!(world.poll("full", json!([])).await.len(), 0);
    let shown = world.show("one").await;
    assert_eq!(shown["failures"][0]["code"], "NotAllowed", "{shown}");
}

#[tokio::test]
async fn a_wrong_section_is_told_and_leaves_the_others_over_a_restart() {
    let world = World::start().await;
    let good = world
        .configure("{enabled: true, labels: {team: red}}")
        .await;
    let file = "remote_development:\n  enabled: true\n  workspaces_quota: \"ten\"\n  labls: {}\nobservability:\n  logging:\n    level: debug\n";
    let bad = world.push(file).await;
    let expect = |agent: &Value| {
        let configuration = &agent["configuration"];
        configuration["commit"] == *bad && configuration["error"]["commit"] == *bad
    };
    let agent = world.server.wait_for_agent("a", expect).await;
    let configuration = &agent["configuration"];
    assert_eq!(
        configuration["older"],
        json!({ "remote_development": good })
    );
    let problems = configuration["error"]["problems"].as_array().unwrap();
    let places: Vec<_> = problems
        .iter()
        .map(|it| (it["line"].as_u64(), it["field"].as_str().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            (Some(3), "remote_development.workspaces_quota"),
            (Some(4), "remote_development.labls"),
        ]
    );
    assert_eq!(problems[1]["expected"], "'labels' (did you mean that?)");
    let message = configuration["error"]["message"].as_str().unwrap();
    assert!(
        message.ends_with("remote_development stays as it was, the rest takes effect"),
        "{message}"
    );
    let page = world.server.admin(Method::GET, "/", None).await.text();
    for part in [
        "has 2 problems",
        "line 3, column 21, remote_development.workspaces_quota",
        "did you mean that?",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    world.create("one").await;
    let told = world.poll_one("full", json!([])).await;
    let deployment = told
        .documents
        .iter()
        .find(|it| it["kind"] == "Deployment")
        .unwrap();
    assert_eq!(
        deployment["metadata"]["labels"]["team"], "red",
        "as in the last good one"
    );

    let world = world.restart(0, |_| {}).await;
    let again = world.server.wait_for_agent("a", expect).await;
    assert_eq!(again["configuration"], *configuration);
    let shown = world.show("one").await;
    assert_eq!(shown["configuration"]["commit"], *good);
    // Right again: in force within seconds, and the error is gone.
    world.configure("{enabled: true}").await;
    let agent = world.server.show_agent("a").await;
    assert_eq!(agent["configuration"]["older"], json!({}));
}

#[tokio::test]
async fn the_schema_is_published_to_everybody() {
    let world = World::start().await;
    let mut stranger = person(world.server.server.people).await;
    let request = Request::get("/schemas/agent-config.json")
        .header(header::HOST, "kas")
        .body(no_body())
        .unwrap();
    let answer = collect(stranger.send_request(request).await.unwrap()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/schema+json");
    assert_eq!(
        answer.json()["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(
        answer.json()["properties"]["remote_development"]["properties"]["dns_zone"].is_object()
    );
}

/// The program, offline.
#[test]
fn a_file_can_be_checked_before_it_is_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, more: &[&str]| {
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kas-stub"))
            .arg("check-config")
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            said.replace(folder.path().to_str().unwrap(), ""),
        )
    };
    let (code, said) = check(
        "remote_development:\n  enabled: true\n  full_sync_interval: 1h\n",
        &[],
    );
    assert_eq!(code, Some(0));
    assert!(said.ends_with("/config.yaml is right\n"), "{said}");
    assert!(
        said.contains("note, remote_development.full_sync_interval: without effect"),
        "{said}"
    );
    let wrong = "remote_development:\n  workspaces_quota: \"ten\"\nobservability: {}\n";
    let (code, said) = check(wrong, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "/config.yaml: line 2, column 21, remote_development.workspaces_quota: this is a text; expected a whole number from 0, or -1 for any number of workspaces\n\
         /config.yaml: stays as it was until that is mended: remote_development\n"
    );
    let (code, said) = check(wrong, &["-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["problems"][0]["line"]), (Some(1), &json!(2)));
    assert_eq!(
        said["sections_without_effect"],
        json!(["remote_development"])
    );
    assert_eq!(check("a: [", &[]).0, Some(1));
}
