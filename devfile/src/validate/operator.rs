//! What DevWorkspace Operator checks beside the components: events, projects, overrides, its own attributes.

use std::collections::HashMap;

use super::{Check, commands, projects};
use crate::code::Code;
use crate::model::{Attributes, CommandKind, ComponentKind, KubernetesSource, Project};
use crate::node::Trail;

const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
const STORAGE_TYPES: [&str; 6] = [
    "",
    "common",
    "per-user",
    "per-workspace",
    "ephemeral",
    "async",
];
const CONTAINER_OVERRIDES: &str = "container-overrides";
const POD_OVERRIDES: &str = "pod-overrides";
const FIXED_CONTAINER_FIELDS: [&str; 6] = ["name", "image", "command", "args", "ports", "env"];
const FIXED_POD_FIELDS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn validate(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    if !check.rules.library {
        let by_id = commands::by_id(devfile);
        commands::events(check, &by_id);
        projects::validate(check);
    }
    let at = Trail::ROOT.key("dependentProjects");
    projects::validate_list(
        check,
        &at,
        &devfile.dependent_projects,
        Code::OperatorDependentRemotes,
    );
    same_projects(check);
    events(check);
    let at = Trail::ROOT.key("attributes");
    storage_type(check, &at);
    pod_overrides(check, &at, &devfile.attributes);
    let at = Trail::ROOT.key("components");
    for (index, component) in devfile.components.iter().enumerate() {
        let item = at.index(index);
        let attributes = item.key("attributes");
        pod_overrides(check, &attributes, &component.attributes);
        let body = item.key(component.kind.name());
        match &component.kind {
            ComponentKind::Container(container) => {
                fixed_fields(
                    check,
                    &attributes.key(CONTAINER_OVERRIDES),
                    component.attributes.get(CONTAINER_OVERRIDES),
                    &FIXED_CONTAINER_FIELDS,
                );
                if container.has_dedicated_pod() {
                    unsupported(check, &body.key("dedicatedPod"), "a Pod of its own");
                }
                if container
                    .annotation
                    .as_ref()
                    .is_some_and(|annotation| !annotation.service.is_empty())
                {
                    let annotation = body.key("annotation");
                    unsupported(
                        check,
                        &annotation.key("service"),
                        "the Service's annotations",
                    );
                }
            }
            ComponentKind::Kubernetes(objects) | ComponentKind::Openshift(objects) => {
                if let KubernetesSource::Uri(uri) = &objects.source {
                    check.tell(
                        Code::OperatorKubernetesUri,
                        &body.key("uri"),
                        format!("the operator does not read {uri}"),
                        Some("flatten the devfile to put its content in".into()),
                    );
                }
            }
            ComponentKind::Image(_) => unsupported(check, &body, "building images"),
            ComponentKind::Custom(_) => unsupported(check, &body, "custom components"),
            ComponentKind::Volume(_) | ComponentKind::Plugin(_) => {}
        }
    }
}

fn unsupported(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, what: &str) {
    check.tell(
        Code::OperatorUnsupported,
        at,
        format!("the operator does not do this: {what}"),
        None,
    );
}

fn same_projects(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut folders: HashMap<&str, &str> = HashMap::new();
    for (list, members) in [
        ("projects", &devfile.projects),
        ("dependentProjects", &devfile.dependent_projects),
    ] {
        let at = Trail::ROOT.key(list);
        for (index, project) in members.iter().enumerate() {
            let item = at.index(index);
            same(check, &item, list, project, &mut names, &mut folders);
        }
    }
}

fn same<'a>(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    list: &'a str,
    project: &'a Project,
    names: &mut HashMap<&'a str, &'a str>,
    folders: &mut HashMap<&'a str, &'a str>,
) {
    if let Some(other) = names.insert(&project.name, list) {
        check.tell(
            Code::OperatorProjects,
            &at.key("name"),
            format!("there is a project {} in {other} already", project.name),
            None,
        );
    } else if let Some(other) = folders.insert(project.folder(), &project.name) {
        check.tell(
            Code::OperatorProjects,
            &at.key("clonePath"),
            format!("project {other} is cloned to {} already", project.folder()),
            None,
        );
    }
}

fn events(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let Some(events) = &devfile.events else {
        return;
    };
    let at = Trail::ROOT.key("events");
    for (event, ids, code) in [
        ("preStart", &events.pre_start, Code::OperatorPreStart),
        ("postStart", &events.post_start, Code::OperatorEvent),
        ("preStop", &events.pre_stop, Code::OperatorEvent),
    ] {
        let list = at.key(event);
        for (index, id) in ids.iter().enumerate() {
            let composite = devfile
                .command(id)
                .filter(|command| matches!(command.kind, CommandKind::Composite(_)));
            if let Some(command) = composite {
                check.tell(
                    code,
                    &list.index(index),
                    format!("{} is a composite command", command.id),
                    Some("name its commands one by one".into()),
                );
            }
        }
    }
    if !events.post_stop.is_empty() {
        unsupported(check, &at.key("postStop"), "commands after the stop");
    }
}

fn storage_type(check: &mut Check<'_, '_, '_>, at: &Trail<'_>) {
    let Some(value) = check.devfile.attributes.get(STORAGE_TYPE) else {
        return;
    };
    let known = value
        .as_str()
        .is_some_and(|value| STORAGE_TYPES.contains(&value));
    if !known {
        check.tell(
            Code::OperatorStorageType,
            &at.key(STORAGE_TYPE),
            format!("{value} is no storage type"),
            value
                .as_str()
                .and_then(|value| crate::schema::nearest(value, STORAGE_TYPES.into_iter()))
                .map(|near| format!("did you mean {near}?")),
        );
    }
}

fn pod_overrides(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, attributes: &Attributes) {
    let Some(overrides) = attributes.get(POD_OVERRIDES) else {
        return;
    };
    let overrides_at = at.key(POD_OVERRIDES);
    fixed_fields(
        check,
        &overrides_at.key("spec"),
        overrides.get("spec"),
        &FIXED_POD_FIELDS,
    );
}

fn fixed_fields(
    check: &mut Check<'_, '_, '_>,
    at: &Trail<'_>,
    value: Option<&serde_json::Value>,
    fixed: &[&str],
) {
    for field in fixed {
        if value.and_then(|value| value.get(field)).is_some() {
            check.tell(
                Code::OperatorOverride,
                &at.key(field),
                format!("{field} may not be overridden"),
                None,
            );
        }
    }
}
