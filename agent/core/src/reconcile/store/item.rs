//! What is kept of the objects that watches and answers show.

use model::WorkspaceName;
use serde_json::Value;

use super::super::inventory::{
    Inventory, OWNING_INVENTORY_ANNOTATION, ObjectKey, WORKSPACE_ID_ANNOTATION,
};
use super::super::kind::{KINDS, kind_of};
use super::super::observed::{Marked, NamespaceSeen, Seen};
use crate::failures::{DeploymentSeen, DevWorkspaceSeen, PodSeen};

/// The label of a Pod that names its workspace.
const WORKSPACE_NAME_LABEL: &str = "workspaces.gitlab.com/name";
/// The same on the Pods of the DevWorkspace Operator.
const DEV_WORKSPACE_NAME_LABEL: &str = "controller.devfile.io/devworkspace_name";
/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Namespaces of workspaces.
    Namespaces,
    /// Inventory ConfigMaps.
    Inventories,
    /// Pods.
    Pods,
    /// The objects of a kind, by its place in [`KINDS`].
    Objects(usize),
}

impl Source {
    /// Everything that is watched. Secrets are not: to list them is a right that the agent does not need.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let kinds = (0..KINDS.len()).filter(|place| KINDS[*place].kind != "Secret");
        [Self::Namespaces, Self::Inventories, Self::Pods]
            .into_iter()
            .chain(kinds.map(Self::Objects))
            .collect()
    }

    /// Nothing is decided before these are known. The others may be missing from a cluster, or forbidden.
    pub(super) fn is_needed(self) -> bool {
        match self {
            Self::Namespaces | Self::Inventories | Self::Pods => true,
            Self::Objects(place) => KINDS[place].kind == "Deployment",
        }
    }

    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        kind_of(&key.group, &key.kind).map(|(place, _)| Self::Objects(place))
    }
}

/// Where a workspace lives: its namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Namespace.
    pub namespace: String,
    /// The workspace's name.
    pub name: WorkspaceName,
}

/// What is kept of an object's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version; API servers count it up.
    pub resource_version: u64,
    /// Counts changes of the spec.
    pub generation: u64,
    /// It is being deleted.
    pub terminating: bool,
    /// The id of the workspace it was made for.
    pub workspace_id: Option<String>,
    /// The name of the workspace it belongs to.
    pub workspace: Option<WorkspaceName>,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A namespace.
    Namespace(Meta),
    /// An inventory; `None` where it cannot be read.
    Inventory(Meta, Option<Inventory>),
    /// A Pod.
    Pod(Meta, PodSeen),
    /// An object of a workspace.
    Object(ObjectKey, Meta, Detail),
}

/// What is kept of an object beyond its metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// Nothing.
    None,
    /// A Deployment.
    Deployment(DeploymentSeen),
    /// A `DevWorkspace`.
    DevWorkspace(DevWorkspaceSeen),
}

impl Meta {
    /// Reads the metadata of an object.
    #[must_use]
    pub fn from_json(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        let label = |key: &str| metadata["labels"][key].as_str();
        let by_label = || {
            label(WORKSPACE_NAME_LABEL)
                .or_else(|| label(DEV_WORKSPACE_NAME_LABEL))?
                .parse()
                .ok()
        };
        Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            resource_version: metadata["resourceVersion"]
                .as_str()
                .and_then(|version| version.parse().ok())
                .unwrap_or(0),
            generation: metadata["generation"].as_u64().unwrap_or(0),
            terminating: metadata["deletionTimestamp"].is_string(),
            workspace_id: annotation(WORKSPACE_ID_ANNOTATION).map(str::to_owned),
            workspace: annotation(OWNING_INVENTORY_ANNOTATION)
                .and_then(Inventory::workspace_of)
                .or_else(by_label),
        }
    }

    fn marked(&self, id: &str) -> Marked {
        match self.workspace_id.as_deref() == Some(id) {
            true => Marked::Ours,
            false => Marked::Foreign,
        }
    }

    /// How a namespace with this metadata appears to the workspace `id`.
    #[must_use]
    pub fn as_namespace(&self, id: &str) -> NamespaceSeen {
        match (self.marked(id), self.terminating) {
            (_, true) => NamespaceSeen::Terminating,
            (marked, false) => NamespaceSeen::Present(marked),
        }
    }

    /// How an object with this metadata appears to the workspace `id`.
    #[must_use]
    pub fn as_object(&self, id: &str) -> Seen {
        match (self.marked(id), self.terminating) {
            (Marked::Ours, true) => Seen::Terminating,
            (marked, _) => Seen::Present(marked),
        }
    }
}

impl Item {
    pub(super) fn meta(&self) -> &Meta {
        let (Self::Namespace(meta)
        | Self::Inventory(meta, _)
        | Self::Pod(meta, _)
        | Self::Object(_, meta, _)) = self;
        meta
    }

    /// Reads an object that `source` gave.
    #[must_use]
    pub fn read(source: Source, object: &Value) -> Self {
        let meta = Meta::from_json(object);
        match source {
            Source::Namespaces => Self::Namespace(meta),
            Source::Pods => Self::Pod(meta, PodSeen::from_json(object)),
            Source::Inventories => Self::Inventory(
                Meta {
                    workspace: Inventory::workspace_of(&meta.name),
                    ..meta
                },
                Inventory::from_config_map(object).ok(),
            ),
            Source::Objects(place) => {
                let kind = &KINDS[place];
                let key = ObjectKey {
                    namespace: meta.namespace.clone(),
                    name: meta.name.clone(),
                    group: kind.group.to_owned(),
                    kind: kind.kind.to_owned(),
                };
                let detail = match kind.kind {
                    "Deployment" => Detail::Deployment(DeploymentSeen::from_json(object)),
                    "DevWorkspace" => Detail::DevWorkspace(DevWorkspaceSeen::from_json(object)),
                    _ => Detail::None,
                };
                Self::Object(key, meta, detail)
            }
        }
    }
}
