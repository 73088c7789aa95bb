//! Workspaces that DevWorkspace Operator runs, where the test is the operator, and clusters where there is none, an old
//! one, or one whose admission checks are down. What the real one does is tested on the cluster.

use std::time::{Duration, Instant};

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
  container:
    image: localhost/tools:1
    endpoints:
    - { name: web, targetPort: 8080, attributes: { type: main } }
";
const NAMESPACE: &str = "gl-rd-ns-one";
/// The agent asks this often for a kind that was not there.
const ASKED_AGAIN: Duration = Duration::from_secs(20);
/// From the operator's own status to the server's.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

struct Operated {
    rig: Rig,
    objects: Objects,
    repository: Repository,
    agent: Option<agent::app::Agent>,
    token: String,
    kubeconfig: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Operated {
    async fn start(prepare: impl FnOnce(&Objects)) -> Self {
        let rig = Rig::start().await;
        let objects = Objects::start().await;
        prepare(&objects);
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::serve(DEVFILE).await;
        let registered = rig.register_for_workspaces("a", &repository.url).await;
        let mut operated = Self {
            repository,
            kubeconfig: objects.kubeconfig(folder.path()),
            token: registered.token,
            agent: None,
            rig,
            objects,
            _folder: folder,
        };
        operated.start_agent().await;
        operated
    }

    async fn start_agent(&mut self) {
        let kubeconfig = self.kubeconfig.clone();
        let agent = self.rig.start_agent_with(None, "a", &self.token, |config| {
            config.cluster.kubeconfig = Some(kubeconfig);
        });
        self.agent = Some(agent.await);
    }

    async fn stop_agent(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    async fn create(&self, name: &str, backend: &str) -> (StatusCode, Value) {
        let wanted = json!({"name": name, "agent": "a", "repository": self.repository.url, "backend": backend});
        self.rig
            .try_admin(Method::POST, "/api/v1/workspaces", wanted)
            .await
    }

    async fn ask(&self, what: &str) {
        let path = format!("/api/v1/workspaces/one/{what}");
        self.rig.admin(Method::POST, &path, Value::Null).await;
    }

    /// Waits until the workspace `one` is as asked, by the API.
    async fn shown(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + SOON;
        loop {
            let shown = self
                .rig
                .admin(Method::GET, "/api/v1/workspaces/one", Value::Null)
                .await;
            if is(&shown) {
                return shown;
            }
            assert!(Instant::now() < end, "not {what}: {shown:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn state(&self, state: &str) -> Value {
        self.shown(state, |it| it["actual_state"] == state).await
    }

    async fn settled(&self) -> Value {
        let is_settled = |it: &Value| it["generation"] == it["applied_generation"];
        self.shown("settled", is_settled).await
    }

    async fn made(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + SOON;
        loop {
            if let Some(object) = self.objects.get(plural, namespace, name)
                && is(&object)
            {
                return object;
            }
            assert!(Instant::now() < end, "{name}: {:?}", self.objects.writes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn started(&self, started: bool) -> Value {
        let is = |it: &Value| it["spec"]["started"] == started;
        self.made("devworkspaces", NAMESPACE, "one", is).await
    }

    /// What the operator, or a person in the cluster, makes of the DevWorkspace.
    fn says(&self, started: bool, status: Value) {
        let mut object = self.objects.get("devworkspaces", NAMESPACE, "one").unwrap();
        object["spec"]["started"] = json!(started);
        object["status"] = status;
        self.objects.put("devworkspaces", object);
    }

    /// How often the DevWorkspace was written by the agent.
    fn writes(&self) -> usize {
        let is_it = |it: &&String| it.contains("/devworkspaces/");
        self.objects.writes().iter().filter(is_it).count()
    }

    async fn agent_says(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let is = |agent: &Value| is(&agent["devworkspaces"]);
        self.rig.wait_agent_for(ASKED_AGAIN, "a", what, is).await
    }
}

fn described(fields: Value) -> Value {
    let kind =
        json!([{"group": "workspace.devfile.io", "version": "v1alpha2", "kind": "DevWorkspace"}]);
    json!({"components": {"schemas": {"it": {
        "x-kubernetes-group-version-kind": kind,
        "properties": {"spec": {"properties": {"template": {"properties": fields}}}},
    }}}})
}

fn running() -> Value {
    json!({"phase": "Running", "message": "http://u:8080", "mainUrl": "http://u:8080"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_and_people_in_the_cluster_do_is_followed_and_never_fought() {
    let mut it = Operated::start(|_| ()).await;
    it.agent_says("available", |it| it["available"] == true)
        .await;
    let (status, answer) = it.create("one", "devworkspace").await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    it.started(true).await;
    it.settled().await;
    it.says(true, json!({"phase": "Hibernating", "conditions": [{"type": "Odd", "status": "True", "message": "m"}]}));
    let shown = it.state("Unknown").await;
    assert_eq!(shown["operator"]["phase"], "Hibernating");
    assert_eq!(shown["operator"]["conditions"][0]["message"], "m");

    let said = Instant::now();
    it.says(true, running());
    let shown = it.state("Running").await;
    assert!(said.elapsed() < SHOWN_WITHIN, "{:?}", said.elapsed());
    assert_eq!(shown["operator"]["main_url"], "http://u:8080");
    assert!(
        shown["main_url"].as_str().unwrap().contains("8080-one."),
        "{shown:#}"
    );

    // Somebody in the cluster stops it.
    let writes = it.writes();
    it.says(false, json!({"phase": "Stopping"}));
    let stopping = it.state("Stopping").await;
    assert_eq!(stopping["failures"][0]["code"], "StoppedInCluster");
    it.says(false, json!({"phase": "Stopped"}));
    let stopped = it
        .shown("stopped", |it| it["desired_state"] == "Stopped")
        .await;
    let reason = stopped["desired_state_reason"].as_str().unwrap();
    assert!(reason.contains("stopped in the cluster"), "{reason}");
    it.settled().await;
    assert_eq!(
        it.writes(),
        writes + 1,
        "what it is already, as the wish is now"
    );
    it.started(false).await;

    // Only a new wish starts it.
    it.ask("start").await;
    it.started(true).await;
    it.settled().await;
    let why = "Error processing devfile: plugin x not found";
    let condition =
        json!({"type": "FailedStart", "status": "True", "reason": "BadRequest", "message": why});
    it.says(true, json!({"phase": "Failing", "conditions": [condition]}));
    it.state("Failed").await;
    it.says(false, json!({"phase": "Failed", "conditions": [condition]}));
    let failed = it
        .shown("given up", |it| it["operator"]["phase"] == "Failed")
        .await;
    assert_eq!(
        (
            &failed["desired_state"],
            &failed["failures"][0]["code"],
            &failed["failures"][0]["evidence"]
        ),
        (&json!("Running"), &json!("DevfileRefused"), &json!(why))
    );
    // Neither does an agent that begins anew.
    let writes = it.writes();
    it.stop_agent().await;
    it.start_agent().await;
    it.shown("heard of again", |it| it["agent_connected"] == true)
        .await;
    it.agent_says("available", |it| it["available"] == true)
        .await;
    let again = it.settled().await;
    assert_eq!(again["actual_state"], "Failed");
    assert_eq!(it.writes(), writes);
    it.ask("start").await;
    it.started(true).await;
    it.says(true, running());
    let shown = it.state("Running").await;
    assert_eq!(shown["failures"], json!([]));
    it.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_whether_there_is_an_operator_and_notices_when_it_comes() {
    let missing = |objects: &Objects| {
        for method in ["GET", "PATCH"] {
            objects.refuse(
                method,
                "devworkspaces",
                404,
                "the server could not find the requested resource",
            );
        }
    };
    let mut it = Operated::start(missing).await;
    it.agent_says("missing", |it| it["code"] == "operator_missing")
        .await;
    let (status, problem) = it.create("one", "devworkspace").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!("operator_missing"))
    );
    let (status, _) = it.create("native", "native").await;
    assert_eq!(status, StatusCode::CREATED);
    it.made("deployments", "gl-rd-ns-native", "native", |_| true)
        .await;

    it.objects
        .refuse("GET", "devworkspaces", 403, "devworkspaces is forbidden");
    it.agent_says("forbidden", |it| it["code"] == "operator_forbidden")
        .await;

    // An old one is installed, and replaced.
    it.objects.describe(described(json!({"projects": {}})));
    it.objects.refuse_no_more("devworkspaces");
    let old = it.agent_says("old", |it| it["available"] == true).await;
    assert_eq!(
        old["devworkspaces"]["missing_fields"],
        json!(["dependentProjects"])
    );

    // Its admission checks go away.
    let down = "Internal error occurred: failed calling webhook \"mutate.devworkspace-controller.svc\": no endpoints";
    it.objects.refuse("PATCH", "devworkspaces", 500, down);
    let (status, _) = it.create("one", "devworkspace").await;
    assert_eq!(status, StatusCode::CREATED);
    let shown = it
        .shown("refused", |it| {
            it["failures"][0]["code"] == "OperatorUnavailable"
        })
        .await;
    assert_eq!(shown["actual_state"], "Error");
    it.agent_says("down", |it| it["code"] == "operator_webhook_down")
        .await;
    let (status, _) = it.create("another", "native").await;
    assert_eq!(status, StatusCode::CREATED);
    it.made("deployments", "gl-rd-ns-another", "another", |_| true)
        .await;

    // They come back: it is tried again by itself.
    it.objects.refuse_no_more("devworkspaces");
    it.started(true).await;
    it.says(true, running());
    it.state("Running").await;
    it.agent_says("up", |it| it["available"] == true).await;
    it.stop_agent().await;
}
