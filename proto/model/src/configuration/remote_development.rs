//! Section `remote_development`: what workspaces of an agent's cluster may do, and what they are made with.
//!
//! Keys, defaults and checks are GitLab's (`ee/lib/remote_development/settings/default_settings.rb` and
//! `workspaces_agent_config.rb` of GitLab 18); the last four fields of [`RemoteDevelopment`] are ours.

mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use read::read;

/// Section `remote_development`. The default is what a file without it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteDevelopment {
    /// Workspaces can be made. Turned off, those that exist are left as they are.
    pub enabled: bool,
    /// The zone below which workspaces have their hosts; empty: the server's own.
    pub dns_zone: String,
    /// GitLab's classic proxy in the cluster.
    pub gitlab_workspaces_proxy: WorkspacesProxy,
    /// Who reaches workspaces, and what they reach.
    pub network_policy: NetworkPolicy,
    /// For each container; what the devfile says wins.
    pub default_resources_per_workspace_container: Resources,
    /// The ResourceQuota of a workspace's namespace.
    pub max_resources_per_workspace: Resources,
    /// Workspaces of this agent that are not terminated; `None`: any number.
    pub workspaces_quota: Option<u32>,
    /// Such workspaces of one user; `None`: any number.
    pub workspaces_per_user_quota: Option<u32>,
    /// Pods run in user namespaces of their own.
    pub use_kubernetes_user_namespaces: bool,
    /// `runtimeClassName` of Pods; empty: the cluster's default.
    pub default_runtime_class: String,
    /// `allowPrivilegeEscalation` of containers.
    pub allow_privilege_escalation: bool,
    /// Secrets that the agent copies into a workspace's namespace, for its images.
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// Further annotations on all objects and Pods.
    pub annotations: BTreeMap<String, String>,
    /// Further labels on all objects and Pods.
    pub labels: BTreeMap<String, String>,
    /// A workspace that is active longer is stopped; 1 to 8,760.
    pub max_active_hours_before_stop: u32,
    /// A workspace that is stopped longer is terminated, its volumes too; 1 to 8,760, both together at most 8,760.
    pub max_stopped_hours_before_termination: u32,
    /// An existing namespace in which all workspaces are; empty: one for each.
    pub shared_namespace: String,
    /// Ours: what runs workspaces that do not ask for something else.
    pub backend: Option<Backend>,
    /// Ours: names of editors that may be chosen, the first by default; `None`: all that the server has.
    pub editors: Option<Vec<String>>,
    /// Ours: sizes that a workspace can be made in, the first by default. Empty: as its devfile says.
    pub classes: Vec<Class>,
    /// Ours: when what changes in this section reaches workspaces that exist.
    pub apply_changes: ApplyChanges,
}

/// `gitlab_workspaces_proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspacesProxy {
    /// Its namespace, whose Pods may reach workspaces.
    pub namespace: String,
    /// It carries HTTP.
    pub http_enabled: bool,
    /// It carries SSH.
    pub ssh_enabled: bool,
}

/// `network_policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    /// There is one at all.
    pub enabled: bool,
    /// What workspaces reach beside DNS.
    pub egress: Vec<EgressRule>,
}

/// One of `network_policy.egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    /// A range, in CIDR form.
    pub allow: String,
    /// Ranges in it that are not allowed.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Quantities as Kubernetes writes them. Absent: nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `limits`.
    pub limits: ResourceAmounts,
    /// `requests`.
    pub requests: ResourceAmounts,
}

/// Amounts of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceAmounts {
    /// For example `500m`.
    pub cpu: Option<String>,
    /// For example `512Mi`.
    pub memory: Option<String>,
}

/// One of `image_pull_secrets`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImagePullSecret {
    /// The Secret's name, here and in the workspace's namespace.
    pub name: String,
    /// Where it is.
    pub namespace: String,
}

/// What runs workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The agent, with Deployments.
    Native,
    /// The DevWorkspace Operator.
    DevWorkspace,
}

/// One of `classes`: a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// For example `4gb-8cpu`.
    pub name: String,
    /// The main container's, instead of what the devfile says.
    pub resources: Resources,
}

/// When a change of the section reaches workspaces that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyChanges {
    /// At once; one that runs may be restarted by it.
    Now,
    /// When it is started or restarted the next time.
    #[default]
    OnRestart,
    /// Never: it keeps what it was made with.
    Never,
}

impl Backend {
    /// Each with its name in the file.
    pub const ALL: [(&'static str, Self); 2] = [
        ("native", Self::Native),
        ("devworkspace", Self::DevWorkspace),
    ];
}

impl ApplyChanges {
    /// Each with its name in the file.
    pub const ALL: [(&'static str, Self); 3] = [
        ("now", Self::Now),
        ("on_restart", Self::OnRestart),
        ("never", Self::Never),
    ];
}

impl RemoteDevelopment {
    /// The longest either time limit may be, and both together, in hours: a year.
    pub const MAX_HOURS: u32 = 8_760;
}

impl Default for RemoteDevelopment {
    fn default() -> Self {
        Self {
            enabled: false,
            dns_zone: String::new(),
            gitlab_workspaces_proxy: WorkspacesProxy::default(),
            network_policy: NetworkPolicy::default(),
            default_resources_per_workspace_container: Resources::default(),
            max_resources_per_workspace: Resources::default(),
            workspaces_quota: None,
            workspaces_per_user_quota: None,
            use_kubernetes_user_namespaces: false,
            default_runtime_class: String::new(),
            allow_privilege_escalation: false,
            image_pull_secrets: Vec::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            max_active_hours_before_stop: 36,
            max_stopped_hours_before_termination: 744,
            shared_namespace: String::new(),
            backend: None,
            editors: None,
            classes: Vec::new(),
            apply_changes: ApplyChanges::default(),
        }
    }
}

impl Default for WorkspacesProxy {
    fn default() -> Self {
        Self {
            namespace: "gitlab-workspaces".into(),
            http_enabled: true,
            ssh_enabled: true,
        }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            egress: vec![EgressRule {
                allow: "0.0.0.0/0".into(),
                except: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
                    .map(String::from)
                    .into(),
            }],
        }
    }
}
