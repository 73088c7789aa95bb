//! The kinds of object a workspace may be made of.

/// One kind, with what is needed to address it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
    /// It holds a person's data.
    pub holds_data: bool,
}

impl Kind {
    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        holds_data: false,
    }
}

/// Every kind that may be written, in the order of applying: what others refer to first, what makes Pods last. Deleting
/// goes the other way. All of them live in a namespace.
pub const KINDS: [Kind; 9] = [
    kind("", "v1", "ResourceQuota", "resourcequotas"),
    kind(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    ),
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("", "v1", "Secret", "secrets"),
    Kind {
        holds_data: true,
        ..kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    },
    kind("", "v1", "Service", "services"),
    kind("apps", "v1", "Deployment", "deployments"),
    // The operator keeps a workspace's volume as long as its DevWorkspace.
    Kind {
        holds_data: true,
        ..kind(
            "workspace.devfile.io",
            "v1alpha2",
            "DevWorkspace",
            "devworkspaces",
        )
    },
];

/// A kind by group and name, with its place in the order of applying.
#[must_use]
pub fn kind_of(group: &str, kind: &str) -> Option<(usize, &'static Kind)> {
    KINDS
        .iter()
        .enumerate()
        .find(|(_, known)| known.group == group && known.kind == kind)
}
