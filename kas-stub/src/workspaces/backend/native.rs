//! Deployments, their Services and volumes, and a ServiceAccount.

use std::collections::BTreeMap;

use ::devfile::{
    model::Devfile,
    render::{Note, RenderError, Rendered, render},
};
use model::{DesiredState, configuration::Resources};
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::{Frame, ID_LABEL, uncounted};

#[derive(Debug)]
pub(super) struct Native;

impl Backend for Native {
    fn objects(&self, frame: &Frame<'_>, devfile: Devfile) -> Result<Rendered, RenderError> {
        let mut rendered = render(&devfile, &frame.options(&devfile))?;
        let secrets: Vec<_> = frame
            .pull_secrets()
            .into_iter()
            .map(|name| json!({ "name": name }))
            .collect();
        let mut account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": frame.name.as_str(),
                "namespace": frame.namespace,
                "labels": frame.labels(),
                "annotations": frame.annotations(),
            },
            "automountServiceAccountToken": false,
        });
        if !secrets.is_empty() {
            account["imagePullSecrets"] = secrets.into();
        }
        for object in &mut rendered.objects {
            keep_last_lines(object);
            count_init_containers(object, &frame.settings.max_resources_per_workspace);
            if frame.shares_namespace() {
                mark_pods(object, &frame.labels());
            }
        }
        let deployments = rendered
            .objects
            .iter()
            .filter(|it| it["kind"] == "Deployment");
        for deployment in deployments {
            let pod_spec = &deployment["spec"]["template"]["spec"];
            let most = &frame.settings.max_resources_per_workspace;
            for (container, resource) in uncounted(most, pod_spec) {
                rendered.notes.push(Note {
                    path: format!("components[name={container}]"),
                    what: format!("the cluster will refuse it without {resource}"),
                    why: "max_resources_per_workspace of the agent's configuration counts it; the devfile or default_resources_per_workspace_container must say it".into(),
                });
            }
        }
        rendered.objects.splice(0..0, [account]);
        rendered.objects.splice(0..0, frame.own_objects());
        Ok(rendered)
    }

    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value> {
        match desired.replicas() {
            // As rendered: a devfile's own Deployment may have several.
            1.. => objects,
            replicas => set(objects, "Deployment", "/spec/replicas", &json!(replicas)),
        }
    }
}

/// What a container needs that does no more than copy files or clone a repository; GitLab's.
const INIT_CPU_LIMIT: &str = "500m";

/// Init containers of ours say no processor time that they may use; a quota that counts it refuses such.
fn count_init_containers(object: &mut Value, most: &Resources) {
    if most.limits.cpu.is_none() {
        return;
    }
    let containers = object.pointer_mut("/spec/template/spec/initContainers");
    let containers = containers.and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let limit = &mut container["resources"]["limits"]["cpu"];
        if limit.is_null() {
            *limit = INIT_CPU_LIMIT.into();
        }
    }
}

/// Pods of a devfile's own Deployments are told apart from those of other workspaces too.
fn mark_pods(object: &mut Value, labels: &BTreeMap<String, String>) {
    let Some(metadata) = object.pointer_mut("/spec/template/metadata") else {
        return;
    };
    if let Some(id) = labels.get(ID_LABEL) {
        metadata["labels"][ID_LABEL] = id.as_str().into();
    }
}

/// A container that ends leaves its last lines where the agent sees them.
fn keep_last_lines(object: &mut Value) {
    let containers = object.pointer_mut("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array_mut);
    for container in containers
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        let policy = container.entry("terminationMessagePolicy");
        policy.or_insert_with(|| json!("FallbackToLogsOnError"));
    }
}
