//! A devfile as a DevWorkspace for DevWorkspace Operator.

use serde_json::{Map, Value, json};

use super::{Notes, RenderError, RenderOptions, Rendered, attribute_path, metadata, names};
use crate::document::API_VERSION;
use crate::model::{
    CommandKind, ComponentKind, Devfile, Endpoint, KubernetesSource, ProjectSource, Protocol,
};

/// Renders to one DevWorkspace object. What an operator of a certain version does not do is in the notes.
///
/// # Errors
/// When the name is none.
pub fn dev_workspace(devfile: &Devfile, options: &RenderOptions) -> Result<Rendered, RenderError> {
    if !names::is_workspace_name(&options.name) {
        return Err(RenderError::WorkspaceName {
            name: options.name.clone(),
        });
    }
    let mut notes = Notes::default();
    let mut template = devfile.clone();
    template.schema_version = String::new();
    if template.metadata.take().is_some() {
        notes.add(
            "metadata",
            "it is left out",
            "a DevWorkspace has no place for it",
        );
    }
    if options.editor.is_some() {
        notes.add(
            "components",
            "no editor is brought in",
            "it is brought into Deployments only; name one as a component of the devfile",
        );
    }
    fit(&mut template, &mut notes);
    tell(&template, &mut notes);
    let mut spec = Map::new();
    spec.insert("started".into(), options.started.into());
    if let Some(class) = &options.routing_class {
        spec.insert("routingClass".into(), class.clone().into());
    }
    spec.insert("template".into(), json!(template));
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "DevWorkspace",
        "metadata": metadata(options, &options.name),
        "spec": spec,
    });
    Ok(Rendered {
        objects: vec![object],
        notes: notes.list,
        editor: None,
    })
}

/// Changes what only devfiles of 2.0.0 have, so that the object is accepted.
fn fit(template: &mut Devfile, notes: &mut Notes) {
    template.commands.retain(|command| {
        let known = !matches!(
            command.kind,
            CommandKind::VscodeTask(_) | CommandKind::VscodeLaunch(_)
        );
        if !known {
            notes.add(
                format!("commands[id={}].{}", command.id, command.kind.name()),
                "the command is left out",
                "DevWorkspaces have no such commands",
            );
        }
        known
    });
    let sources = template
        .projects
        .iter_mut()
        .map(|project| &mut project.source)
        .chain(
            template
                .starter_projects
                .iter_mut()
                .map(|project| &mut project.source),
        );
    for source in sources {
        if let ProjectSource::Github(git) = source {
            *source = ProjectSource::Git(git.clone());
        }
    }
    for project in &mut template.projects {
        if !project.sparse_checkout_dirs.is_empty() {
            notes.add(
                format!("projects[name={}].sparseCheckoutDirs", project.name),
                "it became the attribute sparseCheckout",
                "DevWorkspaces have no such field; operators since 0.22.0 read the attribute",
            );
            let folders = project.sparse_checkout_dirs.join(" ");
            project
                .attributes
                .insert("sparseCheckout".into(), Value::from(folders));
            project.sparse_checkout_dirs.clear();
        }
    }
}

/// Attributes that operators read since a version.
const NEWER_ATTRIBUTES: [(&str, &str); 2] = [
    ("controller.devfile.io/use-starter-project", "0.22.0"),
    ("controller.devfile.io/bootstrap-devworkspace", "0.25.0"),
];

fn tell(template: &Devfile, notes: &mut Notes) {
    for (attribute, version) in NEWER_ATTRIBUTES {
        if template.attributes.contains_key(attribute) {
            notes.add(
                attribute_path("attributes.", attribute),
                format!("operators before {version} ignore it"),
                "they do not know this attribute",
            );
        }
    }
    if !template.dependent_projects.is_empty() {
        notes.add(
            "dependentProjects",
            "operators before 0.25.0 do not have it",
            "their DevWorkspace has no such field: the API server drops it, or refuses it when it is strict",
        );
    }
    for component in &template.components {
        let path = format!(
            "components[name={}].{}",
            component.name,
            component.kind.name()
        );
        match &component.kind {
            ComponentKind::Kubernetes(objects) | ComponentKind::Openshift(objects) => {
                notes.add(
                    path.clone(),
                    "operators before 0.18.0 ignore it",
                    "later ones apply one inlined object of a component with deployByDefault",
                );
                if let KubernetesSource::Uri(_) = objects.source {
                    notes.add(
                        format!("{path}.uri"),
                        "operators ignore it",
                        "they read inlined objects only",
                    );
                }
            }
            ComponentKind::Image(_) | ComponentKind::Custom(_) => {
                notes.add(
                    path,
                    "operators ignore it",
                    "they do not support such components",
                );
            }
            ComponentKind::Container(container) => {
                for one in &container.endpoints {
                    endpoint(one, &format!("{path}.endpoints[name={}]", one.name), notes);
                }
                if container.has_dedicated_pod() {
                    notes.add(
                        format!("{path}.dedicatedPod"),
                        "operators ignore it",
                        "all containers run in one Pod",
                    );
                }
                if let Some(annotation) = &container.annotation {
                    if !annotation.service.is_empty() {
                        notes.add(
                            format!("{path}.annotation.service"),
                            "operators ignore it",
                            "they do not set annotations of Services",
                        );
                    }
                    if !annotation.deployment.is_empty() {
                        notes.add(
                            format!("{path}.annotation.deployment"),
                            "operators before 0.29.0 ignore it",
                            "they do not set annotations of Deployments",
                        );
                    }
                }
            }
            ComponentKind::Volume(_) | ComponentKind::Plugin(_) => {}
        }
    }
    let Some(events) = &template.events else {
        return;
    };
    if !events.pre_stop.is_empty() {
        notes.add(
            "events.preStop",
            "operators before 0.24.0 do not run it",
            "they do not support the event",
        );
    }
    if !events.post_stop.is_empty() {
        notes.add(
            "events.postStop",
            "operators do not run it",
            "they do not support the event",
        );
    }
    for (event, ids) in [
        ("preStart", &events.pre_start),
        ("postStart", &events.post_start),
        ("preStop", &events.pre_stop),
    ] {
        let commands = ids.iter().filter_map(|id| template.command(id));
        for command in commands {
            match &command.kind {
                CommandKind::Composite(_) => notes.add(
                    format!("events.{event}"),
                    format!("operators refuse {}", command.id),
                    "they take no composite commands in events; name its commands one by one",
                ),
                CommandKind::Exec(exec) if !exec.env.is_empty() => notes.add(
                    format!("commands[id={}].exec.env", command.id),
                    "operators refuse it in an event",
                    "they set it only with the setting postStartTimeout, since 0.37.0",
                ),
                _ => {}
            }
        }
    }
    if events.post_start.len() > 1 {
        notes.add(
            "events.postStart",
            "operators before 0.20.0 take one command for each container",
            "they refuse several",
        );
    }
}

fn endpoint(endpoint: &Endpoint, path: &str, notes: &mut Notes) {
    if endpoint.protocol() == Protocol::Udp {
        notes.add(
            format!("{path}.protocol"),
            "operators open the port as TCP",
            "they know no other ports",
        );
    }
    if !endpoint.annotation.is_empty() {
        notes.add(
            format!("{path}.annotation"),
            "operators before 0.31.0 ignore it",
            "they do not set annotations of Ingresses",
        );
    }
}
