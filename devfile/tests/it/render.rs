use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{
    OverridePolicy, ProjectClone, RenderError, RenderOptions, Rendered, dev_workspace, render,
};
use serde_json::{Value, json};

fn rendered_with(text: &str, change: impl FnOnce(&mut RenderOptions)) -> Rendered {
    let found = flatten(
        "/w/devfile.yaml",
        text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let devfile = found
        .devfile
        .unwrap_or_else(|| panic!("{:#?}", found.diagnostics));
    let mut options = RenderOptions::new("demo", "team");
    change(&mut options);
    render(&devfile, &options).unwrap()
}

fn rendered(text: &str) -> Rendered {
    rendered_with(text, |_| ())
}

fn object<'a>(rendered: &'a Rendered, kind: &str, name: &str) -> &'a Value {
    rendered
        .objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn notes(rendered: &Rendered) -> Vec<&str> {
    rendered
        .notes
        .iter()
        .map(|note| note.path.as_str())
        .collect()
}

const SIMPLE: &str = "schemaVersion: 2.2.0
components:
- name: tools
  container:
    image: i
    memoryLimit: 64Mi
    env: [{name: A, value: '1'}]
    endpoints:
    - {name: web, targetPort: 8080}
    - {name: web2, targetPort: 8080, exposure: none}
    - {name: dns, targetPort: 53, protocol: udp, exposure: internal}
    - {name: debug, targetPort: 5858, exposure: none}
    volumeMounts: [{name: cache}]
- {name: cache, volume: {size: 2Gi}}
- {name: scratch, volume: {ephemeral: true}}
projects:
- {name: app, git: {remotes: {origin: 'https://g.example/a'}}}
commands:
- {id: build, exec: {component: tools, commandLine: make, workingDir: '${PROJECT_SOURCE}'}}
events: {postStart: [build]}
";

#[test]
fn a_devfile_becomes_claims_a_service_and_a_deployment() {
    let result = rendered(SIMPLE);
    let kinds: Vec<(&str, &str)> = result
        .objects
        .iter()
        .map(|object| {
            (
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("PersistentVolumeClaim", "demo-projects"),
            ("PersistentVolumeClaim", "demo-cache"),
            ("Service", "demo"),
            ("Deployment", "demo"),
        ]
    );
    let deployment = object(&result, "Deployment", "demo");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let container = &pod["containers"][0];
    assert_eq!(
        container["ports"],
        json!([
            {"containerPort": 8080, "name": "web", "protocol": "TCP"},
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 5858, "name": "debug", "protocol": "TCP"},
        ])
    );
    // The default request is cut to the limit that was given.
    assert_eq!(
        container["resources"],
        json!({"requests": {"memory": "64Mi", "cpu": "50m"}, "limits": {"memory": "64Mi"}})
    );
    assert_eq!(
        container["volumeMounts"],
        json!([
            {"name": "projects", "mountPath": "/projects", "subPath": "projects"},
            {"name": "cache", "mountPath": "/cache"},
            {"name": "projects", "mountPath": "/home/user", "subPath": "home"},
        ])
    );
    let env: Vec<(&str, &str)> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|env| {
            (
                env["name"].as_str().unwrap(),
                env["value"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        &env[..3],
        [
            ("PROJECTS_ROOT", "/projects"),
            ("PROJECT_SOURCE", "/projects/app"),
            ("HOME", "/home/user"),
        ]
    );
    assert_eq!(env.last(), Some(&("A", "1")));
    assert!(container["command"].to_string().contains("sleep"));
    assert!(
        container["lifecycle"]["postStart"]
            .to_string()
            .contains("make")
    );
    assert_eq!(
        notes(&result),
        [
            "components[name=tools].container.endpoints[name=web2].exposure",
            "components[name=tools].container.command",
            "projects[name=app]",
        ]
    );
}

#[test]
fn udp_services() {
    let result = rendered(SIMPLE);
    let service = object(&result, "Service", "demo");
    assert_eq!(
        service["spec"]["ports"],
        json!([
            {"name": "web", "port": 8080, "protocol": "TCP", "targetPort": 8080},
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        ])
    );
}

#[test]
fn a_stopped_workspace_keeps_its_volumes() {
    let result = rendered_with(SIMPLE, |options| options.replicas = 0);
    assert_eq!(object(&result, "Deployment", "demo")["spec"]["replicas"], 0);
    object(&result, "PersistentVolumeClaim", "demo-projects");
}

#[test]
fn init_containers() {
    let result = rendered(
        "schemaVersion: 2.2.0
components:
- {name: tools, container: {image: i}}
- name: prepare
  attributes: {container-overrides: {resources: {limits: {memory: 10Mi}}}, pod-overrides: {spec: {nodeSelector: {a: b}}}}
  container: {image: p, command: [prep]}
- {name: both, container: {image: b}}
commands:
- {id: p, apply: {component: prepare}}
- {id: q, apply: {component: both}}
- {id: r, exec: {component: both, commandLine: x}}
- {id: all, composite: {commands: [q, p, p]}}
events: {preStart: [all]}
",
    );
    let pod = &object(&result, "Deployment", "demo")["spec"]["template"]["spec"];
    let names = |key: &str| -> Vec<&str> {
        pod[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|container| container["name"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        names("initContainers"),
        ["both-q", "prepare-p", "prepare-p-3"]
    );
    // A container that another command uses runs beside the others too.
    assert_eq!(names("containers"), ["tools", "both"]);
    assert_eq!(
        pod["initContainers"][1]["resources"]["limits"]["memory"],
        "10Mi"
    );
    assert_eq!(pod["nodeSelector"], json!({"a": "b"}));
}

#[test]
fn pod_of_its_own() {
    let result = rendered(
        "schemaVersion: 2.2.0
components:
- {name: tools, container: {image: i}}
- {name: db, container: {image: d, dedicatedPod: true, endpoints: [{name: sql, targetPort: 5432}], annotation: {deployment: {a: b}, service: {c: d}}}}
",
    );
    let own = object(&result, "Deployment", "demo-db");
    assert_eq!(own["metadata"]["annotations"]["a"], "b");
    let main = object(&result, "Deployment", "demo");
    assert!(main["metadata"].get("annotations").is_none());
    let service = object(&result, "Service", "demo-db");
    assert_eq!(service["metadata"]["annotations"]["c"], "d");
    let labels = &own["spec"]["template"]["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&labels[key], value);
    }
    assert_ne!(own["spec"]["selector"], main["spec"]["selector"]);
    // By default such a container has no sources.
    assert!(own["spec"]["template"]["spec"].get("volumes").is_none());
}

#[test]
fn last_env_wins() {
    let result = rendered(
        "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i, env: [{name: A, value: x}, {name: HOME, value: /h}, {name: A, value: z}]}}]\n",
    );
    let container =
        &object(&result, "Deployment", "demo")["spec"]["template"]["spec"]["containers"][0];
    let values = |name: &str| -> Vec<&Value> {
        container["env"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|env| env["name"] == name)
            .map(|env| &env["value"])
            .collect()
    };
    assert_eq!(values("A"), ["z"]);
    assert_eq!(values("HOME"), ["/h"]);
}

const OVERRIDES: &str = "schemaVersion: 2.2.0
attributes:
  pod-overrides:
    metadata: {labels: {mine: x, app.kubernetes.io/instance: stolen}, name: n}
    spec: {nodeSelector: {a: b}, hostNetwork: true, serviceAccountName: admin, securityContext: {runAsUser: 0}, volumes: []}
components:
- name: c
  attributes:
    container-overrides: {tty: true, env: [{name: X}], securityContext: {privileged: true}, resources: {limits: {nvidia.com/gpu: '1'}}}
    pod-overrides: {spec: {tolerations: [{key: k}]}}
  container: {image: i}
";

#[test]
fn overrides_set_what_is_allowed_and_the_rest_is_noted() {
    let result = rendered(OVERRIDES);
    let template = &object(&result, "Deployment", "demo")["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["mine"], "x");
    assert_eq!(
        template["metadata"]["labels"]["app.kubernetes.io/instance"],
        "demo"
    );
    let pod = &template["spec"];
    assert_eq!(pod["nodeSelector"], json!({"a": "b"}));
    assert_eq!(pod["tolerations"], json!([{"key": "k"}]));
    assert_eq!(pod["securityContext"]["runAsUser"], 5001);
    assert!(pod.get("hostNetwork").is_none() && pod.get("serviceAccountName").is_none());
    let container = &pod["containers"][0];
    assert_eq!(container["tty"], true);
    assert!(container["securityContext"].get("privileged").is_none());
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert_eq!(
        notes(&result),
        [
            "components[name=c].attributes.container-overrides.env",
            "components[name=c].attributes.container-overrides.securityContext",
            "attributes.pod-overrides.metadata.labels.app.kubernetes.io/instance",
            "attributes.pod-overrides.metadata.name",
            "attributes.pod-overrides.spec.hostNetwork",
            "attributes.pod-overrides.spec.securityContext",
            "attributes.pod-overrides.spec.serviceAccountName",
            "attributes.pod-overrides.spec.volumes",
        ]
    );
    let tight = rendered_with(OVERRIDES, |options| {
        options.policy = OverridePolicy::nothing()
    });
    let pod = &object(&tight, "Deployment", "demo")["spec"]["template"]["spec"];
    assert!(pod.get("tolerations").is_none() && pod["containers"][0].get("tty").is_none());
}

#[test]
fn kubernetes_components_bring_their_objects() {
    let result = rendered_with(
        "schemaVersion: 2.2.0
components:
- {name: c, container: {image: i}}
- name: k
  kubernetes:
    deployByDefault: true
    inlined: |
      apiVersion: v1
      kind: List
      items:
      - {apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: other, ownerReferences: []}}
      ---
      {apiVersion: v1, kind: Secret, metadata: {name: two, labels: {a: b, owner: them}}}
      ---
      ---
      {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: three}}
- {name: later, kubernetes: {inlined: '{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}'}}
",
        |options| {
            options.labels.insert("owner".into(), "us".into());
        },
    );
    assert_eq!(
        object(&result, "ConfigMap", "one")["metadata"],
        json!({"name": "one", "namespace": "team", "labels": {"owner": "us", "app.kubernetes.io/part-of": "demo"}})
    );
    let labels = &object(&result, "Secret", "two")["metadata"]["labels"];
    assert_eq!(
        (&labels["a"], &labels["owner"]),
        (&json!("b"), &json!("us"))
    );
    assert!(
        !result
            .objects
            .iter()
            .any(|object| object["kind"] == "RoleBinding")
    );
    assert_eq!(
        notes(&result),
        [
            "components[name=k].kubernetes.inlined", // a namespace
            "components[name=k].kubernetes.inlined", // an owner
            "components[name=k].kubernetes.inlined", // a label
            "components[name=k].kubernetes.inlined", // a kind
            "components[name=later].kubernetes",
        ]
    );
}

#[test]
fn projects_are_cloned_first_and_other_peoples_words_stay_words() {
    let result = rendered_with(
        "schemaVersion: 2.2.0
components: [{name: c, container: {image: i, sourceMapping: /src}}]
projects:
- {name: p, git: {remotes: {a: 'https://x/$(id)', b: \"it's\"}, checkoutFrom: {remote: b, revision: '--upload-pack=x'}}}
",
        |options| {
            options.project_clone = Some(ProjectClone {
                image: "git".into(),
                memory_limit: "256Mi".into(),
                repositories: vec![("repo".into(), "https://h/r.git".into(), Some("v1".into()))],
            });
        },
    );
    let pod = &object(&result, "Deployment", "demo")["spec"]["template"]["spec"];
    let clone = &pod["initContainers"][0];
    assert_eq!(clone["name"], "project-clone");
    let script = clone["command"][2].as_str().unwrap();
    assert!(
        script.contains("clone 'repo' 'origin' 'https://h/r.git' 'v1'\n"),
        "{script}"
    );
    assert!(script.contains("clone 'p' 'b' 'it'\\''s' ''\n"), "{script}");
    assert!(
        script.contains("add_remote 'p' 'a' 'https://x/$(id)'\n"),
        "{script}"
    );
    let env = pod["containers"][0]["env"].to_string();
    assert!(env.contains("/src/repo"), "{env}");
    // The shell takes the script.
    let status = std::process::Command::new("/bin/sh")
        .args(["-n", "-c", script])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn what_cannot_be_rendered_is_an_error() {
    let found = flatten(
        "/w/devfile.yaml",
        "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i}}]\nprojects: [{name: p, clonePath: ../../etc, zip: {}}]\n",
        &FlattenOptions {
            rules: devfile::validate::Rules::LIBRARY,
            ..FlattenOptions::default()
        },
        &mut NoFetch,
    );
    let devfile = found.devfile.unwrap();
    let options = RenderOptions::new("demo", "team");
    assert!(matches!(
        render(&devfile, &options),
        Err(RenderError::ClonePath { .. })
    ));
    let options = RenderOptions::new("Not_A_Name", "team");
    assert!(matches!(
        render(&devfile, &options),
        Err(RenderError::WorkspaceName { .. })
    ));
}

#[test]
fn a_dev_workspace_holds_all_but_the_head() {
    let text = "schemaVersion: 2.2.2
metadata: {name: a}
attributes: {a: b}
components: [{name: c, container: {image: i}}]
dependentProjects: [{name: d, git: {remotes: {o: x}}}]
";
    let found = flatten(
        "/w/devfile.yaml",
        text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let result =
        dev_workspace(&found.devfile.unwrap(), &RenderOptions::new("demo", "team")).unwrap();
    assert_eq!(
        result.objects,
        [json!({
            "apiVersion": "workspace.devfile.io/v1alpha2",
            "kind": "DevWorkspace",
            "metadata": {"name": "demo", "namespace": "team", "labels": {"app.kubernetes.io/part-of": "demo"}},
            "spec": {
                "started": true,
                "template": {
                    "attributes": {"a": "b"},
                    "components": [{"name": "c", "container": {"image": "i"}}],
                    "dependentProjects": [{"name": "d", "git": {"remotes": {"o": "x"}}}],
                },
            },
        })]
    );
    assert_eq!(notes(&result), ["metadata", "dependentProjects"]);
}
