//! What a hostile server could try, one thing at a time, on objects that are allowed without it.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::reconcile::KINDS;

mod objects;
mod pods;

/// A workspace's Pod as the server renders it.
fn pod() -> Value {
    json!({
        "metadata": {"labels": {NAME_LABEL: "w", "devfile.io/pod": "main"}},
        "spec": {
            "automountServiceAccountToken": false,
            "serviceAccountName": "w",
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 5001, "fsGroup": 0, "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [container("clone")],
            "containers": [container("tools")],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "w-data"}},
                {"name": "files", "projected": {"sources": [{"secret": {"name": "w-file"}}, {"configMap": {"name": "w-c"}}]}},
                {"name": "editor", "emptyDir": {}},
            ],
        },
    })
}

fn container(name: &str) -> Value {
    json!({
        "name": name, "image": "tools:1", "command": ["sh"],
        "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "w-env", "key": "s"}}}],
        "envFrom": [{"secretRef": {"name": "w-env"}}],
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
        "resources": {"limits": {"memory": "1Gi"}, "requests": {}},
        "lifecycle": {"postStart": {"exec": {"command": ["sh"]}}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 3},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/projects", "subPath": "p"}],
    })
}

fn object(kind: &str, name: &str, rest: &Value) -> Value {
    let api_version = KINDS
        .iter()
        .find(|it| it.kind == kind)
        .unwrap()
        .api_version();
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": name, "namespace": "gl-rd-ns-w", "creationTimestamp": null,
        "labels": {NAME_LABEL: "w"}, "annotations": {"workspaces.gitlab.com/id": "i"},
    }});
    for (field, value) in rest.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn deployment() -> Value {
    object(
        "Deployment",
        "w",
        &json!({"status": {}, "spec": {
            "replicas": 1, "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {NAME_LABEL: "w"}}, "template": pod(),
        }}),
    )
}

fn service() -> Value {
    object(
        "Service",
        "w",
        &json!({"spec": {
            "type": "ClusterIP", "selector": {NAME_LABEL: "w"},
            "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}],
        }}),
    )
}

fn claim() -> Value {
    let resources = json!({"requests": {"storage": "1Gi"}});
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": resources});
    object("PersistentVolumeClaim", "w-data", &json!({"spec": spec}))
}

fn policy_object() -> Value {
    object(
        "NetworkPolicy",
        "w",
        &json!({"spec": {
            "podSelector": {"matchLabels": {NAME_LABEL: "w"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"c": "d"}}}]}],
            "egress": [
                {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}], "ports": [{"port": 53}]},
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
            ],
        }}),
    )
}

fn account() -> Value {
    let rest =
        json!({"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "pull"}]});
    object("ServiceAccount", "w", &rest)
}

fn dev_workspace() -> Value {
    object(
        "DevWorkspace",
        "w",
        &json!({"spec": {"started": true, "routingClass": "cluster", "template": {
            "attributes": {
                "controller.devfile.io/storage-type": "per-workspace",
                "pod-overrides": {"metadata": {"labels": {NAME_LABEL: "w"}}, "spec": {"hostAliases": []}},
            },
            "components": [
                {"name": "tools", "attributes": {"container-overrides": {"securityContext": {"runAsUser": 7}}},
                 "container": {"image": "tools:1", "memoryLimit": "1Gi", "endpoints": [{"name": "http", "targetPort": 8080}]}},
                {"name": "data", "volume": {"size": "1Gi"}},
            ],
            "projects": [{"name": "p", "git": {"remotes": {"origin": "https://git.example.com/p.git"}}}],
            "commands": [{"id": "run", "exec": {"component": "tools", "commandLine": "run"}}],
            "events": {"postStart": ["run"]},
        }}}),
    )
}

fn all() -> Vec<Value> {
    vec![
        deployment(),
        service(),
        claim(),
        policy_object(),
        account(),
        dev_workspace(),
        object("ConfigMap", "w-c", &json!({"data": {"a": "b"}})),
        object(
            "Secret",
            "w-env",
            &json!({"type": "Opaque", "stringData": {"a": "b"}}),
        ),
        object("Secret", "w-file", &json!({"data": {"a": "Yg=="}})),
        object(
            "ResourceQuota",
            "w",
            &json!({"spec": {"hard": {"limits.cpu": "2"}}}),
        ),
    ]
}

fn names(objects: &[Value]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name_of = |object: &Value| (text(&object["kind"]), text(&object["metadata"]["name"]));
    objects.iter().map(name_of).collect()
}

fn judge(object: &Value, policy: &Policy, shares_namespace: bool) -> Vec<(&'static str, String)> {
    let objects = names(&all());
    let owner = Owner {
        id: "i",
        name: "w",
        shares_namespace,
        objects: &objects,
    };
    let kind = KINDS.iter().find(|it| object["kind"] == it.kind).unwrap();
    let found = check(object, kind, owner, policy).err().unwrap_or_default();
    found.into_iter().map(|it| (it.code, it.path)).collect()
}

/// The object with one value changed; a pointer's last part may be new, and `-` is a list's end.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/");
    match object.pointer_mut(parent).expect(pointer) {
        Value::Array(items) if last == "-" => items.push(value),
        parent => parent[&last] = value,
    }
    object
}

const POD: &str = "/spec/template/spec";

#[test]
fn what_the_servers_render_passes() {
    for object in all() {
        for shares_namespace in [false, true] {
            if shares_namespace && object["kind"] == "ResourceQuota" {
                continue;
            }
            let found = judge(&object, &Policy::default(), shares_namespace);
            assert_eq!(found, [], "{object}");
        }
    }
}

#[test]
fn in_a_shared_namespace_everything_names_the_workspaces_own() {
    let volume = |value: Value| with(deployment(), &format!("{POD}/volumes/-"), value);
    let attempts = [
        volume(json!({"name": "v", "secret": {"secretName": "of-another"}})),
        volume(json!({"name": "v", "configMap": {"name": "of-another"}})),
        volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "of-another"}})),
        volume(
            json!({"name": "v", "projected": {"sources": [{"secret": {"name": "of-another"}}]}}),
        ),
        with(
            deployment(),
            &format!("{POD}/containers/0/envFrom/-"),
            json!({"secretRef": {"name": "of-another"}}),
        ),
        with(
            deployment(),
            "/spec/selector/matchLabels",
            json!({"agent.gitlab.com/id": "7"}),
        ),
        with(service(), "/spec/selector", json!({NAME_LABEL: "other"})),
        with(policy_object(), "/spec/podSelector", json!({})),
        with(
            all().remove(7),
            "/metadata/labels/controller.devfile.io~1mount-to-devworkspace",
            json!("true"),
        ),
    ];
    for object in attempts {
        assert_eq!(
            judge(&object, &Policy::default(), false),
            [],
            "alone it may: {object}"
        );
        let found = judge(&object, &Policy::default(), true);
        assert!(
            matches!(&found[..], [("foreign-reference", _)]),
            "{found:?}: {object}"
        );
    }
    assert_eq!(
        judge(&all()[9], &Policy::default(), true),
        [("shared-namespace", "spec".to_owned())]
    );
}

#[test]
fn the_installation_says_how_much() {
    let held = with(
        deployment(),
        &format!("{POD}/containers/0/securityContext"),
        json!({"allowPrivilegeEscalation": true, "capabilities": {"add": ["SETUID"]}}),
    );
    let root = with(
        deployment(),
        &format!("{POD}/securityContext/runAsUser"),
        json!(0),
    );
    let of_the_node = with(deployment(), &format!("{POD}/hostPID"), json!(true));
    let baseline = Policy {
        level: Level::Baseline,
        ..Policy::default()
    };
    assert_ne!(judge(&held, &Policy::default(), false), []);
    assert_eq!(judge(&held, &baseline, false), []);
    assert_eq!(judge(&root, &baseline, false), []);
    assert_ne!(judge(&of_the_node, &baseline, false), []);

    // With a wall between the Pod and its node a process may gain rights, but is not root from the start.
    let isolated = with(held.clone(), &format!("{POD}/hostUsers"), json!(false));
    assert_eq!(judge(&isolated, &Policy::default(), false), []);
    let classes = Policy {
        isolating_runtime_classes: BTreeSet::from(["kata".to_owned()]),
        ..Policy::default()
    };
    for (class, passes) in [("kata", true), ("runc", false)] {
        let object = with(
            held.clone(),
            &format!("{POD}/runtimeClassName"),
            json!(class),
        );
        assert_eq!(
            judge(&object, &classes, false).is_empty(),
            passes,
            "{class}"
        );
    }
    let operator = with(
        with(
            dev_workspace(),
            "/spec/template/attributes/controller.devfile.io~1runtime-class",
            json!("kata"),
        ),
        "/spec/template/components/0/attributes/container-overrides",
        json!({"securityContext": {"allowPrivilegeEscalation": true}}),
    );
    assert_eq!(judge(&operator, &classes, false), []);
    assert_ne!(judge(&operator, &Policy::default(), false), []);

    let kinds = Policy {
        kinds: Some(BTreeSet::from(["Deployment".to_owned()])),
        ..Policy::default()
    };
    assert_eq!(judge(&deployment(), &kinds, false), []);
    assert_eq!(judge(&service(), &kinds, false), [("kind", String::new())]);
}

#[test]
fn a_set_without_a_network_policy_can_be_refused() {
    let policy = Policy {
        require_network_policy: true,
        ..Policy::default()
    };
    let check = |objects: &[Value], policy: &Policy| {
        let objects = names(objects);
        let owner = Owner {
            id: "i",
            name: "w",
            shares_namespace: false,
            objects: &objects,
        };
        check_set(owner, policy).map_err(|it| it.code)
    };
    assert_eq!(
        check(&[deployment()], &policy),
        Err("network-policy-missing")
    );
    assert_eq!(check(&[deployment(), policy_object()], &policy), Ok(()));
    assert_eq!(check(&[deployment()], &Policy::default()), Ok(()));
}

#[test]
fn namespaces_are_the_workspaces_own_or_the_one_they_share() {
    let shared = Policy {
        shared_namespace: Some("team".to_owned()),
        ..Policy::default()
    };
    for (namespace, own, policy, expected) in [
        ("gl-rd-ns-w", true, &Policy::default(), true),
        ("kube-system", true, &Policy::default(), false),
        ("kube-system", false, &Policy::default(), false),
        ("gl-rd-ns-w", false, &Policy::default(), false),
        ("team", false, &shared, true),
        ("team", true, &shared, false),
        ("gl-rd-ns-w", true, &shared, false),
        ("other", false, &shared, false),
    ] {
        assert_eq!(
            check_namespace(namespace, own, policy).is_ok(),
            expected,
            "{namespace} {own}"
        );
    }
}

/// What GitLab's agent is given (7.2 of its rendering): it says less than the restricted standard wants.
#[test]
fn what_is_left_out_is_said_for_it() {
    let context = json!({"allowPrivilegeEscalation": false, "privileged": false, "runAsNonRoot": true, "runAsUser": 5001});
    let mut gitlabs = deployment();
    gitlabs["spec"]["template"]["spec"] = json!({
        "serviceAccountName": "w", "securityContext": {"runAsNonRoot": true, "runAsUser": 5001, "fsGroup": 0},
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "securityContext": context}, {"name": "d"}],
    });
    assert_ne!(judge(&gitlabs, &Policy::default(), false), []);
    let mut filled = gitlabs.clone();
    fill(&mut filled, "Deployment", &Policy::default());
    assert_eq!(judge(&filled, &Policy::default(), false), []);
    let spec = &filled["spec"]["template"]["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["containers"][0]["securityContext"]["runAsUser"], 5001);
    assert_eq!(
        spec["containers"][1]["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    // What it does say stays, and is judged.
    let mut wrong = with(
        gitlabs,
        &format!("{POD}/containers/0/securityContext/allowPrivilegeEscalation"),
        json!(true),
    );
    fill(&mut wrong, "Deployment", &Policy::default());
    assert_eq!(
        wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"],
        true
    );
    assert_ne!(judge(&wrong, &Policy::default(), false), []);
    let mut twice = filled.clone();
    fill(&mut twice, "Deployment", &Policy::default());
    assert_eq!(twice, filled);
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "spec",
        "template",
        "containers",
        "securityContext",
        "privileged",
        "volumes",
        "hostPath",
        "metadata",
        "name",
        "labels",
        "capabilities",
        "add",
        "env",
        "selector",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent: it is judged without a panic, and what was filled in is never what is wrong with an empty Pod.
    #[test]
    fn anything_is_judged(mut value in any_json(), number in 0..KINDS.len()) {
        let kind = &KINDS[number];
        if value.is_object() {
            value["kind"] = kind.kind.into();
            fill(&mut value, kind.kind, &Policy::default());
            for policy in [Policy::default(), Policy { level: Level::Baseline, ..Policy::default() }] {
                let _ = judge(&value, &policy, number % 2 == 0);
            }
        }
    }
}
