//! What neither implementation checks, and the cluster would refuse later.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Check;
use crate::code::Code;
use crate::model::{
    Attributes, ComponentKind, Container, Endpoint, Env, KubernetesSource, ProjectSource,
};
use crate::node::Trail;
use crate::quantity::Quantity;

pub(super) fn validate(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    attributes(check, &Trail::ROOT.key("attributes"), &devfile.attributes);
    let at = Trail::ROOT.key("components");
    for (index, component) in devfile.components.iter().enumerate() {
        let item = at.index(index);
        attributes(check, &item.key("attributes"), &component.attributes);
        let body = item.key(component.kind.name());
        ports(check, &body.key("endpoints"), component.kind.endpoints());
        match &component.kind {
            ComponentKind::Container(container) => validate_container(check, &body, container),
            ComponentKind::Volume(volume) => {
                if let Some(size) = &volume.size {
                    volume_size(check, &body.key("size"), size);
                }
            }
            ComponentKind::Kubernetes(objects) => {
                if let KubernetesSource::Inlined(text) = &objects.source {
                    inlined(check, &body.key("inlined"), text);
                }
            }
            ComponentKind::Image(image) => {
                image_name(check, &body.key("imageName"), &image.image_name)
            }
            ComponentKind::Openshift(_) | ComponentKind::Plugin(_) | ComponentKind::Custom(_) => {}
        }
    }
    let at = Trail::ROOT.key("commands");
    for (index, command) in devfile.commands.iter().enumerate() {
        let item = at.index(index);
        if let crate::model::CommandKind::Exec(exec) = &command.kind {
            let body = item.key("exec");
            env(check, &body.key("env"), &exec.env);
        }
    }
    projects(check);
    generated_names(check);
}

fn validate_container(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, container: &Container) {
    image_name(check, &at.key("image"), &container.image);
    env(check, &at.key("env"), &container.env);
    for (key, value) in [
        ("memoryLimit", &container.memory_limit),
        ("memoryRequest", &container.memory_request),
        ("cpuLimit", &container.cpu_limit),
        ("cpuRequest", &container.cpu_request),
    ] {
        let quantity = value.as_deref().map(Quantity::parse);
        if let Some(Ok(quantity)) = quantity
            && quantity.is_negative()
        {
            check.tell(
                Code::QuantityNegative,
                &at.key(key),
                format!("{key} is below zero"),
                None,
            );
        }
    }
    if let Some(path) = container
        .source_mapping
        .as_deref()
        .filter(|path| !path.is_empty() && !path.contains("{{"))
        && (!path.starts_with('/') || path == "/" || path.contains(':'))
    {
        check.tell(
            Code::SourceMappingInvalid,
            &at.key("sourceMapping"),
            format!("{path:?} is no absolute path below the root"),
            Some("for example /projects".into()),
        );
    }
    let mut paths: HashMap<String, &str> = HashMap::new();
    if container.mounts_sources() {
        paths.insert(container.projects_root().to_owned(), "the sources");
    }
    let mounts = at.key("volumeMounts");
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let item = mounts.index(index);
        let path_at = item.key("path");
        let path = mount.mount_path();
        if path.contains("{{") {
            continue;
        }
        if !path.starts_with('/') || path.contains(':') {
            check.tell(
                Code::MountPathInvalid,
                &path_at,
                format!("{path:?} is no absolute path without a colon"),
                Some(format!("did you mean /{}?", path.trim_start_matches('/'))),
            );
        }
        if let Some(other) = paths.insert(path.clone(), &mount.name) {
            // A volume component may take the place of the sources.
            if other != "the sources" {
                check.tell(
                    Code::MountPathInvalid,
                    &path_at,
                    format!("{other} is mounted at {path} already"),
                    None,
                );
            }
        }
    }
    if let Some(annotation) = &container.annotation {
        let annotation_at = at.key("annotation");
        for (kind, values) in [
            ("deployment", &annotation.deployment),
            ("service", &annotation.service),
        ] {
            let kind_at = annotation_at.key(kind);
            for (key, value) in values {
                unresolved(check, &kind_at.key(key), value);
            }
        }
    }
}

/// Why a name cannot be that of an environment variable, and whether the API server refuses it.
fn env_name_problem(name: &str) -> Option<(bool, &'static str)> {
    if name.is_empty() {
        return Some((true, "the name is empty"));
    }
    if !name
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
    {
        return Some((
            true,
            "the API server takes printable ASCII characters except =",
        ));
    }
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    let shell = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (digit_first || !shell).then_some((
        false,
        "shells take letters, digits and underscores, and no digit first",
    ))
}

fn env(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, list: &[Env]) {
    let mut seen = HashSet::new();
    for (index, env) in list.iter().enumerate() {
        let item = at.index(index);
        let name = item.key("name");
        if let Some((refused, reason)) = env_name_problem(&env.name) {
            let code = if refused {
                Code::EnvNameInvalid
            } else {
                Code::EnvNameUnusual
            };
            check.tell(code, &name, format!("{:?}: {reason}", env.name), None);
        }
        if !seen.insert(&env.name) {
            check.tell(
                Code::EnvDuplicate,
                &name,
                format!("{} is set already; the last one wins", env.name),
                None,
            );
        }
    }
}

fn ports(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, endpoints: &[Endpoint]) {
    for (index, endpoint) in endpoints.iter().enumerate() {
        let item = at.index(index);
        if !(1..=65535).contains(&endpoint.target_port) {
            check.tell(
                Code::PortOutOfRange,
                &item.key("targetPort"),
                format!("{} is no port", endpoint.target_port),
                Some("ports are 1 to 65535".into()),
            );
        }
        if !is_port_name(&endpoint.name) {
            check.tell(
                Code::PortNameInvalid,
                &item.key("name"),
                format!("{:?} cannot be the name of a port", endpoint.name),
                Some(format!("the port is called port-{}", endpoint.target_port)),
            );
        }
        let annotation = item.key("annotation");
        for (key, value) in &endpoint.annotation {
            unresolved(check, &annotation.key(key), value);
        }
    }
}

/// Whether Kubernetes takes this for the name of a port.
pub(crate) fn is_port_name(name: &str) -> bool {
    name.len() <= 15 && !name.contains("--") && name.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn image_name(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, image: &str) {
    if image.contains("{{") {
        return;
    }
    let repository = match image.split_once('@') {
        Some((repository, _)) => repository,
        None => match image.rsplit_once(':') {
            // A colon before a slash belongs to the registry's port.
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => image,
        },
    };
    // The registry's host may have upper-case letters.
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    };
    let reason = if image.trim().is_empty() {
        "it is empty"
    } else if image.contains(char::is_whitespace) {
        "it has white space"
    } else if path.contains(|c: char| c.is_ascii_uppercase()) {
        "its repository has upper-case letters"
    } else if path.is_empty() || path.contains("//") || path.ends_with('/') {
        "a part of its path is empty"
    } else {
        return;
    };
    check.tell(
        Code::ImageInvalid,
        at,
        format!("{image:?} is no image name: {reason}"),
        None,
    );
}

fn volume_size(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, size: &str) {
    let Ok(quantity) = Quantity::parse(size) else {
        return;
    };
    if quantity.is_negative() {
        check.tell(
            Code::QuantityNegative,
            at,
            "a volume's size is below zero".into(),
            None,
        );
    } else if quantity.is_zero() {
        check.tell(
            Code::QuantityZero,
            at,
            "a volume's size is zero".into(),
            None,
        );
    }
}

fn inlined(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, text: &str) {
    if text.contains("{{") {
        return;
    }
    match crate::render::kubernetes_objects(text) {
        Ok(objects) if objects.is_empty() => check.tell(
            Code::InlinedInvalid,
            at,
            "there is no object in it".into(),
            None,
        ),
        Ok(_) => {}
        Err(reason) => check.tell(Code::InlinedInvalid, at, reason, None),
    }
}

fn projects(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let mut folders: HashMap<&str, &str> = HashMap::new();
    let mut names: HashSet<&str> = HashSet::new();
    for (list, members) in [
        ("projects", &devfile.projects),
        ("dependentProjects", &devfile.dependent_projects),
    ] {
        let at = Trail::ROOT.key(list);
        for (index, project) in members.iter().enumerate() {
            let item = at.index(index);
            if let Some(path) = &project.clone_path {
                clone_path(check, &item.key("clonePath"), path);
            }
            if !names.insert(&project.name) {
                check.tell(
                    Code::ProjectDuplicate,
                    &item.key("name"),
                    format!("there is a project {} already", project.name),
                    None,
                );
            } else if let Some(other) = folders.insert(project.folder(), &project.name) {
                check.tell(
                    Code::ProjectDuplicate,
                    &item.key("clonePath"),
                    format!("project {other} is cloned to {} already", project.folder()),
                    None,
                );
            }
            zip(check, &item, &project.source);
        }
    }
    let at = Trail::ROOT.key("starterProjects");
    let mut names: HashSet<&str> = HashSet::new();
    for (index, project) in devfile.starter_projects.iter().enumerate() {
        let item = at.index(index);
        if !names.insert(&project.name) {
            check.tell(
                Code::ProjectDuplicate,
                &item.key("name"),
                format!("there is a starter project {} already", project.name),
                None,
            );
        }
        if let Some(path) = &project.sub_dir {
            clone_path(check, &item.key("subDir"), path);
        }
        zip(check, &item, &project.source);
    }
}

fn zip(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, source: &ProjectSource) {
    if let ProjectSource::Zip(zip) = source
        && zip.location.as_deref().unwrap_or_default().is_empty()
    {
        check.tell(
            Code::ZipLocationMissing,
            &at.key("zip"),
            "there is no location to download from".into(),
            None,
        );
    }
}

/// Why a path cannot be one below the projects' root.
pub(crate) fn path_escapes(path: &str) -> Option<&'static str> {
    if path.starts_with('/') {
        Some("it is absolute")
    } else if path.split(['/', '\\']).any(|part| part == "..") {
        Some("it has `..`")
    } else if path.contains('\0') {
        Some("it has a zero character")
    } else {
        None
    }
}

fn clone_path(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, path: &str) {
    if let Some(reason) = path_escapes(path) {
        check.tell(
            Code::ClonePathEscapes,
            at,
            format!("{path:?} leaves the projects' folder: {reason}"),
            None,
        );
    }
}

/// Names of objects that are made of names in the devfile.
fn generated_names(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let at = Trail::ROOT.key("components");
    for (index, component) in devfile.components.iter().enumerate() {
        // `<component>-<command>-<position>`, as init containers are called.
        let longest = devfile
            .commands
            .iter()
            .filter(|command| {
                matches!(&command.kind, crate::model::CommandKind::Apply(apply) if apply.component == component.name)
            })
            .map(|command| command.id.len())
            .max();
        let is_container = matches!(component.kind, ComponentKind::Container(_));
        if let (true, Some(longest)) = (is_container, longest)
            && component.name.len() + longest + 4 > 63
        {
            let item = at.index(index);
            check.tell(
                Code::NameTooLong,
                &item.key("name"),
                "the name of the init container made of it and its command will be cut".into(),
                None,
            );
        }
    }
}

fn attributes(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, attributes: &Attributes) {
    for (key, value) in attributes {
        if has_variable(value) {
            unresolved(check, &at.key(key), "{{");
        }
    }
}

fn has_variable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(items) => items.iter().any(has_variable),
        Value::Object(fields) => fields.values().any(has_variable),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn unresolved(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, text: &str) {
    if text.contains("{{") {
        check.tell(
            Code::UnresolvedVariable,
            at,
            "variables are not replaced here".into(),
            None,
        );
    }
}
