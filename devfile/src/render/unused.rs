//! What a devfile says and no object holds, as notes. What depends on how an object is made is noted where it is made.
//!
//! Texts for people (labels, descriptions, tags, groups of commands) ask for nothing, so that nothing is said of them.

use super::lifecycle::Plan;
use super::storage::PROJECTS;
use super::{Notes, RenderOptions, attribute_path, overrides};
use crate::model::{
    Attributes, Command, CommandKind, Component, ComponentKind, Container, Devfile, Endpoint,
    Exposure, Metadata, Protocol,
};

/// DevWorkspace Operator's choice for all volumes at once.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
/// Attributes that tell where an element is from: flattening writes them for people.
const WRITTEN: [&str; 3] = [
    "api.devfile.io/",
    "controller.devfile.io/imported-by",
    "controller.devfile.io/merged-contributions",
];
/// Attributes that choose a container for the editor.
const PLACING: [&str; 2] = [super::editor::INJECT, super::editor::MERGE];

/// Tells of the whole devfile, whose editor may be in the main Pod.
pub(super) fn tell(
    devfile: &Devfile,
    options: &RenderOptions,
    plan: &Plan<'_>,
    has_editor: bool,
    notes: &mut Notes,
) {
    if let Some(metadata) = &devfile.metadata {
        head(metadata, notes);
    }
    attributes(&devfile.attributes, "attributes.", &[overrides::POD], notes);
    let running: Vec<(&Component, &Container)> = devfile
        .containers()
        .filter(|(component, _)| !plan.init_only.contains(component.name.as_str()))
        .collect();
    let in_main: Vec<&Container> = running
        .iter()
        .map(|(_, container)| *container)
        .filter(|container| !container.has_dedicated_pod())
        .collect();
    let main_opens = has_editor || in_main.iter().any(|container| opens(container));
    for component in &devfile.components {
        let path = format!("components[name={}]", component.name);
        let mut read = vec![overrides::POD];
        if let ComponentKind::Container(container) = &component.kind {
            read.push(overrides::CONTAINER);
            if options.editor.is_some() {
                read.extend(PLACING);
            }
            let path = format!("{path}.container");
            if plan.init_only.contains(component.name.as_str()) {
                before_the_start(container, &path, notes);
            } else {
                let has_service = if container.has_dedicated_pod() {
                    opens(container)
                } else {
                    main_opens
                };
                beside_others(container, has_service, &path, notes);
            }
            any_container(container, options, &path, notes);
        } else {
            other(component, &path, notes);
        }
        attributes(
            &component.attributes,
            &format!("{path}.attributes."),
            &read,
            notes,
        );
    }
    for command in &devfile.commands {
        self::command(command, plan, notes);
    }
    projects(devfile, notes);
    if in_main.is_empty() && !running.is_empty() {
        without_main(devfile, plan, notes);
    }
}

fn head(metadata: &Metadata, notes: &mut Notes) {
    for (field, what, why) in [
        (
            "architectures",
            "Pods start on nodes of any architecture",
            "pod-overrides with a nodeSelector choose nodes",
        ),
        (
            "globalMemoryLimit",
            "it limits nothing",
            "memory is limited for each container",
        ),
    ] {
        if metadata.other.contains_key(field) {
            notes.add(format!("metadata.{field}"), what, why);
        }
    }
}

/// Attributes that nobody reads here. `path` ends with what stands in front of a key.
fn attributes(attributes: &Attributes, path: &str, read: &[&str], notes: &mut Notes) {
    let unread = attributes.keys().filter(|key| {
        !read.contains(&key.as_str()) && !WRITTEN.iter().any(|written| key.starts_with(written))
    });
    for key in unread {
        let why = if key == STORAGE_TYPE {
            "each volume is a claim or ephemeral as its component says; only DevWorkspace Operator knows types of storage"
        } else {
            "only the tool that defines it knows it"
        };
        notes.add(attribute_path(path, key), "it has no effect", why);
    }
}

/// Components without a container.
fn other(component: &Component, path: &str, notes: &mut Notes) {
    let path = format!("{path}.{}", component.kind.name());
    match &component.kind {
        ComponentKind::Image(_) => notes.add(
            path,
            "the image is not built",
            "images are built before a workspace starts",
        ),
        ComponentKind::Custom(_) => notes.add(
            path,
            "the component is left out",
            "only the tool that defines it knows it",
        ),
        ComponentKind::Kubernetes(own) | ComponentKind::Openshift(own) => {
            if !own.endpoints.is_empty() {
                notes.add(
                    format!("{path}.endpoints"),
                    "they are not opened",
                    "its objects bring Services of their own",
                );
            }
        }
        ComponentKind::Container(_) | ComponentKind::Volume(_) | ComponentKind::Plugin(_) => {}
    }
}

/// What a container that has ended when the others start cannot have.
fn before_the_start(container: &Container, path: &str, notes: &mut Notes) {
    let annotation = container.annotation.as_ref();
    for (is_said, field) in [
        (!container.endpoints.is_empty(), "endpoints"),
        (container.has_dedicated_pod(), "dedicatedPod"),
        (
            annotation.is_some_and(|it| !it.deployment.is_empty() || !it.service.is_empty()),
            "annotation",
        ),
    ] {
        if is_said {
            notes.add(
                format!("{path}.{field}"),
                "it has no effect",
                "the container runs in the main Pod and ends before the others start",
            );
        }
    }
}

fn beside_others(container: &Container, has_service: bool, path: &str, notes: &mut Notes) {
    for one in &container.endpoints {
        let path = format!("{path}.endpoints[name={}]", one.name);
        endpoint(one, container, &path, notes);
    }
    let annotation = container.annotation.as_ref();
    if !has_service && annotation.is_some_and(|it| !it.service.is_empty()) {
        notes.add(
            format!("{path}.annotation.service"),
            "it is left out",
            "no endpoint is open, so that no Service is made",
        );
    }
}

fn any_container(container: &Container, options: &RenderOptions, path: &str, notes: &mut Notes) {
    let root = container.projects_root();
    if !container.mounts_sources() && container.source_mapping.is_some() {
        notes.add(
            format!("{path}.sourceMapping"),
            "it has no effect",
            "the sources are not in the container",
        );
    }
    for mount in &container.volume_mounts {
        if container.mounts_sources() && mount.mount_path() == root && mount.name != PROJECTS {
            notes.add(
                format!("{path}.volumeMounts[name={}]", mount.name),
                "the sources are not in the container",
                format!("this volume has their place, {root}"),
            );
        }
    }
    if let Some(annotation) = &container.annotation {
        let both = annotation.deployment.iter().chain(&annotation.service);
        for (key, value) in both {
            if options.annotations.get(key).is_some_and(|it| it != value) {
                notes.add(
                    attribute_path(&format!("{path}.annotation."), key),
                    "its value is replaced",
                    "the workspace sets this annotation itself",
                );
            }
        }
    }
    for own in &container.env {
        if options.env.iter().any(|(name, _)| *name == own.name) {
            notes.add(
                format!("{path}.env[name={}]", own.name),
                "its value is replaced",
                "the workspace sets this variable itself",
            );
        }
    }
}

fn is_open(endpoint: &Endpoint) -> bool {
    endpoint.exposure() != Exposure::None
}

fn opens(container: &Container) -> bool {
    container.endpoints.iter().any(is_open)
}

fn endpoint(endpoint: &Endpoint, container: &Container, path: &str, notes: &mut Notes) {
    if endpoint.exposure == Some(Exposure::Public) {
        notes.add(
            format!("{path}.exposure"),
            "the port is open within the cluster",
            "a Service is made; who may come from outside is up to whoever applies the objects",
        );
    }
    let opened_by_other = || {
        let same_port = |it: &&Endpoint| it.target_port == endpoint.target_port;
        container.endpoints.iter().filter(same_port).any(is_open)
    };
    if !is_open(endpoint) && opened_by_other() {
        notes.add(
            format!("{path}.exposure"),
            "the port is open",
            "another endpoint opens the same port",
        );
    }
    let has_tls = matches!(endpoint.protocol(), Protocol::Https | Protocol::Wss);
    if is_open(endpoint) && has_tls {
        notes.add(
            format!("{path}.protocol"),
            "it is opened as any TCP port",
            "a Service does not tell what is spoken",
        );
    }
    if is_open(endpoint) && endpoint.secure == Some(true) {
        notes.add(
            format!("{path}.secure"),
            "connections within the cluster need no token",
            "a Service asks nobody who they are",
        );
    }
    if endpoint.path.as_deref().is_some_and(|it| !it.is_empty()) {
        notes.add(
            format!("{path}.path"),
            "it is in no object",
            "a Service opens ports, not paths; whoever lists the endpoint opens it there",
        );
    }
    if !endpoint.annotation.is_empty() {
        notes.add(
            format!("{path}.annotation"),
            "it is left out",
            "no object is made for a single endpoint; annotation.service is for the Service of all",
        );
    }
    attributes(
        &endpoint.attributes,
        &format!("{path}.attributes."),
        &[],
        notes,
    );
}

fn command(command: &Command, plan: &Plan<'_>, notes: &mut Notes) {
    let path = format!("commands[id={}]", command.id);
    match &command.kind {
        CommandKind::Custom(_) | CommandKind::VscodeTask(_) | CommandKind::VscodeLaunch(_) => {
            notes.add(
                format!("{path}.{}", command.kind.name()),
                "the command is left out",
                "only the tool that defines it knows it",
            );
        }
        CommandKind::Exec(_) | CommandKind::Apply(_) | CommandKind::Composite(_) => {
            if !plan.run.contains(command.id.as_str()) {
                notes.add(
                    path.clone(),
                    "nothing runs it",
                    "no preStart, postStart or preStop event names it; it is for tools that read the devfile",
                );
            }
        }
    }
    if let CommandKind::Exec(exec) = &command.kind
        && exec.hot_reload_capable == Some(true)
    {
        notes.add(
            format!("{path}.exec.hotReloadCapable"),
            "it has no effect",
            "no program is started again because sources changed",
        );
    }
    attributes(
        &command.attributes,
        &format!("{path}.attributes."),
        &[],
        notes,
    );
}

fn projects(devfile: &Devfile, notes: &mut Notes) {
    for project in &devfile.starter_projects {
        notes.add(
            format!("starterProjects[name={}]", project.name),
            "it is not cloned",
            "starter projects are for new projects; none was chosen",
        );
    }
    for (path, project) in super::projects::listed(devfile) {
        let path = format!("{path}.attributes.");
        attributes(&project.attributes, &path, &[], notes);
    }
}

/// All containers have Pods of their own, so that nobody shares the work before the start with them.
fn without_main(devfile: &Devfile, plan: &Plan<'_>, notes: &mut Notes) {
    let why = "init containers are in the main Pod, and every container has a Pod of its own";
    if !plan.init.is_empty() {
        notes.add("events.preStart", "its containers do not run", why);
    }
    for (path, _) in super::projects::listed(devfile) {
        notes.add(path, "it is not cloned", why);
    }
}
