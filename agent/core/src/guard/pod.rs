//! What Pods may have: the restricted and the baseline Pod security standards, and what those leave open.

use serde_json::Value;

use super::container::{CONTAINER, containers, reference};
use super::walk::{Fields, Walk, anything, only_false};
use super::{Level, objects};

/// Sysctls that change nothing outside the Pod.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// What a Pod says for its containers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PodFacts {
    /// A part of a Pod, which is merged into one that says the rest.
    pub(super) is_part: bool,
    /// A user namespace or a runtime stands between its processes and the node.
    pub(super) isolated: bool,
    pub(super) non_root: bool,
    pub(super) seccomp: bool,
}

const TEMPLATE: &Fields = &[
    ("metadata", objects::template_metadata),
    ("spec", |walk, value| pod_spec(walk, value, false)),
];

const PART: &Fields = &[
    ("metadata", objects::template_metadata),
    ("spec", |walk, value| pod_spec(walk, value, true)),
];

/// A Pod template.
pub(super) fn template(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, TEMPLATE);
}

/// What a DevWorkspace adds to its Pod.
pub(super) fn pod_overrides(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, PART);
}

/// What a DevWorkspace adds to one of its containers.
pub(super) fn container_overrides(walk: &mut Walk<'_>, value: &Value) {
    walk.pod = PodFacts {
        is_part: true,
        isolated: walk.isolated,
        ..PodFacts::default()
    };
    walk.fields(value, CONTAINER);
}

const SPEC: &Fields = &[
    ("activeDeadlineSeconds", anything),
    ("affinity", anything),
    ("automountServiceAccountToken", only_false),
    ("containers", containers),
    ("dnsConfig", anything),
    ("dnsPolicy", anything),
    ("enableServiceLinks", anything),
    ("hostAliases", anything),
    ("hostIPC", only_false),
    ("hostNetwork", only_false),
    ("hostPID", only_false),
    // True is the default.
    ("hostUsers", anything),
    ("hostname", anything),
    ("imagePullSecrets", anything),
    ("initContainers", containers),
    ("nodeSelector", anything),
    ("os", anything),
    ("restartPolicy", anything),
    ("runtimeClassName", anything),
    ("securityContext", pod_security),
    ("serviceAccount", service_account),
    ("serviceAccountName", service_account),
    ("setHostnameAsFQDN", anything),
    ("shareProcessNamespace", anything),
    ("subdomain", anything),
    ("terminationGracePeriodSeconds", anything),
    ("tolerations", anything),
    ("topologySpreadConstraints", anything),
    ("volumes", |walk, value| walk.each(value, volume)),
];

fn pod_spec(walk: &mut Walk<'_>, spec: &Value, is_part: bool) {
    let security = &spec["securityContext"];
    walk.pod = PodFacts {
        is_part,
        isolated: walk.isolated || is_isolated(walk, spec),
        non_root: security["runAsNonRoot"] == true,
        seccomp: is_profile(&security["seccompProfile"]),
    };
    if !is_part && spec["automountServiceAccountToken"] != false {
        walk.refuse_at(
            "automountServiceAccountToken",
            "service-account-token",
            "it has to be false: no workspace gets a token of this cluster",
        );
    }
    walk.fields(spec, SPEC);
}

/// Whether a user namespace or a runtime stands between a Pod and its node.
pub(super) fn is_isolated(walk: &Walk<'_>, spec: &Value) -> bool {
    spec["hostUsers"] == false || is_isolating_class(walk, &spec["runtimeClassName"])
}

pub(super) fn is_isolating_class(walk: &Walk<'_>, class: &Value) -> bool {
    let classes = &walk.policy.isolating_runtime_classes;
    class.as_str().is_some_and(|class| classes.contains(class))
}

fn service_account(walk: &mut Walk<'_>, value: &Value) {
    let name = walk.owner.name;
    if value.as_str() != Some(name) && value.as_str() != Some("") {
        let reason = format!("only the workspace's own, {name:?}, may be named");
        walk.refuse("service-account", reason);
    }
}

const POD_SECURITY: &Fields = &[
    ("appArmorProfile", profile),
    ("fsGroup", anything),
    ("fsGroupChangePolicy", anything),
    ("runAsGroup", anything),
    ("runAsNonRoot", non_root),
    ("runAsUser", user),
    ("seLinuxChangePolicy", anything),
    ("seLinuxOptions", selinux),
    ("seccompProfile", profile),
    ("supplementalGroups", anything),
    ("supplementalGroupsPolicy", anything),
    ("sysctls", |walk, value| walk.each(value, sysctl)),
];

fn pod_security(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, POD_SECURITY);
}

pub(super) fn non_root(walk: &mut Walk<'_>, value: &Value) {
    if walk.policy.level == Level::Restricted && *value != true {
        walk.refuse("root", "it may only be true: workspaces do not run as root");
    }
}

pub(super) fn user(walk: &mut Walk<'_>, value: &Value) {
    let is_other = value.as_i64().is_some_and(|id| id > 0);
    if walk.policy.level == Level::Restricted && !is_other {
        walk.refuse("root", "workspaces do not run as root; name another user");
    }
}

/// Of seccomp or `AppArmor`. A profile of the node's is one that its administrator put there.
pub(super) fn profile(walk: &mut Walk<'_>, value: &Value) {
    const PROFILE: &Fields = &[
        ("localhostProfile", anything),
        ("type", |walk, value| {
            if !matches!(value.as_str(), Some("RuntimeDefault" | "Localhost")) {
                let reason = "it may be RuntimeDefault or Localhost";
                walk.refuse("unconfined", reason);
            }
        }),
    ];
    walk.fields(value, PROFILE);
}

pub(super) fn is_profile(value: &Value) -> bool {
    matches!(value["type"].as_str(), Some("RuntimeDefault" | "Localhost"))
}

pub(super) fn selinux(walk: &mut Walk<'_>, value: &Value) {
    const OPTIONS: &Fields = &[
        ("level", anything),
        ("type", |walk, value| {
            if !value.as_str().is_some_and(|it| SELINUX_TYPES.contains(&it)) {
                walk.refuse("selinux", "the type is not one of a plain container's");
            }
        }),
    ];
    walk.fields(value, OPTIONS);
}

fn sysctl(walk: &mut Walk<'_>, value: &Value) {
    let name = value["name"].as_str().unwrap_or_default();
    if !SAFE_SYSCTLS.contains(&name) {
        walk.refuse_at("name", "sysctl", "it is not one of the safe sysctls");
    }
    walk.fields(value, &[("name", anything), ("value", anything)]);
}

fn volume(walk: &mut Walk<'_>, value: &Value) {
    const PROJECTED: &Fields = &[
        ("configMap", |walk, value| {
            reference(walk, "ConfigMap", value, "name")
        }),
        ("downwardAPI", anything),
        ("secret", |walk, value| {
            reference(walk, "Secret", value, "name")
        }),
        ("serviceAccountToken", |walk, _| {
            walk.refuse(
                "service-account-token",
                "no workspace gets a token of this cluster",
            );
        }),
    ];
    const SOURCES: &Fields = &[
        ("defaultMode", anything),
        ("sources", |walk, value| {
            walk.each(value, |walk, source| walk.fields(source, PROJECTED))
        }),
    ];
    const EPHEMERAL: &Fields = &[("volumeClaimTemplate", |walk, value| {
        const CLAIM: &Fields = &[
            ("metadata", objects::template_metadata),
            ("spec", objects::volume_claim_spec),
        ];
        walk.fields(value, CLAIM);
    })];
    const VOLUME: &Fields = &[
        ("configMap", |walk, value| {
            reference(walk, "ConfigMap", value, "name")
        }),
        ("downwardAPI", anything),
        ("emptyDir", anything),
        ("ephemeral", |walk, value| walk.fields(value, EPHEMERAL)),
        ("hostPath", |walk, _| {
            walk.refuse("host-path", "a workspace gets no folder of the node");
        }),
        ("name", anything),
        ("persistentVolumeClaim", |walk, value| {
            reference(walk, "PersistentVolumeClaim", value, "claimName");
        }),
        ("projected", |walk, value| walk.fields(value, SOURCES)),
        ("secret", |walk, value| {
            reference(walk, "Secret", value, "secretName")
        }),
    ];
    walk.fields(value, VOLUME);
}
