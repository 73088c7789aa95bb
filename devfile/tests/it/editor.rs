use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{
    Editor, PlacedEditor, RenderError, RenderOptions, Rendered, dev_workspace, render,
};
use serde_json::{Value, json};

fn editor() -> Editor {
    Editor {
        name: "edit".into(),
        image: "registry.example.com/edit:1".into(),
        path: "/opt/edit".into(),
        inject: vec!["tar".into(), "-xf".into(), "/edit.tar".into()],
        command: "exec /opt/edit/start".into(),
        port: 60001,
        memory_limit: "1Gi".into(),
        memory_request: "256Mi".into(),
        env: vec![("COLOR".into(), "it's blue".into())],
    }
}

fn try_render(text: &str) -> Result<Rendered, RenderError> {
    let options = FlattenOptions::default();
    let found = flatten("/w/devfile.yaml", text, &options, &mut NoFetch);
    let devfile = found
        .devfile
        .unwrap_or_else(|| panic!("{:#?}", found.diagnostics));
    let mut options = RenderOptions::new("demo", "team");
    options.editor = Some(editor());
    render(&devfile, &options)
}

fn rendered(text: &str) -> Rendered {
    try_render(text).unwrap()
}

fn pod(rendered: &Rendered) -> &Value {
    let deployment = rendered
        .objects
        .iter()
        .find(|it| it["kind"] == "Deployment" && it["metadata"]["name"] == "demo");
    &deployment.unwrap()["spec"]["template"]["spec"]
}

fn container<'a>(rendered: &'a Rendered, name: &str) -> &'a Value {
    let containers = pod(rendered)["containers"].as_array().unwrap();
    containers.iter().find(|it| it["name"] == name).unwrap()
}

/// A devfile of containers, each a name and what else it has; and what follows them.
fn devfile(containers: &[(&str, &str, &str)], rest: &str) -> String {
    let mut text = String::from("schemaVersion: 2.2.0\ncomponents:\n");
    for (name, component, container) in containers {
        text.push_str(&format!(
            "- {{name: {name}, {component} container: {{image: i, {container}}}}}\n"
        ));
    }
    text + rest
}

fn chosen(text: &str) -> String {
    let rendered = rendered(text);
    let placed = rendered.editor.clone().unwrap();
    let mounts = container(&rendered, &placed.container)["volumeMounts"].to_string();
    assert!(mounts.contains("/opt/edit"), "{mounts}");
    placed.container
}

#[test]
fn the_marked_container_gets_it_else_the_first_that_no_event_uses_before() {
    let plain = |name| (name, "", "");
    let inject = ("b", "attributes: {gl/inject-editor: true},", "");
    let merge = (
        "c",
        "attributes: {controller.devfile.io/merge-contribution: true},",
        "",
    );
    let text = ("b", "attributes: {gl/inject-editor: 'true'},", "");
    let not = (
        "a",
        "attributes: {controller.devfile.io/merge-contribution: false},",
        "",
    );
    assert_eq!(chosen(&devfile(&[plain("a"), plain("b")], "")), "a");
    assert_eq!(chosen(&devfile(&[plain("a"), text], "")), "b");
    assert_eq!(chosen(&devfile(&[plain("a"), inject, merge], "")), "b");
    assert_eq!(chosen(&devfile(&[plain("a"), merge], "")), "c");
    assert_eq!(chosen(&devfile(&[not, plain("b")], "")), "b");
    // Both run after the start; one of them is prepared by an init container.
    let events = "commands:
- {id: before, apply: {component: a}}
- {id: build, exec: {component: a, commandLine: make}}
events: {preStart: [before]}
";
    assert_eq!(chosen(&devfile(&[plain("a"), plain("b")], events)), "b");
    let dedicated = ("a", "", "dedicatedPod: true");
    assert_eq!(chosen(&devfile(&[dedicated, plain("b")], "")), "b");
}

#[test]
fn without_a_container_for_it_there_is_a_note_and_no_editor() {
    let text = devfile(
        &[(
            "a",
            "attributes: {gl/inject-editor: true},",
            "dedicatedPod: true",
        )],
        "",
    );
    let rendered = rendered(&text);
    assert_eq!(rendered.editor, None);
    let notes: Vec<_> = rendered.notes.iter().map(|it| it.what.as_str()).collect();
    assert!(notes.contains(&"no editor is brought in"), "{notes:?}");
    let elsewhere = devfile(
        &[
            (
                "a",
                "attributes: {gl/inject-editor: true},",
                "dedicatedPod: true",
            ),
            ("b", "", ""),
        ],
        "",
    );
    let rendered = try_render(&elsewhere).unwrap();
    let notes: Vec<_> = rendered.notes.iter().map(|it| it.what.as_str()).collect();
    assert!(notes.contains(&"the editor is in b instead"), "{notes:?}");
}

#[test]
fn an_init_container_copies_it_and_the_container_only_reads_it() {
    let rendered = rendered(&devfile(&[("tools", "", "")], ""));
    let init = &pod(&rendered)["initContainers"][0];
    assert_eq!(
        init,
        &json!({
            "name": "inject-editor",
            "image": "registry.example.com/edit:1",
            "command": ["tar", "-xf", "/edit.tar"],
            "env": [{"name": "COLOR", "value": "it's blue"}],
            "resources": {
                "limits": {"memory": "512Mi"},
                "requests": {"cpu": "50m", "memory": "64Mi"},
            },
            "volumeMounts": [{"name": "editor", "mountPath": "/opt/edit"}],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        })
    );
    let security = &pod(&rendered)["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let mounts = container(&rendered, "tools")["volumeMounts"]
        .as_array()
        .unwrap();
    let mount = json!({"name": "editor", "mountPath": "/opt/edit", "readOnly": true});
    assert!(mounts.contains(&mount), "{mounts:?}");
    let volumes = pod(&rendered)["volumes"].as_array().unwrap();
    assert!(volumes.contains(&json!({"name": "editor", "emptyDir": {}})));
}

#[test]
fn its_names_give_way_to_the_devfiles() {
    let text = devfile(
        &[("inject-editor", "", ""), ("tools", "", "")],
        "- {name: editor, volume: {}}\n",
    );
    let rendered = rendered(&text);
    assert_eq!(
        pod(&rendered)["initContainers"][0]["name"],
        "inject-editor-2"
    );
    let volumes = pod(&rendered)["volumes"].to_string();
    assert!(volumes.contains("\"editor-2\""), "{volumes}");
}

#[test]
fn its_memory_is_added_to_the_containers() {
    for (own, expected) in [
        (
            "memoryLimit: 512Mi",
            json!({"limits": "1536Mi", "requests": "384Mi"}),
        ),
        (
            "memoryLimit: 1G, memoryRequest: 1G",
            json!({"limits": "2073741824", "requests": "1268435456"}),
        ),
        (
            "memoryLimit: 1500m, memoryRequest: '0'",
            json!({"limits": "1073741826", "requests": "268435458"}),
        ),
    ] {
        let rendered = rendered(&devfile(&[("tools", "", own), ("db", "", own)], ""));
        let resources = &container(&rendered, "tools")["resources"];
        let memory = json!({
            "limits": resources["limits"]["memory"], "requests": resources["requests"]["memory"],
        });
        assert_eq!(memory, expected, "{own}");
        let other = &container(&rendered, "db")["resources"]["limits"]["memory"];
        assert_ne!(*other, expected["limits"]);
    }
    let text = devfile(&[("tools", "", "")], "");
    let found = flatten(
        "/w/devfile.yaml",
        &text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let mut options = RenderOptions::new("demo", "team");
    options.editor = Some(editor());
    options.resources.memory_limit = None;
    let unlimited = render(&found.devfile.unwrap(), &options).unwrap();
    let limit = &container(&unlimited, "tools")["resources"]["limits"];
    assert_eq!(limit, &Value::Null);
}

#[test]
fn its_port_is_in_the_service_and_its_folder_is_told() {
    let text = devfile(
        &[("tools", "", "endpoints: [{name: web, targetPort: 8080}]")],
        "projects: [{name: app, clonePath: src/app, git: {remotes: {origin: 'https://g.example/a'}}}]\n",
    );
    let rendered = rendered(&text);
    let service = rendered.objects.iter().find(|it| it["kind"] == "Service");
    let ports = &service.unwrap()["spec"]["ports"];
    assert_eq!(
        ports[1],
        json!({"name": "editor", "port": 60001, "targetPort": 60001, "protocol": "TCP"})
    );
    assert_eq!(ports[0]["name"], "web");
    let expected = PlacedEditor {
        container: "tools".into(),
        folder: Some("/projects/src/app".into()),
    };
    assert_eq!(rendered.editor, Some(expected));
    let bare = self::rendered(&devfile(&[("tools", "", "mountSources: false")], ""));
    assert_eq!(bare.editor.unwrap().folder, None);
}

#[test]
fn what_only_the_editor_may_have_is_refused_with_its_place() {
    for (container, expected) in [
        (
            "endpoints: [{name: mine, targetPort: 60001}]",
            "component tools, endpoint mine: its port 60001 is the editor's; choose another one",
        ),
        (
            "endpoints: [{name: editor, targetPort: 8080}]",
            "component tools, endpoint editor: the name editor is the editor's; choose another one",
        ),
        (
            "volumeMounts: [{name: data, path: /opt/edit}]",
            "component tools, the volume mounted at /opt/edit: the editor is there; mount it elsewhere",
        ),
    ] {
        let text = devfile(&[("tools", "", container)], "- {name: data, volume: {}}\n");
        let error = try_render(&text).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn an_own_command_stays_and_the_editor_starts_beside_it_and_before_other_commands() {
    let text = devfile(
        &[
            ("tools", "", "command: [run], args: [it]"),
            ("other", "", ""),
        ],
        "commands: [{id: greet, exec: {component: tools, commandLine: echo hello}}]\nevents: {postStart: [greet]}\n",
    );
    let rendered = rendered(&text);
    let tools = container(&rendered, "tools");
    assert_eq!(
        (&tools["command"], &tools["args"]),
        (&json!(["run"]), &json!(["it"]))
    );
    let hook = tools["lifecycle"]["postStart"]["exec"]["command"][2]
        .as_str()
        .unwrap();
    let starts = hook.find("exec /opt/edit/start").unwrap();
    assert!(starts < hook.find("echo hello").unwrap());
    assert!(
        hook.contains(r"env 'COLOR=it'\''s blue' /bin/sh -c"),
        "{hook}"
    );
    assert_eq!(container(&rendered, "other")["lifecycle"], Value::Null);
    // A container without a command of its own waits: images of tools end at once.
    let idle = self::rendered(&devfile(&[("tools", "", "")], ""));
    assert_eq!(container(&idle, "tools")["command"][0], "/bin/sh");
}

#[test]
fn the_same_devfile_gives_the_same_bytes() {
    let text = devfile(&[("a", "", ""), ("b", "", "")], "");
    let bytes = || serde_json::to_string(&rendered(&text).objects).unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_dev_workspace_says_that_it_has_none() {
    let text = devfile(&[("tools", "", "")], "");
    let found = flatten(
        "/w/devfile.yaml",
        &text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let mut options = RenderOptions::new("demo", "team");
    options.editor = Some(editor());
    let rendered = dev_workspace(&found.devfile.unwrap(), &options).unwrap();
    assert_eq!(rendered.editor, None);
    let notes: Vec<_> = rendered.notes.iter().map(|it| it.what.as_str()).collect();
    assert!(notes.contains(&"no editor is brought in"), "{notes:?}");
}

#[test]
fn git_is_configured_beside_what_a_devfile_configures() {
    let environment = |env: &str| {
        let text = devfile(&[("tools", "", env)], "");
        let options = FlattenOptions::default();
        let found = flatten("/w/devfile.yaml", &text, &options, &mut NoFetch);
        let mut options = RenderOptions::new("demo", "team");
        options.git_config = vec![("credential.helper".into(), "cache".into())];
        let rendered = render(&found.devfile.unwrap(), &options).unwrap();
        let env = container(&rendered, "tools")["env"].as_array().unwrap();
        let git = env.iter().filter_map(|it| {
            let name = it["name"].as_str()?.strip_prefix("GIT_CONFIG_")?;
            Some(format!("{name}={}", it["value"].as_str()?))
        });
        git.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        environment(""),
        "COUNT=2 KEY_0=safe.directory VALUE_0=* KEY_1=credential.helper VALUE_1=cache"
    );
    let own = "env: [{name: GIT_CONFIG_COUNT, value: '1'}, {name: GIT_CONFIG_KEY_0, value: user.name}, {name: GIT_CONFIG_VALUE_0, value: me}]";
    assert_eq!(
        environment(own),
        "COUNT=2 KEY_1=safe.directory VALUE_1=* KEY_0=user.name VALUE_0=me"
    );
}
