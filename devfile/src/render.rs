//! A flattened devfile to Kubernetes objects, or to a DevWorkspace.
//!
//! The same input gives the same bytes: lists keep the devfile's order, mappings are sorted, nothing is random. What a
//! renderer accepts but does not do comes back as [`Note`]s.

mod dev_workspace;
mod editor;
mod git;
mod kubernetes;
mod lifecycle;
mod names;
mod network;
mod operated;
mod options;
mod overrides;
mod pod;
mod projects;
mod resources;
mod storage;
mod unused;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::{ComponentKind, Devfile};

pub use dev_workspace::dev_workspace;
pub use editor::{EDITOR_ENDPOINT, PlacedEditor, main_container};
pub(crate) use kubernetes::kubernetes_objects;
pub(crate) use names::slug;
pub use names::{cut_name, workspace_name};
pub use operated::for_operator;
pub use options::{
    Editor, Entrypoint, OverridePolicy, ProjectClone, RenderOptions, ResourceDefaults,
    StorageDefaults, WorkspaceUser,
};
pub(crate) use pod::IDLE;
pub use resources::with_default_resources;

/// What a renderer accepts but does not do, or does in another way than might be expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// Which value, as `components[name=tools].container.dedicatedPod`.
    pub path: String,
    /// What is not done.
    pub what: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, why } = self;
        write!(f, "{path}: {what}: {why}")
    }
}

/// Objects in the order in which they are applied, and what is not in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    /// The objects.
    pub objects: Vec<Value>,
    /// What is not done.
    pub notes: Vec<Note>,
    /// Where the editor went, if one was asked for and there is a container for it.
    pub editor: Option<PlacedEditor>,
}

/// Why a devfile cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// The workspace's name cannot be that of Kubernetes objects.
    WorkspaceName {
        /// The name.
        name: String,
    },
    /// A plugin or parent is still named: the devfile was not flattened.
    NotFlattened {
        /// The component.
        component: String,
    },
    /// A kubernetes component's text holds no objects.
    KubernetesObjects {
        /// The component.
        component: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A project would be cloned outside of the projects' folder.
    ClonePath {
        /// The project.
        project: String,
        /// Its path.
        path: String,
    },
    /// The storage type is none of DevWorkspace Operator's.
    StorageType {
        /// What the attribute says, as JSON.
        asked: String,
    },
    /// The devfile has what the editor needs for itself.
    Editor {
        /// The component.
        component: String,
        /// What it has.
        what: String,
        /// Why that cannot be.
        reason: String,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkspaceName { name } => write!(
                f,
                "{name:?} cannot be a workspace's name: lower-case letters, digits and hyphens, a letter first, at most {} characters",
                names::MAX_WORKSPACE_NAME
            ),
            Self::NotFlattened { component } => {
                write!(
                    f,
                    "component {component} is a plugin; flatten the devfile first"
                )
            }
            Self::KubernetesObjects { component, reason } => {
                write!(
                    f,
                    "component {component} holds no Kubernetes objects: {reason}"
                )
            }
            Self::ClonePath { project, path } => write!(
                f,
                "project {project} would be cloned to {path:?}, outside of the projects' folder"
            ),
            Self::StorageType { asked } => write!(
                f,
                "{asked} is no storage type of DevWorkspace Operator; a workspace has {} or {}",
                operated::OWN_VOLUME,
                operated::EPHEMERAL
            ),
            Self::Editor {
                component,
                what,
                reason,
            } => write!(f, "component {component}, {what}: {reason}"),
        }
    }
}

impl std::error::Error for RenderError {}

/// Collects notes while rendering, each once: a component that runs twice is told of once.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) list: Vec<Note>,
    known: BTreeSet<Note>,
}

impl Notes {
    pub(crate) fn add(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        let note = Note {
            path: path.into(),
            what: what.into(),
            why: why.into(),
        };
        if self.known.insert(note.clone()) {
            self.list.push(note);
        }
    }
}

/// The path of a key of free-form values; one with dots would read as several.
pub(crate) fn attribute_path(front: &str, key: &str) -> String {
    if key.contains(['.', '[', ' ']) || key.is_empty() {
        format!("{front}{key:?}")
    } else {
        format!("{front}{key}")
    }
}

/// Renders to Kubernetes objects: volume claims, Services, the devfile's own objects, Deployments.
///
/// # Errors
/// When the devfile was not flattened or checked before, or the name is none.
pub fn render(devfile: &Devfile, options: &RenderOptions) -> Result<Rendered, RenderError> {
    if !names::is_workspace_name(&options.name) {
        return Err(RenderError::WorkspaceName {
            name: options.name.clone(),
        });
    }
    let mut notes = Notes::default();
    for component in &devfile.components {
        if let ComponentKind::Plugin(_) = component.kind {
            return Err(RenderError::NotFlattened {
                component: component.name.clone(),
            });
        }
    }
    let plan = lifecycle::plan(devfile, &mut notes);
    let storage = storage::plan(devfile, options, &mut notes);
    let own = kubernetes::render(devfile, options, &plan, &mut notes)?;
    let (placement, placed) = editor::place(devfile, options, &plan, &mut notes)?.unzip();
    unused::tell(devfile, options, &plan, placed.is_some(), &mut notes);
    let parts = pod::Parts {
        devfile,
        options,
        plan: &plan,
        storage: &storage,
        editor: placement.as_ref(),
    };
    let pods = parts.render(&mut notes)?;

    let mut objects = storage.claims(options);
    for pod in &pods {
        objects.extend(network::service(pod, options));
    }
    objects.extend(own);
    objects.extend(pods.iter().map(|pod| pod.deployment(options)));
    Ok(Rendered {
        objects,
        notes: notes.list,
        editor: placed,
    })
}

/// The head of an object that is made for the workspace.
fn metadata(options: &RenderOptions, name: &str) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    metadata.insert("namespace".into(), options.namespace.clone().into());
    if !options.labels.is_empty() {
        metadata.insert("labels".into(), json!(options.labels));
    }
    if !options.annotations.is_empty() {
        metadata.insert("annotations".into(), json!(options.annotations));
    }
    metadata
}

/// Adds annotations to the head of an object.
fn annotate<'a>(
    metadata: &mut Map<String, Value>,
    more: impl IntoIterator<Item = (&'a String, &'a String)>,
) {
    for (key, value) in more {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(annotations) = annotations {
            annotations
                .entry(key.clone())
                .or_insert_with(|| value.clone().into());
        }
    }
}

/// Overrides alone, with every field allowed that upstream allows, for the upstream cases.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Notes, RenderOptions, Value, overrides};
    use crate::model::{Component, Devfile};

    fn options() -> RenderOptions {
        let mut options = RenderOptions::new("demo", "team");
        for field in ["volumes", "serviceAccountName", "schedulerName", "hostPID"] {
            options.policy.pod_fields.insert(field.into());
        }
        options
            .policy
            .container_fields
            .insert("volumeMounts".into());
        options
    }

    pub(crate) fn pod(workspace: &Devfile, template: &Value) -> Value {
        let mut template = template.clone();
        let take = |value: &mut Value| match value.take() {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        let mut spec = take(&mut template["spec"]);
        let mut metadata = take(&mut template["metadata"]);
        let owners: Vec<&Component> = workspace.components.iter().collect();
        let mut notes = Notes::default();
        overrides::pod(
            workspace,
            &owners,
            &options(),
            &mut spec,
            &mut metadata,
            &mut notes,
        );
        template["spec"] = spec.into();
        template["metadata"] = metadata.into();
        template
    }

    pub(crate) fn container(component: &Component, container: &Value) -> Value {
        let mut fields = container.as_object().cloned().unwrap_or_default();
        let mut notes = Notes::default();
        overrides::container(component, &options(), &mut fields, &mut notes);
        fields.into()
    }
}
