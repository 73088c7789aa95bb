//! Whether a devfile can be a workspace, and everything that stands against it.

use std::collections::BTreeSet;

use ::devfile::{
    Diagnostic, FlattenOptions, Severity, flatten::Fetch, model::Devfile, render::RenderError,
};
use serde::Serialize;
use serde_json::Value;

use super::{Frame, secrets_inventory};
use crate::workspaces::workspace::Note;

// The agent has the same limits and refuses what exceeds them; here it is said at once.
const MAX_OBJECTS: usize = 200;
const MAX_OBJECT_BYTES: usize = 1024 * 1024;
const MAX_WORKSPACE_BYTES: usize = 4 * 1024 * 1024;
/// What the agent applies, and in which version.
const API_VERSIONS: [(&str, &str); 9] = [
    ("ConfigMap", "v1"),
    ("Deployment", "apps/v1"),
    ("DevWorkspace", "workspace.devfile.io/v1alpha2"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("PersistentVolumeClaim", "v1"),
    ("ResourceQuota", "v1"),
    ("Secret", "v1"),
    ("Service", "v1"),
    ("ServiceAccount", "v1"),
];

/// One thing that is wrong with a devfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DevfileProblem {
    /// Which value, as `components[0].container.image`; empty for the text as a whole.
    pub(crate) field: String,
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) code: String,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Reads, checks and flattens a devfile; with it what is odd about it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub(crate) fn check(
    path: &str,
    text: &str,
    options: &FlattenOptions,
    fetch: &mut dyn Fetch,
) -> Result<(Devfile, Vec<Note>), Vec<DevfileProblem>> {
    let found = ::devfile::flatten(path, text, options, fetch);
    let has_errors = found.has_errors();
    let (errors, warnings): (Vec<_>, Vec<_>) = found
        .diagnostics
        .into_iter()
        .partition(|it| it.severity == Severity::Error);
    let devfile = match found.devfile {
        Some(devfile) if !has_errors => devfile,
        Some(_) | None => return Err(errors.into_iter().map(problem).collect()),
    };
    if devfile.containers().next().is_none() {
        let reason = "it has no container component, so there is nothing to run";
        let hint = "add a component with a container and its image";
        return Err(vec![whole("nothing-to-run", reason, Some(hint))]);
    }
    let notes = warnings.into_iter().map(|it| Note {
        field: it.path,
        reason: it.message,
    });
    Ok((devfile, notes.collect()))
}

/// Whether the objects can be applied together and be one workspace.
pub(crate) fn check_objects(frame: &Frame<'_>, objects: &[Value]) -> Vec<DevfileProblem> {
    let mut problems = Vec::new();
    let inventory = frame.inventory();
    let secrets = secrets_inventory(frame.name);
    let mut seen = BTreeSet::from([
        ("ConfigMap", inventory.as_str()),
        ("ConfigMap", secrets.as_str()),
    ]);
    // The agent copies these into the namespace.
    let secrets = frame.settings.image_pull_secrets.iter();
    let copied = secrets.filter(|it| it.namespace != frame.namespace);
    seen.extend(copied.map(|it| ("Secret", it.name.as_str())));
    let text = |object: &'_ Value, pointer: &str| -> String {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let names: Vec<_> = objects
        .iter()
        .map(|it| (text(it, "/kind"), text(it, "/metadata/name")))
        .collect();
    for (kind, name) in &names {
        if !seen.insert((kind, name)) {
            let reason = format!("its own {kind} {name} would be another one of the workspace");
            let hint = "give the object in the devfile another name";
            problems.push(whole("name-taken", &reason, Some(hint)));
        }
    }
    for object in objects {
        let (kind, version) = (text(object, "/kind"), text(object, "/apiVersion"));
        let expected = API_VERSIONS.iter().find(|(known, _)| *known == kind);
        match expected {
            Some((_, expected)) if version == *expected => {}
            Some((_, expected)) => {
                let reason = format!("its own {kind} has the apiVersion {version}");
                let hint = format!("write {expected}");
                problems.push(whole("api-version", &reason, Some(&hint)));
            }
            None => {
                let reason = format!("a workspace may not have a {kind}");
                problems.push(whole("kind-refused", &reason, None));
            }
        }
    }
    let sizes: Vec<_> = objects.iter().map(|it| it.to_string().len()).collect();
    if objects.len() > MAX_OBJECTS
        || sizes.iter().any(|size| *size > MAX_OBJECT_BYTES)
        || sizes.iter().sum::<usize>() > MAX_WORKSPACE_BYTES
    {
        let reason = format!(
            "it makes more than {MAX_OBJECTS} objects, one of more than {} KiB, or more than {} KiB in all",
            MAX_OBJECT_BYTES / 1024,
            MAX_WORKSPACE_BYTES / 1024
        );
        problems.push(whole("too-large", &reason, None));
    }
    // Its Deployment or DevWorkspace is what tells the state of a workspace.
    let has_state = |(kind, name): &(String, String)| {
        matches!(kind.as_str(), "Deployment" | "DevWorkspace") && name == frame.name.as_str()
    };
    if !names.iter().any(has_state) {
        let reason = "no container runs in the workspace's own Pod";
        let hint = "at least one container must run after the start and have no dedicatedPod";
        problems.push(whole("nothing-to-run", reason, Some(hint)));
    }
    problems
}

fn problem(diagnostic: Diagnostic) -> DevfileProblem {
    DevfileProblem {
        field: diagnostic.path,
        line: diagnostic.line.into(),
        column: diagnostic.column.into(),
        code: diagnostic.code.name().to_owned(),
        reason: diagnostic.message,
        hint: diagnostic.hint,
    }
}

/// What stands against rendering.
pub(crate) fn problem_of(error: &RenderError) -> DevfileProblem {
    whole("cannot-be-rendered", &error.to_string(), None)
}

fn whole(code: &str, reason: &str, hint: Option<&str>) -> DevfileProblem {
    DevfileProblem {
        field: String::new(),
        line: 1,
        column: 1,
        code: code.to_owned(),
        reason: reason.to_owned(),
        hint: hint.map(str::to_owned),
    }
}
