//! Why a workspace is not what was asked: each kind of trouble, made for real, is told with its reason and goes away with
//! its cause.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use harness::images::{self, Filling};
use harness::wait::wait_until;
use serde_json::{Value, json};

use crate::Test;
use crate::workspaces::{DEVFILE, LIFE, delete, repository, wait_failure, workspace};
use crate::world::{MAIN, PLAYGROUND, World};

pub(crate) const TESTS: &[Test] = &[
    ("each_failure_is_told_with_its_reason", each_failure),
    (
        "an_image_that_needs_credentials_says_so",
        image_unauthorized,
    ),
    (
        "an_image_that_is_still_pulled_says_so_until_it_is_there",
        image_pulling,
    ),
    ("a_bad_manifest_stops_one_workspace_of_ten", bad_manifest),
    ("a_used_up_quota_is_told_and_forgotten_when_raised", quota),
    ("a_refusal_at_admission_is_told_with_its_text", admission),
    (
        "a_project_that_cannot_be_cloned_fails_the_clone_and_not_the_workspace",
        clone,
    ),
    (
        "a_foreign_manager_keeps_its_fields_and_ours_come_back",
        foreign_manager,
    ),
    (
        "a_workspace_deleted_while_it_starts_leaves_nothing",
        deleted_while_starting,
    ),
    ("the_same_name_twice_is_refused", same_name),
];

/// The image of [`DEVFILE`].
const TOOLS: &str = "localhost/tools:1";
/// Workspace, what its container runs, what the failure is called, and what its text has to say.
const CONTAINERS: [(&str, &str, &str, &str); 4] = [
    (
        "crashes",
        "      command: [sh, -c, \"echo boom >&2; exit 3\"]\n",
        "CrashLoop",
        "boom",
    ),
    (
        "eats",
        "      command: [sh, -c, \"tail /dev/zero\"]\n",
        "OutOfMemory",
        "tools",
    ),
    (
        "commandless",
        "      command: [/no/such/program]\n",
        "ContainerCannotStart",
        "/no/such/program",
    ),
    (
        "huge",
        "      cpuRequest: \"500\"\n",
        "Unschedulable",
        "Insufficient cpu",
    ),
];

fn each_failure(world: &mut World) -> Result<()> {
    // All at once: none holds up another.
    for (name, container, _, _) in CONTAINERS {
        let line = "      memoryLimit: 256Mi\n";
        let devfile = DEVFILE.replace(line, &format!("      memoryLimit: 64Mi\n{container}"));
        ensure!(devfile.contains(container), "{devfile}");
        start(world, name, &devfile)?;
    }
    for (name, _, code, text) in CONTAINERS {
        let shown = wait_failure(world, name, code)?;
        ensure!(shown.to_string().contains(text), "{shown:#}");
    }
    for (name, _, _, _) in CONTAINERS {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn image_unauthorized(world: &mut World) -> Result<()> {
    // The test cluster's registry wants credentials for this host.
    let image = "denied.example.com/some/image:1";
    start(world, "denied", &DEVFILE.replace(TOOLS, image))?;
    let shown = wait_failure(world, "denied", "ImageUnauthorized")?;
    ensure!(shown.to_string().contains(image), "{shown:#}");
    delete(world, "denied", "gl-rd-ns-denied")
}

fn image_pulling(world: &mut World) -> Result<()> {
    // The test cluster's registry does not answer for this host until the image is there.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let image = format!("late.example.com/some/image:{now}");
    start(world, "late", &DEVFILE.replace(TOOLS, &image))?;
    let shown = wait_failure(world, "late", "ImagePulling")?;
    ensure!(shown["actual_state"] == "Starting", "{shown:#}");
    ensure!(shown.to_string().contains(&image), "{shown:#}");
    images::stand_in(world.cluster.tools(), &image, Filling::Debian)?;
    let running = workspace(world, &["start", "late"])?;
    ensure!(running["actual_state"] == "Running", "{running:#}");
    ensure!(running["failures"] == json!([]), "{running:#}");
    delete(world, "late", "gl-rd-ns-late")
}

fn bad_manifest(world: &mut World) -> Result<()> {
    // The devfile is right, and the object in it is none that an API server takes.
    let manifest = "  - name: settings
    kubernetes:
      deployByDefault: true
      inlined: |
        apiVersion: v1
        kind: ConfigMap
        metadata: { name: settings }
        data: { 'no key / at all': x }
commands:";
    start(world, "bad", &DEVFILE.replace("commands:", manifest))?;
    let others: Vec<String> = (1..=9).map(|number| format!("good-{number}")).collect();
    for name in &others {
        start(world, name, DEVFILE)?;
    }
    let shown = wait_failure(world, "bad", "ObjectRefused")?;
    ensure!(shown.to_string().contains("no key / at all"), "{shown:#}");
    for name in &others {
        let running = workspace(world, &["start", name])?;
        ensure!(running["failures"] == json!([]), "{running:#}");
    }
    for name in others.iter().map(String::as_str).chain(["bad"]) {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn quota(world: &mut World) -> Result<()> {
    let repository = repository(world, "quota", DEVFILE)?;
    workspace(world, &["create", &repository, "--name", "quota"])?;
    let namespace = "gl-rd-ns-quota";
    world.apply(&[json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "narrow", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    })])?;
    wait_until("the quota is in force", LIFE, || {
        let path = "jsonpath={.status.hard.pods}";
        let get = [
            "get",
            "resourcequota",
            "-n",
            namespace,
            "narrow",
            "-o",
            path,
        ];
        Ok(world.admin(&get)? == "0")
    })?;
    world.server.json(&["workspace", "restart", "quota"])?;
    let shown = wait_failure(world, "quota", "QuotaExceeded")?;
    ensure!(shown.to_string().contains("narrow"), "{shown:#}");
    world.admin(&["delete", "resourcequota", "-n", namespace, "narrow"])?;
    let started = workspace(world, &["restart", "quota"])?;
    ensure!(started["failures"] == json!([]), "{started:#}");
    delete(world, "quota", namespace)
}

fn admission(world: &mut World) -> Result<()> {
    let policy = |name: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": name,
            "metadata": {"name": "no-such-pods"}, "spec": spec,
        })
    };
    world.apply(&[
        policy(
            "ValidatingAdmissionPolicy",
            json!({
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }]},
                "validations": [{
                    "expression": "!has(object.metadata.labels) || !('workspaces.gitlab.com/name' in object.metadata.labels) || object.metadata.labels['workspaces.gitlab.com/name'] != 'refused'",
                    "message": "no Pod of this name today",
                }],
            }),
        ),
        policy(
            "ValidatingAdmissionPolicyBinding",
            json!({"policyName": "no-such-pods", "validationActions": ["Deny"]}),
        ),
    ])?;
    let refused = (|| {
        // The API server takes a policy up a while after it was written.
        wait_until("the policy is in force", LIFE, || {
            let probe = [
                "run",
                "probe",
                "-n",
                PLAYGROUND,
                "--image=busybox",
                "--labels=workspaces.gitlab.com/name=refused",
                "--dry-run=server",
            ];
            Ok(world.admin(&probe).is_err())
        })?;
        start(world, "refused", DEVFILE)?;
        let shown = wait_failure(world, "refused", "AdmissionRefused")?;
        ensure!(
            shown.to_string().contains("no Pod of this name today"),
            "{shown:#}"
        );
        Ok(())
    })();
    world.admin(&[
        "delete",
        "validatingadmissionpolicybinding,validatingadmissionpolicy",
        "no-such-pods",
    ])?;
    refused?;
    let started = workspace(world, &["restart", "refused"])?;
    ensure!(started["failures"] == json!([]), "{started:#}");
    delete(world, "refused", "gl-rd-ns-refused")
}

fn clone(world: &mut World) -> Result<()> {
    let nowhere = world.git.url("samples/nowhere");
    let devfile = format!(
        "{DEVFILE}projects:\n  - name: nowhere\n    git:\n      remotes:\n        origin: {nowhere}\n"
    );
    let repository = repository(world, "cloneless", &devfile)?;
    let running = workspace(world, &["create", &repository, "--name", "cloneless"])?;
    ensure!(running["actual_state"] == "Running", "{running:#}");
    let shown = wait_failure(world, "cloneless", "CloneFailed")?;
    ensure!(shown.to_string().contains("nowhere"), "{shown:#}");
    delete(world, "cloneless", "gl-rd-ns-cloneless")
}

fn foreign_manager(world: &mut World) -> Result<()> {
    let repository = repository(world, "foreign", DEVFILE)?;
    workspace(world, &["create", &repository, "--name", "foreign"])?;
    let namespace = "gl-rd-ns-foreign";
    world.admin(&[
        "scale",
        "-n",
        namespace,
        "deployment/foreign",
        "--replicas=0",
    ])?;
    world.admin(&[
        "label",
        "-n",
        namespace,
        "deployment/foreign",
        "example.com/theirs=kept",
    ])?;
    wait_until("our replicas are back", LIFE, || {
        let path = "jsonpath={.spec.replicas} {.status.readyReplicas}";
        let replicas =
            world.admin(&["get", "deployment", "-n", namespace, "foreign", "-o", path])?;
        Ok(replicas == "1 1")
    })?;
    let label = "jsonpath={.metadata.labels.example\\.com/theirs}";
    let theirs = world.admin(&["get", "deployment", "-n", namespace, "foreign", "-o", label])?;
    ensure!(theirs == "kept", "{theirs:?}");
    delete(world, "foreign", namespace)
}

fn deleted_while_starting(world: &mut World) -> Result<()> {
    start(world, "short-lived", DEVFILE)?;
    let namespace = "gl-rd-ns-short-lived";
    wait_until("its namespace is there", LIFE, || {
        Ok(world.admin(&["get", "namespace", namespace]).is_ok())
    })?;
    delete(world, "short-lived", namespace)
}

fn same_name(world: &mut World) -> Result<()> {
    start(world, "twin", DEVFILE)?;
    let again = start(world, "twin", DEVFILE);
    let text = again
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(text.contains("twin"), "the second one was taken: {text}");
    delete(world, "twin", "gl-rd-ns-twin")
}

/// Creates a workspace and does not wait for it.
fn start(world: &World, name: &str, devfile: &str) -> Result<Value> {
    let repository = match repository(world, name, devfile) {
        Ok(repository) => repository,
        // Made before, by the same test.
        Err(_) => world.git.url(&format!("samples/{name}")),
    };
    world.server.json(&[
        "workspace",
        "create",
        &repository,
        "--name",
        name,
        "--agent",
        MAIN,
    ])
}
