//! From a checked devfile to everything that a workspace is: objects, ports, editor. Pure.
//!
//! Used when a workspace is made, and again when what it is made with has changed.

use ::devfile::model::Devfile;
use model::configuration::{ImagePullSecret, RemoteDevelopment};

use super::{
    backend::{self, BackendKind},
    editor::{Definition, Editors, WorkspaceEditor},
    endpoints::{self, WorkspaceEndpoint},
    idle::IdleLimits,
    render::{DevfileProblem, Frame, check_objects, problem_of, with_class},
    workspace::{Note, Workspace},
};
use crate::config::WorkspaceDefaults;

/// What the server itself adds to each workspace.
#[derive(Debug)]
pub(crate) struct Renderer {
    defaults: WorkspaceDefaults,
    editors: Editors,
}

/// What a devfile became.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rendering {
    pub(super) objects: Vec<serde_json::Value>,
    pub(super) endpoints: Vec<WorkspaceEndpoint>,
    pub(super) editor: Option<WorkspaceEditor>,
    pub(super) pull_secrets: Vec<ImagePullSecret>,
    /// As `Service web`; only where others are in the namespace.
    pub(super) shared_objects: Vec<String>,
    /// What the devfile says that has no effect with this backend.
    pub(super) notes: Vec<Note>,
}

impl Renderer {
    pub(crate) fn new(defaults: WorkspaceDefaults, editors: Editors) -> Self {
        Self { defaults, editors }
    }

    /// After which time workspaces are stopped that nobody uses.
    pub(super) fn idle_limits(&self) -> IdleLimits {
        IdleLimits {
            native: self.defaults.idle_timeout_min,
            devworkspace: self.defaults.devworkspace_idle_timeout_min,
        }
    }

    pub(crate) fn editors(&self) -> &Editors {
        &self.editors
    }

    /// An editor by its name.
    pub(super) fn editor(&self, name: &str) -> Option<&Definition> {
        self.editors.find(name)
    }

    /// Renders a flattened devfile, the workspace's repository among its projects.
    ///
    /// # Errors
    /// Everything that stands against it.
    pub(super) fn render(
        &self,
        workspace: &Workspace,
        devfile: Devfile,
        editor: Option<&Definition>,
        settings: &RemoteDevelopment,
    ) -> Result<Rendering, Vec<DevfileProblem>> {
        let frame = Frame {
            id: &workspace.id,
            name: &workspace.name,
            namespace: &workspace.namespace,
            own_namespace: workspace.own_namespace,
            agent_id: workspace.agent_id,
            defaults: &self.defaults,
            editor,
            settings,
        };
        let kind = workspace.backend;
        let mut notes = Vec::new();
        let class = workspace.class.as_ref().and_then(|name| {
            let found = settings.classes.iter().find(|it| it.name == *name);
            if found.is_none() {
                notes.push(Note {
                    field: String::new(),
                    reason: format!("the class {name} is no longer in the agent's configuration file, so its sizes are the devfile's"),
                });
            }
            found
        });
        let devfile = match class {
            Some(class) => with_class(devfile, class),
            None => devfile,
        };
        let declared = endpoints::of_devfile(&devfile);
        let rendered = backend::for_kind(kind).objects(&frame, devfile);
        let rendered = rendered.map_err(|error| vec![problem_of(&error)])?;
        let problems = check_objects(&frame, &rendered.objects);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut endpoints = match kind {
            BackendKind::Native => {
                let ports = endpoints::of_services(&rendered.objects, &workspace.name);
                endpoints::as_declared(ports, &declared)
            }
            BackendKind::Devworkspace => declared,
        };
        let editor = editor
            .zip(rendered.editor)
            .map(|(editor, placed)| WorkspaceEditor {
                name: editor.name().to_owned(),
                container: placed.container,
                folder: placed.folder,
                port: editor.port(),
                health: editor.health().to_owned(),
            });
        if let Some(folder) = editor.as_ref().and_then(|editor| editor.folder.as_ref()) {
            endpoints::open_at(&mut endpoints, folder);
        }
        notes.extend(rendered.notes.into_iter().map(|note| Note {
            field: note.path,
            reason: format!("{}: {}", note.what, note.why),
        }));
        let shared_objects = match workspace.own_namespace {
            true => Vec::new(),
            false => rendered.objects.iter().map(name_of).collect(),
        };
        Ok(Rendering {
            objects: rendered.objects,
            endpoints,
            editor,
            pull_secrets: settings.image_pull_secrets.clone(),
            shared_objects,
            notes,
        })
    }
}

fn name_of(object: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        text(&object["kind"]),
        text(&object["metadata"]["name"])
    )
}
