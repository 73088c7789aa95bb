//! The library's rules for components. The operator has the same ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Check, is_valid_uri};
use crate::code::Code;
use crate::model::{
    Component, ComponentKind, Container, DockerfileSource, Endpoint, KubernetesSource,
};
use crate::node::Trail;
use crate::quantity::{self, Quantity};

/// What containers are told by tools.
const RESERVED_ENV: [&str; 2] = ["PROJECTS_ROOT", "PROJECT_SOURCE"];

#[derive(Default)]
struct Seen<'a> {
    names: HashSet<&'a str>,
    endpoint_names: HashMap<&'a str, &'a str>,
    container_ports: HashMap<i64, &'a str>,
    deployment: BTreeMap<&'a str, (&'a str, &'a str)>,
    service: BTreeMap<&'a str, (&'a str, &'a str)>,
}

pub(super) fn validate(check: &mut Check<'_, '_, '_>) {
    let devfile = check.devfile;
    let components = Trail::ROOT.key("components");
    let volumes: HashSet<&str> = devfile
        .volumes()
        .map(|(component, _)| component.name.as_str())
        .collect();
    let mut seen = Seen::default();
    for (index, component) in devfile.components.iter().enumerate() {
        let at = components.index(index);
        if !seen.names.insert(&component.name) {
            check.tell(
                Code::DuplicateName,
                &at.key("name"),
                format!("there is a component {} already", component.name),
                None,
            );
        }
        let body = at.key(component.kind.name());
        match &component.kind {
            ComponentKind::Container(container) => {
                validate_container(check, &body, component, container, &volumes, &mut seen);
            }
            ComponentKind::Volume(volume) => {
                if let Some(size) = volume.size.as_deref().filter(|size| !size.is_empty()) {
                    read_quantity(check, &body.key("size"), size);
                }
            }
            ComponentKind::Kubernetes(objects) | ComponentKind::Openshift(objects) => {
                if let KubernetesSource::Uri(uri) = &objects.source {
                    validate_uri(check, &body.key("uri"), uri);
                }
                let endpoints = body.key("endpoints");
                validate_names(check, &endpoints, component, &objects.endpoints, &mut seen);
            }
            ComponentKind::Image(image) => {
                let source = image.dockerfile.as_ref().map(|file| &file.source);
                if let Some(DockerfileSource::Git(git)) = source {
                    let dockerfile = body.key("dockerfile");
                    let git_at = dockerfile.key("git");
                    super::projects::single_remote(
                        check,
                        &git_at,
                        git,
                        Code::ImageRemotes,
                        &format!("image component {}", component.name),
                    );
                }
            }
            ComponentKind::Plugin(plugin) => {
                let registry = plugin.fields.get("registryUrl");
                if let Some(uri) = registry.and_then(|value| value.as_str()) {
                    validate_uri(check, &body.key("registryUrl"), uri);
                }
            }
            ComponentKind::Custom(_) => {}
        }
    }
}

fn validate_container<'a>(
    check: &mut Check<'a, '_, '_>,
    at: &Trail<'_>,
    component: &'a Component,
    container: &'a Container,
    volumes: &HashSet<&str>,
    seen: &mut Seen<'a>,
) {
    let env_at = at.key("env");
    for (index, env) in container.env.iter().enumerate() {
        if RESERVED_ENV.contains(&env.name.as_str()) {
            let item = env_at.index(index);
            check.tell(
                Code::EnvReserved,
                &item.key("name"),
                format!("{} is set by the tools that run the container", env.name),
                Some("use sourceMapping to move the sources, or choose another name".into()),
            );
        }
    }
    let mounts_at = at.key("volumeMounts");
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        if !volumes.contains(mount.name.as_str()) {
            let item = mounts_at.index(index);
            let near = crate::schema::nearest(&mount.name, volumes.iter().copied());
            let hint = near.map_or_else(
                || format!("add a component: name: {}, volume: {{}}", mount.name),
                |near| format!("did you mean {near}?"),
            );
            check.tell(
                Code::VolumeMissing,
                &item.key("name"),
                format!(
                    "container {} mounts {}, which is no volume component",
                    component.name, mount.name
                ),
                Some(hint),
            );
        }
    }
    for (request, request_key, limit, limit_key) in [
        (
            &container.memory_request,
            "memoryRequest",
            &container.memory_limit,
            "memoryLimit",
        ),
        (
            &container.cpu_request,
            "cpuRequest",
            &container.cpu_limit,
            "cpuLimit",
        ),
    ] {
        let mut read = |text: &Option<String>, key| {
            let text = text.as_deref().filter(|text| !text.is_empty())?;
            read_quantity(check, &at.key(key), text)
        };
        let limit = read(limit, limit_key);
        let request = read(request, request_key);
        if let (Some(request), Some(limit)) = (request, limit)
            && !limit.is_zero()
            && request > limit
        {
            check.tell(
                Code::RequestAboveLimit,
                &at.key(request_key),
                format!(
                    "container {}: {request_key} is greater than {limit_key}",
                    component.name
                ),
                None,
            );
        }
    }
    if let (Some(annotation), false) = (&container.annotation, container.has_dedicated_pod()) {
        let annotation_at = at.key("annotation");
        for (kind, given, known) in [
            ("deployment", &annotation.deployment, &mut seen.deployment),
            ("service", &annotation.service, &mut seen.service),
        ] {
            let kind_at = annotation_at.key(kind);
            for (key, value) in given {
                match known.get(key.as_str()) {
                    Some((other, owner)) if other != value => {
                        check.tell(
                            Code::AnnotationConflict,
                            &kind_at.key(key),
                            format!(
                                "the {kind} annotation {key} has another value in container {owner}"
                            ),
                            None,
                        );
                    }
                    Some(_) => {}
                    None => {
                        known.insert(key, (value, &component.name));
                    }
                }
            }
        }
    }
    let endpoints_at = at.key("endpoints");
    validate_names(check, &endpoints_at, component, &container.endpoints, seen);
    validate_ports(check, &endpoints_at, component, container, seen);
}

fn validate_names<'a>(
    check: &mut Check<'a, '_, '_>,
    at: &Trail<'_>,
    component: &'a Component,
    endpoints: &'a [Endpoint],
    seen: &mut Seen<'a>,
) {
    for (index, endpoint) in endpoints.iter().enumerate() {
        match seen.endpoint_names.get(endpoint.name.as_str()) {
            Some(owner) => {
                let item = at.index(index);
                check.tell(
                    Code::EndpointNameDuplicate,
                    &item.key("name"),
                    format!(
                        "component {owner} has an endpoint {} already",
                        endpoint.name
                    ),
                    None,
                );
            }
            None => {
                seen.endpoint_names.insert(&endpoint.name, &component.name);
            }
        }
    }
}

fn validate_ports<'a>(
    check: &mut Check<'a, '_, '_>,
    at: &Trail<'_>,
    component: &'a Component,
    container: &'a Container,
    seen: &mut Seen<'a>,
) {
    let mut own = HashSet::new();
    for (index, endpoint) in container.endpoints.iter().enumerate() {
        if !own.insert(endpoint.target_port) {
            continue;
        }
        match seen.container_ports.get(&endpoint.target_port) {
            Some(owner) => {
                let item = at.index(index);
                check.tell(
                    Code::EndpointPortShared,
                    &item.key("targetPort"),
                    format!(
                        "container {owner} listens on port {} already",
                        endpoint.target_port
                    ),
                    None,
                );
            }
            None => {
                seen.container_ports
                    .insert(endpoint.target_port, &component.name);
            }
        }
    }
}

fn read_quantity(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, text: &str) -> Option<Quantity> {
    let quantity = Quantity::parse(text).ok();
    if quantity.is_none() {
        let hint = if text.contains("{{") {
            match at.last_key() {
                Some("cpuLimit" | "cpuRequest") => {
                    Some("variables are not replaced in cpuLimit and cpuRequest".into())
                }
                _ => Some("the variable has no value".into()),
            }
        } else {
            quantity::repair(text).map_or_else(
                || Some("examples: 512Mi, 2Gi, 500m, 0.5".into()),
                |repaired| Some(format!("did you mean {repaired}?")),
            )
        };
        check.tell(
            Code::QuantityInvalid,
            at,
            format!("{text:?} is no quantity"),
            hint,
        );
    }
    quantity
}

fn validate_uri(check: &mut Check<'_, '_, '_>, at: &Trail<'_>, uri: &str) {
    if let Err(reason) = is_valid_uri(uri) {
        check.tell(
            Code::UriInvalid,
            at,
            format!("{uri:?} cannot be read as a uri: {reason}"),
            None,
        );
    }
}
