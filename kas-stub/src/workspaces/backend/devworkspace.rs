//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use ::devfile::{
    model::{Component, ComponentKind, Devfile, Volume},
    render::{RenderError, RenderOptions, Rendered, dev_workspace},
};
use model::DesiredState;
use serde_json::{Value, json};

use super::{Backend, set};
use crate::workspaces::render::Frame;

/// Asks for a volume of its own: the operator's default is one for all workspaces of a namespace, which it cleans up by a
/// job before it lets a workspace go.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
/// The operator's name for the volume that projects lie on.
const PROJECTS: &str = "projects";
/// The operator's own way, which needs nothing but an Ingress controller.
const ROUTING_CLASS: &str = "basic";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, mut devfile: Devfile) -> Result<Rendered, RenderError> {
        let storage = devfile.attributes.entry(STORAGE_TYPE);
        storage.or_insert_with(|| json!("per-workspace"));
        name_projects_volume(&mut devfile, &frame.defaults.volume_size);
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

/// The operator (v0.31.0) makes a workspace's volume as large as the sizes in its devfile together: 0, which no API server
/// takes, when there are none, and with no room for the projects when there are. So they get a volume with a size.
fn name_projects_volume(devfile: &mut Devfile, size: &str) {
    if devfile.components.iter().any(|it| it.name == PROJECTS) {
        return;
    }
    devfile.components.push(Component {
        name: PROJECTS.into(),
        attributes: Default::default(),
        kind: ComponentKind::Volume(Volume {
            size: Some(size.to_owned()),
            ephemeral: None,
        }),
    });
}
