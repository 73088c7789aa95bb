//! What makes a devfile a workspace of its own under DevWorkspace Operator: a volume that goes with it, and marks on its
//! Pods.

use serde_json::{Map, Value, json};

use super::overrides::POD;
use super::storage::PROJECTS;
use super::{Note, Notes, RenderError, RenderOptions, attribute_path};
use crate::model::{Component, ComponentKind, Devfile, Volume};

/// The operator's choice for all volumes at once.
const STORAGE_TYPE: &str = "controller.devfile.io/storage-type";
/// One volume for the workspace, which the operator deletes with it.
pub(super) const OWN_VOLUME: &str = "per-workspace";
/// Volumes that end with the Pod.
pub(super) const EPHEMERAL: &str = "ephemeral";
/// One volume for all workspaces of a namespace. The operator's default.
const SHARED: [&str; 4] = ["", "common", "per-user", "async"];

/// Changes a devfile so that DevWorkspace Operator (0.17.0 or later) runs it as a workspace whose data is its own, and whose
/// Pods carry the labels of [`RenderOptions::selector`] and the annotations of [`RenderOptions::pod_annotations`].
///
/// # Errors
/// When its storage type is none of the operator's.
pub fn for_operator(
    devfile: &mut Devfile,
    options: &RenderOptions,
) -> Result<Vec<Note>, RenderError> {
    let mut notes = Notes::default();
    own_storage(devfile, &mut notes)?;
    name_projects_volume(devfile, &options.storage.projects_size);
    mark_pods(devfile, options, &mut notes);
    Ok(notes.list)
}

fn own_storage(devfile: &mut Devfile, notes: &mut Notes) -> Result<(), RenderError> {
    let own = || json!(OWN_VOLUME);
    let asked = devfile.attributes.entry(STORAGE_TYPE).or_insert_with(own);
    match asked.as_str() {
        Some(OWN_VOLUME | EPHEMERAL) => Ok(()),
        Some(shared) if SHARED.contains(&shared) => {
            notes.add(
                attribute_path("attributes.", STORAGE_TYPE),
                format!("it became {OWN_VOLUME}"),
                "a volume that several workspaces share stays when one of them is deleted",
            );
            *asked = own();
            Ok(())
        }
        Some(_) | None => Err(RenderError::StorageType {
            asked: asked.to_string(),
        }),
    }
}

/// The operator (v0.31.0) makes a workspace's volume as large as the sizes in its devfile together: 0, which no API server
/// takes, when there are none, and with no room for the projects when there are. So they get a volume with a size.
fn name_projects_volume(devfile: &mut Devfile, size: &str) {
    if devfile.components.iter().any(|it| it.name == PROJECTS) {
        return;
    }
    devfile.components.push(Component {
        name: PROJECTS.into(),
        attributes: Map::default(),
        kind: ComponentKind::Volume(Volume {
            size: Some(size.to_owned()),
            ephemeral: None,
        }),
    });
}

/// The operator copies no labels to its Pods. What it merges into them last are the devfile's own `pod-overrides`: after
/// those of components, so that no devfile takes the marks away again.
fn mark_pods(devfile: &mut Devfile, options: &RenderOptions, notes: &mut Notes) {
    let path = attribute_path("attributes.", POD);
    let mut overrides = fields(devfile.attributes.remove(POD), &path, notes);
    let path = format!("{path}.metadata");
    let mut metadata = fields(overrides.remove("metadata"), &path, notes);
    for (field, marks) in [
        ("labels", &options.selector),
        ("annotations", &options.pod_annotations),
    ] {
        let path = format!("{path}.{field}");
        let mut known = fields(metadata.remove(field), &path, notes);
        for (key, value) in marks {
            if known.insert(key.clone(), value.clone().into()).is_some() {
                let why = "it is set by the workspace";
                notes.add(
                    attribute_path(&format!("{path}."), key),
                    "it is left out",
                    why,
                );
            }
        }
        metadata.insert(field.into(), known.into());
    }
    overrides.insert("metadata".into(), metadata.into());
    devfile.attributes.insert(POD.into(), overrides.into());
}

/// The fields that are merged; not the directives of a strategic merge, which could take the marks away with the rest.
fn fields(value: Option<Value>, path: &str, notes: &mut Notes) -> Map<String, Value> {
    let value = match value {
        // A mapping may be written as JSON in a text, too.
        Some(Value::String(text)) => Some(serde_json::from_str(&text).unwrap_or_default()),
        other => other,
    };
    let mut fields = match value {
        None => Map::new(),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            notes.add(path, "it is left out", "it is no object");
            Map::new()
        }
    };
    fields.retain(|key, _| {
        let is_directive = key.starts_with('$');
        if is_directive {
            let why = "it could take the workspace's labels away";
            notes.add(format!("{path}.{key}"), "it is left out", why);
        }
        !is_directive
    });
    fields
}
