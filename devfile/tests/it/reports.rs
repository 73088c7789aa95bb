//! What people reported about the existing implementations, by the tracker's number.

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{RenderOptions, Rendered, dev_workspace, render};

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
