use ::devfile::FlattenOptions;
use ::devfile::flatten::NoFetch;
use model::{WorkspaceName, configuration::RemoteDevelopment};
use serde_json::json;

use super::*;
use crate::{
    config::{EditorSettings, WorkspaceDefaults},
    workspaces::{
        editor::Editors,
        render::{check, check_objects, with_repository},
        workspace::Source,
    },
};

const DEVFILE: &str = "\
schemaVersion: 2.3.0
components:
- name: tools
  container:
    image: registry.example.com/tools:1
    memoryLimit: 64Mi
    endpoints:
    - { name: web, targetPort: 8080 }
    - { name: debug, targetPort: 5005, exposure: none }
    volumeMounts:
    - { name: cache, path: /cache }
- name: database
  container:
    image: registry.example.com/database:1
    mountSources: false
- name: cache
  volume: { size: 3Gi }
commands:
- id: prepare
  exec: { component: tools, commandLine: make prepare, workingDir: '${PROJECT_SOURCE}' }
events:
  postStart: [prepare]
projects:
- name: other
  git: { remotes: { origin: 'https://git.example.com/other' } }
";

fn made(kind: BackendKind, text: &str) -> (Vec<Value>, Vec<String>) {
    made_with("none", kind, text)
}

fn made_with(editor: &str, kind: BackendKind, text: &str) -> (Vec<Value>, Vec<String>) {
    let editors = EditorSettings {
        editor: editor.into(),
        ..EditorSettings::default()
    };
    let name: WorkspaceName = "one".parse().unwrap();
    let defaults = WorkspaceDefaults::default();
    let editors = Editors::load(&editors).unwrap();
    let frame = Frame {
        id: "11111111-2222-4333-8444-555555555555",
        name: &name,
        namespace: "gl-rd-ns-one",
        own_namespace: true,
        agent_id: 7,
        defaults: &defaults,
        editor: editors.usual(),
        settings: &RemoteDevelopment::default(),
    };
    let source = Source {
        repository: "https://git.example.com/app.git".into(),
        reference: Some("dev".into()),
        commit: String::new(),
        devfile_path: "devfile.yaml".into(),
    };
    let (devfile, _) = check(
        "devfile.yaml",
        text,
        &FlattenOptions::default(),
        &mut NoFetch,
    )
    .unwrap();
    let rendered = for_kind(kind)
        .objects(&frame, with_repository(devfile, &source))
        .unwrap();
    let problems = check_objects(&frame, &rendered.objects);
    (
        rendered.objects,
        problems.into_iter().map(|it| it.reason).collect(),
    )
}

fn named<'a>(objects: &'a [Value], kind: &str) -> Vec<(&'a str, &'a Value)> {
    let of_kind = objects.iter().filter(|it| it["kind"] == kind);
    of_kind
        .map(|it| (it["metadata"]["name"].as_str().unwrap(), it))
        .collect()
}

#[test]
fn everything_carries_the_marks_of_its_workspace() {
    for kind in BackendKind::ALL {
        let (objects, problems) = made(kind, DEVFILE);
        assert_eq!(problems, [""; 0]);
        for object in &objects {
            let metadata = &object["metadata"];
            assert_eq!(metadata["namespace"], "gl-rd-ns-one", "{object}");
            assert_eq!(metadata["labels"]["agent.gitlab.com/id"], "7", "{object}");
            let annotations = &metadata["annotations"];
            assert_eq!(
                annotations["workspaces.gitlab.com/id"],
                "11111111-2222-4333-8444-555555555555"
            );
            assert_eq!(
                annotations["config.k8s.io/owning-inventory"],
                "one-workspace-inventory"
            );
        }
    }
}

#[test]
fn natively_it_is_a_deployment_that_the_restricted_standard_allows() {
    let (objects, _) = made(BackendKind::Native, DEVFILE);
    let claims: Vec<_> = named(&objects, "PersistentVolumeClaim")
        .iter()
        .map(|it| it.0)
        .collect();
    assert!(
        claims.contains(&"one-cache") && claims.iter().all(|it| it.starts_with("one-")),
        "{claims:?}"
    );
    let [(name, service)] = named(&objects, "Service")[..] else {
        panic!("{objects:?}")
    };
    let ports: Vec<_> = service["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["port"])
        .collect();
    assert_eq!((name, ports), ("one", vec![&json!(8080)]));
    assert_eq!(
        named(&objects, "ServiceAccount")[0].1["automountServiceAccountToken"],
        false
    );

    let [(name, deployment)] = named(&objects, "Deployment")[..] else {
        panic!("{objects:?}")
    };
    assert_eq!(name, "one");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (
            &labels["agent.gitlab.com/id"],
            &labels["workspaces.gitlab.com/name"]
        ),
        (&json!("7"), &json!("one"))
    );
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        (
            &pod["serviceAccountName"],
            &pod["automountServiceAccountToken"]
        ),
        (&json!("one"), &json!(false))
    );
    let security = &pod["securityContext"];
    assert_eq!(
        (
            &security["runAsNonRoot"],
            &security["seccompProfile"]["type"]
        ),
        (&json!(true), &json!("RuntimeDefault"))
    );
    for container in pod["containers"]
        .as_array()
        .unwrap()
        .iter()
        .chain(pod["initContainers"].as_array().unwrap())
    {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(
            security["capabilities"]["drop"],
            json!(["ALL"]),
            "{container}"
        );
    }

    let tools = &pod["containers"][0];
    let variable = |name: &str| {
        let found = tools["env"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["name"] == name);
        found.map(|it| it["value"].as_str().unwrap())
    };
    // Commands run in the devfile's own first project; the repository lies beside it.
    assert_eq!(variable("PROJECT_SOURCE"), Some("/projects/other"));
    assert_eq!(variable("HOME"), Some("/home/workspace"));
    assert_eq!(
        tools["resources"]["requests"]["memory"], "64Mi",
        "a request is no more than its limit"
    );
    assert_eq!(tools["terminationMessagePolicy"], "FallbackToLogsOnError");
    let clone = &pod["initContainers"][0];
    assert_eq!(clone["name"], "project-clone");
    let script = clone["command"][2].as_str().unwrap();
    let calls: Vec<_> = script
        .lines()
        .filter(|it| it.starts_with("clone '"))
        .collect();
    assert_eq!(
        calls,
        [
            "clone 'other' 'origin' 'https://git.example.com/other' ''",
            "clone 'app' 'origin' 'https://git.example.com/app.git' 'dev'",
        ]
    );
}

#[test]
fn a_wish_changes_the_switch_and_nothing_else() {
    for (kind, of, pointer, on, off) in [
        (
            BackendKind::Native,
            "Deployment",
            "/spec/replicas",
            json!(1),
            json!(0),
        ),
        (
            BackendKind::Devworkspace,
            "DevWorkspace",
            "/spec/started",
            json!(true),
            json!(false),
        ),
    ] {
        let (objects, _) = made(kind, DEVFILE);
        for (desired, expected) in [
            (DesiredState::Running, &on),
            (DesiredState::RestartRequested, &off),
            (DesiredState::Stopped, &off),
        ] {
            let mut changed = for_kind(kind).in_state(objects.clone(), desired);
            assert_eq!(named(&changed, of)[0].1.pointer(pointer), Some(expected));
            for object in changed.iter_mut().filter(|it| it["kind"] == of) {
                *object.pointer_mut(pointer).unwrap() = on.clone();
            }
            assert_eq!(changed, objects);
        }
    }
}

#[test]
fn a_devfiles_own_objects_do_not_take_the_workspaces_names() {
    let own = |kind: &str, name: &str| {
        format!(
            "{DEVFILE}\
             - name: unused\n  git: {{ remotes: {{ origin: 'https://git.example.com/unused' }} }}\n\
             attributes: {{}}\n"
        )
        .replace(
            "commands:",
            &format!(
                "- name: own\n  kubernetes:\n    deployByDefault: true\n    inlined: |\n      apiVersion: v1\n      kind: {kind}\n      metadata: {{ name: {name} }}\ncommands:"
            ),
        )
    };
    let (_, problems) = made(BackendKind::Native, &own("ConfigMap", "settings"));
    assert_eq!(problems, [""; 0]);
    for (kind, name) in [("ConfigMap", "one-workspace-inventory"), ("Service", "one")] {
        let (_, problems) = made(BackendKind::Native, &own(kind, name));
        assert!(
            problems.len() == 1 && problems[0].contains(name),
            "{problems:?}"
        );
    }
    let (_, problems) = made(BackendKind::Native, &own("Deployment", "other"));
    assert_eq!(problems, ["its own Deployment has the apiVersion v1"]);
}

#[test]
fn a_workspace_needs_a_container_that_runs_in_its_own_pod() {
    let lonely = "\
schemaVersion: 2.2.0
components:
- name: tools
  container: { image: a, dedicatedPod: true }
";
    let (_, problems) = made(BackendKind::Native, lonely);
    assert_eq!(problems, ["no container runs in the workspace's own Pod"]);
    let empty = "schemaVersion: 2.2.0\ncomponents:\n- name: data\n  volume: {}\n";
    let problems = check(
        "devfile.yaml",
        empty,
        &FlattenOptions::default(),
        &mut NoFetch,
    )
    .unwrap_err();
    assert!(problems[0].reason.contains("no container"), "{problems:?}");
}

#[test]
fn a_devworkspace_is_the_operators_without_an_ingress_and_with_our_marks() {
    let without = DEVFILE
        .replace("- name: cache\n  volume: { size: 3Gi }\n", "")
        .replace(
            "    volumeMounts:\n    - { name: cache, path: /cache }\n",
            "",
        );
    for text in [DEVFILE, &without] {
        let (objects, _) = made(BackendKind::Devworkspace, text);
        let spec = &named(&objects, "DevWorkspace")[0].1["spec"];
        let components = spec["template"]["components"].as_array().unwrap();
        let projects = components
            .iter()
            .find(|it| it["name"] == "projects")
            .unwrap();
        assert_eq!(
            projects["volume"]["size"],
            WorkspaceDefaults::default().volume_size
        );
        assert_eq!(spec["routingClass"], "cluster");
        let metadata = &spec["template"]["attributes"]["pod-overrides"]["metadata"];
        assert_eq!(
            metadata["labels"],
            json!({"agent.gitlab.com/id": "7", "workspaces.gitlab.com/name": "one"})
        );
        assert_eq!(
            metadata["annotations"],
            json!({"workspaces.gitlab.com/id": "11111111-2222-4333-8444-555555555555"})
        );
    }
}

#[test]
fn the_operator_may_ask_the_main_endpoint_whether_it_is_well() {
    let ingress = |text: &str| {
        let (objects, _) = made(BackendKind::Devworkspace, text);
        let policy = named(&objects, "NetworkPolicy")[0].1["spec"]["ingress"].clone();
        policy.as_array().unwrap().clone()
    };
    let usual = ingress(DEVFILE);
    let main = DEVFILE.replace(
        "targetPort: 8080 }",
        "targetPort: 8080, attributes: { type: main } }",
    );
    let mut with_main = ingress(&main);
    let rule = with_main.pop().unwrap();
    assert_eq!(with_main, usual);
    assert_eq!(rule["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
    let namespace = "/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
    assert_eq!(
        rule.pointer(namespace),
        Some(&json!("devworkspace-controller"))
    );
}

/// Each built-in editor becomes a Pod that the restricted standard allows, with its port in the Service.
#[test]
fn editors_are_rendered_from_their_definitions() {
    for (editor, image, command) in [
        (
            "code-server",
            "localhost/editor-code-server:4.139.1",
            "exec /opt/editor/bin/start 60001",
        ),
        (
            "gitlab-vscode",
            "registry.gitlab.com/gitlab-org/gitlab-build-images:20250903132715-workspaces-tools",
            "exec /opt/gl-tools/init_tools.sh",
        ),
    ] {
        let (objects, problems) = made_with(editor, BackendKind::Native, DEVFILE);
        assert_eq!(problems, [""; 0]);
        let [(_, service)] = named(&objects, "Service")[..] else {
            panic!("{objects:?}")
        };
        let ports = &service["spec"]["ports"];
        assert_eq!(
            (&ports[1]["name"], &ports[1]["port"]),
            (&json!("editor"), &json!(60001))
        );
        let pod = &named(&objects, "Deployment")[0].1["spec"]["template"]["spec"];
        let init = pod["initContainers"].as_array().unwrap();
        let inject = init.iter().find(|it| it["name"] == "inject-editor");
        let inject = inject.unwrap();
        assert_eq!(inject["image"], image);
        assert_eq!(inject["securityContext"]["allowPrivilegeEscalation"], false);
        let tools = &pod["containers"][0];
        let limit = &tools["resources"]["limits"]["memory"];
        assert_eq!((&tools["name"], limit), (&json!("tools"), &json!("1088Mi")));
        let hook = tools["lifecycle"]["postStart"].to_string();
        assert!(hook.contains(command), "{hook}");
        if editor == "gitlab-vscode" {
            let variable = json!({"name": "GL_TOOLS_DIR", "value": "/opt/gl-tools"});
            assert!(inject["env"].as_array().unwrap().contains(&variable));
            assert!(hook.contains("'GL_VSCODE_PORT=60001'"), "{hook}");
        }
    }
}

#[test]
fn passwords_typed_into_git_stay_in_memory() {
    let (objects, _) = made(BackendKind::Native, DEVFILE);
    let pod = &named(&objects, "Deployment")[0].1["spec"]["template"]["spec"];
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let helper = json!({"name": "GIT_CONFIG_VALUE_1", "value": "cache --timeout=3600"});
    assert!(env.contains(&helper), "{env:?}");
}
