//! Other documents as devfiles.

use devfile::convert::{Converted, devcontainer, to_version};
use devfile::schema::Version;
use serde_json::{Value, json};

fn container(text: &str) -> Converted {
    let found = devcontainer("devcontainer.json", text, None, Version::NEWEST);
    let converted = found.unwrap_or_else(|found| panic!("{found:#?}"));
    // Whatever comes out is a devfile.
    let checked = crate::read(&devfile::yaml_text(&converted.devfile));
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    converted
}

fn notes(converted: &Converted) -> Vec<&str> {
    converted.notes.iter().map(|it| it.path.as_str()).collect()
}

#[test]
fn a_devcontainer_becomes_a_container_with_its_commands() {
    let found = container(
        r#"// A comment
        {
            "name": "Node",
            "image": "node:20", /* another */
            "containerEnv": {"A": "1", "B": "${containerWorkspaceFolder}/b"},
            "remoteEnv": {"A": "2"},
            "forwardPorts": [3000, "localhost:4000", 3000],
            "portsAttributes": {"3000": {"protocol": "https"}},
            "mounts": [
                "source=My Cache,target=/cache,type=volume",
                {"type": "tmpfs", "target": "/scratch"},
            ],
            "postStartCommand": "npm start",
            "onCreateCommand": {"b": "two", "A b": ["one"]},
        }"#,
    );
    let exec = |id: &str, line: &str| json!({"id": id, "exec": {"component": "dev", "commandLine": line, "workingDir": "${PROJECT_SOURCE}"}});
    assert_eq!(
        found.devfile,
        json!({
            "schemaVersion": "2.3.0",
            "metadata": {"name": "Node"},
            "components": [
                {"name": "dev", "container": {
                    "image": "node:20",
                    "mountSources": true,
                    "command": ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"],
                    "env": [
                        {"name": "A", "value": "2"},
                        {"name": "B", "value": "$(PROJECT_SOURCE)/b"},
                    ],
                    "endpoints": [
                        {"name": "port-3000", "targetPort": 3000, "exposure": "internal", "protocol": "https"},
                        {"name": "port-4000", "targetPort": 4000, "exposure": "internal"},
                    ],
                    "volumeMounts": [
                        {"name": "my-cache", "path": "/cache"},
                        {"name": "scratch", "path": "/scratch"},
                    ],
                }},
                {"name": "my-cache", "volume": {}},
                {"name": "scratch", "volume": {"ephemeral": true}},
            ],
            "commands": [
                {"id": "on-create", "composite": {"commands": ["on-create-a-b", "on-create-b"], "parallel": true}},
                exec("on-create-a-b", "'one'"),
                exec("on-create-b", "two"),
                exec("post-start", "npm start"),
            ],
            "events": {"postStart": ["on-create", "post-start"]},
        })
    );
    assert_eq!(notes(&found), ["onCreateCommand"]);
}

#[test]
fn what_a_devfile_has_no_place_for_is_noted() {
    let found = container(
        r#"{
            "image": "i",
            "name": 1,
            "build": {"dockerfile": "Dockerfile"},
            "containerEnv": {"A": 1, "B": "${localEnv:HOME}", "C": "${localEnv:NO:yes}"},
            "features": {"ghcr.io/devcontainers/features/go:1": {}},
            "forwardPorts": ["db:5432"],
            "mounts": [{"type": "bind", "source": "/a", "target": "/b"}, 7, "type=volume,src=v,dst=/v,readonly"],
            "new.property": 1,
            "overrideCommand": false,
            "portsAttributes": {"80": {}},
            "postCreateCommand": ["a", 1],
            "postStartCommand": "",
            "remoteEnv": {"D": null},
            "remoteUser": "node"
        }"#,
    );
    assert_eq!(
        notes(&found),
        [
            "build",
            "containerEnv.A",
            "containerEnv.B",
            "containerEnv.C",
            "features",
            "forwardPorts[0]",
            "mounts[0]",
            "mounts[1]",
            "mounts[2]",
            "name",
            "\"new.property\"",
            "portsAttributes.80",
            "postCreateCommand",
            "remoteEnv.D",
            "remoteUser",
        ]
    );
    assert_eq!(
        found.devfile["components"],
        json!([{"name": "dev", "container": {
            "image": "i",
            "mountSources": true,
            "env": [{"name": "B", "value": ""}, {"name": "C", "value": "yes"}],
            "volumeMounts": [{"name": "v", "path": "/v"}],
        }}, {"name": "v", "volume": {}}])
    );
}

#[test]
fn words_of_a_command_stay_words() {
    let found = container(
        r#"{"image": "i", "postStartCommand": ["printf", "%s|", "it's", "$HOME `id`", "${containerWorkspaceFolder}/a  b", "${containerEnv:NONE:x}"]}"#,
    );
    let line = found.devfile["commands"][0]["exec"]["commandLine"].as_str();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", line.unwrap()])
        .env("PROJECT_SOURCE", "/p  q")
        .env_remove("NONE")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "it's|$HOME `id`|/p  q/a  b|x|"
    );
}

#[test]
fn a_devcontainer_that_cannot_be_read_is_told_with_its_place() {
    let told = |text: &str| {
        let found = devcontainer("devcontainer.json", text, None, Version::NEWEST).unwrap_err();
        let first = &found[0];
        format!("{} {}:{}", first.code.name(), first.line, first.column)
    };
    assert_eq!(told("{\n  \"image\": 'i'\n}"), "json-syntax 2:12");
    assert_eq!(told("[]"), "wrong-type 1:1");
    assert_eq!(told("{\"build\": {}}"), "image-unknown 1:1");
    assert_eq!(told(&"[".repeat(100_000)), "json-syntax 1:513");
    let text = format!("{{\"a\": \"{}\"}}", "x".repeat(3 * 1024 * 1024));
    assert_eq!(told(&text), "document-too-large 1:1");
    let image = Some("own");
    let found = devcontainer("d", "{\"build\": {}}", image, Version::NEWEST).unwrap();
    assert_eq!(found.devfile["components"][0]["container"]["image"], "own");
}

fn converted(text: &str, version: Version) -> (Value, Vec<String>) {
    let found = to_version("/w/devfile.yaml", text, version);
    let found = found.unwrap_or_else(|found| panic!("{found:#?}"));
    let paths = found.notes.iter().map(|note| note.path.clone()).collect();
    (found.devfile, paths)
}

#[test]
fn a_devfile_becomes_one_of_a_newer_version() {
    let (devfile, notes) = converted(
        "schemaVersion: 2.0.0
parent: {uri: p.yaml, projects: [{name: a, github: {remotes: {o: x}}}]}
components:
- {name: c, container: {image: '{{i}}'}}
- {name: p, plugin: {id: x}}
projects: [{name: g, github: {remotes: {o: x}}, sparseCheckoutDirs: [a, b]}]
commands: [{id: t, vscodeTask: {inlined: x}}]
",
        Version::V2_2_0,
    );
    assert_eq!(
        devfile,
        json!({
            "schemaVersion": "2.2.0",
            "parent": {"uri": "p.yaml", "projects": [{"name": "a", "git": {"remotes": {"o": "x"}}}]},
            "components": [{"name": "c", "container": {"image": "{{i}}"}}],
            "projects": [{"name": "g", "git": {"remotes": {"o": "x"}}, "attributes": {"sparseCheckout": "a b"}}],
            "commands": [],
        })
    );
    assert_eq!(
        notes,
        [
            "projects[name=g].sparseCheckoutDirs",
            "commands[id=t].vscodeTask",
            "commands[id=t]",
            "components[name=p].plugin",
            "components[name=p]",
        ]
    );
}

#[test]
fn what_an_older_version_does_not_have_is_left_out() {
    let (devfile, notes) = converted(
        "schemaVersion: 2.2.2
metadata: {name: a, other: kept}
attributes: {a: b}
components:
- {name: c, attributes: {free: {x: 1}}, container: {image: i, memoryRequest: 1Gi, annotation: {service: {a: b}}}}
- {name: img, image: {imageName: x, dockerfile: {uri: D}}}
commands:
- {id: d, exec: {component: c, commandLine: x, group: {kind: deploy, isDefault: true}}}
dependentProjects: [{name: p, git: {remotes: {o: x}}}]
",
        Version::V2_1_0,
    );
    assert_eq!(
        devfile,
        json!({
            "schemaVersion": "2.1.0",
            "metadata": {"name": "a", "other": "kept"},
            "attributes": {"a": "b"},
            "components": [{"name": "c", "attributes": {"free": {"x": 1}}, "container": {"image": "i", "memoryRequest": "1Gi"}}],
            "commands": [{"id": "d", "exec": {"component": "c", "commandLine": "x"}}],
        })
    );
    assert_eq!(
        notes,
        [
            "commands[id=d].exec.group.kind",
            "commands[id=d].exec.group",
            "components[name=c].container.annotation",
            "components[name=img].image",
            "components[name=img]",
            "dependentProjects",
        ]
    );
}

#[test]
fn the_content_of_a_template_becomes_a_devfile() {
    let text = "apiVersion: workspace.devfile.io/v1alpha2
kind: DevWorkspaceTemplate
metadata: {name: t}
spec: {components: [{name: c, container: {image: i}}, {name: x, custom: {componentClass: a, embeddedResource: {}}}]}
";
    let (devfile, notes) = converted(text, Version::NEWEST);
    assert_eq!(
        devfile,
        json!({"schemaVersion": "2.3.0", "components": [{"name": "c", "container": {"image": "i"}}]})
    );
    assert_eq!(notes, ["components[name=x].custom", "components[name=x]"]);
    let found = to_version(
        "d",
        "schemaVersion: 2.0.0\nvariables: {}\n",
        Version::NEWEST,
    );
    assert_eq!(found.unwrap_err()[0].code.name(), "unknown-field");
}
