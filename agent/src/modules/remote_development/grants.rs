//! The agent's rights in namespaces that it made: a RoleBinding in each, made with it, binds one ClusterRole of the chart to
//! the agent's own service account. Nothing outside of them is read or changed with these rights.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::guard::NAMESPACE_PREFIX;
use agent_core::reconcile::AGENT_ID_LABEL;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{Api, CallError, FIELD_MANAGER};
use crate::config::Role;

const GROUP: &str = "rbac.authorization.k8s.io";
/// API servers take in new bindings within some milliseconds; several of them do so one by one.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why there are no rights in a namespace.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrantError {
    /// It is none that the agent makes, whatever its label says.
    #[error(
        "the agent binds its role only in namespaces whose names begin with {NAMESPACE_PREFIX}"
    )]
    Elsewhere,
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The binding is there, and gives nothing.
    #[error(
        "the RoleBinding {FIELD_MANAGER} does not give the agent its rights: delete it, and the agent makes it anew"
    )]
    NoEffect,
}

/// What was granted so far, in one term of leading.
#[derive(Debug)]
pub(super) struct Grants {
    agent_id: i64,
    role: Option<Role>,
    known: Mutex<BTreeSet<String>>,
    /// Namespaces that are being made, or were made in this term: what is in them is known.
    made: Mutex<BTreeSet<String>>,
}

impl Grants {
    /// Without a role the rights come from elsewhere, and are taken for granted.
    pub(super) fn new(agent_id: i64, role: Option<Role>) -> Self {
        Self {
            agent_id,
            role,
            known: Mutex::default(),
            made: Mutex::default(),
        }
    }

    /// The namespace is about to be made by this agent.
    pub(super) fn makes(&self, namespace: &str) {
        lock(&self.made).insert(namespace.to_owned());
        self.forget(namespace);
    }

    /// The namespace is gone.
    pub(super) fn gone(&self, namespace: &str) {
        self.forget(namespace);
        self.did_not_make(namespace);
    }

    /// It was not made after all.
    pub(super) fn did_not_make(&self, namespace: &str) {
        lock(&self.made).remove(namespace);
    }

    pub(super) fn is_made_here(&self, namespace: &str) -> bool {
        lock(&self.made).contains(namespace)
    }

    /// What was known of the rights in it no longer holds.
    pub(super) fn forget(&self, namespace: &str) {
        lock(&self.known).remove(namespace);
    }

    /// Sees to it that the agent may do its work in a namespace of its own.
    pub(super) async fn ensure(&self, api: &Api, namespace: &str) -> Result<(), GrantError> {
        let Some(role) = &self.role else {
            return Ok(());
        };
        if lock(&self.known).contains(namespace) {
            return Ok(());
        }
        if !namespace.starts_with(NAMESPACE_PREFIX) {
            return Err(GrantError::Elsewhere);
        }
        let is_new = self.is_made_here(namespace);
        if is_new || !is_allowed(api, namespace).await? {
            self.bind(api, role, namespace).await?;
            wait_for_effect(api, namespace).await?;
        }
        lock(&self.known).insert(namespace.to_owned());
        Ok(())
    }

    async fn bind(&self, api: &Api, role: &Role, namespace: &str) -> Result<(), CallError> {
        let binding = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "RoleBinding",
            "metadata": {
                "name": FIELD_MANAGER, "namespace": namespace,
                "labels": {AGENT_ID_LABEL: self.agent_id.to_string()},
            },
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role.cluster_role},
            "subjects": [{
                "kind": "ServiceAccount", "name": role.service_account, "namespace": role.namespace,
            }],
        });
        let path = format!("/apis/{GROUP}/v1/namespaces/{namespace}/rolebindings");
        match api.create(&path, &binding).await {
            Ok(_) => {
                tracing::debug!(namespace, "rights bound");
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Asks until the API server has taken the binding in.
async fn wait_for_effect(api: &Api, namespace: &str) -> Result<(), GrantError> {
    let begun = Instant::now();
    let mut pause = FIRST_LOOK;
    while !is_allowed(api, namespace).await? {
        if begun.elapsed() > EFFECT_LIMIT {
            return Err(GrantError::NoEffect);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Whether the agent has its rights in a namespace, by one of them that nothing else gives it.
async fn is_allowed(api: &Api, namespace: &str) -> Result<bool, CallError> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "namespace": namespace, "verb": "patch", "group": "apps", "resource": "deployments",
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer: Value = api.create(path, &review).await?;
    Ok(answer["status"]["allowed"] == true)
}

fn lock(set: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
