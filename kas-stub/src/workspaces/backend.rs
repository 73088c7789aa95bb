//! The seam between the two ways to run a workspace. Nothing above it knows which one runs.

mod devworkspace;
mod native;

use ::devfile::{
    model::Devfile,
    render::{RenderError, Rendered},
};
use model::DesiredState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::render::Frame;

/// How a workspace is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    /// A Deployment and what belongs to it.
    #[default]
    Native,
    /// A DevWorkspace, for DevWorkspace Operator.
    Devworkspace,
}

impl From<model::configuration::Backend> for BackendKind {
    fn from(backend: model::configuration::Backend) -> Self {
        match backend {
            model::configuration::Backend::Native => Self::Native,
            model::configuration::Backend::DevWorkspace => Self::Devworkspace,
        }
    }
}

impl BackendKind {
    pub(crate) const ALL: [Self; 2] = [Self::Native, Self::Devworkspace];

    /// The name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Devworkspace => "devworkspace",
        }
    }
}

/// A way to run a workspace.
pub(crate) trait Backend: Sync {
    /// All objects of the workspace, as when it runs.
    fn objects(&self, frame: &Frame<'_>, devfile: Devfile) -> Result<Rendered, RenderError>;

    /// The same objects as they are for a wish.
    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value>;
}

pub(crate) fn for_kind(kind: BackendKind) -> &'static dyn Backend {
    match kind {
        BackendKind::Native => &native::Native,
        BackendKind::Devworkspace => &devworkspace::Devworkspace,
    }
}

/// Sets one value in the objects of a kind.
fn set(mut objects: Vec<Value>, kind: &str, pointer: &str, value: &Value) -> Vec<Value> {
    for object in objects.iter_mut().filter(|object| object["kind"] == kind) {
        if let Some(found) = object.pointer_mut(pointer) {
            value.clone_into(found);
        }
    }
    objects
}

#[cfg(test)]
mod tests;
