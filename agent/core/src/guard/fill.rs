//! What an object does not say is said for it, the safe way.
//!
//! Kubernetes' own defaults are the generous ones, and objects that GitLab or a devfile's author wrote say less than
//! the restricted standard wants. What they do say is left as it is, and judged.

use serde_json::{Map, Value, json};

use super::{Level, Policy};

/// Says what the object leaves out.
pub fn fill(object: &mut Value, kind: &str, policy: &Policy) {
    match kind {
        "Deployment" => {
            if let Some(Value::Object(spec)) = object.pointer_mut("/spec/template/spec") {
                fill_pod(spec, policy);
            }
        }
        "ServiceAccount" => set_missing(object, "automountServiceAccountToken", &json!(false)),
        _ => {}
    }
}

fn fill_pod(spec: &mut Map<String, Value>, policy: &Policy) {
    let absent = |value: Option<&Value>| value.is_none_or(Value::is_null);
    if absent(spec.get("automountServiceAccountToken")) {
        spec.insert("automountServiceAccountToken".into(), false.into());
    }
    if policy.level == Level::Baseline {
        return;
    }
    let security = spec.entry("securityContext").or_insert(Value::Null);
    if security.is_null() {
        *security = json!({});
    }
    let profile = json!({"type": "RuntimeDefault"});
    set_missing(security, "seccompProfile", &profile);
    set_missing(security, "runAsNonRoot", &json!(true));
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            let security = container.entry("securityContext").or_insert(Value::Null);
            if security.is_null() {
                *security = json!({});
            }
            set_missing(security, "allowPrivilegeEscalation", &json!(false));
            // One that may gain rights needs some that it can gain.
            if security["allowPrivilegeEscalation"] == json!(false) {
                set_missing(security, "capabilities", &json!({}));
                set_missing(&mut security["capabilities"], "drop", &json!(["ALL"]));
            }
        }
    }
}

fn set_missing(object: &mut Value, field: &str, value: &Value) {
    if let Some(object) = object.as_object_mut() {
        let there = object.entry(field).or_insert(Value::Null);
        if there.is_null() {
            there.clone_from(value);
        }
    }
}
