//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use ::devfile::{
    model::{Attributes, Component, ComponentKind, Devfile, Volume},
    render::{
        RenderError, RenderOptions, Rendered, ResourceDefaults, dev_workspace,
        with_default_resources,
    },
};
use model::{DesiredState, configuration::Resources};
use serde_json::{Map, Value, json};

use super::{Backend, set};
use crate::workspaces::render::Frame;

/// Asks for a volume of its own: the operator's default is one for all workspaces of a namespace, which it cleans up by a
/// job before it lets a workspace go.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
/// The operator's name for the volume that projects lie on.
const PROJECTS: &str = "projects";
/// What the operator merges into a workspace's Pod, and into a container.
const POD_OVERRIDES: &str = "pod-overrides";
const CONTAINER_OVERRIDES: &str = "container-overrides";
/// The operator's attribute for a Pod's runtime class.
const RUNTIME_CLASS: &str = "controller.devfile.io/runtime-class";
/// The operator's own way, which needs nothing but an Ingress controller.
const ROUTING_CLASS: &str = "basic";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, mut devfile: Devfile) -> Result<Rendered, RenderError> {
        let storage = devfile.attributes.entry(STORAGE_TYPE);
        storage.or_insert_with(|| json!("per-workspace"));
        name_projects_volume(&mut devfile, &frame.defaults.volume_size);
        set_up_pod(&mut devfile, frame);
        devfile
            .components
            .iter_mut()
            .for_each(|it| set_up_container(it, frame));
        let options = RenderOptions {
            started: true,
            routing_class: Some(ROUTING_CLASS.into()),
            ..frame.options(&devfile)
        };
        let mut rendered = dev_workspace(&devfile, &options)?;
        rendered.objects.extend(frame.own_objects());
        Ok(rendered)
    }

    fn in_state(&self, objects: Vec<Value>, desired: DesiredState) -> Vec<Value> {
        set(
            objects,
            "DevWorkspace",
            "/spec/started",
            &json!(desired.replicas() > 0),
        )
    }
}

/// What the file says of Pods, as overrides of the whole devfile: the operator applies them last. It copies no labels of
/// a DevWorkspace to its Pods, so the marks go the same way.
fn set_up_pod(devfile: &mut Devfile, frame: &Frame<'_>) {
    let mut overrides = overrides_of(&devfile.attributes, POD_OVERRIDES);
    let mut set = |pointer: [&str; 2], value: Value| {
        let section = overrides.entry(pointer[0]).or_insert_with(|| json!({}));
        match (section.get_mut(pointer[1]), value) {
            (Some(Value::Object(there)), Value::Object(value)) => there.extend(value),
            (_, value) => section[pointer[1]] = value,
        }
    };
    set(["metadata", "labels"], json!(frame.labels()));
    set(["metadata", "annotations"], json!(frame.pod_annotations()));
    let secrets = frame.pull_secrets();
    if !secrets.is_empty() {
        let secrets = secrets.iter().map(|name| json!({ "name": name }));
        set(["spec", "imagePullSecrets"], secrets.collect());
    }
    if frame.settings.use_kubernetes_user_namespaces {
        set(["spec", "hostUsers"], false.into());
    }
    if let Some(class) = frame.runtime_class() {
        set(["spec", "runtimeClassName"], class.clone().into());
        devfile
            .attributes
            .insert(RUNTIME_CLASS.into(), class.into());
    }
    devfile
        .attributes
        .insert(POD_OVERRIDES.into(), overrides.into());
}

/// What the file says of containers: resources where the devfile says none, and whether processes may gain privileges.
fn set_up_container(component: &mut Component, frame: &Frame<'_>) {
    let ComponentKind::Container(container) = &mut component.kind else {
        return;
    };
    let Resources { limits, requests } = &frame.settings.default_resources_per_workspace_container;
    with_default_resources(
        container,
        &ResourceDefaults {
            memory_request: requests.memory.clone(),
            memory_limit: limits.memory.clone(),
            cpu_request: requests.cpu.clone(),
            cpu_limit: limits.cpu.clone(),
        },
    );
    let mut overrides = overrides_of(&component.attributes, CONTAINER_OVERRIDES);
    let context = overrides
        .entry("securityContext")
        .or_insert_with(|| json!({}));
    context["allowPrivilegeEscalation"] = frame.settings.allow_privilege_escalation.into();
    component
        .attributes
        .insert(CONTAINER_OVERRIDES.into(), overrides.into());
}

/// An attribute's mapping, which may be written as JSON in a text too. What is none of both the operator would refuse.
fn overrides_of(attributes: &Attributes, name: &str) -> Map<String, Value> {
    let value = match attributes.get(name) {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(value) => value.clone(),
        None => Value::Null,
    };
    match value {
        Value::Object(overrides) => overrides,
        _ => Map::new(),
    }
}

/// The operator (v0.31.0) makes a workspace's volume as large as the sizes in its devfile together: 0, which no API server
/// takes, when there are none, and with no room for the projects when there are. So they get a volume with a size.
fn name_projects_volume(devfile: &mut Devfile, size: &str) {
    if devfile.components.iter().any(|it| it.name == PROJECTS) {
        return;
    }
    devfile.components.push(Component {
        name: PROJECTS.into(),
        attributes: Default::default(),
        kind: ComponentKind::Volume(Volume {
            size: Some(size.to_owned()),
            ephemeral: None,
        }),
    });
}
