//! The editor: which container it goes to, how its files get there, and what stands against it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::lifecycle::{self, Plan};
use super::{Editor, Notes, RenderError, RenderOptions, network, projects};
use crate::model::{Attributes, Component, Container, Devfile, Endpoint};
use crate::quantity::Quantity;

/// The name of the editor's endpoint, by which it is found.
pub const EDITOR_ENDPOINT: &str = "editor";
/// GitLab's attribute of the container for the editor.
pub(super) const INJECT: &str = "gl/inject-editor";
/// The attribute for the same in devfiles of DevWorkspaces; `false` keeps the editor out of a container.
pub(super) const MERGE: &str = "controller.devfile.io/merge-contribution";
const VOLUME: &str = "editor";
const INIT_CONTAINER: &str = "inject-editor";
/// Copying needs little; what is written counts as used until it is on the disk.
const INJECT_MEMORY: (&str, &str) = ("64Mi", "512Mi");
const INJECT_CPU: &str = "50m";

/// Where the editor went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedEditor {
    /// The container.
    pub container: String,
    /// The folder to open, that of the first project; none when the sources are not in the container.
    pub folder: Option<String>,
}

/// The editor in one of the workspace's containers.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    editor: &'a Editor,
    component: &'a Component,
    volume: String,
    init_container: String,
}

/// Chooses the container: the marked one, else the first of the main Pod that no preStart event uses.
pub(super) fn place<'a>(
    devfile: &'a Devfile,
    options: &'a RenderOptions,
    plan: &Plan<'_>,
    notes: &mut Notes,
) -> Result<Option<(Placement<'a>, PlacedEditor)>, RenderError> {
    let Some(editor) = &options.editor else {
        return Ok(None);
    };
    check_endpoints(devfile, editor)?;
    let Some((component, container)) = choose(&candidates(devfile, plan), plan) else {
        notes.add(
            "components",
            "no editor is brought in",
            "no container of the main Pod can take it",
        );
        return Ok(None);
    };
    for (marked, _) in devfile.containers() {
        if says(&marked.attributes, INJECT) == Some(true) && marked.name != component.name {
            notes.add(
                format!("components[name={}].attributes.{INJECT}", marked.name),
                format!("the editor is in {} instead", component.name),
                "it goes to one container of the main Pod that runs after the start",
            );
        }
    }
    check_mounts(component, container, options, editor)?;
    if !container.mounts_sources() {
        notes.add(
            format!("components[name={}].container.mountSources", component.name),
            "the editor shows no sources, and its settings end with the Pod",
            "sources and HOME are not in its container",
        );
    }
    let folder = container
        .mounts_sources()
        .then(|| projects::project_source(devfile, options, container.projects_root()));
    let placed = PlacedEditor {
        container: component.name.clone(),
        folder,
    };
    let names: BTreeSet<&str> = devfile
        .components
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let placement = Placement {
        editor,
        component,
        volume: free_name(VOLUME, &names),
        init_container: free_name(INIT_CONTAINER, &names),
    };
    Ok(Some((placement, placed)))
}

/// The component whose container people work in: the one that gets the editor where there is one.
#[must_use]
pub fn main_container(devfile: &Devfile) -> Option<&str> {
    let plan = lifecycle::plan(devfile, &mut Notes::default());
    let candidates = candidates(devfile, &plan);
    let chosen = choose(&candidates, &plan).or(candidates.first().copied());
    chosen.map(|(component, _)| component.name.as_str())
}

/// Containers of the main Pod that run after the start.
fn candidates<'a>(devfile: &'a Devfile, plan: &Plan<'_>) -> Vec<(&'a Component, &'a Container)> {
    let all = devfile.containers();
    all.filter(|(component, container)| {
        !plan.init_only.contains(component.name.as_str()) && !container.has_dedicated_pod()
    })
    .collect()
}

fn choose<'a>(
    candidates: &[(&'a Component, &'a Container)],
    plan: &Plan<'_>,
) -> Option<(&'a Component, &'a Container)> {
    let find = |wanted: &dyn Fn(&Component) -> bool| {
        candidates
            .iter()
            .find(|(component, _)| wanted(component))
            .copied()
    };
    let before = |component: &Component| plan.init.iter().any(|(_, name)| *name == component.name);
    find(&|it| says(&it.attributes, INJECT) == Some(true))
        .or_else(|| find(&|it| says(&it.attributes, MERGE) == Some(true)))
        .or_else(|| find(&|it| says(&it.attributes, MERGE) != Some(false) && !before(it)))
}

/// What an attribute says, as a boolean or as the text of one.
fn says(attributes: &Attributes, name: &str) -> Option<bool> {
    match attributes.get(name)? {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The editor's port is its alone in the whole workspace, and so is its endpoint's name: addresses are made of them.
fn check_endpoints(devfile: &Devfile, editor: &Editor) -> Result<(), RenderError> {
    for (component, container) in devfile.containers() {
        for endpoint in &container.endpoints {
            let taken = if endpoint.target_port == i64::from(editor.port) {
                format!("its port {} is", editor.port)
            } else if endpoint.name == EDITOR_ENDPOINT {
                format!("the name {EDITOR_ENDPOINT} is")
            } else {
                continue;
            };
            return Err(RenderError::Editor {
                component: component.name.clone(),
                what: format!("endpoint {}", endpoint.name),
                reason: format!("{taken} the editor's; choose another one"),
            });
        }
    }
    Ok(())
}

fn check_mounts(
    component: &Component,
    container: &Container,
    options: &RenderOptions,
    editor: &Editor,
) -> Result<(), RenderError> {
    let own = container
        .volume_mounts
        .iter()
        .map(|mount| mount.mount_path());
    let sources = container.projects_root().to_owned();
    let taken = own.chain([sources]).chain(options.home.clone());
    let same = |path: &str| path.trim_end_matches('/') == editor.path.trim_end_matches('/');
    match taken.into_iter().find(|path| same(path)) {
        None => Ok(()),
        Some(path) => Err(RenderError::Editor {
            component: component.name.clone(),
            what: format!("the volume mounted at {path}"),
            reason: "the editor is there; mount it elsewhere".into(),
        }),
    }
}

fn free_name(wanted: &str, taken: &BTreeSet<&str>) -> String {
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.to_owned())
        .chain(numbered)
        .find(|name| !taken.contains(name.as_str()))
        .unwrap_or_default()
}

impl Placement<'_> {
    pub(super) fn editor(&self) -> &Editor {
        self.editor
    }

    /// Whether it is in this container.
    pub(super) fn is_in(&self, component: &str) -> bool {
        self.component.name == component
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        network::plain_endpoint(EDITOR_ENDPOINT, self.editor.port)
    }

    pub(super) fn volume(&self) -> Value {
        json!({"name": self.volume, "emptyDir": {}})
    }

    /// The editor's files in its container, which cannot change them.
    pub(super) fn mount(&self) -> Value {
        json!({"name": self.volume, "mountPath": self.editor.path, "readOnly": true})
    }

    /// Copies the editor from its image.
    pub(super) fn init_container(&self, options: &RenderOptions) -> Value {
        let Editor {
            image,
            path,
            inject,
            env,
            ..
        } = self.editor;
        let mut container = json!({
            "name": self.init_container,
            "image": image,
            "resources": {
                "limits": {"memory": INJECT_MEMORY.1},
                "requests": {"memory": INJECT_MEMORY.0, "cpu": INJECT_CPU},
            },
            "volumeMounts": [{"name": self.volume, "mountPath": path}],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        });
        if !inject.is_empty() {
            container["command"] = json!(inject);
        }
        if let Some(policy) = &options.image_pull_policy {
            container["imagePullPolicy"] = policy.clone().into();
        }
        if !env.is_empty() {
            let env: Vec<Value> = env
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            container["env"] = env.into();
        }
        container
    }

    /// Adds what the editor needs to its container's resources; what has no limit keeps none.
    pub(super) fn widen(&self, resources: &mut Value) {
        for (kind, more) in [
            ("limits", &self.editor.memory_limit),
            ("requests", &self.editor.memory_request),
        ] {
            if let Some(memory) = resources.pointer_mut(&format!("/{kind}/memory"))
                && let Some(sum) = memory.as_str().and_then(|own| sum(own, more))
            {
                *memory = sum.into();
            }
        }
    }
}

/// Two amounts of memory together.
fn sum(one: &str, other: &str) -> Option<String> {
    let bytes = |text: &str| Quantity::parse(text).ok()?.bytes();
    let sum = bytes(one)?.checked_add(bytes(other)?)?;
    const MIB: u64 = 1 << 20;
    Some(if sum.is_multiple_of(MIB) {
        format!("{}Mi", sum / MIB)
    } else {
        sum.to_string()
    })
}
