//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use ::devfile::{
    model::Devfile,
    render::{RenderError, RenderOptions, Rendered, dev_workspace, for_operator},
};
use model::DesiredState;
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::Frame;

/// Of the operator's own ways the one that makes Services and nothing else: people come through the tunnel, so that the
/// cluster needs no Ingress, and the operator no setting. Its `mainUrl` then leads to the Service, inside the cluster.
const ROUTING_CLASS: &str = "cluster";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, mut devfile: Devfile) -> Result<Rendered, RenderError> {
        let options = RenderOptions {
            started: true,
            routing_class: Some(ROUTING_CLASS.into()),
            ..frame.options(&devfile)
        };
        let mut notes = for_operator(&mut devfile, &options)?;
        let mut rendered = dev_workspace(&devfile, &options)?;
        notes.append(&mut rendered.notes);
        rendered.notes = notes;
        Ok(rendered)
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
