//! What workspaces of this agent may be made of, and where: whoever installs the agent says so, and no server changes it.

use std::collections::BTreeSet;

use agent_core::guard::{Level, Policy};
use agent_core::reconcile::KINDS;
use clap::{Args, ValueEnum};

/// Flags that concern workspaces.
#[derive(Debug, Clone, Args)]
pub struct WorkspacesArgs {
    /// What Pods of workspaces may have, as Kubernetes' Pod security standards name it. What the server wants beyond that is
    /// refused before it is applied.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Restricted)]
    pub workspaces_policy: LevelArg,

    /// Kinds of object that workspaces may have, separated by commas. Default: all that the agent knows.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub workspaces_kinds: Vec<String>,

    /// Runtime classes that separate a Pod from its node as well as a user namespace does, separated by commas: with these,
    /// as with `hostUsers: false`, a process in a workspace may gain rights within its container.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub workspaces_isolating_runtime_classes: Vec<String>,

    /// Refuse workspaces that come without a NetworkPolicy.
    #[arg(long)]
    pub workspaces_require_network_policy: bool,

    /// The existing namespace that all workspaces share. Then the agent asks for nothing outside of it. Default: each
    /// workspace has a namespace of its own.
    #[arg(long, value_name = "NAMESPACE")]
    pub workspaces_shared_namespace: Option<String>,

    /// The ClusterRole that the agent binds to its own service account in each namespace that it makes. Without it the agent
    /// needs its rights there from elsewhere.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "workspaces_shared_namespace"
    )]
    pub workspaces_cluster_role: Option<String>,
}

/// As [`Level`], on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Nothing of the node's, no root, no way to more rights.
    Restricted,
    /// Nothing of the node's.
    Baseline,
}

/// Checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workspaces {
    /// What may be applied, and where.
    pub policy: Policy,
    /// How the agent gets its rights in a namespace that it made.
    pub role: Option<Role>,
}

/// A ClusterRole, and the service account that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The ClusterRole's name.
    pub cluster_role: String,
    /// The agent's service account.
    pub service_account: String,
    /// The service account's namespace.
    pub namespace: String,
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub enum WorkspacesError {
    /// `--workspaces-kinds`.
    #[error(
        "--workspaces-kinds: the agent knows no {kind:?}; it knows {}",
        known()
    )]
    Kind {
        /// As written.
        kind: String,
    },
    /// `--workspaces-cluster-role` without an account.
    #[error(
        "--workspaces-cluster-role needs SERVICE_ACCOUNT_NAME from the downward API (spec.serviceAccountName)"
    )]
    ServiceAccount,
    /// `--workspaces-shared-namespace` is the agent's own: its token is there, and workspaces' Pods could pass for its own.
    #[error(
        "--workspaces-shared-namespace: {namespace:?} is the agent's own namespace, where its token is; name another one"
    )]
    OwnNamespace {
        /// As written.
        namespace: String,
    },
}

fn known() -> String {
    KINDS.map(|kind| kind.kind).join(", ")
}

impl WorkspacesArgs {
    pub(super) fn check(
        self,
        pod_namespace: &str,
        service_account: Option<&str>,
    ) -> Result<Workspaces, WorkspacesError> {
        let Self {
            workspaces_policy,
            workspaces_kinds,
            workspaces_isolating_runtime_classes,
            workspaces_require_network_policy,
            workspaces_shared_namespace,
            workspaces_cluster_role,
        } = self;
        let set = |names: Vec<String>| -> BTreeSet<String> {
            names.into_iter().filter(|name| !name.is_empty()).collect()
        };
        let kinds = set(workspaces_kinds);
        let is_unknown = |kind: &&String| KINDS.iter().all(|known| known.kind != kind.as_str());
        if let Some(kind) = kinds.iter().find(is_unknown) {
            return Err(WorkspacesError::Kind { kind: kind.clone() });
        }
        let shared_namespace = workspaces_shared_namespace.filter(|name| !name.is_empty());
        if let Some(namespace) = shared_namespace.clone().filter(|it| it == pod_namespace) {
            return Err(WorkspacesError::OwnNamespace { namespace });
        }
        let role = match workspaces_cluster_role.filter(|name| !name.is_empty()) {
            None => None,
            Some(cluster_role) => Some(Role {
                cluster_role,
                service_account: service_account
                    .filter(|name| !name.is_empty())
                    .ok_or(WorkspacesError::ServiceAccount)?
                    .to_owned(),
                namespace: pod_namespace.to_owned(),
            }),
        };
        Ok(Workspaces {
            policy: Policy {
                level: match workspaces_policy {
                    LevelArg::Restricted => Level::Restricted,
                    LevelArg::Baseline => Level::Baseline,
                },
                kinds: (!kinds.is_empty()).then_some(kinds),
                isolating_runtime_classes: set(workspaces_isolating_runtime_classes),
                require_network_policy: workspaces_require_network_policy,
                shared_namespace,
            },
            role,
        })
    }
}
