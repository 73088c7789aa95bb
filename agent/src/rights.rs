//! What the agent needs to be allowed in its cluster, and what for: the one table that the chart's roles and `agent doctor`
//! are held against.
//!
//! Where workspaces have namespaces of their own, what is changed or read there is no right in the cluster: the agent binds
//! one ClusterRole of its chart ([`Place::WorkspaceNamespaces`]) to itself in each namespace that it makes. Where they
//! share a namespace, a Role in it is all ([`Place::SharedNamespace`]).

/// Where a right has to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the whole cluster, by a ClusterRole.
    Cluster,
    /// In each namespace that the agent makes, by a RoleBinding that it makes there.
    WorkspaceNamespaces,
    /// In the one namespace that all workspaces share, by a Role.
    SharedNamespace,
    /// In the agent's own namespace, by a Role.
    OwnNamespace,
}

/// The part of the agent that needs a right. Without all rights of a part the agent does the others' work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Native workspaces.
    Workspaces,
    /// Workspaces of DevWorkspace Operator.
    DevWorkspaces,
}

/// What may be done with one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Who needs it.
    pub part: Part,
    /// Where.
    pub place: Place,
    /// The API group; empty for the core's.
    pub group: &'static str,
    /// The resource, in its plural form.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [&'static str],
    /// Only with the ClusterRole that is bound in the workspaces' namespaces, by its name.
    pub only_workspace_role: bool,
}

/// One watch tells of all workspaces. Nothing of what is watched so holds secrets; ConfigMaps are listed where they are.
const WATCH: &[&str] = &["list", "watch"];
/// What is applied, and deleted after a look at whose it is.
const OBJECT: &[&str] = &["get", "create", "patch", "delete"];
/// The same where there is no other watch.
const ALL: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

const RBAC: &str = "rbac.authorization.k8s.io";
const DEV_WORKSPACES: (&str, &str) = ("workspace.devfile.io", "devworkspaces");

const fn right(
    place: Place,
    (group, resource): (&'static str, &'static str),
    verbs: &'static [&'static str],
) -> Right {
    Right {
        part: Part::Workspaces,
        place,
        group,
        resource,
        verbs,
        only_workspace_role: false,
    }
}

const fn of_operator(right: Right) -> Right {
    Right {
        part: Part::DevWorkspaces,
        ..right
    }
}

use Place::{Cluster, OwnNamespace, SharedNamespace, WorkspaceNamespaces};

/// All of them. People's calls run with rights of their own, which the table does not have.
pub const RIGHTS: &[Right] = &[
    right(
        Cluster,
        ("", "namespaces"),
        &["get", "list", "watch", "create", "delete"],
    ),
    right(Cluster, (RBAC, "rolebindings"), &["create"]),
    Right {
        only_workspace_role: true,
        ..right(Cluster, (RBAC, "clusterroles"), &["bind"])
    },
    right(Cluster, ("", "persistentvolumeclaims"), WATCH),
    right(Cluster, ("", "pods"), WATCH),
    right(Cluster, ("", "resourcequotas"), WATCH),
    right(Cluster, ("", "serviceaccounts"), WATCH),
    right(Cluster, ("", "services"), WATCH),
    right(Cluster, ("apps", "deployments"), WATCH),
    right(Cluster, ("networking.k8s.io", "networkpolicies"), WATCH),
    of_operator(right(Cluster, DEV_WORKSPACES, WATCH)),
    right(
        WorkspaceNamespaces,
        ("", "configmaps"),
        &["get", "list", "create", "patch", "delete"],
    ),
    right(WorkspaceNamespaces, ("", "events"), &["list"]),
    right(WorkspaceNamespaces, ("", "persistentvolumeclaims"), OBJECT),
    right(WorkspaceNamespaces, ("", "resourcequotas"), OBJECT),
    // Never listed. Of one by name the metadata is read, to see whose it is.
    right(WorkspaceNamespaces, ("", "secrets"), OBJECT),
    right(WorkspaceNamespaces, ("", "serviceaccounts"), OBJECT),
    right(WorkspaceNamespaces, ("", "services"), OBJECT),
    right(WorkspaceNamespaces, ("apps", "deployments"), OBJECT),
    right(
        WorkspaceNamespaces,
        ("networking.k8s.io", "networkpolicies"),
        OBJECT,
    ),
    of_operator(right(WorkspaceNamespaces, DEV_WORKSPACES, OBJECT)),
    right(SharedNamespace, ("", "configmaps"), ALL),
    right(SharedNamespace, ("", "events"), &["list"]),
    right(SharedNamespace, ("", "persistentvolumeclaims"), ALL),
    right(SharedNamespace, ("", "pods"), WATCH),
    right(SharedNamespace, ("", "secrets"), OBJECT),
    right(SharedNamespace, ("", "serviceaccounts"), ALL),
    right(SharedNamespace, ("", "services"), ALL),
    right(SharedNamespace, ("apps", "deployments"), ALL),
    right(
        SharedNamespace,
        ("networking.k8s.io", "networkpolicies"),
        ALL,
    ),
    of_operator(right(SharedNamespace, DEV_WORKSPACES, ALL)),
    right(
        OwnNamespace,
        ("coordination.k8s.io", "leases"),
        &["get", "create", "update"],
    ),
];

/// What an agent needs whose workspaces share a namespace, or have their own; with DevWorkspaces or without.
pub fn needed(
    shares_namespace: bool,
    dev_workspaces: bool,
) -> impl Iterator<Item = &'static Right> {
    RIGHTS.iter().filter(move |right| {
        let here = match right.place {
            Place::Cluster | Place::WorkspaceNamespaces => !shares_namespace,
            Place::SharedNamespace => shares_namespace,
            Place::OwnNamespace => true,
        };
        here && (dev_workspaces || right.part != Part::DevWorkspaces)
    })
}
