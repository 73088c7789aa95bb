//! What people reported about the existing implementations, by the tracker's number.

use devfile::flatten::{FlattenOptions, NoFetch, Style, flatten};
use devfile::model::Devfile;
use devfile::render::{ProjectClone, RenderOptions, Rendered, dev_workspace, render};
use serde_json::json;

use crate::{library, read, read_with, told};

fn rendered(text: &str) -> Rendered {
    let found = flatten(
        "/w/devfile.yaml",
        text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let devfile = found
        .devfile
        .unwrap_or_else(|| panic!("{:#?}", found.diagnostics));
    render(&devfile, &RenderOptions::new("demo", "team")).unwrap()
}

fn container(result: &Rendered, index: usize) -> &serde_json::Value {
    let deployment = result.objects.last().unwrap();
    &deployment["spec"]["template"]["spec"]["containers"][index]
}

/// The child of a parent, flattened.
fn with_parent(child: &str, parent: &str) -> Devfile {
    let found = read_with(child, &FlattenOptions::default(), &[("/w/p.yaml", parent)]);
    found
        .devfile
        .unwrap_or_else(|| panic!("{:#?}", found.diagnostics))
}

#[test]
fn devfile_api_1268_an_attribute_with_a_list_in_it_is_overridden_as_a_whole() {
    let devfile = with_parent(
        "schemaVersion: 2.2.0
parent:
  uri: p.yaml
  components: [{name: runtime, attributes: {pod-overrides: {spec: {imagePullSecrets: [{name: abcd}]}}}, container: {}}]
",
        "schemaVersion: 2.2.0
components: [{name: runtime, attributes: {pod-overrides: {spec: {imagePullSecrets: [{name: regcred}], hostNetwork: true}}}, container: {image: i}}]
",
    );
    assert_eq!(
        devfile.components[0].attributes["pod-overrides"],
        json!({"spec": {"imagePullSecrets": [{"name": "abcd"}]}})
    );
}

#[test]
fn devfile_api_263_an_attribute_that_is_a_mapping_is_overridden_as_a_whole() {
    let devfile = with_parent(
        "schemaVersion: 2.2.0
parent:
  uri: p.yaml
  commands: [{id: a, attributes: {obj: {newAttributeField: v}}, exec: {}}]
",
        "schemaVersion: 2.2.0
components: [{name: c, container: {image: i}}]
commands: [{id: a, attributes: {obj: {attributeField: 9.9}, other: kept}, exec: {component: c, commandLine: x}}]
",
    );
    let command = devfile.command("a").unwrap();
    assert_eq!(command.attributes["obj"], json!({"newAttributeField": "v"}));
    assert_eq!(command.attributes["other"], "kept");
    assert_eq!(
        serde_json::to_value(command).unwrap()["exec"]["commandLine"],
        "x"
    );
}

#[test]
fn devfile_registry_401_a_parents_attribute_is_changed_below_parent() {
    let devfile = with_parent(
        "schemaVersion: 2.2.0\nparent: {uri: p.yaml, attributes: {controller.devfile.io/storage-type: ephemeral}}\n",
        "schemaVersion: 2.2.0\nattributes: {controller.devfile.io/storage-type: common}\n",
    );
    assert_eq!(
        devfile.attributes["controller.devfile.io/storage-type"],
        "ephemeral"
    );
}

#[test]
fn devworkspace_operator_586_volumes_of_one_name_become_the_larger_and_the_kept_one() {
    let text = "apiVersion: workspace.devfile.io/v1alpha2
kind: DevWorkspaceTemplate
metadata: {name: t}
spec:
  components:
  - {name: m2, volume: {size: 1Gi}}
  - {name: plugin, plugin: {uri: p.yaml}}
";
    let plugin =
        "schemaVersion: 2.2.0\ncomponents: [{name: m2, volume: {size: 2Gi, ephemeral: true}}]\n";
    let options = FlattenOptions {
        style: Style::Operator,
        ..FlattenOptions::default()
    };
    let found = read_with(text, &options, &[("/w/p.yaml", plugin)]);
    let devfile = found.devfile.unwrap();
    let volumes: Vec<_> = devfile.volumes().collect();
    let [(component, volume)] = volumes[..] else {
        panic!("{volumes:?}");
    };
    assert_eq!(component.name, "m2");
    assert_eq!(
        (volume.size.as_deref(), volume.ephemeral.unwrap_or(false)),
        (Some("2Gi"), false)
    );
    let found = read_with(text, &FlattenOptions::default(), &[("/w/p.yaml", plugin)]);
    assert_eq!(found.diagnostics[0].code.name(), "merge-conflict");
}

#[test]
fn devworkspace_operator_1454_sources_are_there_before_the_start() {
    let found = read(
        "schemaVersion: 2.2.0
components:
- {name: tools, container: {image: i}}
- {name: prepare, container: {image: p}}
commands: [{id: prepare, apply: {component: prepare}}]
events: {preStart: [prepare]}
projects: [{name: p, git: {remotes: {o: 'https://g.example/p'}}}]
",
    );
    let mut options = RenderOptions::new("demo", "team");
    options.project_clone = Some(ProjectClone {
        image: "git".into(),
        memory_limit: "256Mi".into(),
        repositories: Vec::new(),
    });
    let result = render(&found.devfile.unwrap(), &options).unwrap();
    let pod = &result.objects.last().unwrap()["spec"]["template"]["spec"];
    let names: Vec<&serde_json::Value> = pod["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["project-clone", "prepare-prepare"]);
}

#[test]
fn devfile_api_821_two_endpoints_of_one_container_share_a_port() {
    let text = "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, endpoints: [{name: theia, targetPort: 3100}, {name: webviews, targetPort: 3100}]}}]\n";
    assert_eq!(
        told(&read_with(text, &library(), &[])),
        Vec::<String>::new()
    );
    let result = rendered(text);
    assert_eq!(container(&result, 0)["ports"].as_array().unwrap().len(), 1);
}

#[test]
fn devfile_api_1049_a_kubernetes_component_may_have_a_containers_port_but_not_its_endpoints_name() {
    let text = |name: &str| {
        format!(
            "schemaVersion: 2.2.0\ncomponents:\n- {{name: c, container: {{image: i, endpoints: [{{name: a, targetPort: 8080}}]}}}}\n- {{name: k, kubernetes: {{inlined: x, endpoints: [{{name: {name}, targetPort: 8080}}]}}}}\n"
        )
    };
    assert_eq!(
        told(&read_with(&text("b"), &library(), &[])),
        Vec::<String>::new()
    );
    let found = read_with(&text("a"), &library(), &[]);
    assert_eq!(found.diagnostics[0].code.name(), "endpoint-name-duplicate");
}

#[test]
fn devfile_api_672_a_request_above_its_limit_is_told() {
    let found = read(
        "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, memoryLimit: 512Mi, memoryRequest: 1024Mi}}]\n",
    );
    assert_eq!(found.diagnostics[0].code.name(), "request-above-limit");
}

#[test]
fn devfile_api_647_apply_takes_a_kubernetes_component() {
    let found = read_with(
        "schemaVersion: 2.1.0\ncomponents: [{name: job, kubernetes: {inlined: x}}]\ncommands: [{id: a, apply: {component: job}}]\n",
        &library(),
        &[],
    );
    assert_eq!(told(&found), Vec::<String>::new());
}

#[test]
fn odo_3656_a_composites_command_without_its_component_is_told() {
    let found = read(
        "schemaVersion: 2.2.0
components: [{name: tools, container: {image: i}}]
commands:
- {id: a, exec: {component: tools22, commandLine: x}}
- {id: b, exec: {component: tools, commandLine: x}}
- {id: c, composite: {commands: [a, b]}}
",
    );
    assert_eq!(
        told(&found),
        ["command-component-invalid commands[0].exec.component 4:29"]
    );
    assert_eq!(
        found.diagnostics[0].hint.as_deref(),
        Some("did you mean tools?")
    );
}

#[test]
fn devworkspace_operator_1011_two_commands_after_the_start_run_in_order() {
    let result = rendered(
        "schemaVersion: 2.2.0
components: [{name: tools, container: {image: i}}]
commands:
- {id: a, exec: {component: tools, commandLine: first}}
- {id: b, exec: {component: tools, commandLine: second}}
events: {postStart: [b, a]}
",
    );
    let hook = container(&result, 0)["lifecycle"]["postStart"].to_string();
    assert!(hook.find("second").unwrap() < hook.find("first").unwrap());
}

#[test]
fn devworkspace_operator_462_the_default_request_is_cut_to_the_limit() {
    let result = rendered(
        "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, memoryLimit: 32M}}]\n",
    );
    assert_eq!(
        container(&result, 0)["resources"]["requests"]["memory"],
        "32M"
    );
}

#[test]
fn devworkspace_operator_356_an_undefined_volume_is_told() {
    let found = read(
        "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, volumeMounts: [{name: mavenrepo}]}}, {name: mavenrepos, volume: {}}]\n",
    );
    assert_eq!(found.diagnostics[0].code.name(), "volume-missing");
    assert_eq!(
        found.diagnostics[0].hint.as_deref(),
        Some("did you mean mavenrepos?")
    );
}

#[test]
fn devworkspace_operator_677_the_first_projects_folder_is_the_project_source() {
    let result = rendered(
        "schemaVersion: 2.2.0
components: [{name: c, container: {image: i}}]
projects:
- {name: p, clonePath: sub/p, git: {remotes: {o: x}}}
- {name: q, git: {remotes: {o: x}}}
",
    );
    let env = &container(&result, 0)["env"];
    assert_eq!(
        (&env[0]["name"], &env[0]["value"]),
        (&"PROJECTS_ROOT".into(), &"/projects".into())
    );
    assert_eq!(
        (&env[1]["name"], &env[1]["value"]),
        (&"PROJECT_SOURCE".into(), &"/projects/sub/p".into())
    );
}

#[test]
fn che_21040_names_of_workspaces_are_cut_to_fit() {
    let text = format!(
        "schemaVersion: 2.2.0\nmetadata: {{name: 'My.Very {}'}}\ncomponents: [{{name: c, container: {{image: i}}}}]\n",
        "long-".repeat(30)
    );
    let devfile = read(&text).devfile.unwrap();
    let name = devfile::render::workspace_name(&devfile);
    assert!(
        name.len() <= 40 && name.starts_with("my-very-long"),
        "{name}"
    );
    dev_workspace(&devfile, &RenderOptions::new(name, "team")).unwrap();
}
