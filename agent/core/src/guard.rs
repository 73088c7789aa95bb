//! The second line of defence: what the server wants applied is judged here, whatever the server is.
//!
//! ```text
//!  object ──▶ fill (safe values for what is not said) ──▶ check (a list of what may be said) ──▶ apply
//! ```
//! Everything is decided from lists of what is allowed: a field, a kind or a type of volume that stands on no list is
//! refused, also one that Kubernetes gets after this was written. Names and values that give power elsewhere (a cloud's
//! identity, another object's content) are looked at where they stand.

mod container;
mod dev_workspace;
mod fill;
mod network;
mod objects;
mod pod;
mod walk;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::reconcile::{INVENTORY_ID_LABEL, Inventory, Kind};
use walk::Walk;

pub use fill::fill;

/// Violations told of one object; the rest is of the same kind.
const MAX_VIOLATIONS: usize = 20;
/// The longest name of an object (a DNS subdomain).
const MAX_NAME: usize = 253;
/// What the names of namespaces begin with that are a workspace's own (GitLab's).
pub const NAMESPACE_PREFIX: &str = "gl-rd-ns-";
/// The workspace's name on everything of it.
pub(crate) const NAME_LABEL: &str = "workspaces.gitlab.com/name";
/// GitLab's label with the workspace's id, where workspaces share a namespace.
const ID_LABEL: &str = "workspaces.gitlab.com/id";
/// Labels and annotations with which other programs give an object more than it says itself: a cloud's identity, a
/// device of the node, another profile.
const POWERFUL_MARKS: [&str; 6] = [
    "azure.workload.identity/",
    "cdi.k8s.io/",
    "container.apparmor.security.beta.kubernetes.io/",
    "eks.amazonaws.com/",
    "iam.gke.io/",
    "kubernetes.io/service-account.",
];

/// How much a workspace's Pods may have: the levels of Kubernetes' Pod security standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Nothing of the node's, no root, no way to more rights.
    #[default]
    Restricted,
    /// Nothing of the node's.
    Baseline,
}

/// What workspaces of this agent may be made of: whoever installed the agent says so, and no server changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What Pods may have.
    pub level: Level,
    /// Kinds of object; `None`: all that the agent knows.
    pub kinds: Option<BTreeSet<String>>,
    /// Runtime classes that separate a Pod from the node as well as a user namespace does: in these a process may gain
    /// rights within its container.
    pub isolating_runtime_classes: BTreeSet<String>,
    /// A workspace without a network policy for its Pods is refused.
    pub require_network_policy: bool,
    /// The namespace that all workspaces share; `None`: each has its own.
    pub shared_namespace: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            level: Level::Restricted,
            kinds: None,
            isolating_runtime_classes: BTreeSet::new(),
            require_network_policy: false,
            shared_namespace: None,
        }
    }
}

impl Policy {
    /// Whether workspaces may have objects of a kind.
    #[must_use]
    pub fn allows(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }
}

/// The workspace that an object is to belong to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its id at the server.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The namespace is not its own alone.
    pub shares_namespace: bool,
    /// Kind and name of everything that it is to have.
    pub objects: &'a BTreeSet<(String, String)>,
}

/// One thing that an object may not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule, in a word that stays.
    pub code: &'static str,
    /// Which value, as `spec.template.spec.hostNetwork`; empty for the object as a whole.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, path, reason } = self;
        match path.as_str() {
            "" => write!(f, "{reason} ({code})"),
            path => write!(f, "{path}: {reason} ({code})"),
        }
    }
}

/// Judges an object of this kind for this workspace. Its kind, version, namespace and marks were looked at before.
///
/// # Errors
/// Everything that stands against it, but no more than a handful.
pub fn check(
    object: &Value,
    kind: &Kind,
    owner: Owner<'_>,
    policy: &Policy,
) -> Result<(), Vec<Violation>> {
    let mut walk = Walk::new(owner, policy);
    if !policy.allows(kind.kind) {
        walk.refuse("kind", "the agent's installation allows no such kind");
    }
    objects::object(&mut walk, kind.kind, object);
    walk.end()
}

/// Judges what only the whole set can show.
///
/// # Errors
/// What is missing.
pub fn check_set(owner: Owner<'_>, policy: &Policy) -> Result<(), Violation> {
    let has = |kind: &str| owner.objects.iter().any(|(it, _)| it == kind);
    // The DevWorkspace Operator makes Pods too.
    let has_pods = has("Deployment") || has("DevWorkspace");
    if policy.require_network_policy && has_pods && !has("NetworkPolicy") {
        return Err(Violation {
            code: "network-policy-missing",
            path: String::new(),
            reason: "the agent's installation wants a NetworkPolicy with every workspace, and there is none"
                .to_owned(),
        });
    }
    Ok(())
}

/// Whether a workspace may be in this namespace.
///
/// # Errors
/// Says where it may be.
pub fn check_namespace(
    namespace: &str,
    own_namespace: bool,
    policy: &Policy,
) -> Result<(), String> {
    match (&policy.shared_namespace, own_namespace) {
        (Some(shared), false) if namespace == shared => Ok(()),
        (Some(shared), _) => Err(format!(
            "the namespace {namespace:?} is outside the one that this agent has rights in, {shared:?}"
        )),
        (None, false) => Err(format!(
            "workspaces are to share the namespace {namespace:?}, and the agent's installation names none \
             (workspaces.sharedNamespace in the chart's values)"
        )),
        (None, true) if namespace.starts_with(NAMESPACE_PREFIX) => Ok(()),
        (None, true) => Err(format!(
            "the name of the workspace's own namespace is {namespace:?}; it has to begin with {NAMESPACE_PREFIX}"
        )),
    }
}

/// Whether an object's name can stand in a URL and name nothing else.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_part)
}

/// The inventory is the agent's own record, which no server writes.
fn is_inventory(name: &str, labels: &Value) -> bool {
    !labels[INVENTORY_ID_LABEL].is_null() || Inventory::workspace_of(name).is_some()
}

#[cfg(test)]
mod tests;
