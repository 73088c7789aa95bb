//! What each key of the configuration file does to the objects of both backends.

use ::devfile::{FlattenOptions, flatten::NoFetch};
use model::{
    WorkspaceName,
    configuration::{RemoteDevelopment, parse},
};
use serde_json::Value;

use super::*;
use crate::{
    config::{EditorSettings, WorkspaceDefaults},
    workspaces::{
        backend::{BackendKind, for_kind},
        editor::Editors,
        render::{check, check_objects},
    },
};

const ID: &str = "11111111-2222-4333-8444-555555555555";
const DEVFILE: &str = "\
schemaVersion: 2.3.0
components:
- name: tools
  container: { image: tools:1, memoryLimit: 2Gi, cpuRequest: 200m }
- name: database
  container: { image: database:1, mountSources: false }
";
/// What a devfile could bring against the file.
const OWN_OBJECTS: &str = "\
- name: open
  kubernetes:
    deployByDefault: true
    inlined: |
      apiVersion: networking.k8s.io/v1
      kind: NetworkPolicy
      metadata: { name: open }
      spec: { podSelector: {}, ingress: [{}], egress: [{}] }
      ---
      apiVersion: apps/v1
      kind: Deployment
      metadata: { name: own }
      spec:
        selector: { matchLabels: { app: own } }
        template: { metadata: { labels: { app: own } }, spec: { containers: [{ name: c, image: i }] } }
";

struct Made {
    objects: Vec<Value>,
    notes: Vec<String>,
}

impl Made {
    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let is_it = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
        self.objects.iter().find(is_it)
    }

    fn get(&self, kind: &str) -> &Value {
        self.find(kind, "one").expect(kind)
    }

    fn container(&self, name: &str) -> &Value {
        let spec = &self.get("Deployment")["spec"]["template"]["spec"];
        let lists = [&spec["initContainers"], &spec["containers"]];
        let mut containers = lists.into_iter().filter_map(Value::as_array).flatten();
        containers.find(|it| it["name"] == name).expect(name)
    }
}

fn made_of(kind: BackendKind, devfile: &str, section: &str, shared: bool) -> Made {
    let text = format!("remote_development: {section}");
    let settings: RemoteDevelopment = parse(&text)
        .expect(section)
        .configuration
        .remote_development;
    let editors = Editors::load(&EditorSettings::default()).unwrap();
    let (name, defaults): (WorkspaceName, _) =
        ("one".parse().unwrap(), WorkspaceDefaults::default());
    let frame = Frame {
        id: ID,
        name: &name,
        namespace: if shared { "team" } else { "gl-rd-ns-one" },
        own_namespace: !shared,
        agent_id: 7,
        defaults: &defaults,
        editor: editors.usual(),
        settings: &settings,
    };
    let (devfile, _) = check(
        "devfile.yaml",
        devfile,
        &FlattenOptions::default(),
        &mut NoFetch,
    )
    .unwrap();
    let devfile = match settings.classes.first() {
        Some(class) => with_class(devfile, class),
        None => devfile,
    };
    let rendered = for_kind(kind).objects(&frame, devfile).unwrap();
    assert_eq!(check_objects(&frame, &rendered.objects), []);
    Made {
        objects: rendered.objects,
        notes: rendered.notes.iter().map(ToString::to_string).collect(),
    }
}

fn native(section: &str) -> Made {
    made_of(BackendKind::Native, DEVFILE, section, false)
}

fn devworkspace(section: &str) -> Made {
    made_of(BackendKind::Devworkspace, DEVFILE, section, false)
}

/// A component of the DevWorkspace.
fn component<'a>(made: &'a Made, name: &str) -> &'a Value {
    let components = &made.get("DevWorkspace")["spec"]["template"]["components"];
    let mut components = components.as_array().unwrap().iter();
    components.find(|it| it["name"] == name).expect(name)
}

fn pod_overrides(made: &Made) -> &Value {
    &made.get("DevWorkspace")["spec"]["template"]["attributes"]["pod-overrides"]
}

#[test]
fn labels_and_annotations_are_on_every_object_and_pod_and_in_no_selector() {
    let section = "{labels: {team: red}, annotations: {example.com/a: b}, dns_zone: w.example.com}";
    let made = native(section);
    for object in &made.objects {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["team"], "red", "{object}");
        assert_eq!(metadata["annotations"]["example.com/a"], "b", "{object}");
        assert_eq!(
            metadata["annotations"]["workspaces.gitlab.com/host-template"],
            "{{.port}}-one.w.example.com"
        );
    }
    let deployment = made.get("Deployment");
    let pod = &deployment["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["team"], "red");
    assert_eq!(pod["annotations"]["example.com/a"], "b");
    let selectors = [&deployment["spec"]["selector"]["matchLabels"]];
    assert!(
        selectors.iter().all(|it| it["team"].is_null()),
        "{deployment}"
    );

    let made = devworkspace(section);
    assert_eq!(
        made.get("DevWorkspace")["metadata"]["labels"]["team"],
        "red"
    );
    let pod = &pod_overrides(&made)["metadata"];
    assert_eq!(
        (&pod["labels"]["team"], &pod["annotations"]["example.com/a"]),
        (&json!("red"), &json!("b"))
    );
    assert_eq!(pod["labels"]["workspaces.gitlab.com/name"], "one");
    assert!(native("{}").get("Service")["metadata"]["annotations"]["workspaces.gitlab.com/host-template"].is_null());
}

#[test]
fn resources_come_from_devfile_then_file_then_server() {
    let section = "{default_resources_per_workspace_container: {limits: {cpu: \"1500m\", memory: 786Mi}, requests: {cpu: \"600m\"}}}";
    let made = native(section);
    let tools = &made.container("tools")["resources"];
    assert_eq!(
        (&tools["requests"]["cpu"], &tools["limits"]["cpu"]),
        (&json!("200m"), &json!("1500m"))
    );
    let database = &made.container("database")["resources"];
    assert_eq!(
        database["limits"],
        json!({"cpu": "1500m", "memory": "786Mi"})
    );
    assert_eq!(
        database["requests"],
        json!({"cpu": "600m", "memory": "128Mi"}),
        "memory: the server's"
    );

    let made = devworkspace(section);
    let tools = &component(&made, "tools")["container"];
    assert_eq!(
        (
            &tools["memoryLimit"],
            &tools["cpuLimit"],
            &tools["cpuRequest"]
        ),
        (&json!("2Gi"), &json!("1500m"), &json!("200m"))
    );
    assert_eq!(
        component(&made, "database")["container"]["memoryLimit"],
        "786Mi"
    );
}

#[test]
fn a_class_is_the_main_containers_size_instead_of_the_devfiles() {
    let section = "{classes: [{name: large, resources: {limits: {cpu: \"8\", memory: 16Gi}, requests: {cpu: \"4\"}}}]}";
    let made = devworkspace(section);
    let tools = &component(&made, "tools")["container"];
    assert_eq!(
        (
            &tools["cpuLimit"],
            &tools["cpuRequest"],
            &tools["memoryLimit"]
        ),
        (&json!("8"), &json!("4"), &json!("16Gi"))
    );
    assert!(component(&made, "database")["container"]["cpuLimit"].is_null());
    // Natively the editor's memory comes on top.
    let tools = &native(section).container("tools")["resources"].clone();
    assert_eq!(
        (&tools["limits"]["cpu"], &tools["requests"]["cpu"]),
        (&json!("8"), &json!("4"))
    );
    assert_eq!(tools["limits"]["memory"], "17408Mi");
    // Of what a class does not speak the devfile does.
    let made = native("{classes: [{name: s, resources: {limits: {memory: 1Gi}}}]}");
    assert_eq!(
        made.container("tools")["resources"]["requests"]["cpu"],
        "200m"
    );
}

#[test]
fn the_quota_is_of_the_workspaces_own_namespace() {
    let section = "{max_resources_per_workspace: {limits: {cpu: \"2\", memory: 4Gi}, requests: {memory: 1Gi}}, default_resources_per_workspace_container: {limits: {cpu: \"1\"}}}";
    for made in [native(section), devworkspace(section)] {
        let quota = made.get("ResourceQuota");
        assert_eq!(
            quota["spec"]["hard"],
            json!({"limits.cpu": "2", "limits.memory": "4Gi", "requests.memory": "1Gi"})
        );
        assert_eq!(quota["metadata"]["namespace"], "gl-rd-ns-one");
        let hash = &quota["metadata"]["annotations"]["workspaces.gitlab.com/max-resources-per-workspace-sha256"];
        assert_eq!(hash.as_str().map(str::len), Some(64));
    }
    assert!(native("{}").find("ResourceQuota", "one").is_none());
    // What is ours is counted in.
    let made = native(section);
    assert_eq!(
        made.container("inject-editor")["resources"]["limits"]["cpu"],
        "500m"
    );
    assert!(
        !made.notes.iter().any(|it| it.contains("will refuse")),
        "{:?}",
        made.notes
    );
    // What the file forgot is told: the cluster would refuse the Pod.
    let made = native("{max_resources_per_workspace: {limits: {cpu: \"2\"}}}");
    let told: Vec<_> = made
        .notes
        .iter()
        .filter(|it| it.contains("will refuse it without limits.cpu"))
        .collect();
    assert_eq!(told.len(), 2, "{:?}", made.notes);
}

#[test]
fn the_network_policy_lets_in_and_out_what_the_file_says() {
    for made in [native("{}"), devworkspace("{}")] {
        let spec = &made.get("NetworkPolicy")["spec"];
        assert_eq!(spec["podSelector"], json!({}));
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(
            spec["ingress"],
            json!([
                {"from": [{"podSelector": {}}]},
                {"from": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gitlab-workspaces"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "gitlab-workspaces-proxy"}},
                }]},
            ])
        );
        assert_eq!(
            spec["egress"],
            json!([
                {"to": [{"podSelector": {}}]},
                {
                    "ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
                },
                {"to": [{"ipBlock": {
                    "cidr": "0.0.0.0/0",
                    "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"],
                }}]},
            ])
        );
    }
    let section = "{network_policy: {egress: [{allow: 10.0.0.0/8}]}, gitlab_workspaces_proxy: {http_enabled: false, ssh_enabled: false}}";
    let made = native(section);
    let spec = &made.get("NetworkPolicy")["spec"];
    assert_eq!(spec["ingress"].as_array().unwrap().len(), 1, "no proxy");
    assert_eq!(
        spec["egress"][2],
        json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]})
    );
    assert!(
        native("{network_policy: {enabled: false}}")
            .find("NetworkPolicy", "one")
            .is_none()
    );
}

#[test]
fn the_addresses_where_clouds_keep_credentials_are_opened_only_by_name() {
    let except = |allow: &str, except: &[&str]| {
        let rule = egress_rule(&EgressRule {
            allow: allow.into(),
            except: except.iter().map(|it| (*it).to_owned()).collect(),
        });
        let except = &rule["to"][0]["ipBlock"]["except"];
        let list = except.as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(except("0.0.0.0/0", &[]), ["169.254.0.0/16"]);
    assert_eq!(except("0.0.0.0/0", &["169.0.0.0/8"]), ["169.0.0.0/8"]);
    assert_eq!(except("128.0.0.0/1", &[]), ["169.254.0.0/16"]);
    assert_eq!(except("::/0", &[]), ["fd00:ec2::/32"]);
    for within in [
        "169.254.0.0/16",
        "169.254.169.254/32",
        "10.0.0.0/8",
        "fd00:ec2::254/128",
    ] {
        assert_eq!(except(within, &[]), [""; 0], "{within}");
    }
}

#[test]
fn the_agents_pods_are_let_in_where_their_namespace_is_known() {
    let made = native("{}");
    let peers = |objects: &[Value]| {
        let policy = objects
            .iter()
            .find(|it| it["kind"] == "NetworkPolicy")
            .unwrap();
        policy["spec"]["ingress"].as_array().unwrap().clone()
    };
    let told = admit_agent(made.objects.clone(), "one", "agents");
    let last = peers(&told).pop().unwrap();
    assert_eq!(
        last,
        json!({"from": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "agents"}},
            "podSelector": {"matchLabels": {"agent.gitlab.com/reaches-workspaces": "true"}},
        }]})
    );
    assert_eq!(admit_agent(made.objects.clone(), "one", ""), made.objects);
    assert_eq!(
        admit_agent(made.objects.clone(), "two", "agents"),
        made.objects
    );
}

#[test]
fn a_devfiles_own_policies_are_left_out_while_the_files_holds() {
    let devfile = format!("{DEVFILE}{OWN_OBJECTS}");
    let made = made_of(BackendKind::Native, &devfile, "{}", false);
    assert!(made.find("NetworkPolicy", "open").is_none());
    assert!(
        made.notes
            .iter()
            .any(|it| it.contains("kind NetworkPolicy is left out")),
        "{:?}",
        made.notes
    );
    let made = made_of(
        BackendKind::Native,
        &devfile,
        "{network_policy: {enabled: false}}",
        false,
    );
    assert!(made.find("NetworkPolicy", "open").is_some());
}

#[test]
fn how_pods_are_isolated_is_the_files_alone() {
    let section = "{default_runtime_class: gvisor, use_kubernetes_user_namespaces: true, allow_privilege_escalation: true}";
    let devfile = format!(
        "{DEVFILE}attributes:\n  pod-overrides: {{ spec: {{ runtimeClassName: runc, priorityClassName: high }} }}\n"
    );
    let made = made_of(BackendKind::Native, &devfile, section, false);
    let spec = &made.get("Deployment")["spec"]["template"]["spec"];
    assert_eq!(
        (
            &spec["runtimeClassName"],
            &spec["hostUsers"],
            &spec["priorityClassName"]
        ),
        (&json!("gvisor"), &json!(false), &json!("high"))
    );
    assert!(
        made.notes.iter().any(|it| it.contains("runtimeClassName")),
        "{:?}",
        made.notes
    );
    assert_eq!(
        made.container("tools")["securityContext"],
        json!({"allowPrivilegeEscalation": true})
    );

    let made = made_of(BackendKind::Devworkspace, &devfile, section, false);
    let spec = &pod_overrides(&made)["spec"];
    assert_eq!(
        (
            &spec["runtimeClassName"],
            &spec["hostUsers"],
            &spec["priorityClassName"]
        ),
        (&json!("gvisor"), &json!(false), &json!("high"))
    );
    let attributes = &made.get("DevWorkspace")["spec"]["template"]["attributes"];
    assert_eq!(attributes["controller.devfile.io/runtime-class"], "gvisor");
    let overrides = &component(&made, "tools")["attributes"]["container-overrides"];
    assert_eq!(
        overrides["securityContext"]["allowPrivilegeEscalation"],
        true
    );

    let made = native("{}");
    let spec = &made.get("Deployment")["spec"]["template"]["spec"];
    assert!(spec["runtimeClassName"].is_null() && spec["hostUsers"].is_null());
    assert_eq!(
        made.container("tools")["securityContext"]["capabilities"],
        json!({"drop": ["ALL"]})
    );
    let escalating = DEVFILE.replace("- name: database\n", "- name: database\n  attributes: { container-overrides: '{\"securityContext\": {\"allowPrivilegeEscalation\": true}}' }\n");
    let made = made_of(BackendKind::Devworkspace, &escalating, "{}", false);
    let overrides = &component(&made, "database")["attributes"]["container-overrides"];
    assert_eq!(
        overrides["securityContext"]["allowPrivilegeEscalation"],
        false
    );
}

#[test]
fn images_are_pulled_with_the_files_secrets() {
    let section = "{image_pull_secrets: [{name: registry, namespace: images}]}";
    let made = native(section);
    let expected = json!([{"name": "registry"}]);
    assert_eq!(
        made.get("Deployment")["spec"]["template"]["spec"]["imagePullSecrets"],
        expected
    );
    assert_eq!(made.get("ServiceAccount")["imagePullSecrets"], expected);
    assert_eq!(
        pod_overrides(&devworkspace(section))["spec"]["imagePullSecrets"],
        expected
    );
    assert!(native("{}").get("ServiceAccount")["imagePullSecrets"].is_null());
}

#[test]
fn in_a_shared_namespace_everything_names_its_workspace() {
    let devfile = format!("{DEVFILE}{OWN_OBJECTS}");
    let made = made_of(
        BackendKind::Native,
        &devfile,
        "{shared_namespace: team}",
        true,
    );
    for object in &made.objects {
        assert_eq!(object["metadata"]["namespace"], "team");
        assert_eq!(
            object["metadata"]["labels"]["workspaces.gitlab.com/id"], ID,
            "{object}"
        );
    }
    let own = made.find("Deployment", "own").unwrap();
    let pod = &own["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (&pod["app"], &pod["workspaces.gitlab.com/id"]),
        (&json!("own"), &json!(ID))
    );
    let spec = &made.get("NetworkPolicy")["spec"];
    let mine = json!({"matchLabels": {"workspaces.gitlab.com/id": ID}});
    assert_eq!(spec["podSelector"], mine);
    assert_eq!(spec["ingress"][0], json!({"from": [{"podSelector": mine}]}));
    assert_eq!(spec["egress"][0], json!({"to": [{"podSelector": mine}]}));
    assert!(
        native("{}").get("Service")["metadata"]["labels"]["workspaces.gitlab.com/id"].is_null()
    );
}
