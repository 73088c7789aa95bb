//! What a workspace gets that its devfile does not speak of.

use super::HttpUrl;

/// Defaults for workspaces.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkspaceDefaults {
    /// The image that clones projects into a workspace's volume; it needs git and a POSIX shell.
    #[arg(
        long = "workspace-clone-image",
        env = "KAS_STUB_WORKSPACE_CLONE_IMAGE",
        value_name = "IMAGE",
        default_value = DEFAULT_CLONE_IMAGE
    )]
    pub clone_image: String,

    /// The storage class of workspaces' volumes [default: the cluster's].
    #[arg(
        long = "workspace-storage-class",
        env = "KAS_STUB_WORKSPACE_STORAGE_CLASS",
        value_name = "NAME"
    )]
    pub storage_class: Option<String>,

    /// The size of a volume that says none.
    #[arg(
        long = "workspace-volume-size",
        env = "KAS_STUB_WORKSPACE_VOLUME_SIZE",
        value_name = "QUANTITY",
        default_value = DEFAULT_VOLUME_SIZE
    )]
    pub volume_size: String,

    /// The memory that a container asks for when its devfile does not say.
    #[arg(
        long = "workspace-memory-request",
        env = "KAS_STUB_WORKSPACE_MEMORY_REQUEST",
        value_name = "QUANTITY",
        default_value = DEFAULT_MEMORY_REQUEST
    )]
    pub memory_request: String,

    /// The memory that a container may use when its devfile does not say.
    #[arg(
        long = "workspace-memory-limit",
        env = "KAS_STUB_WORKSPACE_MEMORY_LIMIT",
        value_name = "QUANTITY",
        default_value = DEFAULT_MEMORY_LIMIT
    )]
    pub memory_limit: Option<String>,

    /// The processor time that a container asks for when its devfile does not say.
    #[arg(
        long = "workspace-cpu-request",
        env = "KAS_STUB_WORKSPACE_CPU_REQUEST",
        value_name = "QUANTITY",
        default_value = DEFAULT_CPU_REQUEST
    )]
    pub cpu_request: String,

    /// The processor time that a container may use when its devfile does not say [default: what the node has].
    #[arg(
        long = "workspace-cpu-limit",
        env = "KAS_STUB_WORKSPACE_CPU_LIMIT",
        value_name = "QUANTITY"
    )]
    pub cpu_limit: Option<String>,

    /// Where devfiles' parents and plugins are looked for that are named by id without a registry (repeatable).
    #[arg(
        long = "devfile-registry",
        env = "KAS_STUB_DEVFILE_REGISTRY",
        value_name = "URL",
        value_delimiter = ',',
        default_value = DEFAULT_REGISTRY
    )]
    pub registries: Vec<HttpUrl>,

    /// How often an agent looks at all its workspaces again and reports them, in seconds (10 to 86400). What changes is
    /// told at once; this is for what nobody noticed.
    #[arg(
        long = "workspace-full-interval",
        env = "KAS_STUB_WORKSPACE_FULL_INTERVAL",
        value_name = "SECONDS",
        default_value_t = DEFAULT_FULL_INTERVAL_S,
        value_parser = clap::value_parser!(u64).range(10..=86_400)
    )]
    pub full_interval_s: u64,

    /// How often an agent asks that speaks GitLab's JSON, in seconds (1 to 600): it is told nothing unasked.
    #[arg(
        long = "workspace-partial-interval",
        env = "KAS_STUB_WORKSPACE_PARTIAL_INTERVAL",
        value_name = "SECONDS",
        default_value_t = DEFAULT_PARTIAL_INTERVAL_S,
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub partial_interval_s: u64,

    /// Stops a workspace that nobody used for so many minutes: no connection to its ports was opened, and no byte passed on
    /// one. kubectl does not count. 0: never.
    #[arg(
        long = "workspace-idle-timeout",
        env = "KAS_STUB_WORKSPACE_IDLE_TIMEOUT",
        value_name = "MINUTES",
        default_value_t = DEFAULT_IDLE_TIMEOUT_MIN,
        value_parser = clap::value_parser!(u32).range(0..=MAX_IDLE_TIMEOUT_MIN)
    )]
    pub idle_timeout_min: u32,

    /// The same for workspaces that DevWorkspace Operator runs. 0: never.
    #[arg(
        long = "devworkspace-idle-timeout",
        env = "KAS_STUB_DEVWORKSPACE_IDLE_TIMEOUT",
        value_name = "MINUTES",
        default_value_t = DEFAULT_DEVWORKSPACE_IDLE_TIMEOUT_MIN,
        value_parser = clap::value_parser!(u32).range(0..=MAX_IDLE_TIMEOUT_MIN)
    )]
    pub devworkspace_idle_timeout_min: u32,
}

/// Small, with git and a shell; GitLab's older workspaces used it too.
const DEFAULT_CLONE_IMAGE: &str = "docker.io/alpine/git:2.45.2";
const DEFAULT_VOLUME_SIZE: &str = "10Gi";
/// Small enough that several idle workspaces fit on a node.
const DEFAULT_MEMORY_REQUEST: &str = "128Mi";
/// A language server and a build fit.
const DEFAULT_MEMORY_LIMIT: &str = "4Gi";
const DEFAULT_CPU_REQUEST: &str = "50m";
/// The devfile community's.
const DEFAULT_REGISTRY: &str = "https://registry.devfile.io";
/// GitLab's.
const DEFAULT_FULL_INTERVAL_S: u64 = 3600;
/// GitLab's.
const DEFAULT_PARTIAL_INTERVAL_S: u64 = 10;
const DEFAULT_IDLE_TIMEOUT_MIN: u32 = 0;
/// Che's.
const DEFAULT_DEVWORKSPACE_IDLE_TIMEOUT_MIN: u32 = 30;
/// A year.
const MAX_IDLE_TIMEOUT_MIN: i64 = 366 * 24 * 60;

impl Default for WorkspaceDefaults {
    fn default() -> Self {
        Self {
            clone_image: DEFAULT_CLONE_IMAGE.into(),
            storage_class: None,
            volume_size: DEFAULT_VOLUME_SIZE.into(),
            memory_request: DEFAULT_MEMORY_REQUEST.into(),
            memory_limit: Some(DEFAULT_MEMORY_LIMIT.into()),
            cpu_request: DEFAULT_CPU_REQUEST.into(),
            cpu_limit: None,
            registries: DEFAULT_REGISTRY.parse().into_iter().collect(),
            full_interval_s: DEFAULT_FULL_INTERVAL_S,
            partial_interval_s: DEFAULT_PARTIAL_INTERVAL_S,
            idle_timeout_min: DEFAULT_IDLE_TIMEOUT_MIN,
            devworkspace_idle_timeout_min: DEFAULT_DEVWORKSPACE_IDLE_TIMEOUT_MIN,
        }
    }
}
