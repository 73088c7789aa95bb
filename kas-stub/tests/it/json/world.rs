//! A server, an agent that posts what a real agentk posts, and one project with the agent's configuration and a devfile.

use std::time::{Duration, Instant};

use http::Method;
use jiff::SignedDuration;
use kas_stub::{clock::Clock, config::ServeConfig};
use serde_json::{Value, json};

use crate::{
    agent::ScriptedAgent,
    git::{Project, hook},
    support::{LIMIT, TestAgent, TestServer},
};

const DEVFILE: &str = "\
schemaVersion: 2.2.0
metadata: { name: app }
components:
- name: tools
  container:
    image: localhost/tools:1
    endpoints:
    - { name: web, targetPort: 8080 }
- name: password
  kubernetes:
    deployByDefault: true
    inlined: |
      apiVersion: v1
      kind: Secret
      metadata: { name: password }
      stringData: { value: \"yes\" }
";
const CONFIGURATION_PATH: &str = ".gitlab/agents/a/config.yaml";

pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) agent: ScriptedAgent,
    pub(crate) created: TestAgent,
    pub(crate) project: Project,
    clock: Clock,
    hours: i64,
}

/// One of `workspace_rails_infos`.
pub(crate) struct Told {
    pub(crate) info: Value,
    pub(crate) documents: Vec<Value>,
}

impl Told {
    /// Desired and actual state, resource version.
    pub(crate) fn states(&self) -> (&str, &str, Option<&str>) {
        (
            self.info["desired_state"].as_str().unwrap(),
            self.info["actual_state"].as_str().unwrap(),
            self.info["deployment_resource_version"].as_str(),
        )
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let name = |it: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!("{} {}", text(&it["kind"]), text(&it["metadata"]["name"]))
        };
        self.documents.iter().map(name).collect()
    }

    pub(crate) fn replicas(&self) -> Option<u64> {
        let deployment = self.documents.iter().find(|it| it["kind"] == "Deployment");
        deployment?["spec"]["replicas"].as_u64()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings of the server.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let project = Project::serve().await;
        project.push(&[(".devfile.yaml", DEVFILE)]).await;
        let clock = Clock::default();
        let server = TestServer::start_with(|config| {
            prepare(config, &clock);
            change(config);
        })
        .await;
        let created = server.create_agent("a", Some(&project.url)).await;
        let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
        let world = Self {
            server,
            agent,
            created,
            project,
            clock,
            hours: 0,
        };
        world.configure("{enabled: true}").await;
        world
    }

    /// Stops the server and starts it on the same data, so many hours later.
    pub(crate) async fn restart(
        mut self,
        hours: i64,
        change: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        let TestServer { server, folder } = self.server;
        server.stop().await;
        self.hours += hours;
        self.clock.set_ahead(SignedDuration::from_hours(self.hours));
        let clock = self.clock.clone();
        self.server = TestServer::start_in(folder, |config| {
            prepare(config, &clock);
            change(config);
        })
        .await;
        self.agent = ScriptedAgent::connect(self.server.server.agents, &self.created.token).await;
        self
    }

    /// Pushes a section `remote_development`, and waits until it is in force; its commit.
    pub(crate) async fn configure(&self, section: &str) -> String {
        let commit = self.push(&format!("remote_development: {section}\n")).await;
        let is_new = |agent: &Value| agent["configuration"]["commit"] == *commit;
        let agent = self.server.wait_for_agent("a", is_new).await;
        assert_eq!(agent["configuration"]["error"], Value::Null);
        commit
    }

    /// Pushes a configuration file, right or wrong; its commit.
    pub(crate) async fn push(&self, file: &str) -> String {
        let commit = self.project.push(&[(CONFIGURATION_PATH, file)]).await;
        hook(&self.server, &self.created).await;
        commit
    }

    /// Lets hours pass.
    pub(crate) fn pass(&mut self, hours: i64) {
        self.hours += hours;
        self.clock.set_ahead(SignedDuration::from_hours(self.hours));
    }

    /// Waits until the workspace is as wished.
    pub(crate) async fn wait_for(&self, name: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.show(name).await;
            if wish(&shown) {
                return shown;
            }
            assert!(began.elapsed() < LIMIT, "the workspace stays {shown:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_desired(&self, name: &str, state: &str) -> Value {
        self.wait_for(name, |it| it["desired_state"] == state).await
    }

    /// Asks for a workspace: the answer's status and body.
    pub(crate) async fn try_create(&self, name: &str) -> (u16, Value) {
        let body = json!({ "repository": self.project.url, "agent": "a", "name": name });
        let path = "/api/v1/workspaces";
        let answer = self.server.admin(Method::POST, path, Some(body)).await;
        (answer.status.as_u16(), answer.json())
    }

    pub(crate) async fn create(&self, name: &str) -> Value {
        let (status, answer) = self.try_create(name).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    pub(crate) async fn show(&self, name: &str) -> Value {
        let path = format!("/api/v1/workspaces/{name}");
        self.server.admin(Method::GET, &path, None).await.json()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) {
        let path = format!("/api/v1/workspaces/one{path}");
        let answer = self.server.admin(method, &path, None).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    pub(crate) async fn post(&self, body: &Value) -> (i32, Value) {
        let body = body.to_string();
        let posted = self
            .agent
            .gitlab("remote_development", "POST", "/reconcile", body.as_bytes());
        let (status, body) = posted.await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn poll(&self, update_type: &str, infos: Value) -> Vec<Told> {
        let body = json!({ "update_type": update_type, "workspace_agent_infos": infos });
        let (status, answer) = self.post(&body).await;
        assert_eq!(status, 201, "{answer}");
        let settings = json!({
            "full_reconciliation_interval_seconds": 3600,
            "partial_reconciliation_interval_seconds": 10,
        });
        assert_eq!(answer["settings"], settings);
        let infos = answer["workspace_rails_infos"].as_array().unwrap();
        infos.iter().cloned().map(told).collect()
    }

    pub(crate) async fn poll_one(&self, update_type: &str, infos: Value) -> Told {
        let mut told = self.poll(update_type, infos).await;
        assert_eq!(told.len(), 1);
        told.remove(0)
    }
}

fn prepare(config: &mut ServeConfig, clock: &Clock) {
    config.git_allow_http = true;
    config.git_allow_private = true;
    config.clock = clock.clone();
    // Long: what is seen comes from the hook.
    config.timing.git_poll_interval = Duration::from_secs(600);
}

fn told(info: Value) -> Told {
    let text = info["config_to_apply"].as_str().unwrap();
    assert!(text.is_empty() || text.starts_with("---\n"), "{text}");
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    assert_eq!(text.matches("---\n").count(), documents.len());
    Told { info, documents }
}

/// A Deployment in the state of a name, as the API server shows it.
pub(crate) fn deployment(state: &str, version: u64) -> Value {
    let (replicas, available, progressing) = match state {
        "Running" => (1, 1, "NewReplicaSetAvailable"),
        "Stopping" => (0, 1, "NewReplicaSetAvailable"),
        "Stopped" => (0, 0, "NewReplicaSetAvailable"),
        "Starting" => (1, 0, "NewReplicaSetCreated"),
        other => panic!("{other}"),
    };
    let mut status = json!({
        "conditions": [
            { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable" },
            { "type": "Progressing", "status": "True", "reason": progressing },
        ],
    });
    if available > 0 {
        status["availableReplicas"] = available.into();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "one", "namespace": "gl-rd-ns-one", "resourceVersion": version.to_string(),
            "managedFields": [{ "manager": "agentk" }],
        },
        "spec": { "replicas": replicas },
        "status": status,
    })
}

pub(crate) fn info(deployment: Value) -> Value {
    json!([{ "name": "one", "namespace": "gl-rd-ns-one", "latest_k8s_deployment_info": deployment }])
}

pub(crate) fn termination(progress: &str) -> Value {
    json!([{ "name": "one", "namespace": "gl-rd-ns-one", "termination_progress": progress }])
}
