//! Whether the DevWorkspace Operator can run workspaces here. Pure.

use model::{Failure, FailureCode, OperatorState};
use serde_json::Value;

/// What the cluster says of the kind `DevWorkspace`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Definition {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There is no such kind.
    Missing,
    /// The agent may not read them.
    Forbidden,
    /// It is served.
    Served {
        /// Fields of a devfile that it does not have.
        missing_fields: Vec<String>,
    },
}

/// Fields that DevWorkspaces have since some version of the operator, at `spec.template`.
const NEWER_FIELDS: [(&str, &str); 1] = [("dependentProjects", "0.25.0")];
/// Group, version and kind by which its schema is known.
const KIND: (&str, &str, &str) = ("workspace.devfile.io", "v1alpha2", "DevWorkspace");

/// The fields that the cluster's DevWorkspaces lack, from the API server's description of its API (OpenAPI v3). None where
/// the description says nothing: what it does not show is not held against the operator.
#[must_use]
pub fn missing_fields(description: &Value) -> Vec<String> {
    let is_it = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.into_iter().flatten().any(|it| {
            (
                it["group"].as_str(),
                it["version"].as_str(),
                it["kind"].as_str(),
            ) == (Some(KIND.0), Some(KIND.1), Some(KIND.2))
        })
    };
    let schemas = description["components"]["schemas"].as_object();
    let mut schemas = schemas.into_iter().flat_map(|it| it.values());
    let Some(fields) = schemas
        .find(is_it)
        .and_then(|it| it.pointer("/properties/spec/properties/template/properties"))
        .and_then(Value::as_object)
    else {
        return Vec::new();
    };
    let is_missing = |(field, _): &&(&str, &str)| !fields.contains_key(*field);
    let missing = NEWER_FIELDS.iter().filter(is_missing);
    missing.map(|(field, _)| (*field).to_owned()).collect()
}

/// What the server is told. `refused` are the workspaces' refusals by the API server.
#[must_use]
pub fn operator_state<'a>(
    definition: &Definition,
    refused: impl Iterator<Item = &'a Failure>,
) -> OperatorState {
    let unavailable = |code: &str, reason: String| OperatorState {
        available: false,
        code: code.to_owned(),
        reason,
        missing_fields: Vec::new(),
    };
    match definition {
        Definition::Unknown => unavailable(
            OperatorState::UNKNOWN,
            "the agent has not seen yet whether the cluster has DevWorkspaces".to_owned(),
        ),
        Definition::Missing => unavailable(
            OperatorState::MISSING,
            "the cluster has no DevWorkspaces: install the DevWorkspace Operator; the agent notices by itself".to_owned(),
        ),
        Definition::Forbidden => unavailable(
            OperatorState::FORBIDDEN,
            "the agent may not read DevWorkspaces: set workspaces.devWorkspaceOperator to true in its chart's values".to_owned(),
        ),
        Definition::Served { missing_fields } => {
            let mut down = refused.filter(|it| {
                it.code == FailureCode::OperatorUnavailable && it.evidence.contains("webhook")
            });
            if let Some(failure) = down.next() {
                return unavailable(
                    OperatorState::WEBHOOK_DOWN,
                    format!(
                        "the operator's admission checks cannot be asked, so that no DevWorkspace is taken: {}",
                        failure.evidence
                    ),
                );
            }
            let since = |field: &String| NEWER_FIELDS.iter().find(|(newer, _)| newer == field);
            let lacks = missing_fields.iter().filter_map(since);
            let lacks: Vec<_> = lacks
                .map(|(field, version)| format!("it has no {field}, which came with {version}"))
                .collect();
            OperatorState {
                available: true,
                code: String::new(),
                reason: match lacks.is_empty() {
                    true => String::new(),
                    false => format!("the DevWorkspace Operator is old: {}", lacks.join("; ")),
                },
                missing_fields: missing_fields.clone(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn description(fields: Value) -> Value {
        let kind = json!([{"group": "workspace.devfile.io", "version": "v1alpha2", "kind": "DevWorkspace"}]);
        let list = json!([{"group": "workspace.devfile.io", "version": "v1alpha2", "kind": "DevWorkspaceList"}]);
        json!({"components": {"schemas": {
            "io.devfile.workspace.v1alpha2.DevWorkspaceList": {"x-kubernetes-group-version-kind": list},
            "io.devfile.workspace.v1alpha2.DevWorkspace": {
                "x-kubernetes-group-version-kind": kind,
                "properties": {"spec": {"properties": {"template": {"properties": fields}}}},
            },
        }}})
    }

    #[test]
    fn an_old_definition_is_known_by_what_it_lacks() {
        let old = description(json!({"projects": {}}));
        assert_eq!(missing_fields(&old), ["dependentProjects"]);
        let new = description(json!({"projects": {}, "dependentProjects": {}}));
        assert_eq!(missing_fields(&new), [""; 0]);
        for nothing in [
            json!({}),
            json!(null),
            json!({"components": {"schemas": {"a": {}}}}),
        ] {
            assert_eq!(missing_fields(&nothing), [""; 0], "{nothing}");
        }
    }

    #[test]
    fn each_state_says_what_would_help() {
        let down = Failure::new(
            FailureCode::OperatorUnavailable,
            "DevWorkspace w",
            String::new(),
            "failed calling webhook \"mutate.devworkspace-controller.svc\": no endpoints available",
        );
        let other = Failure::new(FailureCode::QuotaExceeded, "w", String::new(), "webhook");
        let served = |fields: &[&str]| Definition::Served {
            missing_fields: fields.iter().map(|it| (*it).to_owned()).collect(),
        };
        for (definition, refused, code, part) in [
            (
                Definition::Unknown,
                None,
                OperatorState::UNKNOWN,
                "not seen yet",
            ),
            (
                Definition::Missing,
                Some(&down),
                OperatorState::MISSING,
                "install",
            ),
            (
                Definition::Forbidden,
                None,
                OperatorState::FORBIDDEN,
                "devWorkspaceOperator",
            ),
            (served(&[]), None, "", ""),
            (served(&[]), Some(&other), "", ""),
            (served(&["dependentProjects"]), None, "", "0.25.0"),
            (
                served(&[]),
                Some(&down),
                OperatorState::WEBHOOK_DOWN,
                "no endpoints",
            ),
        ] {
            let state = operator_state(&definition, refused.into_iter());
            assert_eq!(
                (state.code.as_str(), state.available),
                (code, code.is_empty())
            );
            assert!(state.reason.contains(part), "{state:?}");
        }
    }
}
