//! What the agent needs to be allowed in its cluster, and what for: the one table that the chart's roles and `agent doctor`
//! are held against.

/// Where a right has to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the whole cluster, by a ClusterRole.
    Cluster,
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
}

/// Everything that a workspace's objects need of one kind.
const OBJECT: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

const fn workspaces(group: &'static str, resource: &'static str, verbs: &'static [&str]) -> Right {
    Right {
        part: Part::Workspaces,
        place: Place::Cluster,
        group,
        resource,
        verbs,
    }
}

/// All of them. People's calls run with rights of their own, which the table does not have.
pub const RIGHTS: &[Right] = &[
    workspaces(
        "",
        "namespaces",
        &["get", "list", "watch", "create", "delete"],
    ),
    workspaces("", "configmaps", OBJECT),
    workspaces("", "persistentvolumeclaims", OBJECT),
    workspaces("", "resourcequotas", OBJECT),
    workspaces("", "serviceaccounts", OBJECT),
    workspaces("", "services", OBJECT),
    workspaces("apps", "deployments", OBJECT),
    workspaces("networking.k8s.io", "networkpolicies", OBJECT),
    workspaces("", "secrets", &["get", "create", "patch", "delete"]),
    workspaces("", "pods", &["list", "watch"]),
    workspaces("", "events", &["list"]),
    Right {
        part: Part::Workspaces,
        place: Place::OwnNamespace,
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "create", "update"],
    },
    Right {
        part: Part::DevWorkspaces,
        place: Place::Cluster,
        group: "workspace.devfile.io",
        resource: "devworkspaces",
        verbs: OBJECT,
    },
];
