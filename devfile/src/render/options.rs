//! What the caller decides about a workspace's objects.

use std::collections::{BTreeMap, BTreeSet};

/// How to render.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// The workspace's name. All objects made for it are called by it.
    pub name: String,
    /// Their namespace.
    pub namespace: String,
    /// Labels on every object.
    pub labels: BTreeMap<String, String>,
    /// Annotations on every object.
    pub annotations: BTreeMap<String, String>,
    /// Labels by which a Pod of this workspace is found; on its Pods beside `labels`, and in selectors.
    pub selector: BTreeMap<String, String>,
    /// Annotations on Pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// How many Pods: 0 for a stopped workspace.
    pub replicas: u32,
    /// Whether a DevWorkspace is started.
    pub started: bool,
    /// Routing class of a DevWorkspace.
    pub routing_class: Option<String>,
    /// Resources of containers that say nothing.
    pub resources: ResourceDefaults,
    /// Sizes and classes of volumes that say nothing.
    pub storage: StorageDefaults,
    /// As whom containers run.
    pub user: WorkspaceUser,
    /// What starts containers without a command.
    pub entrypoint: Entrypoint,
    /// Folder that is kept as HOME over stop and start; none leaves HOME as the image has it.
    pub home: Option<String>,
    /// The editor that is brought into a container; none leaves the workspace without one.
    pub editor: Option<Editor>,
    /// Configuration of Git in every container with the sources, as name and value. A devfile that configures Git by
    /// its environment gets none of it.
    pub git_config: Vec<(String, String)>,
    /// Environment of every container, behind what the devfile sets itself.
    pub env: Vec<(String, String)>,
    /// Service account; without one the namespace's default. Its token is never mounted.
    pub service_account: Option<String>,
    /// Secrets with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// When images are pulled; none leaves it to the cluster.
    pub image_pull_policy: Option<String>,
    /// Runtime class of Pods; none takes the cluster's default. Where one is set, overrides cannot choose another.
    pub runtime_class: Option<String>,
    /// Pods run in a user namespace of their own.
    pub user_namespaces: bool,
    /// Processes of the workspace's containers may gain privileges, as `sudo` does. They keep the capabilities that the
    /// runtime gives by default then, without which it could not.
    pub allow_privilege_escalation: bool,
    /// Who clones projects; none leaves the folder empty.
    pub project_clone: Option<ProjectClone>,
    /// What pod-overrides and container-overrides may set, and which objects a devfile may bring.
    pub policy: OverridePolicy,
}

impl RenderOptions {
    /// Defaults for a workspace of this name in this namespace.
    #[must_use]
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            namespace: namespace.into(),
            labels: BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), name.clone())]),
            annotations: BTreeMap::new(),
            selector: BTreeMap::from([("app.kubernetes.io/instance".to_owned(), name.clone())]),
            pod_annotations: BTreeMap::new(),
            replicas: 1,
            started: true,
            routing_class: None,
            resources: ResourceDefaults::default(),
            storage: StorageDefaults::default(),
            user: WorkspaceUser::default(),
            entrypoint: Entrypoint::IdleForCommands,
            home: Some("/home/user".into()),
            editor: None,
            git_config: Vec::new(),
            env: Vec::new(),
            service_account: None,
            image_pull_secrets: Vec::new(),
            image_pull_policy: None,
            runtime_class: None,
            user_namespaces: false,
            allow_privilege_escalation: false,
            project_clone: None,
            policy: OverridePolicy::default(),
            name,
        }
    }
}

/// Resources of containers that say nothing. A default request above a given limit is cut to it, a default limit
/// below a given request is raised to it. `None` or `"0"` sets nothing.
#[derive(Debug, Clone)]
pub struct ResourceDefaults {
    /// Memory set aside.
    pub memory_request: Option<String>,
    /// Most memory.
    pub memory_limit: Option<String>,
    /// Processor time set aside.
    pub cpu_request: Option<String>,
    /// Most processor time.
    pub cpu_limit: Option<String>,
}

impl Default for ResourceDefaults {
    fn default() -> Self {
        Self {
            memory_request: Some("128Mi".into()),
            memory_limit: Some("1Gi".into()),
            cpu_request: Some("50m".into()),
            cpu_limit: None,
        }
    }
}

/// Sizes and classes of volumes that say nothing.
#[derive(Debug, Clone)]
pub struct StorageDefaults {
    /// Size of the volume with sources and HOME.
    pub projects_size: String,
    /// Size of other volumes.
    pub volume_size: String,
    /// Class of all of them; none takes the cluster's default.
    pub class: Option<String>,
    /// Whether all of them end with the Pod.
    pub ephemeral: bool,
}

impl Default for StorageDefaults {
    fn default() -> Self {
        Self {
            projects_size: "5Gi".into(),
            volume_size: "1Gi".into(),
            class: None,
            ephemeral: false,
        }
    }
}

/// As whom containers run. The Pod fits the restricted Pod security standard.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceUser {
    /// User id; none takes the image's, which must then not be root.
    pub user: Option<i64>,
    /// Group id.
    pub group: Option<i64>,
    /// Group of the volumes' files.
    pub fs_group: Option<i64>,
}

impl Default for WorkspaceUser {
    /// An arbitrary user in group 0, as images made for OpenShift and GitLab expect.
    fn default() -> Self {
        Self {
            user: Some(5001),
            group: Some(0),
            fs_group: Some(0),
        }
    }
}

/// What starts containers for which the devfile has neither command nor args.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrypoint {
    /// The image's own entrypoint, always.
    Image,
    /// A shell that waits, in containers that exec commands run in, since tools' images end at once otherwise; the
    /// image's own entrypoint in all others.
    IdleForCommands,
    /// A shell that waits, in all containers.
    Idle,
}

/// An init container that clones projects.
#[derive(Debug, Clone)]
pub struct ProjectClone {
    /// Image with `sh` and `git`.
    pub image: String,
    /// Most memory.
    pub memory_limit: String,
    /// Projects of the workspace beside the devfile's own, first in order: name, address, revision.
    pub repositories: Vec<(String, String, Option<String>)>,
}

/// An editor that serves HTTP in a container of the workspace, started with it from a copy of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editor {
    /// Its name, for its log.
    pub name: String,
    /// Image that brings it.
    pub image: String,
    /// Folder at which its files are, in that image's container and in the workspace's.
    pub path: String,
    /// Command line that copies them there; empty for the image's own.
    pub inject: Vec<String>,
    /// Line for a shell in the workspace's container that runs it until it ends.
    pub command: String,
    /// Port on which it listens, on all addresses.
    pub port: u16,
    /// Memory that it may use, beside what its container may.
    pub memory_limit: String,
    /// Memory set aside for it.
    pub memory_request: String,
    /// Environment of its command and of its image's container.
    pub env: Vec<(String, String)>,
}

/// What a devfile may set beside its own fields.
#[derive(Debug, Clone)]
pub struct OverridePolicy {
    /// Fields of a container that container-overrides may set.
    pub container_fields: BTreeSet<String>,
    /// Fields of a Pod's spec that pod-overrides may set.
    pub pod_fields: BTreeSet<String>,
    /// Kinds of objects that kubernetes components may bring.
    pub kinds: BTreeSet<String>,
}

impl OverridePolicy {
    /// Nothing is allowed.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            container_fields: BTreeSet::new(),
            pod_fields: BTreeSet::new(),
            kinds: BTreeSet::new(),
        }
    }
}

impl Default for OverridePolicy {
    fn default() -> Self {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            container_fields: set(&[
                "imagePullPolicy",
                "livenessProbe",
                "readinessProbe",
                "resizePolicy",
                "resources",
                "securityContext",
                "startupProbe",
                "stdin",
                "terminationMessagePath",
                "terminationMessagePolicy",
                "tty",
                "workingDir",
            ]),
            pod_fields: set(&[
                "affinity",
                "dnsConfig",
                "dnsPolicy",
                "enableServiceLinks",
                "hostAliases",
                "imagePullSecrets",
                "nodeSelector",
                "priorityClassName",
                "runtimeClassName",
                "schedulerName",
                "securityContext",
                "terminationGracePeriodSeconds",
                "tolerations",
                "topologySpreadConstraints",
            ]),
            kinds: set(&[
                "ConfigMap",
                "CronJob",
                "Deployment",
                "HorizontalPodAutoscaler",
                "Ingress",
                "Job",
                "NetworkPolicy",
                "PersistentVolumeClaim",
                "Pod",
                "PodDisruptionBudget",
                "Secret",
                "Service",
                "StatefulSet",
            ]),
        }
    }
}
