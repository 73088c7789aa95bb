//! A server that asks for what no workspace may have: nothing of it reaches the API server, it is told why, and the other
//! workspaces go on. Each attempt alone is judged in `agent_core::guard`; here are some of each sort, in both languages.

use std::collections::BTreeMap;

use proto::remote_development::rpc as wire;
use proto::remote_development::rpc::{reconcile_request, reconcile_response};
use serde_json::{Value, json};

use crate::fixture::{Cluster, eventually, start_agent, within};
use crate::kas::Kas;
use crate::objects::Objects;

struct World {
    kas: Kas,
    objects: Objects,
    _cluster: Cluster,
    _agent: agent::app::Agent,
}

impl World {
    async fn start(speaks: impl FnOnce(&Kas)) -> Self {
        let objects = Objects::start().await;
        let kas = Kas::start().await;
        speaks(&kas);
        let cluster = Cluster::start().await;
        let mut config = cluster.config(kas.address);
        config.cluster.kubeconfig = Some(objects.kubeconfig(cluster.folder.path()));
        let agent = start_agent(config).await;
        Self {
            kas,
            objects,
            _cluster: cluster,
            _agent: agent,
        }
    }

    /// Nothing but what the good workspace has was ever written, and nothing of another namespace was read by name.
    fn assert_only(&self, namespace: &str) {
        let here = format!("/namespaces/{namespace}");
        for write in self.objects.writes() {
            let is_here = write.contains(&format!("{here}/")) || write.ends_with(&here);
            assert!(is_here || write == "POST /api/v1/namespaces", "{write}");
        }
        assert_eq!(
            self.objects
                .writes()
                .iter()
                .filter(|it| *it == "POST /api/v1/namespaces")
                .count(),
            1
        );
        let elsewhere = |path: &&String| path.contains("/namespaces/") && !path.contains(&here);
        let reads = self.objects.reads();
        let read: Vec<_> = reads
            .iter()
            .filter(elsewhere)
            .filter(|it| !it.contains("/leases/"))
            .collect();
        assert_eq!(read, Vec::<&String>::new());
    }
}

/// An object of the workspace `name` with its marks.
fn object(name: &str, api_version: &str, kind: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": name, "namespace": format!("gl-rd-ns-{name}"), "labels": {"agent.gitlab.com/id": "7"},
        "annotations": {
            "workspaces.gitlab.com/id": format!("id-{name}"),
            "config.k8s.io/owning-inventory": format!("{name}-workspace-inventory"),
        },
    }});
    for (field, value) in rest.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn deployment(name: &str, pod: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    for (field, value) in pod.as_object().unwrap() {
        spec[field] = value.clone();
    }
    object(
        name,
        "apps/v1",
        "Deployment",
        &json!({"spec": {"replicas": 1, "template": {"spec": spec}}}),
    )
}

/// What is asked for, and a word of the answer.
fn attempts(name: &str) -> Vec<(Value, &'static str)> {
    let container = |security: Value| json!({"containers": [{"name": "c", "image": "i", "securityContext": security}]});
    let pod = |pod: Value| deployment(name, &pod);
    let of = |api_version: &str, kind: &str, rest: Value| object(name, api_version, kind, &rest);
    let at = |mut object: Value, pointer: &str, value: &str| {
        *object.pointer_mut(pointer).unwrap() = value.into();
        object
    };
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    vec![
        (
            of(
                "rbac.authorization.k8s.io/v1",
                "ClusterRoleBinding",
                json!({"roleRef": role_ref}),
            ),
            "ClusterRoleBinding",
        ),
        (
            of(
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                json!({"roleRef": role_ref}),
            ),
            "RoleBinding",
        ),
        (
            of(
                "admissionregistration.k8s.io/v1",
                "MutatingWebhookConfiguration",
                json!({}),
            ),
            "MutatingWebhook",
        ),
        (of("apps/v1", "DaemonSet", json!({})), "DaemonSet"),
        (of("v1", "Pod", json!({})), "Pod"),
        (of("v1", "Endpoints", json!({})), "Endpoints"),
        (
            of("discovery.k8s.io/v1", "EndpointSlice", json!({})),
            "EndpointSlice",
        ),
        (
            of("extensions/v1beta1", "Deployment", json!({})),
            "Deployment",
        ),
        (
            at(pod(json!({})), "/metadata/namespace", "kube-system"),
            "kube-system",
        ),
        (
            at(pod(json!({})), "/metadata/name", "x/../../../secrets/y"),
            "metadata.name",
        ),
        (
            at(pod(json!({})), "/metadata/labels/agent.gitlab.com~1id", "8"),
            "agent.gitlab.com/id",
        ),
        (
            at(
                pod(json!({})),
                "/metadata/annotations/workspaces.gitlab.com~1id",
                "other",
            ),
            "workspaces.gitlab.com/id",
        ),
        (pod(json!({"hostNetwork": true})), "hostNetwork"),
        (pod(json!({"hostPID": true})), "hostPID"),
        (
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
            "volumes[0].hostPath",
        ),
        (
            pod(json!({"automountServiceAccountToken": true})),
            "automountServiceAccountToken",
        ),
        (
            pod(json!({"serviceAccountName": "admin"})),
            "serviceAccountName",
        ),
        (pod(json!({"nodeName": "node-1"})), "nodeName"),
        (
            pod(container(json!({"privileged": true}))),
            "securityContext.privileged",
        ),
        (pod(container(json!({"runAsUser": 0}))), "runAsUser"),
        (
            pod(container(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))),
            "capabilities.add[0]",
        ),
        (
            of(
                "v1",
                "Secret",
                json!({"type": "kubernetes.io/service-account-token"}),
            ),
            "secret-type",
        ),
        (
            of(
                "v1",
                "Service",
                json!({"spec": {"type": "NodePort", "selector": {}}}),
            ),
            "spec.type",
        ),
        (
            of(
                "v1",
                "ServiceAccount",
                json!({"automountServiceAccountToken": true}),
            ),
            "automountServiceAccountToken",
        ),
        (
            of(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                json!({"spec": {"podSelector": {}, "ingress": [{}]}}),
            ),
            "ingress[0].from",
        ),
        (
            at(
                of("v1", "ConfigMap", json!({"data": {}})),
                "/metadata/name",
                &format!("{name}-workspace-inventory"),
            ),
            "inventory",
        ),
    ]
}

fn workspace(name: &str, namespace: &str, own_namespace: bool) -> wire::Workspace {
    wire::Workspace {
        workspace_id: format!("id-{name}"),
        name: name.into(),
        namespace: namespace.into(),
        own_namespace,
        generation: 1,
        desired_state: wire::DesiredState::Running.into(),
        object_count: 1,
        unchanged: false,
        image_pull_secrets: Vec::new(),
    }
}

fn say(kas: &Kas, workspace: wire::Workspace, object: &Value) {
    kas.say(reconcile_response::Message::Workspace(workspace));
    kas.say(reconcile_response::Message::ObjectChunk(
        wire::ObjectChunk {
            hash: "h".into(),
            data: object.to_string().into_bytes().into(),
            last: true,
        },
    ));
}

#[tokio::test]
async fn nothing_that_no_workspace_may_have_is_applied() {
    let world = World::start(Kas::speak_typed).await;
    let poll = async || loop {
        let request = world.kas.reconcile_request().await;
        if let Some(reconcile_request::Message::Poll(poll)) = request.message {
            return poll;
        }
    };
    poll().await;
    let mut expected = BTreeMap::new();
    for number in 0..attempts("x").len() {
        let name = format!("bad-{number}");
        let (object, word) = attempts(&name).swap_remove(number);
        say(
            &world.kas,
            workspace(&name, &format!("gl-rd-ns-{name}"), true),
            &object,
        );
        expected.insert(format!("id-{name}"), word);
    }
    // The place itself is none of the server's choice.
    for (name, namespace, own, word) in [
        ("in-system", "kube-system", true, "gl-rd-ns-"),
        (
            "shares-system",
            "kube-system",
            false,
            "workspaces.sharedNamespace",
        ),
    ] {
        say(
            &world.kas,
            workspace(name, namespace, own),
            &deployment(name, &json!({})),
        );
        expected.insert(format!("id-{name}"), word);
    }
    say(
        &world.kas,
        workspace("good", "gl-rd-ns-good", true),
        &deployment("good", &json!({})),
    );
    world.kas.say(reconcile_response::Message::PollAnswered(
        wire::PollAnswered { number: 1 },
    ));

    within("every attempt is told, with its reason", async {
        while !expected.is_empty() {
            let poll = poll().await;
            for report in poll.reports {
                if let Some(word) = expected.remove(&report.workspace_id) {
                    let failure = &report.failures[0];
                    assert_eq!(failure.code, "NotAllowed", "{report:?}");
                    assert!(
                        failure.message.contains(word),
                        "{word}: {}",
                        failure.message
                    );
                    assert_eq!(report.actual_state, i32::from(wire::ActualState::Error));
                }
            }
            let number = poll.number;
            world.kas.say(reconcile_response::Message::PollAnswered(
                wire::PollAnswered { number },
            ));
        }
    })
    .await;
    eventually("the good one is there", async || {
        world
            .objects
            .get("deployments", "gl-rd-ns-good", "good")
            .is_some()
    })
    .await;
    // What it did not say was said for it.
    let applied = world
        .objects
        .get("deployments", "gl-rd-ns-good", "good")
        .unwrap();
    let pod = &applied["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(
        pod["containers"][0]["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    world.assert_only("gl-rd-ns-good");
}

#[tokio::test]
async fn in_gitlabs_language_neither() {
    let world = World::start(Kas::speak_gitlab).await;
    world
        .kas
        .asked()
        .await
        .answer(200, r#"{"shared_namespace": ""}"#);
    let info = |name: &str, namespace: &str, object: &Value| {
        let inventory = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": format!("{name}-workspace-inventory"), "namespace": namespace,
            "labels": {"cli-utils.sigs.k8s.io/inventory-id": format!("{name}-workspace-inventory")},
        }});
        json!({
            "name": name, "namespace": namespace, "desired_state": "Running", "actual_state": "CreationRequested",
            "deployment_resource_version": null, "image_pull_secrets": [],
            // JSON is YAML.
            "config_to_apply": format!("---\n{inventory}\n---\n{object}\n"),
        })
    };
    // There an id is what the objects say.
    let numbers = || {
        let all = attempts("x").into_iter().enumerate();
        all.filter(|(_, (_, word))| *word != "workspaces.gitlab.com/id")
            .map(|(number, _)| number)
    };
    let mut infos: Vec<_> = numbers()
        .map(|number| {
            let name = format!("bad-{number}");
            info(
                &name,
                &format!("gl-rd-ns-{name}"),
                &attempts(&name)[number].0,
            )
        })
        .collect();
    let mut in_system = deployment("sys", &json!({}));
    in_system["metadata"]["namespace"] = "kube-system".into();
    infos.push(info("sys", "kube-system", &in_system));
    let good = deployment("good", &json!({}));
    infos.push(info("good", "gl-rd-ns-good", &good));
    let asked = world.kas.asked().await;
    asked.answer(201, &json!({"workspace_rails_infos": infos, "settings": {
        "full_reconciliation_interval_seconds": 3600, "partial_reconciliation_interval_seconds": 1,
    }}).to_string());
    within("errors are told", async {
        loop {
            let asked = world.kas.asked().await;
            let body = asked.json();
            let told = body["workspace_agent_infos"].as_array().unwrap().iter();
            let errors = told.filter(|it| !it["error_details"].is_null()).count();
            asked.answer(201, r#"{"workspace_rails_infos": [], "settings": {}}"#);
            if errors > numbers().count() {
                return;
            }
        }
    })
    .await;
    eventually("the good one is there", async || {
        world
            .objects
            .get("deployments", "gl-rd-ns-good", "good")
            .is_some()
    })
    .await;
    world.assert_only("gl-rd-ns-good");
}

/// Two readers of one text may see two things; so nothing is passed on that was not written by the one that judged.
#[tokio::test]
async fn what_was_judged_is_what_is_applied() {
    let world = World::start(Kas::speak_typed).await;
    let request = async || world.kas.reconcile_request().await;
    while !matches!(
        request().await.message,
        Some(reconcile_request::Message::Poll(_))
    ) {}
    let good = deployment("good", &json!({})).to_string();
    // The first of two equal keys is the bad one: this reader takes the last, others may take the first.
    let text = good.replacen(
        r#""spec":{"containers""#,
        r#""spec":{"hostNetwork":true,"hostNetwork":false,"containers""#,
        1,
    );
    assert_ne!(text, good);
    world
        .kas
        .say(reconcile_response::Message::Workspace(workspace(
            "good",
            "gl-rd-ns-good",
            true,
        )));
    world.kas.say(reconcile_response::Message::ObjectChunk(
        wire::ObjectChunk {
            hash: "h".into(),
            data: text.into_bytes().into(),
            last: true,
        },
    ));
    world.kas.say(reconcile_response::Message::PollAnswered(
        wire::PollAnswered { number: 1 },
    ));
    eventually("it is applied", async || {
        world
            .objects
            .get("deployments", "gl-rd-ns-good", "good")
            .is_some()
    })
    .await;
    let bodies = world.objects.bodies();
    let applied = bodies.iter().find(|it| it.contains("hostNetwork")).unwrap();
    assert_eq!(applied.matches("hostNetwork").count(), 1, "{applied}");
}
