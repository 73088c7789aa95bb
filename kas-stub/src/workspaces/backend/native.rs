//! Deployments, their Services and volumes, and a ServiceAccount.

use ::devfile::{
    model::Devfile,
    render::{RenderError, Rendered, render},
};
use model::DesiredState;
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::Frame;

#[derive(Debug)]
pub(super) struct Native;

impl Backend for Native {
    fn objects(&self, frame: &Frame<'_>, devfile: Devfile) -> Result<Rendered, RenderError> {
        let mut rendered = render(&devfile, &frame.options(&devfile))?;
        let account = json!({
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
        rendered.objects.iter_mut().for_each(keep_last_lines);
        rendered.objects.insert(0, account);
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
