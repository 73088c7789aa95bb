//! The Pod: what all containers share, and which there are.

use serde_json::{Value, json};

use super::{Flattened, Frame, ID_ANNOTATION, clone, containers, events, volumes};

/// The user of every container (GitLab's): not root, and one that no image gives rights to.
const USER: u32 = 5001;
/// Root's group: images that are made for any user let it write where they need it.
const GROUP: u32 = 0;
/// How long a container may take to end. Short, since people wait for a stop.
const GRACE_SECONDS: u32 = 10;

/// The Deployment's template.
pub(crate) fn template(frame: &Frame<'_>, devfile: &Flattened) -> Value {
    let projects = frame.projects(devfile);
    let before = events::applied_before_start(devfile);
    let container = |(name, component): (&str, &Value)| {
        containers::container(frame, devfile, &projects, name, component)
    };
    let is_main = |(name, _): &(&str, &Value)| !before.iter().any(|(_, of)| of == name);
    let main: Vec<_> = devfile.containers().filter(is_main).map(container).collect();
    let init = before.iter().filter_map(|(init_name, of)| {
        let found = devfile.containers().find(|(name, _)| name == of)?;
        let mut init = container(found);
        init["name"] = init_name.as_str().into();
        if let Some(init) = init.as_object_mut() {
            init.remove("lifecycle");
            init.remove("ports");
        }
        Some(init)
    });
    let init: Vec<_> = clone::container(frame, &projects).into_iter().chain(init).collect();
    json!({
        "metadata": {
            "labels": frame.selector(),
            "annotations": { ID_ANNOTATION: frame.id },
        },
        "spec": {
            "serviceAccountName": frame.name.as_str(),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": GROUP,
                "fsGroup": GROUP,
                // Walking over a large volume takes longer than starting the workspace.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "initContainers": init,
            "containers": main,
            "volumes": volumes::pod_volumes(frame, devfile),
        },
    })
}

/// What the restricted Pod security standard asks of each container.
pub(super) fn security_context() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "runAsNonRoot": true,
        "capabilities": { "drop": ["ALL"] },
    })
}
