//! From a devfile's text to what a cluster is given. Pure.
//!
//! How a devfile becomes objects is the crate `devfile`'s. Here is what makes them a workspace's: names, marks, defaults,
//! and the repository that is cloned.

mod check;
mod repository;
mod settings;

use ::devfile::{
    model::Devfile,
    render::{Entrypoint, ProjectClone, RenderOptions, ResourceDefaults, StorageDefaults},
};
use model::{
    WorkspaceName,
    configuration::{RemoteDevelopment, Resources},
};

use super::editor::Definition;
use crate::config::WorkspaceDefaults;

pub(super) use check::{DevfileProblem, check, check_objects, problem_of};
pub(super) use repository::{repository_name, with_repository};
pub(super) use settings::{ID_LABEL, admit_agent, uncounted, with_class};

/// GitLab's label with the id of the agent, on everything.
pub(super) const AGENT_ID_LABEL: &str = "agent.gitlab.com/id";
/// The workspace's name, on everything, and what selects its Pods.
pub(super) const NAME_LABEL: &str = "workspaces.gitlab.com/name";
/// GitLab's annotation with the id of the workspace.
pub(super) const ID_ANNOTATION: &str = "workspaces.gitlab.com/id";
/// cli-utils' annotation with the id of the inventory.
pub(super) const INVENTORY_ANNOTATION: &str = "config.k8s.io/owning-inventory";
/// A home that no image has, so that keeping it hides nothing.
const HOME: &str = "/home/workspace";
/// What the agent applies of a devfile's own objects.
const KINDS: [&str; 6] = [
    "ConfigMap",
    "Deployment",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Secret",
    "Service",
];
/// A credential that is typed in is kept in memory, for an hour, and never on a disk.
const CREDENTIAL_HELPER: &str = "cache --timeout=3600";
/// Memory that cloning may take.
const CLONE_MEMORY: &str = "1Gi";

/// What a workspace's objects are made with, beside the devfile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a WorkspaceName,
    pub(crate) namespace: &'a str,
    /// Nobody else is in the namespace.
    pub(crate) own_namespace: bool,
    pub(crate) agent_id: u64,
    pub(crate) defaults: &'a WorkspaceDefaults,
    /// None: workspaces get no editor.
    pub(crate) editor: Option<&'a Definition>,
    /// What the agent's configuration file says.
    pub(crate) settings: &'a RemoteDevelopment,
}

/// The ConfigMap that lists a workspace's objects.
pub(super) fn workspace_inventory(name: &WorkspaceName) -> String {
    format!("{name}-workspace-inventory")
}

/// The ConfigMap that lists a workspace's Secrets, where GitLab's agent applies them.
pub(super) fn secrets_inventory(name: &WorkspaceName) -> String {
    format!("{name}-secrets-inventory")
}

impl Frame<'_> {
    /// The ConfigMap in which the agent keeps what it applied.
    pub(super) fn inventory(&self) -> String {
        workspace_inventory(self.name)
    }

    /// How the devfile is rendered.
    pub(super) fn options(&self, devfile: &Devfile) -> RenderOptions {
        let WorkspaceDefaults {
            clone_image,
            storage_class,
            volume_size,
            ..
        } = self.defaults.clone();
        let mut options = RenderOptions::new(self.name.as_str(), self.namespace);
        options.labels = self.labels();
        options.annotations = self.annotations();
        options.selector = self.marks();
        options.pod_annotations = self.pod_annotations();
        options.resources = self.resources();
        options.storage = StorageDefaults {
            projects_size: volume_size.clone(),
            volume_size,
            class: storage_class,
            ephemeral: false,
        };
        // The only container is there to work in: it stays up also when no command names it.
        if devfile.containers().count() == 1 {
            options.entrypoint = Entrypoint::Idle;
        }
        options.home = Some(HOME.into());
        options.editor = self.editor.map(Definition::rendered);
        options.git_config = vec![("credential.helper".into(), CREDENTIAL_HELPER.into())];
        options.service_account = Some(self.name.to_string());
        options.image_pull_secrets = self.pull_secrets();
        options.runtime_class = self.runtime_class();
        options.user_namespaces = self.settings.use_kubernetes_user_namespaces;
        options.allow_privilege_escalation = self.settings.allow_privilege_escalation;
        options.project_clone = Some(ProjectClone {
            image: clone_image,
            memory_limit: CLONE_MEMORY.into(),
            // It is among the devfile's projects.
            repositories: Vec::new(),
        });
        // Policies add up: one of the devfile's own could open what the file's keeps closed.
        let is_allowed = |kind: &str| {
            KINDS.contains(&kind)
                && !(kind == "NetworkPolicy" && self.settings.network_policy.enabled)
        };
        options.policy.kinds.retain(|kind| is_allowed(kind));
        options
    }

    /// Resources of containers that say nothing: the file's, and where that says nothing the server's.
    pub(super) fn resources(&self) -> ResourceDefaults {
        let WorkspaceDefaults {
            memory_request,
            memory_limit,
            cpu_request,
            cpu_limit,
            ..
        } = self.defaults.clone();
        let Resources { limits, requests } =
            &self.settings.default_resources_per_workspace_container;
        ResourceDefaults {
            memory_request: requests.memory.clone().or(Some(memory_request)),
            memory_limit: limits.memory.clone().or(memory_limit),
            cpu_request: requests.cpu.clone().or(Some(cpu_request)),
            cpu_limit: limits.cpu.clone().or(cpu_limit),
        }
    }

    pub(super) fn runtime_class(&self) -> Option<String> {
        let class = &self.settings.default_runtime_class;
        (!class.is_empty()).then(|| class.clone())
    }
}
