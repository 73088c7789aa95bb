//! Clones projects into the workspace's volume, once, before its containers start.
//!
//! A project that cannot be cloned does not stop the workspace: what git said goes into the container's termination
//! message, which the agent reports as a failure of a workspace that runs. The next start tries again.

use serde_json::{Map, Value, json};

use super::{
    Flattened, Frame, containers, events, pod,
    volumes::{self, HOME, PROJECTS_ROOT},
};
use crate::workspaces::workspace::Source;

/// The name by which the agent knows it (DevWorkspace Operator's, too).
const CONTAINER: &str = "project-clone";
/// Projects cloned; a devfile may name thousands.
const MAX_PROJECTS: usize = 50;
const SCRIPT: &str = include_str!("clone.sh");

/// Something to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    pub(super) name: String,
    /// Below the projects' root.
    pub(super) path: String,
    /// The remotes, that which is cloned first.
    remotes: Vec<(String, String)>,
    /// Branch, tag or commit; none: the default branch.
    revision: Option<String>,
    /// The one that commands run in.
    pub(super) is_main: bool,
}

impl Project {
    /// In the devfile's own words.
    pub(crate) fn to_devfile(&self) -> Value {
        let remotes: Map<String, Value> =
            self.remotes.iter().map(|(name, url)| (name.clone(), url.as_str().into())).collect();
        let mut git = json!({ "remotes": remotes });
        let (remote, _) = self.remotes.first().cloned().unwrap_or_default();
        if self.remotes.len() > 1 {
            git["checkoutFrom"]["remote"] = remote.into();
        }
        if let Some(revision) = &self.revision {
            git["checkoutFrom"]["revision"] = revision.as_str().into();
        }
        json!({ "name": self.name, "clonePath": self.path, "git": git })
    }
}

/// The workspace's repository, unless the devfile names it itself, and the devfile's Git projects.
pub(super) fn projects(source: &Source, devfile: &Flattened) -> Vec<Project> {
    let listed = ["projects", "dependentProjects"].into_iter().flat_map(|key| devfile.list(key));
    let mut projects: Vec<Project> = listed.filter_map(read).take(MAX_PROJECTS).collect();
    let same = |project: &&mut Project| {
        let mut urls = project.remotes.iter().map(|(_, url)| url);
        urls.any(|url| normal(url) == normal(&source.repository))
    };
    match projects.iter_mut().find(same) {
        // It is cloned at the ref that the workspace was asked for.
        Some(listed) => {
            if source.reference.is_some() {
                listed.revision.clone_from(&source.reference);
            }
        }
        None => {
            let mut name = repository_name(&source.repository);
            while projects.iter().any(|it| it.path == name || it.name == name) {
                name.push_str("-repository");
            }
            let own = Project {
                path: name.clone(),
                name,
                remotes: vec![("origin".into(), source.repository.clone())],
                revision: source.reference.clone(),
                is_main: false,
            };
            // Commands of the devfile run in its own first project when it has one.
            projects.push(own);
        }
    }
    if let Some(first) = projects.first_mut() {
        first.is_main = true;
    }
    projects
}

fn read(project: &Value) -> Option<Project> {
    let name = project["name"].as_str()?.to_owned();
    let git = &project["git"];
    let mut remotes: Vec<(String, String)> = git["remotes"]
        .as_object()?
        .iter()
        .filter_map(|(name, url)| Some((name.clone(), url.as_str()?.to_owned())))
        .collect();
    let wanted = git["checkoutFrom"]["remote"].as_str().unwrap_or("origin");
    remotes.sort_by_key(|(name, _)| name != wanted);
    if remotes.is_empty() {
        return None;
    }
    let path = project["clonePath"].as_str().unwrap_or(&name);
    // Stays below the root, whatever it says.
    let inside: Vec<_> = path.split('/').filter(|it| !matches!(*it, "" | "." | "..")).collect();
    let path = if inside.is_empty() { name.clone() } else { inside.join("/") };
    Some(Project {
        name,
        path,
        remotes,
        revision: git["checkoutFrom"]["revision"].as_str().map(str::to_owned),
        is_main: false,
    })
}

fn normal(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url)
}

/// What `git clone` would call the folder, as a name that the devfile standard allows.
pub(crate) fn repository_name(url: &str) -> String {
    let last = normal(url).rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "project".into() } else { name.into() }
}

/// The init container; none when there is nothing to clone.
pub(super) fn container(frame: &Frame<'_>, projects: &[Project]) -> Option<Value> {
    if projects.is_empty() {
        return None;
    }
    let mut script = SCRIPT.to_owned();
    for project in projects {
        let Project {
            name,
            path,
            remotes,
            revision,
            is_main: _,
        } = project;
        let mut words = vec!["project".to_owned()];
        words.extend([name, path, revision.as_deref().unwrap_or_default()].map(events::quote));
        words.extend(remotes.iter().flat_map(|(name, url)| [name, url]).map(|it| events::quote(it)));
        script.push_str(&words.join(" "));
        script.push('\n');
    }
    script.push_str("exit 0\n");
    let environment = [
        ("HOME".to_owned(), HOME.to_owned()),
        ("PROJECTS_ROOT".to_owned(), PROJECTS_ROOT.to_owned()),
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
    ];
    let environment = environment.into_iter().chain(containers::safe_directories(PROJECTS_ROOT, projects));
    let environment: Vec<_> =
        environment.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    Some(json!({
        "name": CONTAINER,
        "image": frame.defaults.clone_image,
        "command": ["/bin/sh", "-c", script],
        "env": environment,
        "resources": {
            "requests": { "cpu": "100m", "memory": "128Mi" },
            "limits": { "cpu": "1", "memory": "1Gi" },
        },
        "volumeMounts": volumes::data_mounts(Some(PROJECTS_ROOT)),
        "securityContext": pod::security_context(),
    }))
}
