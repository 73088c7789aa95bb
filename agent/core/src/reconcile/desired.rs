//! What the server wants, checked before anything is planned with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{DesiredState, WorkspaceName};
use serde_json::Value;

use super::inventory::{
    AGENT_ID_LABEL, Inventory, OWNING_INVENTORY_ANNOTATION, ObjectKey, WORKSPACE_ID_ANNOTATION,
};
use super::kind::{Kind, kind_of};
use crate::guard::{self, Owner, Policy, Violation};

/// The most objects one workspace may have.
pub const MAX_OBJECTS: usize = 200;
/// The largest object, as JSON. An API server takes no request above 3 MiB, and etcd by default none above 1.5 MiB.
pub const MAX_OBJECT_BYTES: usize = 1024 * 1024;
/// The most that all objects of one workspace take together.
pub const MAX_WORKSPACE_BYTES: usize = 4 * 1024 * 1024;

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
    /// The object, complete, as JSON; `None` where the server said that nothing changed and did not send it. It is kept
    /// as text: a tree of values takes five times as much.
    pub body: Option<Arc<str>>,
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
    #[error("{kind} {name} does not carry this workspace's {mark}")]
    Unmarked {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// The label or annotation.
        mark: &'static str,
    },
    /// The same object twice.
    #[error("{0} is there twice")]
    Twice(ObjectKey),
    /// No name, kind or version.
    #[error("an object is no JSON, or has no apiVersion, kind or name")]
    Incomplete,
    /// Another version than the one that is watched.
    #[error("{kind} {name} has the apiVersion '{api_version}'")]
    Version {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// What it says.
        api_version: String,
    },
    /// It says what a workspace's object may not say.
    #[error("{kind} {name}: {}", told(.violations))]
    Guarded {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// All of it, the first first.
        violations: Vec<Violation>,
    },
    /// The set of objects lacks something.
    #[error("{0}")]
    Set(Violation),
    /// Too many objects.
    #[error("{0} objects; a workspace may have at most {MAX_OBJECTS}")]
    TooMany(usize),
    /// Too much in all.
    #[error(
        "an object is larger than {MAX_OBJECT_BYTES} bytes, or all together than {MAX_WORKSPACE_BYTES}"
    )]
    TooLarge,
}

fn told(violations: &[Violation]) -> String {
    let told: Vec<_> = violations.iter().map(Violation::to_string).collect();
    told.join("; ")
}

impl DesiredWorkspace {
    /// Checks a list of objects (each with its hash) and makes them the workspace's of the agent `agent_id`.
    ///
    /// What is kept of an object, and applied, is what was judged: written anew, with what it left out.
    ///
    /// # Errors
    /// The first thing that may not be applied. A workspace that is rejected is left as it is.
    pub fn with_objects(
        mut self,
        agent_id: i64,
        policy: &Policy,
        objects: impl IntoIterator<Item = (String, Arc<str>)>,
    ) -> Result<Self, RejectReason> {
        let marks = [
            (
                "annotations",
                OWNING_INVENTORY_ANNOTATION,
                Inventory::name_of(&self.name),
            ),
            ("annotations", WORKSPACE_ID_ANNOTATION, self.id.clone()),
            ("labels", AGENT_ID_LABEL, agent_id.to_string()),
        ];
        let mut bytes = 0;
        let mut bodies: Vec<(ObjectKey, &'static Kind, Value)> = Vec::new();
        for (hash, text) in objects {
            bytes += text.len();
            if text.len() > MAX_OBJECT_BYTES || bytes > MAX_WORKSPACE_BYTES {
                return Err(RejectReason::TooLarge);
            }
            let body: Value = serde_json::from_str(&text).map_err(|_| RejectReason::Incomplete)?;
            let (key, api_version) = key_of(&body)?;
            let Some((_, kind)) = kind_of(&key.group, &key.kind) else {
                return Err(RejectReason::Kind {
                    group: key.group,
                    kind: key.kind,
                });
            };
            if api_version != kind.api_version() {
                return Err(RejectReason::Version {
                    kind: key.kind,
                    name: key.name,
                    api_version,
                });
            }
            if key.namespace != self.namespace {
                return Err(RejectReason::Namespace {
                    kind: key.kind,
                    name: key.name,
                    namespace: key.namespace,
                });
            }
            for (part, mark, value) in &marks {
                if body["metadata"][*part][*mark] != value.as_str() {
                    return Err(RejectReason::Unmarked {
                        kind: key.kind,
                        name: key.name,
                        mark,
                    });
                }
            }
            if self.objects.contains_key(&key) {
                return Err(RejectReason::Twice(key));
            }
            self.objects
                .insert(key.clone(), DesiredObject { hash, body: None });
            if self.objects.len() > MAX_OBJECTS {
                return Err(RejectReason::TooMany(self.objects.len()));
            }
            bodies.push((key, kind, body));
        }
        self.guard(policy, bodies)?;
        Ok(self)
    }

    fn guard(
        &mut self,
        policy: &Policy,
        bodies: Vec<(ObjectKey, &'static Kind, Value)>,
    ) -> Result<(), RejectReason> {
        let name_of = |key: &ObjectKey| (key.kind.clone(), key.name.clone());
        let objects: BTreeSet<_> = self.objects.keys().map(name_of).collect();
        let owner = Owner {
            id: &self.id,
            name: self.name.as_str(),
            shares_namespace: !self.own_namespace,
            objects: &objects,
        };
        guard::check_set(owner, policy).map_err(RejectReason::Set)?;
        for (key, kind, mut body) in bodies {
            guard::fill(&mut body, kind.kind, policy);
            if let Err(violations) = guard::check(&body, kind, owner, policy) {
                return Err(RejectReason::Guarded {
                    kind: key.kind,
                    name: key.name,
                    violations,
                });
            }
            if let Some(object) = self.objects.get_mut(&key) {
                object.body = Some(body.to_string().into());
            }
        }
        Ok(())
    }

    /// The server says that what the inventory records is what should be there.
    #[must_use]
    pub fn unchanged(mut self, inventory: &Inventory) -> Self {
        let known = |(key, hash): (&ObjectKey, &Option<String>)| {
            let object = DesiredObject {
                hash: hash.clone()?,
                body: None,
            };
            Some((key.clone(), object))
        };
        self.objects = inventory.objects.iter().filter_map(known).collect();
        self
    }
}

fn key_of(body: &Value) -> Result<(ObjectKey, String), RejectReason> {
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
    let key = ObjectKey {
        namespace: text("/metadata/namespace").unwrap_or_default().to_owned(),
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
    };
    Ok((key, api_version.to_owned()))
}
