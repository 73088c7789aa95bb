//! Editors as data: what a definition says, and which one workspaces get. No editor is known by name anywhere else.

use std::{collections::BTreeMap, fs};

use ::devfile::{quantity::Quantity, render::Editor};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::config::EditorSettings;

const BUILT_IN: &str = include_str!("editors.yaml");
/// Says that workspaces get no editor.
const NONE: &str = super::choice::NO_EDITOR;
/// Of a file of definitions.
const MAX_BYTES: u64 = 1024 * 1024;

/// An editor, as `editors.yaml` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    name: String,
    image: String,
    path: String,
    #[serde(default)]
    inject: Vec<String>,
    command: String,
    port: u16,
    health: String,
    memory_limit: String,
    memory_request: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// The editor in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceEditor {
    pub(crate) name: String,
    /// The container in which it runs.
    pub(crate) container: String,
    /// The folder to open, as `/projects/app`; none when the sources are not in that container.
    pub(crate) folder: Option<String>,
    pub(crate) port: u16,
    /// The path that is answered when it is ready.
    pub(crate) health: String,
}

impl Definition {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn health(&self) -> &str {
        &self.health
    }

    /// What is rendered.
    pub(crate) fn rendered(&self) -> Editor {
        let Self {
            name,
            image,
            path,
            inject,
            command,
            port,
            health: _,
            memory_limit,
            memory_request,
            env,
        } = self.clone();
        Editor {
            name,
            image,
            path,
            inject,
            command,
            port,
            memory_limit,
            memory_request,
            env: env.into_iter().collect(),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let quantity = |text: &str| {
            Quantity::parse(text).is_ok_and(|it| !it.is_zero() && it.bytes().is_some())
        };
        let is_name = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        let is_folder = |text: &str| text.starts_with('/') && !text.trim_matches('/').is_empty();
        let is_variable = |text: &String| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || it == b'_')
        };
        let rules = [
            (
                is_name(&self.name) && self.name != NONE,
                "name: lower-case letters, digits and hyphens",
            ),
            (!self.image.is_empty(), "image: it is empty"),
            (
                is_folder(&self.path),
                "path: a folder below the root, as /opt/editor",
            ),
            (!self.command.trim().is_empty(), "command: it is empty"),
            (self.port != 0, "port: from 1 to 65535"),
            (self.health.starts_with('/'), "health: a path, as /healthz"),
            (
                quantity(&self.memory_limit),
                "memory_limit: a quantity, as 1Gi",
            ),
            (
                quantity(&self.memory_request),
                "memory_request: a quantity, as 256Mi",
            ),
            (
                self.env.keys().all(is_variable),
                "env: names of letters, digits and _",
            ),
        ];
        rules
            .into_iter()
            .find_map(|(holds, problem)| (!holds).then_some(problem))
    }
}

/// The editors that the server has.
#[derive(Clone, Debug)]
pub(crate) struct Editors {
    /// Each name once.
    all: Vec<Definition>,
    /// The name of what workspaces get that ask for nothing; none: they get none.
    usual: Option<String>,
}

impl Editors {
    pub(crate) fn usual(&self) -> Option<&Definition> {
        self.find(self.usual.as_deref()?)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Definition> {
        self.all.iter().find(|it| it.name == name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|it| it.name.clone()).collect()
    }

    /// Reads the definitions that are built in and those of the file.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or there is no such editor as workspaces are to get.
    pub(crate) fn load(settings: &EditorSettings) -> anyhow::Result<Self> {
        let EditorSettings {
            editor,
            editor_image,
            editors_file,
        } = settings;
        let own = match editors_file {
            None => Vec::new(),
            Some(path) => {
                let read = || {
                    let size = fs::metadata(path)?.len();
                    if size > MAX_BYTES {
                        bail!("it has {size} bytes, and at most {MAX_BYTES} are read");
                    }
                    parse(&fs::read_to_string(path)?)
                };
                read().with_context(|| format!("editors of {}", path.display()))?
            }
        };
        let built_in = parse(BUILT_IN).context("built-in editors")?;
        let mut all: Vec<Definition> = Vec::new();
        // Own ones first: they win.
        for definition in own.into_iter().chain(built_in) {
            if !all.iter().any(|it| it.name == definition.name) {
                all.push(definition);
            }
        }
        if editor == NONE {
            return Ok(Self { all, usual: None });
        }
        let Some(found) = all.iter_mut().find(|it| it.name == *editor) else {
            let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            bail!(
                "there is no editor {editor}; one of {}, {NONE}",
                names.join(", ")
            );
        };
        if let Some(image) = editor_image {
            found.image.clone_from(image);
        }
        Ok(Self {
            all,
            usual: Some(editor.clone()),
        })
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Definition>> {
    let all: Vec<Definition> = serde_saphyr::from_str(text)?;
    for definition in &all {
        if let Some(problem) = definition.problem() {
            bail!("{}: {problem}", definition.name);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(settings: &EditorSettings) -> anyhow::Result<Option<Definition>> {
        Editors::load(settings).map(|it| it.usual().cloned())
    }

    fn settings(editor: &str) -> EditorSettings {
        EditorSettings {
            editor: editor.into(),
            ..EditorSettings::default()
        }
    }

    #[test]
    fn two_editors_are_built_in_and_none_can_be_asked_for() {
        let code_server = chosen(&EditorSettings::default()).unwrap().unwrap();
        assert_eq!(
            (code_server.name(), code_server.port(), code_server.health()),
            ("code-server", 60001, "/healthz")
        );
        let gitlab = chosen(&settings("gitlab-vscode")).unwrap().unwrap();
        let rendered = gitlab.rendered();
        assert_eq!((rendered.port, &rendered.inject[..]), (60001, &[][..]));
        assert!(
            rendered
                .env
                .contains(&("GL_VSCODE_PORT".into(), "60001".into()))
        );
        assert_eq!(chosen(&settings(NONE)).unwrap(), None);
        let error = chosen(&settings("vi")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no editor vi; one of code-server, gitlab-vscode, none"
        );
    }

    #[test]
    fn an_own_definition_wins_and_its_image_can_be_said_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("editors.yaml");
        let own = "- { name: code-server, image: a, path: /e, command: run, port: 1, health: /, \
                   memory_limit: 1Gi, memory_request: 1Mi }";
        fs::write(&file, own).unwrap();
        let mut settings = EditorSettings {
            editors_file: Some(file.clone()),
            ..EditorSettings::default()
        };
        assert_eq!(chosen(&settings).unwrap().unwrap().rendered().image, "a");
        settings.editor_image = Some("b".into());
        assert_eq!(chosen(&settings).unwrap().unwrap().rendered().image, "b");

        for (right, wrong) in [
            ("port: 1", "port: 0"),
            ("path: /e", "path: e"),
            ("1Gi", "plenty"),
            ("health: /", "health: x"),
            ("command: run", "run: command"),
        ] {
            fs::write(&file, own.replace(right, wrong)).unwrap();
            assert!(chosen(&settings).is_err(), "{wrong}");
        }
    }
}
