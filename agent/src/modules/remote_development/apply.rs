//! Carries out attempts: the only place that writes workspaces to the Kubernetes API. It chooses nothing: the plan says
//! what, and what is met on the way is noted for the next plan.

use agent_core::failures::{Refusal, refusal};
use agent_core::reconcile::{
    AGENT_ID_LABEL, Action, Attempt, DesiredWorkspace, Ended, Fact, Inventory, Item, KINDS, Kind,
    Meta, ObjectKey, Outcome, Source, WORKSPACE_ID_ANNOTATION, kind_of,
};
use model::{Failure, FailureCode};
use serde_json::{Value, json};

use super::api::{Api, CallError};
use super::grants::{GrantError, Grants};

/// With it Kubernetes itself holds a namespace's Pods to a Pod security standard.
const POD_SECURITY_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// Why an attempt does not go on with its plan.
enum Stop {
    /// Something was learnt: plan again.
    PlanAgain,
    /// It is over.
    End(Ended),
}

/// Makes an attempt, to the end of what can be done now.
pub(super) async fn attempt(
    api: &Api,
    grants: &Grants,
    agent_id: i64,
    mut attempt: Attempt,
) -> Outcome {
    if attempt.desired.own_namespace
        && attempt.has_namespace()
        && let Err(ended) = have_rights(api, grants, &attempt).await
    {
        return attempt.finish(ended);
    }
    for key in attempt.to_look_at() {
        match look(api, &key).await {
            Ok(fact) => attempt.note(fact),
            Err(error) => {
                tracing::debug!(%key, %error, "object not read");
                return attempt.finish(Ended::Broken);
            }
        }
    }
    while let Some(plan) = attempt.next_plan() {
        for action in plan.actions {
            match act(api, grants, agent_id, &mut attempt, action).await {
                Ok(()) => {}
                Err(Stop::PlanAgain) => break,
                Err(Stop::End(ended)) => {
                    // Should the rights be what is missing, they are looked at before the next attempt.
                    grants.forget(&attempt.desired.namespace);
                    return attempt.finish(ended);
                }
            }
        }
    }
    attempt.finish(Ended::Planned)
}

/// Sees to the agent's rights in a workspace's own namespace.
async fn have_rights(api: &Api, grants: &Grants, attempt: &Attempt) -> Result<(), Ended> {
    let namespace = &attempt.desired.namespace;
    let error = match grants.ensure(api, namespace).await {
        Ok(()) => return Ok(()),
        Err(GrantError::Call(error)) => return Err(ended(namespace, &error)),
        Err(error @ (GrantError::Elsewhere | GrantError::NoEffect)) => error.to_string(),
    };
    let message = "The agent has no rights in the workspace's namespace.".to_owned();
    let failure = Failure::new(FailureCode::ObjectRefused, namespace, message, &error);
    Err(Ended::Refused(failure))
}

async fn act(
    api: &Api,
    grants: &Grants,
    agent_id: i64,
    attempt: &mut Attempt,
    action: Action,
) -> Result<(), Stop> {
    let namespace = attempt.desired.namespace.clone();
    match action {
        Action::CreateNamespace => {
            grants.makes(&namespace);
            let made = create_namespace(api, agent_id, attempt, &namespace).await;
            if made.is_err() {
                grants.did_not_make(&namespace);
                return made;
            }
            have_rights(api, grants, attempt).await.map_err(Stop::End)
        }
        Action::WriteInventory(inventory) => write_inventory(api, attempt, &inventory).await,
        Action::Apply(key, object) => {
            let Some(body) = object.body else {
                return Err(Stop::End(Ended::Broken));
            };
            apply_object(api, attempt, &key, &body).await
        }
        Action::Delete(key) => delete_object(api, attempt, &key).await,
        Action::DeleteInventory => delete_inventory(api, attempt, &namespace).await,
        Action::DeleteNamespace => delete_namespace(api, attempt, &namespace).await,
    }
}

async fn create_namespace(
    api: &Api,
    agent_id: i64,
    attempt: &mut Attempt,
    name: &str,
) -> Result<(), Stop> {
    let DesiredWorkspace { id, .. } = attempt.desired.as_ref();
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name,
            // Should this agent be taken over: the cluster itself takes no Pod there that has something of a node.
            "labels": {AGENT_ID_LABEL: agent_id.to_string(), POD_SECURITY_LABEL: "baseline"},
            "annotations": {WORKSPACE_ID_ANNOTATION: id},
        },
    });
    match api.create("/api/v1/namespaces", &namespace).await {
        Ok(created) => {
            attempt.note(Fact::NamespaceCreated(Item::read(
                Source::Namespaces,
                &created,
            )));
            Ok(())
        }
        Err(error) if error.is_conflict() => {
            let there = api
                .get(&namespace_path(name))
                .await
                .map_err(|error| refused(name, &error))?;
            attempt.note(seen_namespace(agent_id, &there));
            Err(Stop::PlanAgain)
        }
        Err(error) => Err(refused(name, &error)),
    }
}

/// A namespace is ours by its label and its annotation; by one alone it is not.
fn seen_namespace(agent_id: i64, namespace: &Value) -> Fact {
    match has_label(namespace, agent_id) {
        true => Fact::Seen(Item::read(Source::Namespaces, namespace)),
        false => Fact::NamespaceForeign,
    }
}

fn has_label(object: &Value, agent_id: i64) -> bool {
    let label = object["metadata"]["labels"][AGENT_ID_LABEL].as_str();
    label == Some(agent_id.to_string().as_str())
}

async fn write_inventory(
    api: &Api,
    attempt: &mut Attempt,
    inventory: &Inventory,
) -> Result<(), Stop> {
    let config_map = inventory.to_config_map();
    let name = Inventory::name_of(&inventory.workspace);
    let path = config_map_path(&inventory.namespace, &name);
    if !attempt.may_write_inventory() {
        check_inventory(api, inventory, &name, &path).await?;
    }
    let written = api
        .apply(&path, &config_map.to_string())
        .await
        .map_err(|error| refused(&name, &error))?;
    attempt.note(Fact::Seen(Item::read(Source::Inventories, &written)));
    Ok(())
}

/// One of this name that the watch does not show carries no label of ours, or is another workspace's.
async fn check_inventory(
    api: &Api,
    inventory: &Inventory,
    name: &str,
    path: &str,
) -> Result<(), Stop> {
    match api.get(path).await {
        Ok(there) => {
            let marked = Meta::from_json(&there).workspace_id;
            if marked.as_deref() == Some(&inventory.workspace_id)
                && has_label(&there, inventory.agent_id)
            {
                return Ok(());
            }
            let message =
                "The inventory's ConfigMap was made by somebody else, so nothing is written."
                    .to_owned();
            let failure = Failure::new(FailureCode::ForeignObject, name, message, "");
            Err(Stop::End(Ended::Refused(failure)))
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(refused(name, &error)),
    }
}

async fn apply_object(
    api: &Api,
    attempt: &mut Attempt,
    key: &ObjectKey,
    body: &str,
) -> Result<(), Stop> {
    if !attempt.may_write(key) {
        let fact = look(api, key)
            .await
            .map_err(|error| refused(&key.name, &error))?;
        let is_free = match &fact {
            Fact::Absent(_) => true,
            Fact::Seen(Item::Object(_, meta, _)) => attempt.is_ours(meta) && !meta.terminating,
            _ => false,
        };
        attempt.note(fact);
        if !is_free {
            return Err(Stop::PlanAgain);
        }
    }
    let applied = api
        .apply(&path_of(key), body)
        .await
        .map_err(|error| refused(&format!("{} {}", key.kind, key.name), &error))?;
    attempt.note(Fact::Applied(read(key, &applied)));
    Ok(())
}

async fn delete_object(api: &Api, attempt: &mut Attempt, key: &ObjectKey) -> Result<(), Stop> {
    let fact = look(api, key)
        .await
        .map_err(|error| refused(&key.name, &error))?;
    let uid = match &fact {
        Fact::Seen(Item::Object(_, meta, _)) if attempt.is_ours(meta) && !meta.terminating => {
            meta.uid.clone()
        }
        _ => {
            attempt.note(fact);
            return Ok(());
        }
    };
    let component = format!("{} {}", key.kind, key.name);
    match api.delete(&path_of(key), &uid).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(refused(&component, &error)),
    }
    tracing::debug!(%key, "deleted");
    // Gone, or waiting for what depends on it.
    let fact = look(api, key)
        .await
        .map_err(|error| refused(&component, &error))?;
    attempt.note(fact);
    Ok(())
}

async fn delete_inventory(api: &Api, attempt: &mut Attempt, namespace: &str) -> Result<(), Stop> {
    let name = Inventory::name_of(&attempt.desired.name);
    let path = config_map_path(namespace, &name);
    let gone = match api.get_metadata(&path).await {
        Ok(there) => {
            let meta = Meta::from_json(&there);
            match attempt.is_ours(&meta) {
                true => api.delete(&path, &meta.uid).await.map(drop),
                false => return Err(Stop::End(Ended::Broken)),
            }
        }
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if !error.is_not_found() => Err(refused(&name, &error)),
        Ok(()) | Err(_) => {
            attempt.note(Fact::InventoryAbsent);
            Ok(())
        }
    }
}

async fn delete_namespace(api: &Api, attempt: &mut Attempt, name: &str) -> Result<(), Stop> {
    let path = namespace_path(name);
    let there = match api.get(&path).await {
        Ok(there) => there,
        Err(error) if error.is_not_found() => {
            attempt.note(Fact::NamespaceAbsent);
            return Ok(());
        }
        Err(error) => return Err(refused(name, &error)),
    };
    let meta = Meta::from_json(&there);
    if !attempt.is_ours(&meta) {
        attempt.note(Fact::NamespaceForeign);
        return Err(Stop::PlanAgain);
    }
    match api.delete(&path, &meta.uid).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() || error.is_conflict() => {}
        Err(error) => return Err(refused(name, &error)),
    }
    let fact = match api.get(&path).await {
        Ok(there) => Fact::Seen(Item::read(Source::Namespaces, &there)),
        Err(error) if error.is_not_found() => Fact::NamespaceAbsent,
        Err(error) => return Err(refused(name, &error)),
    };
    attempt.note(fact);
    Ok(())
}

/// Reads an object's marks.
async fn look(api: &Api, key: &ObjectKey) -> Result<Fact, CallError> {
    match api.get_metadata(&path_of(key)).await {
        Ok(there) => {
            let Item::Object(key, meta, _) = read(key, &there) else {
                return Ok(Fact::Absent(key.clone()));
            };
            // Metadata alone: what is known of the rest stays.
            Ok(Fact::Seen(Item::Object(
                key,
                meta,
                agent_core::reconcile::Detail::None,
            )))
        }
        Err(error) if error.is_not_found() => Ok(Fact::Absent(key.clone())),
        Err(error) => Err(error),
    }
}

fn read(key: &ObjectKey, object: &Value) -> Item {
    let place = kind_of(&key.group, &key.kind).map_or(0, |(place, _)| place);
    match Item::read(Source::Objects(place), object) {
        // An answer that names itself otherwise (or not) is still about what was asked.
        Item::Object(_, meta, detail) => Item::Object(key.clone(), meta, detail),
        other => other,
    }
}

fn refused(component: &str, error: &CallError) -> Stop {
    Stop::End(ended(component, error))
}

fn ended(component: &str, error: &CallError) -> Ended {
    let ended = match error {
        CallError::Status { code, message } => match refusal(component, *code, message) {
            Refusal::Refused(failure) => Ended::Refused(failure),
            Refusal::LookAgain | Refusal::Transient => Ended::Broken,
        },
        CallError::Transport(_) => Ended::Broken,
    };
    tracing::debug!(component, %error, "call to the API server failed");
    ended
}

fn path_of(key: &ObjectKey) -> String {
    let kind = kind_of(&key.group, &key.kind).map_or(&KINDS[0], |(_, kind)| kind);
    format!("{}/{}", collection(kind, &key.namespace), key.name)
}

fn collection(kind: &Kind, namespace: &str) -> String {
    let Kind {
        group,
        version,
        plural,
        ..
    } = kind;
    match *group {
        "" => format!("/api/{version}/namespaces/{namespace}/{plural}"),
        group => format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"),
    }
}

fn config_map_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

fn namespace_path(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}
