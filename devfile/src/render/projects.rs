//! Where projects are, and an init container that clones them.

use serde_json::{Value, json};

use super::storage::Storage;
use super::{Notes, ProjectClone, RenderError, RenderOptions};
use crate::model::{Devfile, Git, Project, ProjectSource};
use crate::validate::path_escapes;

const ROOT: &str = "/projects";

/// Clones what is not there yet. A failure is told in the termination message and never fails the Pod.
const SCRIPT: &str = r#"
: >/dev/termination-log
# Addresses may carry a password.
show() { printf '%s\n' "$said" | sed 's#://[^/@ ]*@#://#g'; }
clone() {
  folder=$1; remote=$2; address=$3; revision=$4
  target="$PROJECTS_ROOT/$folder"
  if [ -e "$target/.git" ]; then echo "$folder: is there already"; return 0; fi
  if [ -d "$target" ] && [ -n "$(ls -A "$target")" ]; then echo "$folder: holds files already"; return 0; fi
  part="$PROJECTS_ROOT/.cloning"
  rm -rf "$part"
  if said=$({ git clone --origin "$remote" -- "$address" "$part" && { [ -z "$revision" ] || git -C "$part" checkout "$revision"; }; } 2>&1); then
    show
    mkdir -p "$(dirname "$target")"
    [ ! -d "$target" ] || rmdir "$target"
    mv "$part" "$target" && echo "$folder: cloned"
  else
    show
    rm -rf "$part"
    printf '%s: %s\n' "$folder" "$(show | tail -n 1)" | head -c 1000 >>/dev/termination-log
  fi
  return 0
}
add_remote() {
  if [ -e "$PROJECTS_ROOT/$1/.git" ]; then git -C "$PROJECTS_ROOT/$1" remote add "$2" "$3" 2>/dev/null; fi
  return 0
}
"#;

/// All projects to work on, each with its path in the devfile.
pub(super) fn listed(devfile: &Devfile) -> impl Iterator<Item = (String, &Project)> {
    let lists = [
        ("projects", &devfile.projects),
        ("dependentProjects", &devfile.dependent_projects),
    ];
    lists.into_iter().flat_map(|(list, projects)| {
        let path = move |project: &Project| format!("{list}[name={}]", project.name);
        projects.iter().map(move |project| (path(project), project))
    })
}

/// The folder of the first project, or the root if there is none.
pub(super) fn project_source(devfile: &Devfile, options: &RenderOptions, root: &str) -> String {
    let root = root.trim_end_matches('/');
    let given = options
        .project_clone
        .as_ref()
        .and_then(|clone| clone.repositories.first())
        .map(|(name, _, _)| name.as_str());
    let first = devfile
        .projects
        .first()
        .or(devfile.dependent_projects.first())
        .map(Project::folder);
    match given.or(first) {
        Some(folder) => format!("{root}/{}", folder.trim_start_matches('/')),
        None => root.to_owned(),
    }
}

/// The init container, if there is something to clone and someone to clone it.
pub(super) fn clone_container(
    devfile: &Devfile,
    options: &RenderOptions,
    storage: &Storage,
    notes: &mut Notes,
) -> Result<Option<Value>, RenderError> {
    for (_, project) in listed(devfile) {
        if path_escapes(project.folder()).is_some() {
            return Err(RenderError::ClonePath {
                project: project.name.clone(),
                path: project.folder().to_owned(),
            });
        }
    }
    let Some(clone) = &options.project_clone else {
        for (path, _) in listed(devfile) {
            notes.add(path, "it is not cloned", "no image to clone with is set");
        }
        return Ok(None);
    };
    let calls = calls(devfile, clone, notes);
    if calls.is_empty() {
        return Ok(None);
    }
    let script = format!("{SCRIPT}{}exit 0\n", calls.concat());
    Ok(Some(json!({
        "name": "project-clone",
        "image": clone.image,
        "command": ["/bin/sh", "-c", script],
        "env": [
            {"name": "PROJECTS_ROOT", "value": ROOT},
            {"name": "HOME", "value": "/tmp"},
            {"name": "GIT_TERMINAL_PROMPT", "value": "0"},
            {"name": "GIT_CONFIG_COUNT", "value": "1"},
            {"name": "GIT_CONFIG_KEY_0", "value": "safe.directory"},
            {"name": "GIT_CONFIG_VALUE_0", "value": "*"},
        ],
        "resources": {
            "limits": {"memory": clone.memory_limit},
            "requests": {"memory": "64Mi", "cpu": "50m"},
        },
        "volumeMounts": [storage.sources_mount(ROOT)],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        },
    })))
}

fn calls(devfile: &Devfile, clone: &ProjectClone, notes: &mut Notes) -> Vec<String> {
    let mut calls = Vec::new();
    for (name, address, revision) in &clone.repositories {
        calls.push(call(name, "origin", address, revision.as_deref()));
    }
    let taken = |folder: &str| clone.repositories.iter().any(|(name, _, _)| name == folder);
    for (path, project) in listed(devfile) {
        let git = match &project.source {
            ProjectSource::Git(git) | ProjectSource::Github(git) => git,
            ProjectSource::Zip(_) => {
                notes.add(
                    format!("{path}.zip"),
                    "it is not unpacked",
                    "only Git repositories are cloned",
                );
                continue;
            }
            ProjectSource::Custom(_) => {
                notes.add(
                    format!("{path}.custom"),
                    "it is not cloned",
                    "only the tool that defines it knows it",
                );
                continue;
            }
        };
        if !project.sparse_checkout_dirs.is_empty() {
            notes.add(
                format!("{path}.sparseCheckoutDirs"),
                "the whole repository is cloned",
                "sparse checkouts are not supported",
            );
        }
        if taken(project.folder()) {
            notes.add(
                path,
                "it is not cloned",
                "the workspace's own repository has its folder",
            );
            continue;
        }
        calls.extend(git_calls(project.folder(), git, &path, notes));
    }
    calls
}

fn git_calls(folder: &str, git: &Git, path: &str, notes: &mut Notes) -> Vec<String> {
    let checkout = git.checkout_from.as_ref();
    let chosen = checkout.and_then(|checkout| checkout.remote.as_deref());
    let first = chosen
        .and_then(|name| git.remotes.get_key_value(name))
        .or_else(|| git.remotes.first_key_value());
    let Some((remote, address)) = first else {
        return Vec::new();
    };
    let revision = checkout.and_then(|checkout| checkout.revision.as_deref());
    for (is_said, field, what) in [
        (
            revision.is_some_and(is_option),
            "checkoutFrom.revision",
            "the default branch is checked out",
        ),
        (is_option(remote), "remotes", "the remote is called origin"),
    ] {
        if is_said {
            let why = "Git would take what starts with a hyphen for an option";
            notes.add(format!("{path}.git.{field}"), what, why);
        }
    }
    let mut calls = vec![call(folder, remote, address, revision)];
    for (name, address) in git.remotes.iter().filter(|(name, _)| *name != remote) {
        let words = [folder, name, address].map(quoted).join(" ");
        calls.push(format!("add_remote {words}\n"));
    }
    calls
}

fn call(folder: &str, remote: &str, address: &str, revision: Option<&str>) -> String {
    let revision = revision.filter(|text| !is_option(text)).unwrap_or("");
    let remote = if is_option(remote) { "origin" } else { remote };
    let words = [folder, remote, address, revision].map(quoted).join(" ");
    format!("clone {words}\n")
}

/// Whether Git would take a word for an option.
fn is_option(word: &str) -> bool {
    word.starts_with('-')
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
