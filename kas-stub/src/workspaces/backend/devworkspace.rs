//! One DevWorkspace; DevWorkspace Operator makes the rest of it.

use ::devfile::{
    model::{Attributes, Component, ComponentKind, Devfile},
    render::{
        RenderError, RenderOptions, Rendered, ResourceDefaults, dev_workspace, for_operator,
        with_default_resources,
    },
};
use model::{DesiredState, configuration::Resources};
use serde_json::{Map, Value, json};

use super::{Backend, set};
use crate::workspaces::{endpoints::is_main, render::Frame};

/// What the operator merges into a workspace's Pod, and into a container.
const POD_OVERRIDES: &str = "pod-overrides";
const CONTAINER_OVERRIDES: &str = "container-overrides";
/// The operator's attribute for a Pod's runtime class.
const RUNTIME_CLASS: &str = "controller.devfile.io/runtime-class";
/// Of the operator's own ways the one that makes Services and nothing else: people come through the tunnel, so that the
/// cluster needs no Ingress, and the operator no setting. Its `mainUrl` then leads to the Service, inside the cluster.
const ROUTING_CLASS: &str = "cluster";
/// Where the operator runs, on Kubernetes and on OpenShift, by its own manifests; and its Pods there.
const OPERATOR_NAMESPACES: [&str; 2] = ["devworkspace-controller", "openshift-operators"];
const OPERATOR_LABEL: (&str, &str) = ("app.kubernetes.io/name", "devworkspace-controller");
/// What Kubernetes itself writes on each namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

#[derive(Debug)]
pub(super) struct Devworkspace;

impl Backend for Devworkspace {
    fn objects(&self, frame: &Frame<'_>, mut devfile: Devfile) -> Result<Rendered, RenderError> {
        let options = RenderOptions {
            started: true,
            routing_class: Some(ROUTING_CLASS.into()),
            ..frame.options(&devfile)
        };
        let mut notes = for_operator(&mut devfile, &options)?;
        set_up_pod(&mut devfile, frame);
        devfile
            .components
            .iter_mut()
            .for_each(|it| set_up_container(it, frame));
        let mut rendered = dev_workspace(&devfile, &options)?;
        notes.append(&mut rendered.notes);
        rendered.notes = notes;
        let mut own = frame.own_objects();
        admit_operator(&mut own, &devfile);
        rendered.objects.extend(own);
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

/// What the file says of Pods, as overrides of the whole devfile, which the operator applies last.
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

/// Lets the operator ask the main endpoint whether it is well: it calls a workspace Running only then.
fn admit_operator(objects: &mut [Value], devfile: &Devfile) {
    let mut endpoints = devfile.containers().flat_map(|(_, it)| &it.endpoints);
    let Some(main) = endpoints.find(|it| is_main(it)) else {
        return;
    };
    let peers = OPERATOR_NAMESPACES.map(|namespace| {
        json!({
            "namespaceSelector": { "matchLabels": { NAMESPACE_LABEL: namespace } },
            "podSelector": { "matchLabels": { OPERATOR_LABEL.0: OPERATOR_LABEL.1 } },
        })
    });
    let rule = json!({ "from": peers, "ports": [{ "port": main.target_port, "protocol": "TCP" }] });
    for policy in objects
        .iter_mut()
        .filter(|it| it["kind"] == "NetworkPolicy")
    {
        if let Some(ingress) = policy["spec"]["ingress"].as_array_mut() {
            ingress.push(rule.clone());
        }
    }
}
