//! What a DevWorkspace may say: the operator acts on it with rights of its own, for the whole cluster.

use serde_json::Value;

use super::pod;
use super::walk::{Fields, Walk, anything};

/// Attributes of the operator's that are harmless. Others choose its configuration, a security context, or come later.
const OPERATOR_ATTRIBUTES: [&str; 8] = [
    "controller.devfile.io/bootstrap-devworkspace",
    "controller.devfile.io/debug-start",
    "controller.devfile.io/merge-contribution",
    "controller.devfile.io/project-clone",
    RUNTIME_CLASS,
    "controller.devfile.io/storage-type",
    "controller.devfile.io/use-starter-project",
    "controller.devfile.io/workspace-env",
];
const RUNTIME_CLASS: &str = "controller.devfile.io/runtime-class";
const OPERATOR_PREFIX: &str = "controller.devfile.io/";

pub(super) const DEV_WORKSPACE: &Fields = &[("spec", |walk, value| {
    const SPEC: &Fields = &[
        ("contributions", |walk, _| by_reference(walk)),
        ("routingClass", anything),
        ("started", anything),
        ("template", template),
    ];
    let attributes = &value["template"]["attributes"];
    walk.isolated = pod::is_isolated(walk, &attributes["pod-overrides"]["spec"])
        || pod::is_isolating_class(walk, &attributes[RUNTIME_CLASS]);
    walk.fields(value, SPEC);
})];

fn template(walk: &mut Walk<'_>, value: &Value) {
    const TEMPLATE: &Fields = &[
        ("attributes", attributes),
        ("commands", anything),
        ("components", |walk, value| walk.each(value, component)),
        ("dependentProjects", anything),
        ("events", anything),
        ("metadata", anything),
        ("parent", |walk, _| by_reference(walk)),
        ("projects", anything),
        ("schemaVersion", anything),
        ("starterProjects", anything),
        ("variables", anything),
    ];
    walk.fields(value, TEMPLATE);
}

fn component(walk: &mut Walk<'_>, value: &Value) {
    const CONTAINER: &Fields = &[
        ("annotation", anything),
        ("args", anything),
        ("command", anything),
        ("cpuLimit", anything),
        ("cpuRequest", anything),
        ("dedicatedPod", anything),
        ("endpoints", anything),
        ("env", anything),
        ("image", anything),
        ("memoryLimit", anything),
        ("memoryRequest", anything),
        ("mountSources", anything),
        ("sourceMapping", anything),
        ("volumeMounts", anything),
    ];
    const COMPONENT: &Fields = &[
        ("attributes", attributes),
        ("componentType", anything),
        ("container", |walk, value| walk.fields(value, CONTAINER)),
        // The operator builds nothing.
        ("image", anything),
        ("kubernetes", |walk, _| own_objects(walk)),
        ("name", anything),
        ("openshift", |walk, _| own_objects(walk)),
        ("plugin", |walk, _| by_reference(walk)),
        ("volume", |walk, value| {
            walk.fields(value, &[("ephemeral", anything), ("size", anything)])
        }),
    ];
    walk.fields(value, COMPONENT);
}

fn by_reference(walk: &mut Walk<'_>) {
    let reason = "the operator would fetch a part that was not judged; the server has to put it in";
    walk.refuse("by-reference", reason);
}

fn own_objects(walk: &mut Walk<'_>) {
    let reason = "the operator would apply these objects with its own rights";
    walk.refuse("operator-rights", reason);
}

fn attributes(walk: &mut Walk<'_>, value: &Value) {
    walk.entries(value, |walk, key, value| match key {
        "pod-overrides" => pod::pod_overrides(walk, value),
        "container-overrides" => pod::container_overrides(walk, value),
        _ if key.starts_with(OPERATOR_PREFIX) && !OPERATOR_ATTRIBUTES.contains(&key) => {
            walk.refuse(
                "operator-attribute",
                "a workspace may not set this attribute",
            );
        }
        _ => {}
    });
}
