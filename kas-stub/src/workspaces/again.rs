//! Renders a workspace again, with the settings as they are now. Pure.
//!
//! What was chosen at its creation stays: devfile, name, namespace, backend, editor. So does what a cluster does not let
//! change in place: volumes and their sizes, which are the person's data, and what selects a Deployment's Pods.

use ::devfile::{FlattenOptions, flatten::NoFetch, model::Devfile};
use model::configuration::RemoteDevelopment;
use serde_json::{Value, json};

use super::{
    MAX_CONTENT_BYTES,
    render::{DevfileProblem, check, with_repository},
    rendering::{Renderer, Rendering},
    to_json,
    workspace::{Content, Note, Workspace},
};

/// Attribute that says what volumes a DevWorkspace has.
const STORAGE_TYPE: &str = "/spec/template/attributes/controller.devfile.io~1storage-type";

/// A workspace as it would be made now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Again {
    pub(super) content: Content,
    pub(super) rendering: Rendering,
}

/// Renders again.
///
/// # Errors
/// Why that cannot be done, for people.
pub(super) fn again(
    workspace: &Workspace,
    content: &Content,
    renderer: &Renderer,
    settings: &RemoteDevelopment,
) -> Result<Again, String> {
    let (devfile, notes) = devfile(workspace, content)?;
    let editor = match &workspace.editor {
        None => None,
        Some(editor) => {
            let known = renderer.editor(&editor.name);
            let reason = || format!("the server has no editor named {} any more", editor.name);
            Some(known.ok_or_else(reason)?)
        }
    };
    let flattened = serde_json::to_value(&devfile).ok();
    let mut rendering = renderer
        .render(workspace, devfile, editor, settings)
        .map_err(|problems| in_words(&problems))?;
    rendering.objects = keep_fixed(&content.objects, rendering.objects);
    let content = Content {
        devfile: content.devfile.clone(),
        flattened,
        objects: rendering.objects.clone(),
        notes,
        rendered_notes: rendering.notes.clone(),
    };
    if to_json(&content).len() > MAX_CONTENT_BYTES {
        return Err(super::Error::TooLarge.to_string());
    }
    Ok(Again { content, rendering })
}

/// The devfile with all that it draws in.
fn devfile(workspace: &Workspace, content: &Content) -> Result<(Devfile, Vec<Note>), String> {
    let kept = content.flattened.clone();
    if let Some(devfile) = kept.and_then(|it| serde_json::from_value(it).ok()) {
        return Ok((devfile, content.notes.clone()));
    }
    // Of a server that did not keep it, or kept it in a form that is no longer known.
    let path = &workspace.source.devfile_path;
    let checked = check(
        path,
        &content.devfile,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let (devfile, notes) = checked.map_err(|problems| {
        format!(
            "an older version of the server did not keep what its devfile draws in, so it has to be made anew ({})",
            in_words(&problems)
        )
    })?;
    Ok((with_repository(devfile, &workspace.source), notes))
}

fn in_words(problems: &[DevfileProblem]) -> String {
    let words = problems.iter().map(|it| match it.field.as_str() {
        "" => it.reason.clone(),
        field => format!("{field}: {}", it.reason),
    });
    words.take(3).collect::<Vec<_>>().join("; ")
}

/// The new objects, with what has to stay from the old ones.
fn keep_fixed(old: &[Value], mut new: Vec<Value>) -> Vec<Value> {
    let is_same = |one: &Value, other: &Value| {
        (&one["kind"], &one["metadata"]["name"]) == (&other["kind"], &other["metadata"]["name"])
    };
    for object in &mut new {
        let Some(old) = old.iter().find(|it| is_same(it, object)) else {
            continue;
        };
        match object["kind"].as_str() {
            Some("PersistentVolumeClaim") => object["spec"] = old["spec"].clone(),
            Some("Deployment") => keep_selector(old, object),
            Some("DevWorkspace") => keep_volumes(old, object),
            Some(_) | None => {}
        }
    }
    // A volume that nothing asks for any more is not thrown away.
    let volumes = old
        .iter()
        .filter(|it| it["kind"] == "PersistentVolumeClaim");
    let lost: Vec<_> = volumes
        .filter(|volume| !new.iter().any(|it| is_same(it, volume)))
        .cloned()
        .collect();
    new.extend(lost);
    new
}

fn keep_selector(old: &Value, new: &mut Value) {
    let selector = &old["spec"]["selector"];
    if new["spec"]["selector"] == *selector {
        return;
    }
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        new["spec"]["template"]["metadata"]["labels"][name] = value.clone();
    }
    new["spec"]["selector"] = selector.clone();
}

fn keep_volumes(old: &Value, new: &mut Value) {
    let components = |object: &Value| -> Vec<Value> {
        let components = object.pointer("/spec/template/components");
        components
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut kept = components(new);
    for volume in components(old)
        .into_iter()
        .filter(|it| it["volume"].is_object())
    {
        match kept.iter_mut().find(|it| it["name"] == volume["name"]) {
            Some(component) => component["volume"] = volume["volume"].clone(),
            None => kept.push(volume),
        }
    }
    new["spec"]["template"]["components"] = json!(kept);
    if let (Some(old), Some(new)) = (old.pointer(STORAGE_TYPE), new.pointer_mut(STORAGE_TYPE)) {
        old.clone_into(new);
    }
}
