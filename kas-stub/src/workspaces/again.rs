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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{EditorSettings, WorkspaceDefaults},
        workspaces::{
            Editors, backend::BackendKind, editor::WorkspaceEditor, maker::sample,
            workspace::Source,
        },
    };

    const DEVFILE: &str = "\
schemaVersion: 2.2.0
metadata: { name: app }
components:
- name: tools
  container:
    image: localhost/tools:1
    volumeMounts: [{ name: cache, path: /cache }]
- name: cache
  volume: { size: 3Gi }
";

    fn renderer(change: impl FnOnce(&mut WorkspaceDefaults)) -> Renderer {
        let mut defaults = WorkspaceDefaults::default();
        change(&mut defaults);
        Renderer::new(defaults, Editors::load(&EditorSettings::default()).unwrap())
    }

    fn workspace(backend: BackendKind) -> Workspace {
        let mut workspace = sample("one");
        workspace.backend = backend;
        workspace.source = Source {
            repository: "https://git.example.com/app.git".into(),
            devfile_path: "devfile.yaml".into(),
            ..Source::default()
        };
        workspace
    }

    /// As an older server kept it.
    fn older(devfile: &str) -> Content {
        Content {
            devfile: devfile.into(),
            ..Content::default()
        }
    }

    fn rendered(workspace: &Workspace, content: &Content, renderer: &Renderer) -> Again {
        again(workspace, content, renderer, &RemoteDevelopment::default()).unwrap()
    }

    fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
        objects.iter().filter(|it| it["kind"] == kind).collect()
    }

    #[test]
    fn what_an_older_server_kept_is_rendered_too_unless_it_draws_something_in() {
        let workspace = workspace(BackendKind::Native);
        let first = rendered(&workspace, &older(DEVFILE), &renderer(|_| {}));
        assert!(first.content.flattened.is_some());
        // With what is kept now it comes out the same, whatever the text says.
        let mut kept = first.content.clone();
        kept.devfile = "no devfile".into();
        let second = rendered(&workspace, &kept, &renderer(|_| {}));
        assert_eq!(second.rendering, first.rendering);
        // A form that is no longer known: the text again.
        kept = Content {
            devfile: DEVFILE.into(),
            flattened: Some(json!({ "components": 7 })),
            ..first.content.clone()
        };
        assert_eq!(
            rendered(&workspace, &kept, &renderer(|_| {})).rendering,
            first.rendering
        );
        let parent = "schemaVersion: 2.2.0\nparent: { uri: 'https://example.com/devfile.yaml' }\n";
        let refused = again(
            &workspace,
            &older(parent),
            &renderer(|_| {}),
            &RemoteDevelopment::default(),
        );
        let reason = refused.unwrap_err();
        assert!(
            reason.starts_with(
                "an older version of the server did not keep what its devfile draws in"
            ),
            "{reason}"
        );
    }

    #[test]
    fn volumes_stay_as_they_are_and_none_is_lost() {
        let workspace = workspace(BackendKind::Native);
        let mut content = rendered(&workspace, &older(DEVFILE), &renderer(|_| {})).content;
        let old = of(&content.objects, "PersistentVolumeClaim");
        assert_eq!(old.len(), 2);
        let old: Vec<Value> = old.into_iter().cloned().collect();
        // One that an older server made and this one would not.
        let mut forgotten = old[0].clone();
        forgotten["metadata"]["name"] = json!("one-forgotten");
        content.objects.push(forgotten.clone());
        let changed = renderer(|it| {
            it.volume_size = "99Gi".into();
            it.storage_class = Some("fast".into());
            it.memory_request = "7Mi".into();
        });
        let new = rendered(&workspace, &content, &changed).content.objects;
        let volumes = of(&new, "PersistentVolumeClaim");
        assert_eq!(volumes, [&old[0], &old[1], &forgotten]);
        let memory = "/spec/template/spec/containers/0/resources/requests/memory";
        assert_eq!(of(&new, "Deployment")[0].pointer(memory).unwrap(), "7Mi");
    }

    #[test]
    fn the_volumes_of_a_devworkspace_stay_too() {
        let workspace = workspace(BackendKind::Devworkspace);
        let content = rendered(&workspace, &older(DEVFILE), &renderer(|_| {})).content;
        let changed = renderer(|it| it.volume_size = "99Gi".into());
        let new = rendered(&workspace, &content, &changed).content;
        assert_eq!(new.objects, content.objects);
        let workspace = of(&content.objects, "DevWorkspace");
        assert!(workspace[0].to_string().contains("\"10Gi\""));
    }

    #[test]
    fn a_deployment_goes_on_selecting_its_pods() {
        let deployment = |labels: Value| {
            json!({
                "kind": "Deployment",
                "metadata": { "name": "one" },
                "spec": {
                    "selector": { "matchLabels": labels },
                    "template": { "metadata": { "labels": labels } },
                },
            })
        };
        let new = keep_fixed(
            &[deployment(json!({ "older": "a" }))],
            vec![deployment(json!({ "newer": "b" }))],
        );
        let spec = &new[0]["spec"];
        assert_eq!(spec["selector"]["matchLabels"], json!({ "older": "a" }));
        assert_eq!(
            spec["template"]["metadata"]["labels"],
            json!({ "newer": "b", "older": "a" })
        );
    }

    #[test]
    fn an_editor_that_is_gone_is_said() {
        let mut workspace = workspace(BackendKind::Native);
        workspace.editor = Some(WorkspaceEditor {
            name: "vi".into(),
            container: "tools".into(),
            folder: None,
            port: 1,
            health: "/".into(),
        });
        let refused = again(
            &workspace,
            &older(DEVFILE),
            &renderer(|_| {}),
            &RemoteDevelopment::default(),
        );
        assert_eq!(
            refused.unwrap_err(),
            "the server has no editor named vi any more"
        );
    }
}
