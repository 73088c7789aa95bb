//! The record of what was applied for a workspace: a ConfigMap in the format of cli-utils, so that other tools can read it.
//!
//! Each key of `data` names an object, `<namespace>_<name>_<group>_<kind>`. An annotation of ours keeps the hash of what
//! was applied last, so that an agent that starts anew does not apply everything again.

use std::collections::BTreeMap;
use std::fmt;

use model::WorkspaceName;
use serde_json::{Value, json};

/// Marks a ConfigMap as an inventory; the value is the inventory's id (cli-utils).
pub const INVENTORY_ID_LABEL: &str = "cli-utils.sigs.k8s.io/inventory-id";
/// Marks an object as belonging to an inventory; the value is the inventory's id (cli-utils).
pub const OWNING_INVENTORY_ANNOTATION: &str = "config.k8s.io/owning-inventory";
/// GitLab's label with the id of the agent.
pub const AGENT_ID_LABEL: &str = "agent.gitlab.com/id";
/// GitLab's annotation with the id of the workspace.
pub const WORKSPACE_ID_ANNOTATION: &str = "workspaces.gitlab.com/id";
/// Ours: a JSON object from key to hash.
const APPLIED_HASHES_ANNOTATION: &str = "workspaces.remote-dev-agent/applied-hashes";

/// Ours: the newest generation that was applied completely.
const APPLIED_GENERATION_ANNOTATION: &str = "workspaces.remote-dev-agent/applied-generation";

/// An object's name in an inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// API group; empty for the core.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // cli-utils writes a colon, which RBAC names may have and ConfigMap keys may not, as two underscores.
        write!(
            f,
            "{}_{}_{}_{}",
            self.namespace,
            self.name.replace(':', "__"),
            self.group,
            self.kind
        )
    }
}

impl ObjectKey {
    /// Reads a key as cli-utils writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('_')?;
        let (rest, kind) = rest.rsplit_once('_')?;
        let (name, group) = rest.rsplit_once('_')?;
        let key = Self {
            namespace: namespace.to_owned(),
            name: name.replace("__", ":"),
            group: group.to_owned(),
            kind: kind.to_owned(),
        };
        (!key.name.is_empty() && !key.kind.is_empty()).then_some(key)
    }
}

/// What was applied for a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The workspace's name, which gives the ConfigMap's.
    pub workspace: WorkspaceName,
    /// Where the ConfigMap and everything it lists lives.
    pub namespace: String,
    /// The id of the agent that made it.
    pub agent_id: i64,
    /// The id of the workspace it was made for.
    pub workspace_id: String,
    /// The newest generation that was applied completely; 0: none.
    pub generation: u64,
    /// Every object that may be there; the hash of what was applied last, or `None` if that is not known to have
    /// succeeded.
    pub objects: BTreeMap<ObjectKey, Option<String>>,
}

/// Why a ConfigMap cannot be read as an inventory. Nothing is deleted by one that cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// A label or annotation is missing or wrong.
    #[error("{0} is missing or wrong")]
    Mark(&'static str),
    /// A key names no object.
    #[error("the key '{0}' names no object")]
    Key(String),
}

impl Inventory {
    /// The name of a workspace's inventory, which is also its id (GitLab's name).
    #[must_use]
    pub fn name_of(workspace: &WorkspaceName) -> String {
        format!("{workspace}-workspace-inventory")
    }

    /// The workspace's name that an inventory's name tells.
    #[must_use]
    pub fn workspace_of(name: &str) -> Option<WorkspaceName> {
        name.strip_suffix("-workspace-inventory")?.parse().ok()
    }

    /// The generation that is known to be there completely; 0: none.
    #[must_use]
    pub fn complete_generation(&self) -> u64 {
        match self.objects.values().all(Option::is_some) {
            true => self.generation,
            false => 0,
        }
    }

    /// The ConfigMap, complete.
    #[must_use]
    pub fn to_config_map(&self) -> Value {
        let name = Self::name_of(&self.workspace);
        let data: BTreeMap<String, &str> = self
            .objects
            .keys()
            .map(|key| (key.to_string(), ""))
            .collect();
        let hashes: BTreeMap<String, &str> = self
            .objects
            .iter()
            .filter_map(|(key, hash)| Some((key.to_string(), hash.as_deref()?)))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {INVENTORY_ID_LABEL: name, AGENT_ID_LABEL: self.agent_id.to_string()},
                "annotations": {
                    WORKSPACE_ID_ANNOTATION: self.workspace_id,
                    APPLIED_HASHES_ANNOTATION: json!(hashes).to_string(),
                    APPLIED_GENERATION_ANNOTATION: self.generation.to_string(),
                },
            },
            "data": data,
        })
    }

    /// Reads a ConfigMap.
    ///
    /// # Errors
    /// A mark that is missing or of a workspace with another name, or a key that names no object.
    pub fn from_config_map(config_map: &Value) -> Result<Self, InventoryError> {
        let metadata = &config_map["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let workspace = Self::workspace_of(name).ok_or(InventoryError::Mark("the name"))?;
        if metadata["labels"][INVENTORY_ID_LABEL] != name {
            return Err(InventoryError::Mark(INVENTORY_ID_LABEL));
        }
        let agent_id = metadata["labels"][AGENT_ID_LABEL]
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or(InventoryError::Mark(AGENT_ID_LABEL))?;
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        let workspace_id = annotation(WORKSPACE_ID_ANNOTATION)
            .ok_or(InventoryError::Mark(WORKSPACE_ID_ANNOTATION))?;
        // Without hashes everything is applied once more, which is safe.
        let hashes: BTreeMap<String, String> = annotation(APPLIED_HASHES_ANNOTATION)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let generation = annotation(APPLIED_GENERATION_ANNOTATION)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let keys = config_map["data"]
            .as_object()
            .into_iter()
            .flat_map(|data| data.keys());
        let objects = keys
            .map(|text| {
                let key =
                    ObjectKey::parse(text).ok_or_else(|| InventoryError::Key(text.clone()))?;
                Ok((key, hashes.get(text).cloned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            workspace,
            namespace: metadata["namespace"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            agent_id,
            workspace_id: workspace_id.to_owned(),
            generation,
            objects,
        })
    }
}
