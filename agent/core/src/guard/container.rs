//! What containers may have.

use serde_json::Value;

use super::Level;
use super::pod::{is_profile, non_root, profile, selinux, user};
use super::walk::{Fields, Look, Walk, anything, no_host, only_false};

/// Capabilities that the baseline standard lets be added: those that containers have by default.
const COMMON_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) const CONTAINER: &Fields = &[
    ("args", anything),
    ("command", anything),
    ("env", |walk, value| walk.each(value, env)),
    ("envFrom", |walk, value| walk.each(value, env_from)),
    ("image", anything),
    ("imagePullPolicy", anything),
    ("lifecycle", lifecycle),
    ("livenessProbe", probe),
    ("name", anything),
    ("ports", |walk, value| walk.each(value, port)),
    ("readinessProbe", probe),
    ("resizePolicy", anything),
    ("resources", resources),
    ("restartPolicy", anything),
    ("securityContext", container_security),
    ("startupProbe", probe),
    ("stdin", anything),
    ("stdinOnce", anything),
    ("terminationMessagePath", anything),
    ("terminationMessagePolicy", anything),
    ("tty", anything),
    ("volumeMounts", |walk, value| walk.each(value, mount)),
    ("workingDir", anything),
];

pub(super) fn containers(walk: &mut Walk<'_>, value: &Value) {
    walk.each(value, |walk, container| {
        walk.fields(container, CONTAINER);
        if walk.policy.level == Level::Restricted && !walk.pod.is_part {
            restricted(walk, &container["securityContext"]);
        }
    });
}

/// What the restricted standard wants to be said.
fn restricted(walk: &mut Walk<'_>, security: &Value) {
    let facts = walk.pod;
    walk.at("securityContext", |walk| {
        if !(facts.non_root || security["runAsNonRoot"] == true) {
            let reason = "it has to be true, here or for the whole Pod";
            walk.refuse_at("runAsNonRoot", "root", reason);
        }
        if !(facts.seccomp || is_profile(&security["seccompProfile"])) {
            let reason = "it has to be there, here or for the whole Pod";
            walk.refuse_at("seccompProfile", "unconfined", reason);
        }
        if facts.isolated {
            return;
        }
        if security["allowPrivilegeEscalation"] != false {
            let reason = "it has to be false";
            walk.refuse_at("allowPrivilegeEscalation", "privilege", reason);
        }
        let drop = security["capabilities"]["drop"].as_array();
        if !drop.is_some_and(|it| it.iter().any(|name| name == "ALL")) {
            let reason = "they have to be dropped: [ALL]";
            walk.refuse_at("capabilities.drop", "capabilities", reason);
        }
    });
}

const CONTAINER_SECURITY: &Fields = &[
    ("allowPrivilegeEscalation", escalation),
    ("appArmorProfile", profile),
    ("capabilities", capabilities),
    ("privileged", only_false),
    ("procMount", |walk, value| {
        if value.as_str() != Some("Default") {
            walk.refuse("proc-mount", "it may only be Default");
        }
    }),
    ("readOnlyRootFilesystem", anything),
    ("runAsGroup", anything),
    ("runAsNonRoot", non_root),
    ("runAsUser", user),
    ("seLinuxOptions", selinux),
    ("seccompProfile", profile),
];

fn container_security(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, CONTAINER_SECURITY);
}

fn escalation(walk: &mut Walk<'_>, value: &Value) {
    let is_held = walk.policy.level == Level::Restricted && !walk.pod.isolated;
    if is_held && *value != false {
        let reason = "a process may gain rights only in a user namespace (hostUsers: false) or in a runtime class that \
                      the agent's installation calls isolating";
        walk.refuse("privilege", reason);
    }
}

fn capabilities(walk: &mut Walk<'_>, value: &Value) {
    const CAPABILITIES: &Fields = &[
        ("add", |walk, value| walk.each(value, added)),
        ("drop", anything),
    ];
    walk.fields(value, CAPABILITIES);
}

fn added(walk: &mut Walk<'_>, value: &Value) {
    let name = value.as_str().unwrap_or_default();
    let is_held = walk.policy.level == Level::Restricted && !walk.pod.isolated;
    let allowed = match is_held {
        true => name == "NET_BIND_SERVICE",
        false => COMMON_CAPABILITIES.contains(&name),
    };
    if !allowed {
        walk.refuse("capabilities", "this capability may not be added");
    }
}

fn resources(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, &[("limits", anything), ("requests", anything)]);
}

fn port(walk: &mut Walk<'_>, value: &Value) {
    const PORT: &Fields = &[
        ("containerPort", anything),
        ("hostPort", |walk, value| {
            if value.as_i64() != Some(0) {
                walk.refuse("host-port", "a workspace gets no port of the node");
            }
        }),
        ("name", anything),
        ("protocol", anything),
    ];
    walk.fields(value, PORT);
}

fn mount(walk: &mut Walk<'_>, value: &Value) {
    const MOUNT: &Fields = &[
        ("mountPath", anything),
        ("mountPropagation", |walk, value| {
            if value.as_str() != Some("None") {
                walk.refuse("mount-propagation", "it may only be None");
            }
        }),
        ("name", anything),
        ("readOnly", anything),
        ("recursiveReadOnly", anything),
        ("subPath", anything),
        ("subPathExpr", anything),
    ];
    walk.fields(value, MOUNT);
}

fn env(walk: &mut Walk<'_>, value: &Value) {
    const SOURCE: &Fields = &[
        ("configMapKeyRef", |walk, value| {
            reference(walk, "ConfigMap", value, "name")
        }),
        ("fieldRef", anything),
        ("resourceFieldRef", anything),
        ("secretKeyRef", |walk, value| {
            reference(walk, "Secret", value, "name")
        }),
    ];
    const ENV: &Fields = &[
        ("name", anything),
        ("value", anything),
        ("valueFrom", |walk, value| walk.fields(value, SOURCE)),
    ];
    walk.fields(value, ENV);
}

fn env_from(walk: &mut Walk<'_>, value: &Value) {
    const ENV_FROM: &Fields = &[
        ("configMapRef", |walk, value| {
            reference(walk, "ConfigMap", value, "name")
        }),
        ("prefix", anything),
        ("secretRef", |walk, value| {
            reference(walk, "Secret", value, "name")
        }),
    ];
    walk.fields(value, ENV_FROM);
}

/// Where workspaces share a namespace, each reads what is its own.
pub(super) fn reference(walk: &mut Walk<'_>, kind: &str, value: &Value, field: &str) {
    let name = value[field].as_str().unwrap_or_default();
    let is_own = || {
        let key = (kind.to_owned(), name.to_owned());
        walk.owner.objects.contains(&key)
    };
    if walk.owner.shares_namespace && !is_own() {
        let reason = format!(
            "in a namespace that workspaces share, only the workspace's own {kind} may be named"
        );
        walk.refuse_at(field, "foreign-reference", reason);
    }
}

fn probe(walk: &mut Walk<'_>, value: &Value) {
    const PROBE: &Fields = &[
        ("exec", anything),
        ("failureThreshold", anything),
        ("grpc", |walk, value| {
            walk.fields(value, &[("port", anything), ("service", anything)])
        }),
        ("httpGet", http_get),
        ("initialDelaySeconds", anything),
        ("periodSeconds", anything),
        ("successThreshold", anything),
        ("tcpSocket", tcp_socket),
        ("terminationGracePeriodSeconds", anything),
        ("timeoutSeconds", anything),
    ];
    walk.fields(value, PROBE);
}

fn lifecycle(walk: &mut Walk<'_>, value: &Value) {
    const HANDLER: &Fields = &[
        ("exec", anything),
        ("httpGet", http_get),
        ("sleep", anything),
        ("tcpSocket", tcp_socket),
    ];
    const HANDLE: Look = |walk, value| walk.fields(value, HANDLER);
    const LIFECYCLE: &Fields = &[
        ("postStart", HANDLE),
        ("preStop", HANDLE),
        ("stopSignal", anything),
    ];
    walk.fields(value, LIFECYCLE);
}

fn http_get(walk: &mut Walk<'_>, value: &Value) {
    const HTTP_GET: &Fields = &[
        ("host", no_host),
        ("httpHeaders", anything),
        ("path", anything),
        ("port", anything),
        ("scheme", anything),
    ];
    walk.fields(value, HTTP_GET);
}

fn tcp_socket(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, &[("host", no_host), ("port", anything)]);
}
