//! Everything else.

use serde_json::json;

use super::*;

#[test]
fn other_objects_give_nothing_that_is_not_the_workspaces() {
    let mark = "/metadata/annotations/eks.amazonaws.com~1role-arn";
    let attempts = [
        (service(), "/spec/type", json!("NodePort"), "service-type"),
        (
            service(),
            "/spec/type",
            json!("LoadBalancer"),
            "service-type",
        ),
        (
            service(),
            "/spec/type",
            json!("ExternalName"),
            "service-type",
        ),
        (service(), "/spec/externalName", json!("metadata"), "field"),
        (service(), "/spec/externalIPs", json!(["10.0.0.1"]), "field"),
        (
            service(),
            "/spec/loadBalancerIP",
            json!("10.0.0.1"),
            "field",
        ),
        (
            service(),
            "/spec/clusterIP",
            json!("10.96.0.1"),
            "service-address",
        ),
        (service(), "/spec/selector", json!(null), "service-address"),
        (service(), "/spec/ports/0/nodePort", json!(30000), "field"),
        (claim(), "/spec/volumeName", json!("of-another"), "field"),
        (claim(), "/spec/selector", json!({}), "field"),
        (
            claim(),
            "/spec/dataSource",
            json!({"kind": "PersistentVolumeClaim", "name": "o"}),
            "field",
        ),
        (
            claim(),
            "/spec/dataSourceRef",
            json!({"namespace": "other", "name": "o"}),
            "field",
        ),
        (
            account(),
            "/automountServiceAccountToken",
            json!(true),
            "privilege",
        ),
        (
            account(),
            "/automountServiceAccountToken",
            json!(null),
            "service-account-token",
        ),
        (account(), "/secrets", json!([{"name": "s"}]), "field"),
        (account(), mark, json!("arn"), "mark"),
        (
            deployment(),
            "/spec/template/metadata/labels/azure.workload.identity~1use",
            json!("true"),
            "mark",
        ),
        (
            deployment(),
            "/spec/template/metadata/labels/workspaces.gitlab.com~1name",
            json!("other"),
            "mark",
        ),
        (
            deployment(),
            "/spec/template/metadata/finalizers",
            json!(["f"]),
            "field",
        ),
        (
            deployment(),
            "/spec/template/spec/volumes/-",
            json!({"name": "v", "secret": {"secretName": "x"}, "hostPath": {}}),
            "host-path",
        ),
        (deployment(), "/status", json!({"replicas": 1}), "field"),
        (
            deployment(),
            "/metadata/ownerReferences",
            json!([{"uid": "u"}]),
            "field",
        ),
        (deployment(), "/metadata/finalizers", json!(["f"]), "field"),
        (deployment(), "/metadata/generateName", json!("w"), "field"),
        (
            deployment(),
            "/metadata/name",
            json!("w/../../secrets/x"),
            "name",
        ),
        (deployment(), "/metadata/name", json!("w/scale"), "name"),
        (
            deployment(),
            "/metadata/name",
            json!("w?dryRun=All"),
            "name",
        ),
        (
            all().remove(6),
            "/metadata/name",
            json!("w-workspace-inventory"),
            "inventory",
        ),
        (
            all().remove(6),
            "/metadata/labels/cli-utils.sigs.k8s.io~1inventory-id",
            json!("x"),
            "inventory",
        ),
        (
            all().remove(7),
            "/type",
            json!("kubernetes.io/service-account-token"),
            "secret-type",
        ),
        (
            all().remove(7),
            "/type",
            json!("bootstrap.kubernetes.io/token"),
            "secret-type",
        ),
        (
            all().remove(7),
            "/metadata/annotations/kubernetes.io~1service-account.name",
            json!("admin"),
            "mark",
        ),
        (all().remove(9), "/spec/scopeSelector", json!({}), "field"),
        (
            policy_object(),
            "/spec/ingress/-",
            json!({}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/ingress/-",
            json!({"from": []}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/ingress/-",
            json!({"from": [{"namespaceSelector": {}}]}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/ingress/-",
            json!({"from": [{"namespaceSelector": {}, "podSelector": {}}]}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/ingress/-",
            json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/egress/-",
            json!({"ports": [{"port": 443}]}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/egress/-",
            json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
            "open-network",
        ),
        (
            policy_object(),
            "/spec/egress/-",
            json!({"to": [{"ipBlock": {"cidr": "::/0"}}]}),
            "open-network",
        ),
    ];
    for (object, pointer, value, code) in attempts {
        let object = with(object, pointer, value.clone());
        let found = judge(&object, &Policy::default(), false);
        assert!(
            found.iter().any(|it| it.0 == code),
            "{pointer} {value}: {found:?}"
        );
    }
}

#[test]
fn a_dev_workspace_makes_the_operator_do_nothing_for_it() {
    let template = "/spec/template";
    let attempts = [
        (
            "/components/-",
            json!({"name": "k", "kubernetes": {"deployByDefault": true, "inlined": "kind: ClusterRoleBinding"}}),
            "operator-rights",
        ),
        (
            "/components/-",
            json!({"name": "k", "openshift": {"uri": "https://x"}}),
            "operator-rights",
        ),
        (
            "/components/-",
            json!({"name": "p", "plugin": {"uri": "http://169.254.169.254/"}}),
            "by-reference",
        ),
        (
            "/components/-",
            json!({"name": "c", "custom": {"componentClass": "c"}}),
            "field",
        ),
        (
            "/parent",
            json!({"kubernetes": {"name": "t", "namespace": "other"}}),
            "by-reference",
        ),
        (
            "/attributes/controller.devfile.io~1devworkspace-config",
            json!({"name": "mine"}),
            "operator-attribute",
        ),
        (
            "/attributes/controller.devfile.io~1scc",
            json!("privileged"),
            "operator-attribute",
        ),
        (
            "/attributes/pod-overrides",
            json!({"spec": {"hostNetwork": true}}),
            "privilege",
        ),
        (
            "/attributes/pod-overrides",
            json!({"spec": {"securityContext": {"runAsUser": 0}}}),
            "root",
        ),
        (
            "/attributes/pod-overrides",
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
            "host-path",
        ),
        (
            "/attributes/pod-overrides",
            json!({"spec": {"containers": [{"name": "c", "securityContext": {"privileged": true}}]}}),
            "privilege",
        ),
        ("/attributes/pod-overrides", json!("spec: {}"), "form"),
        (
            "/attributes/pod-overrides",
            json!({"metadata": {"labels": {"workspaces.gitlab.com/name": "other"}}}),
            "mark",
        ),
        (
            "/components/0/attributes/container-overrides",
            json!({"securityContext": {"privileged": true}}),
            "privilege",
        ),
        (
            "/components/0/attributes/container-overrides",
            json!({"securityContext": {"allowPrivilegeEscalation": true}}),
            "privilege",
        ),
        (
            "/components/0/attributes/pod-overrides",
            json!({"spec": {"serviceAccountName": "admin"}}),
            "service-account",
        ),
    ];
    for (at, value, code) in attempts {
        let object = with(dev_workspace(), &format!("{template}{at}"), value.clone());
        let found = judge(&object, &Policy::default(), false);
        assert!(
            found.iter().any(|it| it.0 == code),
            "{at} {value}: {found:?}"
        );
    }
    let object = with(
        dev_workspace(),
        "/spec/contributions",
        json!([{"name": "c", "uri": "https://x"}]),
    );
    assert_eq!(
        judge(&object, &Policy::default(), false)[0].0,
        "by-reference"
    );
}
