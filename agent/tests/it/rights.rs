//! The agent's rights in its workspaces' namespaces come from a RoleBinding that it makes there, and where workspaces share
//! a namespace it asks for nothing outside of that.

use agent::config::Role;
use proto::remote_development::rpc as wire;
use proto::remote_development::rpc::{reconcile_request, reconcile_response};
use serde_json::json;

use crate::fixture::{Cluster, eventually, start_agent, within};
use crate::kas::Kas;
use crate::objects::Objects;

const BINDING: &str = "remote-dev-agent";

struct World {
    kas: Kas,
    objects: Objects,
    cluster: Cluster,
}

impl World {
    async fn start() -> Self {
        let kas = Kas::start().await;
        kas.speak_typed();
        Self {
            kas,
            objects: Objects::start().await,
            cluster: Cluster::start().await,
        }
    }

    async fn agent(
        &self,
        change: impl FnOnce(&mut agent::config::Workspaces),
    ) -> agent::app::Agent {
        let mut config = self.cluster.config(self.kas.address);
        config.cluster.kubeconfig = Some(self.objects.kubeconfig(self.cluster.folder.path()));
        change(&mut config.workspaces);
        let agent = start_agent(config).await;
        within("the agent polls", async {
            loop {
                let request = self.kas.reconcile_request().await;
                if let Some(reconcile_request::Message::Poll(poll)) = request.message {
                    let number = poll.number;
                    self.kas.say(reconcile_response::Message::PollAnswered(
                        wire::PollAnswered { number },
                    ));
                    return;
                }
            }
        })
        .await;
        agent
    }

    fn wish(
        &self,
        namespace: &str,
        own_namespace: bool,
        generation: u64,
        state: wire::DesiredState,
    ) {
        let replicas = i32::from(state == wire::DesiredState::Running);
        let is_over = state == wire::DesiredState::Terminated;
        self.kas
            .say(reconcile_response::Message::Workspace(wire::Workspace {
                workspace_id: "id-one".into(),
                name: "one".into(),
                namespace: namespace.into(),
                own_namespace,
                generation,
                desired_state: state.into(),
                object_count: u32::from(!is_over),
                unchanged: false,
                image_pull_secrets: Vec::new(),
            }));
        if is_over {
            return;
        }
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "one", "namespace": namespace, "labels": {"agent.gitlab.com/id": "7"},
                "annotations": {
                    "workspaces.gitlab.com/id": "id-one", "config.k8s.io/owning-inventory": "one-workspace-inventory",
                },
            },
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"workspaces.gitlab.com/name": "one"}}},
        });
        self.kas.say(reconcile_response::Message::ObjectChunk(
            wire::ObjectChunk {
                hash: format!("h{generation}"),
                data: deployment.to_string().into_bytes().into(),
                last: true,
            },
        ));
    }

    async fn replicas(&self, namespace: &str, expected: u64) {
        eventually("the Deployment follows", async || {
            let deployment = self.objects.get("deployments", namespace, "one");
            deployment.is_some_and(|it| it["spec"]["replicas"] == expected)
        })
        .await;
    }
}

fn bound(workspaces: &mut agent::config::Workspaces) {
    workspaces.role = Some(Role {
        cluster_role: "main-workspace".into(),
        service_account: "agent".into(),
        namespace: "ns".into(),
    });
}

#[tokio::test]
async fn its_role_is_bound_in_each_namespace_that_it_makes_before_anything_else() {
    const NAMESPACE: &str = "gl-rd-ns-one";
    let world = World::start().await;
    let agent = world.agent(bound).await;
    world.wish(NAMESPACE, true, 1, wire::DesiredState::Running);
    world.replicas(NAMESPACE, 1).await;
    let writes = world.objects.writes();
    assert_eq!(
        &writes[..2],
        [
            "POST /api/v1/namespaces".to_owned(),
            format!("POST /apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"),
        ]
    );
    let binding = || world.objects.get("rolebindings", NAMESPACE, BINDING);
    let made = binding().unwrap();
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "main-workspace"});
    assert_eq!(made["roleRef"], role);
    let account = json!([{"kind": "ServiceAccount", "name": "agent", "namespace": "ns"}]);
    assert_eq!(made["subjects"], account);
    let namespace = world.objects.get("namespaces", "", NAMESPACE).unwrap();
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "baseline"
    );

    // A namespace of an agent that bound nothing yet, or whose binding somebody took away.
    drop(agent);
    world.objects.remove("rolebindings", NAMESPACE, BINDING);
    let _agent = world.agent(bound).await;
    eventually("it is bound again", async || binding().is_some()).await;
    world.wish(NAMESPACE, true, 2, wire::DesiredState::Stopped);
    world.replicas(NAMESPACE, 0).await;
    assert_eq!(
        world
            .objects
            .writes()
            .iter()
            .filter(|it| it.contains("rolebindings"))
            .count(),
        2
    );

    // Nothing is bound where the namespace is not the agent's, whatever its label says.
    world.objects.put("namespaces", json!({"metadata": {
        "name": "prod", "labels": {"agent.gitlab.com/id": "7"}, "annotations": {"workspaces.gitlab.com/id": "id-two"},
    }}));
    world.wish(NAMESPACE, true, 3, wire::DesiredState::Terminated);
    eventually("all is gone", async || {
        world.objects.get("namespaces", "", NAMESPACE).is_none()
    })
    .await;
    assert_eq!(world.objects.names("prod"), Vec::<String>::new());
}

#[tokio::test]
async fn in_a_shared_namespace_it_asks_for_nothing_outside() {
    const NAMESPACE: &str = "team";
    let world = World::start().await;
    world
        .objects
        .put("namespaces", json!({"metadata": {"name": NAMESPACE}}));
    let _agent = world
        .agent(|workspaces| workspaces.policy.shared_namespace = Some(NAMESPACE.into()))
        .await;
    world.wish(NAMESPACE, false, 1, wire::DesiredState::Running);
    world.replicas(NAMESPACE, 1).await;
    // Somebody takes the inventory away: here a watch tells.
    world
        .objects
        .remove("configmaps", NAMESPACE, "one-workspace-inventory");
    let inventory = || {
        world
            .objects
            .get("configmaps", NAMESPACE, "one-workspace-inventory")
    };
    eventually("it is written again", async || inventory().is_some()).await;
    world.wish(NAMESPACE, false, 2, wire::DesiredState::Terminated);
    eventually("all is gone", async || {
        world.objects.names(NAMESPACE).is_empty()
    })
    .await;
    assert!(world.objects.get("namespaces", "", NAMESPACE).is_some());

    let asked: Vec<_> = world
        .objects
        .reads()
        .into_iter()
        .chain(world.objects.writes())
        .collect();
    let is_here = |path: &String| {
        path.contains("/namespaces/team/") || path.contains("/namespaces/ns/leases")
    };
    let outside: Vec<_> = asked.iter().filter(|path| !is_here(path)).collect();
    assert_eq!(outside, Vec::<&String>::new());

    // And other places are refused, with what would be right.
    world
        .kas
        .say(reconcile_response::Message::Workspace(wire::Workspace {
            workspace_id: "id-two".into(),
            name: "two".into(),
            namespace: "gl-rd-ns-two".into(),
            own_namespace: true,
            generation: 1,
            desired_state: wire::DesiredState::Running.into(),
            object_count: 0,
            unchanged: false,
            image_pull_secrets: Vec::new(),
        }));
    let failure = within("the refusal is told", async {
        loop {
            let request = world.kas.reconcile_request().await;
            let Some(reconcile_request::Message::Poll(poll)) = request.message else {
                continue;
            };
            let number = poll.number;
            world.kas.say(reconcile_response::Message::PollAnswered(
                wire::PollAnswered { number },
            ));
            let failures = poll.reports.into_iter().flat_map(|it| it.failures);
            if let Some(failure) = failures.into_iter().find(|it| it.code == "NotAllowed") {
                return failure;
            }
        }
    })
    .await;
    assert!(failure.message.contains("\"team\""), "{}", failure.message);
}
