//! What a renderer accepts and does not do is told.

use devfile::render::{Note, ProjectClone, RenderOptions, dev_workspace, render};

use crate::read;

fn of_objects(text: &str, change: impl FnOnce(&mut RenderOptions)) -> Vec<String> {
    let mut options = RenderOptions::new("demo", "team");
    change(&mut options);
    shown(render(&checked(text), &options).unwrap().notes)
}

fn of_dev_workspace(text: &str) -> Vec<String> {
    let options = RenderOptions::new("demo", "team");
    shown(dev_workspace(&checked(text), &options).unwrap().notes)
}

fn checked(text: &str) -> devfile::model::Devfile {
    let found = read(text);
    found
        .devfile
        .unwrap_or_else(|| panic!("{:#?}", found.diagnostics))
}

fn shown(notes: Vec<Note>) -> Vec<String> {
    notes
        .iter()
        .map(|note| format!("{}: {}", note.path, note.what))
        .collect()
}

fn with_clone(options: &mut RenderOptions) {
    options.project_clone = Some(ProjectClone {
        image: "git".into(),
        memory_limit: "256Mi".into(),
        repositories: Vec::new(),
    });
}

#[test]
fn what_a_service_cannot_do_for_an_endpoint() {
    let notes = of_objects(
        "schemaVersion: 2.2.0
components:
- name: c
  container:
    image: i
    endpoints:
    - {name: plain, targetPort: 80}
    - {name: web, targetPort: 81, exposure: public, protocol: https, secure: true, path: /a, attributes: {type: main}, annotation: {a: b}}
    - {name: debug, targetPort: 82, exposure: none, protocol: wss, secure: true}
    - {name: same, targetPort: 80, exposure: none}
- {name: k, kubernetes: {deployByDefault: true, endpoints: [{name: e, targetPort: 83}], inlined: '{apiVersion: v1, kind: ConfigMap, metadata: {name: m}}'}}
",
        |_| (),
    );
    let web = "components[name=c].container.endpoints[name=web]";
    assert_eq!(
        notes,
        [
            format!("{web}.exposure: the port is open within the cluster"),
            format!("{web}.protocol: it is opened as any TCP port"),
            format!("{web}.secure: connections within the cluster need no token"),
            format!("{web}.path: it is in no object"),
            format!("{web}.annotation: it is left out"),
            format!("{web}.attributes.type: it has no effect"),
            "components[name=c].container.endpoints[name=same].exposure: the port is open".into(),
            "components[name=k].kubernetes.endpoints: they are not opened".into(),
        ]
    );
}

#[test]
fn commands_that_nothing_runs() {
    let notes = of_objects(
        "schemaVersion: 2.2.0
components:
- {name: c, container: {image: i, command: [run]}}
- {name: img, image: {imageName: x, dockerfile: {uri: Dockerfile}}}
commands:
- {id: install, exec: {component: c, commandLine: a}}
- {id: warm, exec: {component: c, commandLine: b, hotReloadCapable: true}}
- {id: both, composite: {commands: [install, warm]}}
- {id: build, attributes: {tool: x}, exec: {component: c, commandLine: d, hotReloadCapable: false, group: {kind: build, isDefault: true}}}
- {id: image, apply: {component: img, group: {kind: deploy}}}
- {id: save, exec: {component: c, commandLine: e}}
events: {postStart: [both], preStop: [save], postStop: [image]}
",
        |_| (),
    );
    assert_eq!(
        notes,
        [
            "events.preStop: commands that take longer than 10 s are ended",
            "events.postStop: the commands do not run",
            "components[name=img].image: the image is not built",
            "commands[id=warm].exec.hotReloadCapable: it has no effect",
            "commands[id=build]: nothing runs it",
            "commands[id=build].attributes.tool: it has no effect",
            "commands[id=image]: nothing runs it",
        ]
    );
}

#[test]
fn attributes_that_nobody_reads() {
    let notes = of_objects(
        "schemaVersion: 2.2.0
metadata: {name: a, description: words, architectures: [amd64], globalMemoryLimit: 1Gi}
attributes:
  controller.devfile.io/storage-type: ephemeral
  container-overrides: {tty: true}
  pod-overrides: {spec: {nodeSelector: {a: b}}}
  api.devfile.io/imported-from: elsewhere
components:
- {name: c, attributes: {container-overrides: '{\"tty\": true', workspaceEnv: []}, container: {image: i}}
- {name: v, attributes: {container-overrides: {tty: true}}, volume: {}}
projects: [{name: p, attributes: {sparseCheckout: docs}, git: {remotes: {o: 'https://g.example/p'}}}]
",
        with_clone,
    );
    assert_eq!(
        notes,
        [
            "metadata.architectures: Pods start on nodes of any architecture",
            "metadata.globalMemoryLimit: it limits nothing",
            "attributes.container-overrides: it has no effect",
            "attributes.\"controller.devfile.io/storage-type\": it has no effect",
            "components[name=c].attributes.workspaceEnv: it has no effect",
            "components[name=v].attributes.container-overrides: it has no effect",
            "projects[name=p].attributes.sparseCheckout: it has no effect",
            "components[name=c].attributes.container-overrides: it is left out",
        ]
    );
}

#[test]
fn projects_that_are_not_cloned_as_written() {
    let notes = of_objects(
        "schemaVersion: 2.0.0
components: [{name: c, container: {image: i}}]
projects:
- {name: z, zip: {location: 'https://g.example/z.zip'}}
- {name: s, sparseCheckoutDirs: [docs], git: {remotes: {o: 'https://g.example/s'}}}
- {name: h, git: {remotes: {-o: 'https://g.example/s'}, checkoutFrom: {revision: '-b'}}}
starterProjects: [{name: t, zip: {}}]
",
        with_clone,
    );
    assert_eq!(
        notes,
        [
            "starterProjects[name=t]: it is not cloned",
            "projects[name=z].zip: it is not unpacked",
            "projects[name=s].sparseCheckoutDirs: the whole repository is cloned",
            "projects[name=h].git.checkoutFrom.revision: the default branch is checked out",
            "projects[name=h].git.remotes: the remote is called origin",
        ]
    );
    let notes = of_objects(
        "schemaVersion: 2.2.2
components: [{name: c, container: {image: i}}]
dependentProjects: [{name: d, git: {remotes: {o: 'https://g.example/d'}}}]
",
        |_| (),
    );
    assert_eq!(notes, ["dependentProjects[name=d]: it is not cloned"]);
}

#[test]
fn fields_of_containers_without_effect() {
    let notes = of_objects(
        "schemaVersion: 2.2.0
components:
- {name: c, container: {image: i, command: [run], volumeMounts: [{name: v, path: /src}], sourceMapping: /src, env: [{name: A, value: mine}], annotation: {service: {a: b}, deployment: {owner: me}}}}
- {name: d, container: {image: i, mountSources: false, sourceMapping: /src}}
- {name: before, container: {image: i, dedicatedPod: true, endpoints: [{name: e, targetPort: 1}], annotation: {deployment: {a: b}}}}
- {name: v, volume: {}}
commands: [{id: b, apply: {component: before}}]
events: {preStart: [b]}
",
        |options| {
            options.env.push(("A".into(), "ours".into()));
            options.annotations.insert("owner".into(), "us".into());
        },
    );
    assert_eq!(
        notes,
        [
            "components[name=c].container.annotation.service: it is left out",
            "components[name=c].container.volumeMounts[name=v]: the sources are not in the container",
            "components[name=c].container.annotation.owner: its value is replaced",
            "components[name=c].container.env[name=A]: its value is replaced",
            "components[name=d].container.sourceMapping: it has no effect",
            "components[name=before].container.endpoints: it has no effect",
            "components[name=before].container.dedicatedPod: it has no effect",
            "components[name=before].container.annotation: it has no effect",
        ]
    );
}

#[test]
fn a_workspace_without_a_main_pod_has_no_init_containers() {
    let notes = of_objects(
        "schemaVersion: 2.2.0
components:
- {name: c, container: {image: i, dedicatedPod: true}}
- {name: before, container: {image: i}}
commands: [{id: b, apply: {component: before}}]
events: {preStart: [b]}
projects: [{name: p, git: {remotes: {o: 'https://g.example/p'}}}]
",
        with_clone,
    );
    assert_eq!(
        notes,
        [
            "events.preStart: its containers do not run",
            "projects[name=p]: it is not cloned",
        ]
    );
}

#[test]
fn what_operators_do_not_do() {
    let notes = of_dev_workspace(
        "schemaVersion: 2.2.0
attributes: {controller.devfile.io/use-starter-project: s}
components:
- {name: c, container: {image: i, endpoints: [{name: dns, targetPort: 53, protocol: udp, annotation: {a: b}}]}}
commands:
- {id: a, exec: {component: c, commandLine: x, env: [{name: A, value: b}]}}
- {id: all, composite: {commands: [a]}}
events: {postStart: [a, all]}
",
    );
    assert_eq!(
        notes,
        [
            "attributes.\"controller.devfile.io/use-starter-project\": operators before 0.22.0 ignore it",
            "components[name=c].container.endpoints[name=dns].protocol: operators open the port as TCP",
            "components[name=c].container.endpoints[name=dns].annotation: operators before 0.31.0 ignore it",
            "commands[id=a].exec.env: operators refuse it in an event",
            "events.postStart: operators refuse all",
            "events.postStart: operators before 0.20.0 take one command for each container",
        ]
    );
}
