//! `config_to_apply`: a workspace's objects as the YAML that GitLab's agent applies. Pure.
//!
//! The agent applies one inventory at a time and prunes what an inventory lost, so each answer holds an inventory whole or
//! not at all. Secrets have one of their own: they are not in partial answers.

use devfile::yaml_text;
use serde_json::{Value, json};

use super::{
    super::{
        render::{
            AGENT_ID_LABEL, ID_ANNOTATION, INVENTORY_ANNOTATION, secrets_inventory,
            workspace_inventory,
        },
        workspace::Workspace,
    },
    session::Config,
};

/// cli-utils' label of an inventory, with its id.
const INVENTORY_ID_LABEL: &str = "cli-utils.sigs.k8s.io/inventory-id";
/// GitLab's annotation of what partial answers hold.
const IN_PARTIAL_ANNOTATION: &str = "workspaces.gitlab.com/include-in-partial-reconciliation";

/// GitLab's order of objects.
const ORDER: [&str; 7] = [
    "Deployment",
    "Service",
    "PersistentVolumeClaim",
    "ServiceAccount",
    "NetworkPolicy",
    "ConfigMap",
    "ResourceQuota",
];

/// The documents, each after a line `---`; keys are sorted.
pub(super) fn config_to_apply(
    workspace: &Workspace,
    objects: Vec<Value>,
    config: Config,
) -> String {
    let (has_secrets, has_objects) = match config {
        Config::Nothing => return String::new(),
        Config::Partial => (false, true),
        Config::All => (true, true),
        Config::Inventories => (true, false),
    };
    let objects = if has_objects { objects } else { Vec::new() };
    let (secrets, mut others): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|it| it["kind"] == "Secret");
    others.sort_by_key(|it| ORDER.iter().position(|kind| it["kind"] == *kind));
    // Behind the inventory of Secrets, where GitLab has it; but in partial answers too, since agents prune what an
    // inventory lost.
    let at = others.iter().position(|it| it["kind"] == "ResourceQuota");
    let quotas = others.split_off(at.unwrap_or(others.len()));
    let mut documents = vec![inventory(
        workspace,
        &workspace_inventory(&workspace.name),
        true,
    )];
    documents.extend(others.into_iter().map(|mut object| {
        object["metadata"]["annotations"][IN_PARTIAL_ANNOTATION] = "true".into();
        object
    }));
    if !has_secrets {
        documents.extend(quotas);
    } else {
        let name = secrets_inventory(&workspace.name);
        documents.push(inventory(workspace, &name, false));
        documents.extend(quotas);
        documents.extend(secrets.into_iter().map(|mut object| {
            object["metadata"]["annotations"][INVENTORY_ANNOTATION] = name.as_str().into();
            object
        }));
    }
    let texts = documents.iter().map(|it| format!("---\n{}", yaml_text(it)));
    texts.collect()
}

fn inventory(workspace: &Workspace, name: &str, in_partial: bool) -> Value {
    let mut inventory = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": workspace.namespace,
            "labels": {
                AGENT_ID_LABEL: workspace.agent_id.to_string(),
                INVENTORY_ID_LABEL: name,
            },
            "annotations": { ID_ANNOTATION: workspace.id },
        },
    });
    if in_partial {
        inventory["metadata"]["annotations"][IN_PARTIAL_ANNOTATION] = "true".into();
    }
    inventory
}
