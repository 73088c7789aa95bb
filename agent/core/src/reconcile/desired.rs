//! What the server wants, checked before anything is planned with it.

use std::collections::BTreeMap;

use model::{DesiredState, WorkspaceName};
use serde_json::Value;

use super::inventory::{OWNING_INVENTORY_ANNOTATION, ObjectKey};
use super::kind::kind_of;

/// The most objects one workspace may have.
const MAX_OBJECTS: usize = 200;

/// A workspace as the server wants it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredWorkspace {
    /// The workspace's id at the server, a random UUID.
    pub id: String,
    /// The workspace's name.
    pub name: WorkspaceName,
    /// The namespace everything lives in.
    pub namespace: String,
    /// The namespace is this workspace's alone: made with it, deleted with it.
    pub own_namespace: bool,
    /// Grows with every change at the server; an older answer never undoes a newer one.
    pub generation: u64,
    /// What the workspace should be.
    pub state: DesiredState,
    /// The complete set of its objects; empty when it should be terminated.
    pub objects: BTreeMap<ObjectKey, DesiredObject>,
}

/// An object to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredObject {
    /// Hash of the content, as the server gave it.
    pub hash: String,
    /// The object, complete.
    pub body: Value,
}

/// Why an answer of the server is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// A kind outside the list.
    #[error("a workspace may not have a {kind} of the group '{group}'")]
    Kind {
        /// API group.
        group: String,
        /// Kind.
        kind: String,
    },
    /// Another namespace.
    #[error("{kind} {name} is in the namespace '{namespace}', not in the workspace's own")]
    Namespace {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// The namespace it names.
        namespace: String,
    },
    /// The mark of the workspace is missing.
    #[error(
        "{kind} {name} does not carry the annotation {OWNING_INVENTORY_ANNOTATION} of this workspace"
    )]
    Unmarked {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
    },
    /// The same object twice.
    #[error("{0} is there twice")]
    Twice(ObjectKey),
    /// No name, kind or version.
    #[error("an object has no apiVersion, kind or name")]
    Incomplete,
    /// Too many objects.
    #[error("{0} objects; a workspace may have at most {MAX_OBJECTS}")]
    TooMany(usize),
}

impl DesiredWorkspace {
    /// Checks a list of objects (each with its hash) and makes them this workspace's.
    ///
    /// # Errors
    /// The first thing that may not be applied. A workspace that is rejected is left as it is.
    pub fn with_objects(
        mut self,
        objects: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self, RejectReason> {
        let inventory = super::Inventory::name_of(&self.name);
        for (hash, body) in objects {
            let key = key_of(&body)?;
            let text = |pointer: &str| {
                body.pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            if kind_of(&key.group, &key.kind).is_none() {
                return Err(RejectReason::Kind {
                    group: key.group,
                    kind: key.kind,
                });
            }
            if key.namespace != self.namespace {
                return Err(RejectReason::Namespace {
                    kind: key.kind,
                    name: key.name,
                    namespace: key.namespace,
                });
            }
            // The slash of the annotation is `~1` in a JSON pointer.
            if text("/metadata/annotations/config.k8s.io~1owning-inventory") != inventory {
                return Err(RejectReason::Unmarked {
                    kind: key.kind,
                    name: key.name,
                });
            }
            if self.objects.contains_key(&key) {
                return Err(RejectReason::Twice(key));
            }
            self.objects.insert(key, DesiredObject { hash, body });
        }
        if self.objects.len() > MAX_OBJECTS {
            return Err(RejectReason::TooMany(self.objects.len()));
        }
        Ok(self)
    }
}

fn key_of(body: &Value) -> Result<ObjectKey, RejectReason> {
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let (Some(api_version), Some(kind), Some(name)) =
        (text("/apiVersion"), text("/kind"), text("/metadata/name"))
    else {
        return Err(RejectReason::Incomplete);
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Ok(ObjectKey {
        namespace: text("/metadata/namespace").unwrap_or_default().to_owned(),
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
    })
}
