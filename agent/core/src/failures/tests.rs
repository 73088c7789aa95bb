//! One row per way of going wrong, with statuses as clusters write them.

use model::FailureCode as C;
use serde_json::{Value, json};

use super::*;

const IMAGE: &str = "registry.example.com/team/tools:1";

fn pod(container_status: Value) -> Value {
    json!({
        "metadata": {"name": "w-7d9c-x", "uid": "u1", "managedFields": [{}]},
        "spec": {
            "initContainers": [{"name": "gl-project-cloner", "image": "git:1"}],
            "containers": [{"name": "tools", "image": IMAGE, "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": {
            "initContainerStatuses": [{"name": "gl-project-cloner", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
            "containerStatuses": [container_status],
        },
    })
}

fn status(state: Value, last_state: Value, restarts: u64) -> Value {
    json!({"name": "tools", "image": IMAGE, "restartCount": restarts, "state": state, "lastState": last_state})
}

fn waiting(reason: &str, message: &str) -> Value {
    pod(status(
        json!({"waiting": {"reason": reason, "message": message}}),
        json!({}),
        0,
    ))
}

fn of_one(pod: &Value, events: &[EventSeen]) -> Vec<Failure> {
    let pod = PodSeen::from_json(pod);
    failures(Evidence {
        pods: &[&pod],
        events,
        ..Evidence::default()
    })
}

fn only(pod: &Value) -> (C, String, String) {
    let mut found = of_one(pod, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    let Failure {
        code,
        component,
        message,
        ..
    } = found.remove(0);
    (code, component, message)
}

#[test]
fn an_image_that_cannot_be_had() {
    let pull = |detail: &str| format!("Back-off pulling image \"{IMAGE}\": ErrImagePull: {detail}");
    let rows = [
        ("ImagePullBackOff", pull(&format!("rpc error: code = NotFound desc = failed to pull and unpack image \"{IMAGE}\": failed to resolve reference \"{IMAGE}\": {IMAGE}: not found")), C::ImageNotFound),
        ("ErrImagePull", format!("failed to pull and unpack image \"{IMAGE}\": failed to resolve reference \"{IMAGE}\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"), C::ImageUnauthorized),
        ("ErrImagePull", format!("failed to resolve reference \"{IMAGE}\": unexpected status from HEAD request to https://registry.example.com/v2/: 401 Unauthorized"), C::ImageUnauthorized),
        ("ErrImagePull", "failed to do request: Head \"https://registry.example.com/v2/\": dial tcp: lookup registry.example.com on 10.96.0.10:53: no such host".to_owned(), C::ImageUnreachable),
        ("ErrImagePull", "failed to do request: dial tcp 10.0.0.1:443: connect: connection refused".to_owned(), C::ImageUnreachable),
        ("ImagePullBackOff", pull("failed to copy: httpReadSeeker: failed open: unexpected status code 503 Service Unavailable"), C::ImageUnreachable),
        ("InvalidImageName", "Failed to apply default image tag \"A B\": couldn't parse image name \"A B\": invalid reference format".to_owned(), C::ImageInvalid),
    ];
    for (reason, message, expected) in rows {
        let (code, component, _) = only(&waiting(reason, &message));
        assert_eq!((code, component.as_str()), (expected, "tools"), "{message}");
    }
}

#[test]
fn an_older_kubelets_back_off_is_explained_by_the_event() {
    let pod = waiting(
        "ImagePullBackOff",
        &format!("Back-off pulling image \"{IMAGE}\""),
    );
    let event = EventSeen {
        uid: "u1".into(),
        reason: "Failed".into(),
        message: format!("Failed to pull image \"{IMAGE}\": {IMAGE}: not found"),
    };
    assert_eq!(of_one(&pod, &[event])[0].code, C::ImageNotFound);
}

#[test]
fn a_crash_loop_carries_exit_code_and_last_lines() {
    let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "line 1\nno database at 10.0.0.9\n"}});
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}});
    let found = of_one(&pod(status(back_off, ended.clone(), 4)), &[]);
    assert_eq!(found[0].code, C::CrashLoop);
    assert!(found[0].message.contains("exit code 3"), "{found:?}");
    assert!(found[0].evidence.ends_with("no database at 10.0.0.9"));
    // The same reason in the moment between two starts.
    assert_eq!(only(&pod(status(ended, json!({}), 4))).0, C::CrashLoop);
    let (_, _, message) = only(&pod(status(
        json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        json!({}),
        0,
    )));
    assert!(message.contains("without an error"), "{message}");
}

#[test]
fn what_is_over_is_no_failure() {
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    assert_eq!(
        of_one(&pod(status(json!({"running": {}}), ended, 1)), &[]),
        []
    );
    let mut going = waiting("ErrImagePull", "not found");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(of_one(&going, &[]), []);
}

#[test]
fn memory_that_ran_out_names_the_limit() {
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let (code, _, message) = only(&pod(status(back_off, ended, 2)));
    assert!(
        code == C::OutOfMemory && message.contains("64Mi"),
        "{message}"
    );
}

#[test]
fn an_image_without_a_shell_is_told_so() {
    let text = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/bin/sh\": stat /bin/sh: no such file or directory";
    let (code, _, message) = only(&waiting("RunContainerError", text));
    assert!(
        code == C::ContainerCannotStart && message.contains("no /bin/sh"),
        "{message}"
    );
    let back_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let ended = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": text}});
    assert_eq!(
        only(&pod(status(back_off, ended, 2))),
        (code, "tools".into(), message)
    );
    let (_, _, other) = only(&waiting(
        "CreateContainerConfigError",
        "secret \"w-env\" not found",
    ));
    assert!(other.contains("refers to"), "{other}");
}

#[test]
fn a_failed_clone_is_told_whether_or_not_the_workspace_goes_on() {
    let running = status(json!({"running": {}}), json!({}), 0);
    let clone = |exit_code: i64, message: &str| {
        let mut pod = pod(running.clone());
        pod["status"]["initContainerStatuses"][0]["state"] =
            json!({"terminated": {"exitCode": exit_code, "reason": "Error", "message": message}});
        of_one(&pod, &[])
    };
    let text = "fatal: unable to access 'https://git.example.com/a.git/': Could not resolve host: git.example.com";
    for exit_code in [0, 128] {
        let found = clone(exit_code, text);
        assert_eq!(
            (found[0].code, found[0].evidence.as_str()),
            (C::CloneFailed, text)
        );
    }
    assert_eq!(clone(0, ""), []);
}

fn deployment(condition: Value) -> Vec<Failure> {
    let json = json!({"metadata": {"name": "w"}, "spec": {"replicas": 1, "template": {}}, "status": {"conditions": [condition]}});
    failures(Evidence {
        deployment: Some(&DeploymentSeen::from_json(&json)),
        ..Evidence::default()
    })
}

#[test]
fn a_quota_names_what_was_asked_used_and_allowed() {
    let text = "pods \"w-6c5-x\" is forbidden: exceeded quota: w, requested: limits.memory=1Gi, used: limits.memory=0, limited: limits.memory=512Mi";
    let found = deployment(
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}),
    );
    assert_eq!(found[0].code, C::QuotaExceeded);
    assert_eq!(
        found[0].message,
        "The quota 'w' of the namespace is used up: asked limits.memory=1Gi, used limits.memory=0, limit limits.memory=512Mi."
    );
    assert_eq!(
        deployment(json!({"type": "ReplicaFailure", "status": "False", "message": text})),
        []
    );
}

#[test]
fn an_admission_check_is_named_with_all_it_said() {
    let refused = |message: &str| {
        deployment(json!({"type": "ReplicaFailure", "status": "True", "message": message}))
            .remove(0)
    };
    let denied = refused(
        "admission webhook \"policy.example.com\" denied the request: images must come from registry.example.com",
    );
    assert_eq!(denied.code, C::AdmissionRefused);
    assert!(
        denied.message.contains("policy.example.com")
            && denied
                .message
                .ends_with("images must come from registry.example.com")
    );
    let away = refused(
        "Internal error occurred: failed calling webhook \"policy.example.com\": failed to call webhook: Post \"https://p.svc\": dial tcp: connection refused",
    );
    assert!(away.code == C::AdmissionRefused && away.message.contains("could not be asked"));
    let standard = refused(
        "pods \"w-x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
    );
    assert_eq!(standard.code, C::AdmissionRefused);
    assert_eq!(refused("something new").code, C::ObjectRefused);
}

#[test]
fn a_deadline_that_passed_is_told() {
    let found = deployment(
        json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"w-6\" has timed out progressing."}),
    );
    assert_eq!(found[0].code, C::ProgressDeadlineExceeded);
    assert!(found[0].evidence.contains("timed out"));
}

#[test]
fn a_pod_that_waits_for_its_volume() {
    let message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    let mut pod = pod(status(json!({}), json!({}), 0));
    pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]);
    let (code, _, text) = only(&pod);
    assert_eq!(code, C::VolumeNotMounted);
    assert!(text.contains("storage class"), "{text}");
}

#[test]
fn a_pod_that_no_node_takes() {
    let mut pod = waiting("", "");
    pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available."}]});
    let found = of_one(&pod, &[]);
    assert_eq!(found[0].code, C::Unschedulable);
    assert!(found[0].evidence.contains("Insufficient memory"));
}

#[test]
fn events_tell_of_pulls_that_go_on_and_of_volumes() {
    let pod = waiting("ContainerCreating", "");
    let event = |reason: &str, message: String| EventSeen {
        uid: "u1".into(),
        reason: reason.into(),
        message,
    };
    let pulling = event("Pulling", format!("Pulling image \"{IMAGE}\""));
    let pulled = event(
        "Pulled",
        format!("Successfully pulled image \"{IMAGE}\" in 3s"),
    );
    assert_eq!(of_one(&pod, &[]), []);
    assert_eq!(
        of_one(&pod, std::slice::from_ref(&pulling))[0].code,
        C::ImagePulling
    );
    assert_eq!(of_one(&pod, &[pulling.clone(), pulled]), []);
    let mount = event(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"w-data\" : rpc error: timeout".to_owned(),
    );
    let found = of_one(&pod, &[mount]);
    assert_eq!(
        (found[0].code, found[0].component.as_str()),
        (C::VolumeNotMounted, "w-data")
    );
    let others = EventSeen {
        uid: "u2".into(),
        ..pulling
    };
    assert_eq!(of_one(&pod, &[others]), []);
}

#[test]
fn what_the_operator_says_is_read_with_its_conditions() {
    let condition = json!({"type": "FailedStart", "status": "True", "reason": "BadRequest", "message": "Error processing devfile: x"});
    let warning = json!({"type": "DevWorkspaceWarning", "status": "True", "message": "one"});
    let json = json!({
        "metadata": {"name": "w", "annotations": {"controller.devfile.io/stopped-by": "inactivity"}},
        "spec": {"started": false},
        "status": {"phase": "Failed", "message": "m", "mainUrl": "http://u", "conditions": [condition, warning, warning]},
    });
    let seen = DevWorkspaceSeen::from_json(&json);
    let status = &seen.status;
    assert_eq!(
        (
            status.phase.as_str(),
            status.main_url.as_str(),
            status.stopped_by.as_str(),
            status.started
        ),
        ("Failed", "http://u", "inactivity", false)
    );
    let kinds: Vec<_> = status
        .conditions
        .iter()
        .map(|it| it.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        ["FailedStart", "DevWorkspaceWarning", "DevWorkspaceWarning"]
    );
    let found = failures(Evidence {
        dev_workspace: Some(&seen),
        ..Evidence::default()
    });
    assert_eq!(found[0].code, C::DevfileRefused);
}

#[test]
fn answers_to_writes_are_sorted_by_who_can_repair_them() {
    let code = |refusal: Refusal| match refusal {
        Refusal::Refused(failure) => Some(failure.code),
        Refusal::LookAgain | Refusal::Transient => None,
    };
    assert_eq!(
        code(refusal(
            "w",
            422,
            "Deployment.apps \"w\" is invalid: spec.x: Required value"
        )),
        Some(C::ObjectRefused)
    );
    assert_eq!(
        code(refusal(
            "w",
            403,
            "persistentvolumeclaims \"w\" is forbidden: exceeded quota: q, requested: requests.storage=1Gi, used: requests.storage=9Gi, limited: requests.storage=9Gi"
        )),
        Some(C::QuotaExceeded)
    );
    assert_eq!(
        code(refusal(
            "w",
            400,
            "admission webhook \"a.b\" denied the request: no"
        )),
        Some(C::AdmissionRefused)
    );
    assert_eq!(refusal("w", 409, "conflict"), Refusal::LookAgain);
    assert_eq!(
        refusal("w", 404, "namespaces \"x\" not found"),
        Refusal::LookAgain
    );
    assert_eq!(
        refusal("w", 503, "etcdserver: leader changed"),
        Refusal::Transient
    );
    assert_eq!(refusal("w", 401, "Unauthorized"), Refusal::Transient);
}

#[test]
fn an_operator_that_is_not_there_not_well_or_old_is_told() {
    for (status, text, expected, part) in [
        (
            404,
            "the server could not find the requested resource",
            C::OperatorUnavailable,
            "not installed",
        ),
        (
            500,
            "failed to create typed patch object (n/w; workspace.devfile.io/v1alpha2, Kind=DevWorkspace): .spec.template.dependentProjects: field not declared in schema",
            C::ObjectRefused,
            "too old",
        ),
        (
            500,
            "Internal error occurred: failed calling webhook \"mutate.devworkspace-controller.svc\": no endpoints available",
            C::OperatorUnavailable,
            "could not be asked",
        ),
        (
            500,
            "Internal error occurred: failed calling webhook \"policy.example.com\": timeout",
            C::AdmissionRefused,
            "could not be asked",
        ),
        (
            400,
            "admission webhook \"mutate.devworkspace-controller.svc\" denied the request: only one workspace",
            C::AdmissionRefused,
            "only one",
        ),
    ] {
        let Refusal::Refused(failure) = refusal("DevWorkspace w", status, text) else {
            panic!("{text}");
        };
        assert_eq!(failure.code, expected, "{text}");
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn hostile_shapes_and_lengths_do_no_harm() {
    for json in [
        json!(null),
        json!([]),
        json!({"spec": {"containers": [1, {}]}, "status": {"containerStatuses": "x", "conditions": {}}}),
    ] {
        let _ = (
            of_one(&json, &[]),
            DeploymentSeen::from_json(&json),
            DevWorkspaceSeen::from_json(&json),
            EventSeen::from_json(&json),
        );
    }
    let found = of_one(&waiting("ErrImagePull", &"ö".repeat(100_000)), &[]);
    assert!(found[0].evidence.len() <= model::failure::MAX_EVIDENCE_BYTES);
}
