//! A server that is put back to an earlier state takes nothing away from the clusters. The cluster is a fake that keeps
//! objects; no controller runs in it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::git::Repository;
use crate::objects::Objects;
use crate::rig::{Rig, SOON};

const DEVFILE: &str = "\
schemaVersion: 2.2.0
metadata: { name: app }
components:
- name: tools
  container: { image: localhost/tools:1 }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_made_after_the_backup_survives_as_an_orphan() {
    let mut rig = Rig::start().await;
    let repository = Repository::serve(DEVFILE).await;
    let objects = Objects::start().await;
    let registered = rig.register_for_workspaces("a", &repository.url).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = objects.kubeconfig(folder.path());
    let agent = rig
        .start_agent_with(None, "a", &registered.token, |config| {
            config.cluster.kubeconfig = Some(kubeconfig);
        })
        .await;
    make(&rig, &objects, &repository, "before").await;

    let backup = folder.path().join("it.backup");
    kas_stub::app::back_up(&rig.server_data(), &backup)
        .await
        .unwrap();
    make(&rig, &objects, &repository, "after").await;
    // The agent knows a newer wish than the backup has.
    rig.admin(Method::POST, "/api/v1/workspaces/before/stop", Value::Null)
        .await;
    wait_for_replicas(&objects, "before", 0).await;
    let later = rig.register("later").await;
    let whole = objects.names("gl-rd-ns-after");

    rig.stop_server().await;
    kas_stub::app::restore(&rig.server_data(), &backup)
        .await
        .unwrap();
    let written = objects.writes().len();
    rig.start_server().await;
    let shown = rig
        .wait_agent("a", "told of the orphan", |agent| {
            agent["orphans"]["listed"][0]["name"] == "after"
        })
        .await;
    assert_eq!(shown["orphans"]["listed"].as_array().unwrap().len(), 1);
    // What was wished when the backup was made holds again, although the agent had been told something newer.
    wait_for_replicas(&objects, "before", 1).await;
    assert_eq!(objects.names("gl-rd-ns-after"), whole);
    let deletes: Vec<String> = objects.writes()[written..]
        .iter()
        .filter(|write| write.starts_with("DELETE"))
        .cloned()
        .collect();
    assert_eq!(deletes, [""; 0]);
    // Keys came back with the database: the authority that agents trust, and tokens.
    let (status, _) = rig
        .try_admin(Method::GET, "/api/v1/agents/later", Value::Null)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{}", later.id);
    assert_eq!(
        rig.get(&registered, "/version").await.status(),
        StatusCode::OK,
        "a personal token of before"
    );
    agent.stop().await;
}

async fn make(rig: &Rig, objects: &Objects, repository: &Repository, name: &str) {
    let wanted = json!({"name": name, "agent": "a", "repository": repository.url});
    rig.admin(Method::POST, "/api/v1/workspaces", wanted).await;
    wait_for_replicas(objects, name, 1).await;
}

/// A Deployment with so many replicas wanted.
async fn wait_for_replicas(objects: &Objects, name: &str, replicas: u64) {
    let end = tokio::time::Instant::now() + SOON;
    let namespace = format!("gl-rd-ns-{name}");
    loop {
        let deployment = objects.get("deployments", &namespace, name);
        if deployment.is_some_and(|it| it["spec"]["replicas"] == replicas) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{name} has not {replicas} replicas: {:?}",
            objects.writes()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
