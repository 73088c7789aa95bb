//! Workspaces of a server that speaks GitLab's JSON only. The server is scripted: it answers what GitLab's own scenario
//! says; the cluster is [`crate::objects`].

use std::time::Duration;

use proto::remote_development::rpc::reconcile_request;
use serde_json::{Value, json};

use crate::api_server::Relay;
use crate::fixture::{Cluster, eventually, start_agent, within};
use crate::kas::{Asked, Kas};
use crate::objects::Objects;

const NAMESPACE: &str = "gl-rd-ns-one";

struct World {
    kas: Kas,
    /// Between agent and server.
    relay: Relay,
    objects: Objects,
    _cluster: Cluster,
    _agent: agent::app::Agent,
}

impl World {
    /// Everything, up to the agent's first full poll.
    async fn start() -> (Self, Asked) {
        let objects = Objects::start().await;
        Self::start_with(objects).await
    }

    async fn start_with(objects: Objects) -> (Self, Asked) {
        let kas = Kas::start().await;
        kas.speak_gitlab();
        let cluster = Cluster::start().await;
        let relay = Relay::start(kas.address).await;
        let mut config = cluster.config(relay.address);
        config.cluster.kubeconfig = Some(objects.kubeconfig(cluster.folder.path()));
        let agent = start_agent(config).await;
        let world = Self {
            kas,
            relay,
            objects,
            _cluster: cluster,
            _agent: agent,
        };
        let asked = world.first_poll().await;
        (world, asked)
    }

    /// Answers the prerequisites; the full poll after them.
    async fn first_poll(&self) -> Asked {
        let asked = self.kas.asked().await;
        assert_eq!((&*asked.method, &*asked.path), ("GET", "/prerequisites"));
        asked.answer(200, r#"{"shared_namespace": ""}"#);
        let asked = self.kas.asked().await;
        assert_eq!((&*asked.method, &*asked.path), ("POST", "/reconcile"));
        assert_eq!(asked.json()["update_type"], "full");
        asked
    }

    /// Answers polls with nothing until one says something.
    async fn poll_with(&self, what: &str, says: impl Fn(&Value) -> bool) -> Asked {
        within(what, async {
            loop {
                let asked = self.kas.asked().await;
                if says(&asked.json()) {
                    return asked;
                }
                asked.answer(201, &answer(&[]));
            }
        })
        .await
    }

    /// The next poll that reports this state of the only workspace's Deployment.
    async fn poll_in_state(&self, state: &str) -> Asked {
        let asked = self
            .poll_with(state, |body| {
                body["workspace_agent_infos"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|info| state_of(&info["latest_k8s_deployment_info"]) == state)
            })
            .await;
        let infos = &asked.json()["workspace_agent_infos"];
        assert_eq!(
            (&infos[0]["name"], &infos[0]["namespace"]),
            (&"one".into(), &NAMESPACE.into())
        );
        let told = &infos[0]["latest_k8s_deployment_info"];
        let there = self.objects.get("deployments", NAMESPACE, "one").unwrap();
        assert_eq!(
            told["metadata"]["resourceVersion"],
            there["metadata"]["resourceVersion"]
        );
        asked
    }

    async fn next_poll(&self) -> Asked {
        self.poll_with("a poll", |_| true).await
    }

    async fn replicas(&self, expected: u64) {
        eventually("the Deployment follows", async || {
            let deployment = self.objects.get("deployments", NAMESPACE, "one");
            deployment.is_some_and(|it| it["spec"]["replicas"] == expected)
        })
        .await;
    }
}

/// As GitLab's table has it, as far as the scenario needs it.
fn state_of(deployment: &Value) -> &'static str {
    let (replicas, available) = (
        deployment["spec"]["replicas"].as_u64(),
        deployment["status"]["availableReplicas"].as_u64(),
    );
    let conditions = deployment["status"]["conditions"].as_array();
    if conditions.is_none_or(|it| it.len() < 2) {
        return "Unknown";
    }
    match (replicas, available) {
        (Some(1), Some(1)) => "Running",
        (Some(0), Some(1)) => "Stopping",
        (Some(0), Some(0)) => "Stopped",
        _ => "Starting",
    }
}

fn answer(infos: &[Value]) -> String {
    answer_with(infos, 3600)
}

fn answer_with(infos: &[Value], full_interval: u64) -> String {
    json!({
        "workspace_rails_infos": infos,
        "settings": {
            "full_reconciliation_interval_seconds": full_interval,
            "partial_reconciliation_interval_seconds": 1,
        },
    })
    .to_string()
}

fn info(name: &str, desired: &str, actual: &str, config: &str) -> Value {
    json!({
        "name": name, "namespace": format!("gl-rd-ns-{name}"),
        "desired_state": desired, "actual_state": actual,
        "deployment_resource_version": null, "config_to_apply": config, "image_pull_secrets": [],
    })
}

fn inventory(name: &str, group: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}-{group}-inventory\n  namespace: gl-rd-ns-{name}\n  labels:\n    agent.gitlab.com/id: '7'\n    cli-utils.sigs.k8s.io/inventory-id: {name}-{group}-inventory\n"
    )
}

fn id_of(name: &str) -> String {
    format!("id-{name}")
}

fn metadata(name: &str, object: &str, group: &str) -> String {
    format!(
        "metadata:\n  name: {object}\n  namespace: gl-rd-ns-{name}\n  labels:\n    agent.gitlab.com/id: '7'\n  annotations:\n    config.k8s.io/owning-inventory: {name}-{group}-inventory\n    workspaces.gitlab.com/id: '{}'\n",
        id_of(name)
    )
}

/// As GitLab renders it, shortened: what a partial answer holds.
fn partial(name: &str, replicas: u32) -> String {
    [
        inventory(name, "workspace"),
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\n{}spec:\n  replicas: {replicas}\n",
            metadata(name, name, "workspace")
        ),
        format!(
            "---\napiVersion: v1\nkind: PersistentVolumeClaim\n{}spec: {{}}\n",
            metadata(name, &format!("{name}-data"), "workspace")
        ),
    ]
    .concat()
}

fn all(name: &str, replicas: u32) -> String {
    [
        partial(name, replicas),
        inventory(name, "secrets"),
        format!(
            "---\napiVersion: v1\nkind: Secret\n{}data:\n  A: Yg==\n",
            metadata(name, &format!("{name}-env-var"), "secrets")
        ),
    ]
    .concat()
}

fn inventories(name: &str) -> String {
    [inventory(name, "workspace"), inventory(name, "secrets")].concat()
}

const WHOLE: [&str; 4] = [
    "configmaps one-workspace-inventory",
    "deployments one",
    "persistentvolumeclaims one-data",
    "secrets one-env-var",
];

/// GitLab's own scenario, from the agent's side. Its poll 3 and 8 repeat a Deployment that did not change: this agent
/// sends nothing then, which GitLab takes as well.
#[tokio::test]
async fn gitlabs_scenario_of_fifteen_polls() {
    let (world, asked) = World::start().await;
    let objects = &world.objects;
    let said =
        |desired: &str, actual: &str, config: &str| answer(&[info("one", desired, actual, config)]);

    // 1, 2. An agent's first poll is full, and knows nothing.
    assert_eq!(
        asked.json(),
        json!({"update_type": "full", "workspace_agent_infos": []})
    );
    asked.answer(201, &said("Running", "CreationRequested", &all("one", 1)));
    world.replicas(1).await;
    eventually("all is applied", async || objects.names(NAMESPACE) == WHOLE).await;
    let namespace = objects.get("namespaces", "", NAMESPACE).unwrap();
    assert_eq!(
        namespace["metadata"]["annotations"]["workspaces.gitlab.com/id"],
        id_of("one")
    );
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Running").await;
    assert_eq!(asked.json()["update_type"], "partial");
    asked.answer(201, &said("Running", "Running", &all("one", 1)));

    // 3, 4, 5. What a partial answer leaves out stays.
    let asked = world.next_poll().await;
    asked.answer(201, &said("Stopped", "Running", &partial("one", 0)));
    world.replicas(0).await;
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Stopping").await;
    asked.answer(201, &said("Stopped", "Stopping", &all("one", 0)));
    objects.set_deployment("one", 0, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Stopped").await;
    assert_eq!(objects.names(NAMESPACE), WHOLE);
    asked.answer(201, &said("Stopped", "Stopped", &all("one", 0)));

    // 6, 7
    let asked = world.next_poll().await;
    assert_eq!(
        asked.json(),
        json!({"update_type": "partial", "workspace_agent_infos": []})
    );
    asked.answer(201, &answer_with(&[], 10));
    let asked = world
        .poll_with("a full poll", |body| body["update_type"] == "full")
        .await;
    let infos = asked.json()["workspace_agent_infos"].clone();
    assert_eq!(state_of(&infos[0]["latest_k8s_deployment_info"]), "Stopped");
    let before = objects.writes().len();
    asked.answer(201, &said("Stopped", "Stopped", &all("one", 0)));

    // 8, 9. What was applied already is not applied again.
    let asked = world.next_poll().await;
    assert_eq!(objects.writes().len(), before, "{:?}", objects.writes());
    asked.answer(201, &said("Running", "Stopped", &partial("one", 1)));
    world.replicas(1).await;
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Running").await;
    asked.answer(201, &said("Running", "Running", &all("one", 1)));

    // 10, 11, 12
    let asked = world.next_poll().await;
    asked.answer(201, &said("Stopped", "Running", &partial("one", 0)));
    world.replicas(0).await;
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Stopping").await;
    asked.answer(201, &said("Stopped", "Stopping", &all("one", 0)));
    objects.set_deployment("one", 0, "NewReplicaSetAvailable");
    let asked = world.poll_in_state("Stopped").await;
    asked.answer(201, &said("Stopped", "Stopped", &all("one", 0)));

    // 13, 14, 15
    let asked = world.next_poll().await;
    asked.answer(201, &said("Terminated", "Stopped", &inventories("one")));
    let progress = |body: &Value| {
        let infos = body["workspace_agent_infos"].as_array().unwrap();
        let progress = infos
            .first()
            .and_then(|it| it["termination_progress"].as_str());
        assert!(progress.is_none() || infos[0].get("latest_k8s_deployment_info").is_none());
        progress.unwrap_or_default().to_owned()
    };
    let mut asked = world
        .poll_with("the end", |body| !progress(body).is_empty())
        .await;
    // It can be over before the next poll.
    while progress(&asked.json()) == "Terminating" {
        asked.answer(201, &said("Terminated", "Terminating", &inventories("one")));
        asked = world
            .poll_with("the end", |body| !progress(body).is_empty())
            .await;
    }
    assert_eq!(progress(&asked.json()), "Terminated");
    asked.answer(201, &said("Terminated", "Terminated", &inventories("one")));
    assert_eq!(objects.get("namespaces", "", NAMESPACE), None);
    assert_eq!(objects.names(NAMESPACE), Vec::<String>::new());
    let asked = world.next_poll().await;
    assert_eq!(asked.json()["workspace_agent_infos"], json!([]));
}

#[tokio::test]
async fn one_bad_workspace_stops_no_other_and_is_told() {
    let objects = Objects::start().await;
    // Somebody's own, where the server wants a workspace.
    objects.put(
        "namespaces",
        json!({"metadata": {"name": "gl-rd-ns-taken"}}),
    );
    let theirs = json!({"metadata": {"name": "taken", "namespace": "gl-rd-ns-taken"}, "spec": {"replicas": 3}});
    objects.put("deployments", theirs);
    let (world, asked) = World::start_with(objects).await;
    let mut foreign = all("foreign", 1);
    foreign = foreign.replace("namespace: gl-rd-ns-foreign", "namespace: kube-system");
    let told = [
        info("yaml", "Running", "CreationRequested", "---\na: b: c\n"),
        info("foreign", "Running", "CreationRequested", &foreign),
        info("taken", "Running", "CreationRequested", &all("taken", 1)),
        json!({"name": "no", "desired_state": 1}),
        info("one", "Running", "CreationRequested", &all("one", 1)),
    ];
    asked.answer(201, &answer(&told));
    world.replicas(1).await;
    let mut errors = std::collections::BTreeMap::new();
    while errors.len() < 3 {
        let asked = world.next_poll().await;
        for info in asked.json()["workspace_agent_infos"].as_array().unwrap() {
            let details = &info["error_details"];
            if let Some(message) = details["error_message"].as_str() {
                assert_eq!(details["error_type"], "applier");
                let name = info["name"].as_str().unwrap().to_owned();
                errors.insert(name, message.to_owned());
            }
        }
        asked.answer(201, &answer(&[]));
    }
    assert!(errors["yaml"].contains("no YAML"), "{errors:?}");
    assert!(errors["foreign"].contains("kube-system"), "{errors:?}");
    assert!(errors["taken"].contains("somebody else"), "{errors:?}");
    let theirs = world
        .objects
        .get("deployments", "gl-rd-ns-taken", "taken")
        .unwrap();
    assert_eq!(theirs["spec"]["replicas"], 3);
    assert_eq!(world.objects.names("kube-system"), Vec::<String>::new());

    // An end that is asked of what is not ours deletes nothing.
    let asked = world.next_poll().await;
    asked.answer(
        201,
        &answer(&[info("taken", "Terminated", "Error", &inventories("taken"))]),
    );
    let asked = world
        .poll_with("the end of it", |body| {
            body["workspace_agent_infos"][0]["termination_progress"] == "Terminated"
        })
        .await;
    asked.answer(
        201,
        &answer(&[info("taken", "Terminated", "Terminated", "")]),
    );
    assert!(
        world
            .objects
            .get("deployments", "gl-rd-ns-taken", "taken")
            .is_some()
    );
}

#[tokio::test]
async fn pull_secrets_are_copied_and_other_secrets_are_not() {
    let objects = Objects::start().await;
    for (name, kind) in [
        ("registry", "kubernetes.io/dockerconfigjson"),
        ("password", "Opaque"),
    ] {
        let secret = json!({"metadata": {"name": name, "namespace": "secrets"}, "type": kind, "data": {"k": "dg=="}});
        objects.put("secrets", secret);
    }
    let (world, asked) = World::start_with(objects).await;
    let mut one = info("one", "Running", "CreationRequested", &all("one", 1));
    one["image_pull_secrets"] = json!([
        {"name": "registry", "namespace": "secrets"},
        {"name": "password", "namespace": "secrets"},
        {"name": "missing", "namespace": "secrets"},
    ]);
    asked.answer(201, &answer(&[one.clone()]));
    world.replicas(1).await;
    let copy = world.objects.get("secrets", NAMESPACE, "registry").unwrap();
    assert_eq!(copy["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(copy["data"]["k"], "dg==");
    assert_eq!(world.objects.get("secrets", NAMESPACE, "password"), None);
    // It goes when it is asked for no more.
    one["image_pull_secrets"] = json!([]);
    let asked = world.next_poll().await;
    asked.answer(201, &answer(&[one]));
    eventually("the copy goes", async || {
        world
            .objects
            .get("secrets", NAMESPACE, "registry")
            .is_none()
    })
    .await;
    assert_eq!(world.objects.names(NAMESPACE), WHOLE);
}

/// Refused, or cut off: it begins again, with the typed service, and ends up with a full poll. Nothing is deleted.
#[tokio::test]
async fn trouble_ends_with_a_full_poll() {
    let (world, asked) = World::start().await;
    asked.answer(
        201,
        &answer(&[info("one", "Running", "CreationRequested", &all("one", 1))]),
    );
    world.replicas(1).await;
    let asked = world.next_poll().await;
    asked.answer(500, r#"{"message": "trouble"}"#);
    let asked = world.first_poll().await;
    assert_eq!(asked.json()["workspace_agent_infos"][0]["name"], "one");
    // A server that lost its workspaces.
    asked.answer(201, &answer(&[]));
    world.relay.cut().await;
    world.kas.forget_asked().await;
    world.relay.mend().await;
    let asked = world.first_poll().await;
    asked.answer(201, &answer(&[]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.objects.names(NAMESPACE), WHOLE);
}

/// Another connection, and behind it a server that was upgraded.
#[tokio::test]
async fn our_own_language_is_tried_again_on_a_new_connection() {
    let (world, asked) = World::start().await;
    asked.answer(
        201,
        &answer(&[info("one", "Running", "CreationRequested", &all("one", 1))]),
    );
    world.replicas(1).await;
    world.relay.cut().await;
    world.kas.speak_typed();
    world.relay.mend().await;
    // The poll that makes the connection is in JSON still.
    let poll = within("a typed poll", async {
        loop {
            tokio::select! {
                asked = world.kas.asked() => asked.answer(201, &answer(&[])),
                request = world.kas.reconcile_request() => {
                    if let Some(reconcile_request::Message::Poll(poll)) = request.message {
                        return poll;
                    }
                }
            }
        }
    })
    .await;
    assert!(poll.full);
    assert_eq!(poll.reports[0].workspace_id, id_of("one"));
    assert_eq!(world.objects.names(NAMESPACE), WHOLE);
}
