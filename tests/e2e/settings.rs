//! What the configuration file says of workspaces, put into effect in the cluster.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::HOST_ADDRESS;
use harness::wait::wait_until;
use serde_json::{Value, json};
use tests::command::output;
use tests::project::Project;
use tests::release::Release;

use crate::Test;
use crate::access::open_program;
use crate::life::configure;
use crate::workspaces::{DEVFILE, LIFE, delete, repository, wait_failure, workspace};
use crate::world::{CONNECT, IMAGES, MAIN, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_the_file_says_is_in_the_workspace_around_it_and_in_its_way",
        by_the_file,
    ),
    ("a_shared_namespace_outlives_its_workspaces", shared),
];

const NAME: &str = "settled";
const NAMESPACE: &str = "gl-rd-ns-settled";
/// An agent whose workspaces share a namespace, and that namespace.
const SHARED: &str = "shared";
const TEAM: &str = "team";
/// The agent looks at them every 30 s.
const IN_STEP: Duration = Duration::from_secs(60);

fn file() -> String {
    format!(
        "remote_development:
  enabled: true
  labels: {{ team: red }}
  annotations: {{ example.com/contact: Ada }}
  default_runtime_class: crun
  default_resources_per_workspace_container:
    limits: {{ cpu: 300m }}
    requests: {{ cpu: 10m }}
  max_resources_per_workspace:
    limits: {{ memory: 1200Mi }}
  image_pull_secrets:
  - {{ name: registry, namespace: {IMAGES} }}
  - {{ name: later, namespace: {IMAGES} }}
  network_policy:
    egress:
    - allow: {HOST_ADDRESS}/32
"
    )
}

fn by_the_file(world: &mut World) -> Result<()> {
    let result = settled(world);
    configure(world, USUAL_CONFIGURATION)?;
    world.admin(&["delete", "secrets", "-n", IMAGES, "--all"])?;
    result
}

fn settled(world: &mut World) -> Result<()> {
    world.apply(&[pull_secret("registry", "e30=")])?;
    configure(world, &file())?;
    let url = repository(world, NAME, DEVFILE)?;
    let made = workspace(world, &["create", &url, "--name", NAME])?;
    ensure!(made["actual_state"] == "Running", "{made:#}");

    in_the_pod(world)?;
    secrets(world, &made)?;
    quota(world)?;
    delete(world, NAME, NAMESPACE)
}

/// Labels, limits, runtime.
fn in_the_pod(world: &World) -> Result<()> {
    let pods = get(world, &["pods", "-n", NAMESPACE])?;
    let pod = &pods["items"][0];
    let metadata = &pod["metadata"];
    ensure!(metadata["labels"]["team"] == "red", "{metadata:#}");
    let contact = &metadata["annotations"]["example.com/contact"];
    ensure!(contact == "Ada", "{metadata:#}");
    let resources = &pod["spec"]["containers"][0]["resources"];
    let expected = json!({"cpu": "300m", "memory": "256Mi"});
    ensure!(resources["limits"] == expected, "{resources:#}");
    ensure!(resources["requests"]["cpu"] == "10m", "{resources:#}");
    let name = metadata["name"].as_str().context("no name")?;
    let runtime = world.cluster.runtime_of(NAMESPACE, name, "tools")?;
    ensure!(runtime == "crun", "it was made by {runtime}");
    for kind in [
        "networkpolicy",
        "resourcequota",
        "service",
        "persistentvolumeclaim",
    ] {
        let objects = get(world, &[kind, "-n", NAMESPACE])?;
        let labels = &objects["items"][0]["metadata"]["labels"];
        ensure!(labels["team"] == "red", "{kind}: {objects:#}");
    }
    Ok(())
}

/// One is copied and kept in step; one that is not there is told, and copied when it comes.
fn secrets(world: &World, made: &Value) -> Result<()> {
    let named = &get(world, &["pods", "-n", NAMESPACE])?["items"][0]["spec"]["imagePullSecrets"];
    let expected = json!([{"name": "registry"}, {"name": "later"}]);
    ensure!(*named == expected, "{named:#}");
    ensure!(copy(world, "registry")?.as_deref() == Some("e30="));
    let failure = &made["failures"][0];
    ensure!(failure["code"] == "PullSecretNotCopied", "{made:#}");
    let said = failure["message"].as_str().unwrap_or_default();
    ensure!(said.contains("later of the namespace images"), "{said}");
    world.apply(&[
        pull_secret("registry", "eyJhIjoxfQ=="),
        pull_secret("later", "e30="),
    ])?;
    wait_until("the copies are in step", IN_STEP, || {
        let changed = copy(world, "registry")?.as_deref() == Some("eyJhIjoxfQ==");
        Ok(changed && copy(world, "later")?.is_some())
    })?;
    wait_until("nothing is wrong any more", IN_STEP, || {
        let shown = world.server.json(&["workspace", "show", NAME])?;
        Ok(shown["failures"] == json!([]))
    })
}

/// What is larger than the quota is refused, and people read why.
fn quota(world: &World) -> Result<()> {
    let large = DEVFILE.replace("memoryLimit: 256Mi", "memoryLimit: 3Gi");
    let url = repository(world, "too-large", &large)?;
    let create = [
        "workspace",
        "create",
        &url,
        "--name",
        "too-large",
        "--agent",
        MAIN,
    ];
    world.server.json(&create)?;
    let shown = wait_failure(world, "too-large", "QuotaExceeded")?;
    let text = shown["failures"].to_string();
    for part in ["too-large", "limits.memory", "3Gi", "1200Mi"] {
        ensure!(text.contains(part), "{part} is not in {shown:#}");
    }
    delete(world, "too-large", "gl-rd-ns-too-large")
}

fn shared(world: &mut World) -> Result<()> {
    world.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}})])?;
    let release = Release::new(SHARED);
    let result = share(world, &release);
    release.uninstall(&world.cluster, CONNECT)?;
    world.admin(&["delete", "namespace", TEAM, "--wait=false"])?;
    result
}

/// Its agent has no right outside of that namespace.
fn share(world: &mut World, release: &Release) -> Result<()> {
    let file = format!("{USUAL_CONFIGURATION}  shared_namespace: {TEAM}\n");
    Project::create(&world.git, "group/shared", SHARED, &file)?;
    let project = world.git.url("group/shared");
    let agent = world.server.create_agent(SHARED, Some(&project))?;
    let mut values = world.values(&agent.token, "grpcs")?;
    values["replicas"] = 1.into();
    values["workspaces"] = json!({"sharedNamespace": TEAM});
    release.install(&world.cluster, &values, true)?;
    world.server.wait_pods(SHARED, 1, CONNECT)?;
    world
        .server
        .wait_agent(SHARED, "its file is in force", CONNECT, |agent| {
            agent["workspaces"]["enabled"] == true
        })?;

    let team = TEAM;
    let url = repository(world, "shared", DEVFILE)?;
    for name in ["shared-a", "shared-b"] {
        let create = [
            "workspace",
            "create",
            &url,
            "--name",
            name,
            "--agent",
            SHARED,
        ];
        let create = [&create[..], &["--wait", "-o", "json"]].concat();
        let made = output(&mut world.server.command(&create), LIFE)?;
        let made: Value = serde_json::from_str(&made)?;
        ensure!(made["namespace"] == team, "{made:#}");
        ensure!(made["actual_state"] == "Running", "{made:#}");
    }
    let pods = get(world, &["pods", "-n", team])?;
    let pods = pods["items"].as_array().context("no Pods")?;
    let ids: Vec<_> = pods
        .iter()
        .map(|it| &it["metadata"]["labels"]["workspaces.gitlab.com/id"])
        .collect();
    ensure!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    open_program(world, "shared-a", team, "deployment/shared-a")?;

    let deleted = workspace(world, &["delete", "shared-a"])?;
    ensure!(deleted["actual_state"] == "Terminated", "{deleted:#}");
    let left = |name: &str| {
        let kinds = "deployments,services,persistentvolumeclaims,configmaps,serviceaccounts,networkpolicies";
        let label = format!("workspaces.gitlab.com/name={name}");
        world.admin(&["get", kinds, "-n", team, "-l", &label, "-o", "name"])
    };
    wait_until("nothing of it is left", LIFE, || {
        Ok(left("shared-a")?.trim().is_empty())
    })?;
    let beside = world.server.json(&["workspace", "show", "shared-b"])?;
    ensure!(beside["actual_state"] == "Running", "{beside:#}");
    let deleted = workspace(world, &["delete", "shared-b"])?;
    ensure!(deleted["actual_state"] == "Terminated", "{deleted:#}");
    wait_until("nothing of both is left", LIFE, || {
        Ok(left("shared-b")?.trim().is_empty())
    })?;
    let phase = world.admin(&["get", "namespace", team, "-ojsonpath={.status.phase}"])?;
    ensure!(phase == "Active", "the namespace is {phase}");
    Ok(())
}

fn pull_secret(name: &str, data: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": IMAGES},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": data},
    })
}

/// What is in a copy; none where there is none.
fn copy(world: &World, name: &str) -> Result<Option<String>> {
    let secrets = get(world, &["secrets", "-n", NAMESPACE])?;
    let items = secrets["items"].as_array().context("no list")?;
    let found = items.iter().find(|it| it["metadata"]["name"] == name);
    let data = found.and_then(|it| it["data"][".dockerconfigjson"].as_str());
    Ok(data.map(str::to_owned))
}

fn get(world: &World, what: &[&str]) -> Result<Value> {
    let text = world.admin(&[&["get"], what, &["-o", "json"]].concat())?;
    Ok(serde_json::from_str(&text)?)
}
