//! Pods of Deployments.

use serde_json::json;

use super::*;

#[test]
fn a_pod_gets_nothing_of_the_node_and_no_way_to_more() {
    let of_the_pod = [
        ("/hostNetwork", json!(true), "privilege"),
        ("/hostPID", json!(true), "privilege"),
        ("/hostIPC", json!(true), "privilege"),
        ("/nodeName", json!("node-1"), "field"),
        ("/priorityClassName", json!("system-node-critical"), "field"),
        ("/schedulerName", json!("mine"), "field"),
        ("/resourceClaims", json!([]), "field"),
        ("/ephemeralContainers", json!([]), "field"),
        ("/somethingOfTomorrow", json!(true), "field"),
        ("/serviceAccountName", json!("admin"), "service-account"),
        ("/serviceAccount", json!("admin"), "service-account"),
        (
            "/automountServiceAccountToken",
            json!(true),
            "service-account-token",
        ),
        (
            "/automountServiceAccountToken",
            json!(null),
            "service-account-token",
        ),
        ("/securityContext/runAsUser", json!(0), "root"),
        ("/securityContext/runAsUser", json!("0"), "root"),
        ("/securityContext/runAsNonRoot", json!(false), "root"),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "unconfined",
        ),
        (
            "/securityContext/appArmorProfile",
            json!({"type": "Unconfined"}),
            "unconfined",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({"type": "spc_t"}),
            "selinux",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({"user": "system_u"}),
            "field",
        ),
        (
            "/securityContext/sysctls",
            json!([{"name": "kernel.msgmax", "value": "1"}]),
            "sysctl",
        ),
        (
            "/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            "field",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "hostPath": {"path": "/"}}),
            "host-path",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
            "field",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "csi": {"driver": "d"}}),
            "field",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "image": {"reference": "r"}}),
            "field",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            "service-account-token",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "projected": {"sources": [{"podCertificate": {}}]}}),
            "field",
        ),
        (
            "/volumes/-",
            json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "pv"}}}}),
            "field",
        ),
        ("/volumes", json!({}), "form"),
    ];
    let of_a_container = [
        ("/securityContext/privileged", json!(true), "privilege"),
        ("/securityContext/privileged", json!("true"), "privilege"),
        (
            "/securityContext/allowPrivilegeEscalation",
            json!(true),
            "privilege",
        ),
        (
            "/securityContext/allowPrivilegeEscalation",
            json!(null),
            "privilege",
        ),
        (
            "/securityContext/capabilities/add",
            json!(["SYS_ADMIN"]),
            "capabilities",
        ),
        (
            "/securityContext/capabilities/add",
            json!(["CHOWN"]),
            "capabilities",
        ),
        (
            "/securityContext/capabilities/drop",
            json!(["CHOWN"]),
            "capabilities",
        ),
        ("/securityContext/capabilities", json!(null), "capabilities"),
        (
            "/securityContext/procMount",
            json!("Unmasked"),
            "proc-mount",
        ),
        ("/securityContext/runAsUser", json!(0), "root"),
        ("/securityContext/runAsNonRoot", json!(false), "root"),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "unconfined",
        ),
        ("/ports/0/hostPort", json!(22), "host-port"),
        ("/ports/0/hostIP", json!("0.0.0.0"), "field"),
        (
            "/volumeDevices",
            json!([{"name": "data", "devicePath": "/dev/x"}]),
            "field",
        ),
        (
            "/volumeMounts/0/mountPropagation",
            json!("Bidirectional"),
            "mount-propagation",
        ),
        ("/resources/claims", json!([{"name": "gpu"}]), "field"),
        (
            "/readinessProbe/httpGet/host",
            json!("169.254.169.254"),
            "host",
        ),
        (
            "/livenessProbe",
            json!({"tcpSocket": {"host": "10.0.0.1", "port": 1}}),
            "host",
        ),
        (
            "/lifecycle/preStop",
            json!({"httpGet": {"host": "metadata", "port": 80}}),
            "host",
        ),
        (
            "/env/-",
            json!({"name": "F", "valueFrom": {"fileKeyRef": {}}}),
            "field",
        ),
    ];
    let attempts = of_the_pod
        .into_iter()
        .map(|(at, value, code)| (format!("{POD}{at}"), value, code))
        .chain(of_a_container.into_iter().flat_map(|(at, value, code)| {
            ["containers", "initContainers"]
                .map(|list| (format!("{POD}/{list}/0{at}"), value.clone(), code))
        }));
    for (pointer, value, code) in attempts {
        let object = with(deployment(), &pointer, value.clone());
        let found = judge(&object, &Policy::default(), false);
        assert!(
            found.iter().any(|it| it.0 == code),
            "{pointer} {value}: {found:?}"
        );
    }
    // The path is the one that a person looks for.
    let object = with(
        deployment(),
        "/spec/template/spec/containers/0/ports/0/hostPort",
        json!(1),
    );
    assert_eq!(
        judge(&object, &Policy::default(), false),
        [(
            "host-port",
            "spec.template.spec.containers[0].ports[0].hostPort".to_owned()
        )]
    );
}
