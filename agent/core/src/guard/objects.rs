//! What objects of each kind may say.

use serde_json::Value;

use super::walk::{Fields, Look, Walk, anything, only_false};
use super::{
    ID_LABEL, NAME_LABEL, POWERFUL_MARKS, dev_workspace, is_inventory, is_object_name, network, pod,
};

/// Types of Secret that are nothing but their content. The API server itself fills others with tokens.
const SECRET_TYPES: [&str; 6] = [
    "Opaque",
    "kubernetes.io/basic-auth",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/tls",
];
/// With these the DevWorkspace Operator puts an object into every workspace of its namespace.
const OPERATOR_MARKS: &str = "controller.devfile.io/";

/// The object as a whole.
pub(super) fn object(walk: &mut Walk<'_>, kind: &str, object: &Value) {
    let fields: &[&Fields] = match kind {
        "ConfigMap" => &[CONTENT],
        "Deployment" => &[DEPLOYMENT],
        "DevWorkspace" => &[dev_workspace::DEV_WORKSPACE],
        "NetworkPolicy" => &[network::POLICY],
        "PersistentVolumeClaim" => &[VOLUME_CLAIM],
        "ResourceQuota" => &[QUOTA],
        "Secret" => &[CONTENT, SECRET],
        "Service" => &[network::SERVICE],
        "ServiceAccount" => &[SERVICE_ACCOUNT],
        _ => {
            walk.refuse("kind", "there are no rules for this kind");
            return;
        }
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !is_object_name(name) {
        walk.refuse_at("metadata.name", "name", "it is no name of an object");
    }
    match kind {
        "ConfigMap" if is_inventory(name, &object["metadata"]["labels"]) => {
            let reason =
                "a ConfigMap that lists a workspace's objects is written by the agent alone";
            walk.refuse_at("metadata", "inventory", reason);
        }
        "ServiceAccount" if object["automountServiceAccountToken"] != false => {
            let reason = "it has to be false: no workspace gets a token of this cluster";
            let field = "automountServiceAccountToken";
            walk.refuse_at(field, "service-account-token", reason);
        }
        "ConfigMap" | "Secret" | "PersistentVolumeClaim" if walk.owner.shares_namespace => {
            for part in ["labels", "annotations"] {
                let marks = object["metadata"][part].as_object();
                let has_mark = |marks: &serde_json::Map<String, Value>| {
                    marks.keys().any(|key| key.starts_with(OPERATOR_MARKS))
                };
                if marks.is_some_and(has_mark) {
                    let reason = "in a namespace that workspaces share, it would be put into those of others";
                    let path = format!("metadata.{part}");
                    walk.refuse_at(&path, "foreign-reference", reason);
                }
            }
        }
        _ => {}
    }
    let all: Vec<(&'static str, Look)> = [COMMON]
        .iter()
        .chain(fields)
        .flat_map(|part| part.iter().copied())
        .collect();
    walk.fields(object, &all);
}

const COMMON: &Fields = &[
    ("apiVersion", anything),
    ("kind", anything),
    ("metadata", metadata),
    ("status", |walk, value| {
        // Programs write an empty one.
        if value.as_object().is_none_or(|it| !it.is_empty()) {
            walk.refuse("field", "the cluster writes it");
        }
    }),
];

const CONTENT: &Fields = &[
    ("binaryData", anything),
    ("data", anything),
    ("immutable", anything),
];

const SECRET: &Fields = &[
    ("stringData", anything),
    ("type", |walk, value| {
        let is_plain = value.as_str().is_some_and(|it| SECRET_TYPES.contains(&it));
        if !is_plain {
            walk.refuse(
                "secret-type",
                "the cluster itself gives Secrets of this type a meaning",
            );
        }
    }),
];

const SERVICE_ACCOUNT: &Fields = &[
    ("automountServiceAccountToken", only_false),
    ("imagePullSecrets", anything),
];

const QUOTA: &Fields = &[("spec", |walk, value| {
    if walk.owner.shares_namespace {
        walk.refuse(
            "shared-namespace",
            "it would count for all workspaces of the namespace",
        );
    }
    walk.fields(value, &[("hard", anything)]);
})];

const VOLUME_CLAIM: &Fields = &[("spec", volume_claim_spec)];

/// A volume of its own: none that is there already, and no copy of another.
pub(super) fn volume_claim_spec(walk: &mut Walk<'_>, value: &Value) {
    const SPEC: &Fields = &[
        ("accessModes", anything),
        ("resources", anything),
        ("storageClassName", anything),
        ("volumeMode", anything),
    ];
    walk.fields(value, SPEC);
}

const DEPLOYMENT: &Fields = &[("spec", |walk, value| {
    const SPEC: &Fields = &[
        ("minReadySeconds", anything),
        ("paused", anything),
        ("progressDeadlineSeconds", anything),
        ("replicas", anything),
        ("revisionHistoryLimit", anything),
        ("selector", |walk, value| {
            selector(walk, &value["matchLabels"])
        }),
        ("strategy", anything),
        ("template", pod::template),
    ];
    walk.fields(value, SPEC);
})];

const METADATA: &Fields = &[
    ("annotations", |walk, value| walk.entries(value, powerful)),
    ("labels", |walk, value| walk.entries(value, label)),
    ("name", anything),
    ("namespace", anything),
];

fn metadata(walk: &mut Walk<'_>, value: &Value) {
    walk.fields(value, METADATA);
}

/// Of something inside an object.
pub(super) fn template_metadata(walk: &mut Walk<'_>, value: &Value) {
    const TEMPLATE: &Fields = &[
        ("annotations", |walk, value| walk.entries(value, powerful)),
        ("labels", |walk, value| walk.entries(value, label)),
        // Nothing gets it: the cluster names what is made of a template.
        ("name", anything),
    ];
    walk.fields(value, TEMPLATE);
}

fn powerful(walk: &mut Walk<'_>, key: &str, _: &Value) {
    if POWERFUL_MARKS.iter().any(|prefix| key.starts_with(prefix)) {
        walk.refuse(
            "mark",
            "another program would give more rights for this mark",
        );
    }
}

/// Marks of a workspace are its own: Pods and Services are found by them.
fn label(walk: &mut Walk<'_>, key: &str, value: &Value) {
    powerful(walk, key, value);
    let own = match key {
        NAME_LABEL => walk.owner.name,
        ID_LABEL => walk.owner.id,
        _ => return,
    };
    if value.as_str() != Some(own) {
        let reason = format!("it is this workspace's mark, and has to be {own:?}");
        walk.refuse("mark", reason);
    }
}

/// Where workspaces share a namespace, what selects Pods selects the workspace's own.
pub(super) fn selector(walk: &mut Walk<'_>, labels: &Value) {
    let (name, id) = (walk.owner.name, walk.owner.id);
    let is_own = labels[NAME_LABEL] == name || labels[ID_LABEL] == id;
    if walk.owner.shares_namespace && !is_own {
        let reason = format!(
            "in a namespace that workspaces share, it has to select {NAME_LABEL}: {name} (or {ID_LABEL}), beside others"
        );
        walk.refuse("foreign-reference", reason);
    }
}
