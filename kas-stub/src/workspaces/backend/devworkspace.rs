//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use ::devfile::{
    model::Devfile,
    render::{RenderError, RenderOptions, Rendered, dev_workspace},
};
use model::DesiredState;
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::Frame;

/// Asks for a volume of its own: the operator's default is one for all workspaces of a namespace, which it cleans up by a
/// job before it lets a workspace go.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
/// The operator's own way, which needs nothing but an Ingress controller.
const ROUTING_CLASS: &str = "basic";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, mut devfile: Devfile) -> Result<Rendered, RenderError> {
        let storage = devfile.attributes.entry(STORAGE_TYPE);
        storage.or_insert_with(|| json!("per-workspace"));
        let options = RenderOptions {
            started: true,
            routing_class: Some(ROUTING_CLASS.into()),
            ..frame.options(&devfile)
        };
        dev_workspace(&devfile, &options)
    }

    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value> {
        set(
            objects,
            "DevWorkspace",
            "/spec/started",
            &json!(desired.replicas() > 0),
        )
    }
}
