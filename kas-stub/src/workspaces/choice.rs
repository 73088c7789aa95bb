//! What a new workspace may be made with on an agent, and what it is made with where nothing is asked for. Pure.

use model::configuration::{Class, RemoteDevelopment, Resources};
use serde::Serialize;

use super::{backend::BackendKind, editor::Editors};

/// What is asked for; nothing where the agent's configuration decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) backend: Option<BackendKind>,
    pub(crate) editor: Option<String>,
    pub(crate) class: Option<String>,
}

/// What it is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) backend: BackendKind,
    /// One of the server's; none: without an editor.
    pub(crate) editor: Option<String>,
    pub(crate) class: Option<String>,
}

/// What can be asked for, the usual first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Choices {
    /// Workspaces can be made at all.
    pub(crate) enabled: bool,
    /// The usual one; each can be asked for.
    pub(crate) backend: BackendKind,
    /// Names; `none` is a workspace without one.
    pub(crate) editors: Vec<String>,
    pub(crate) classes: Vec<ClassView>,
    /// The namespace that all workspaces share; null: each has its own.
    pub(crate) shared_namespace: Option<String>,
}

/// A class, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ClassView {
    pub(crate) name: String,
    pub(crate) resources: Resources,
}

/// Why something that was asked for cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) field: &'static str,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    pub(crate) hint: String,
}

/// Stands for a workspace without an editor.
pub(crate) const NO_EDITOR: &str = "none";

/// Chooses.
///
/// # Errors
/// What the agent's configuration, or the server, does not have.
pub(crate) fn choose(
    asked: Asked,
    settings: &RemoteDevelopment,
    editors: &Editors,
) -> Result<Chosen, Refused> {
    let Asked {
        backend,
        editor,
        class,
    } = asked;
    let choices = choices(settings, editors);
    let editor = match editor {
        None => choices.editors.first().cloned(),
        Some(name) if choices.editors.contains(&name) => Some(name),
        Some(name) => {
            return Err(Refused {
                field: "editor",
                code: "no_such_editor",
                reason: format!("the editor {} cannot be had on this agent", cut(&name)),
                hint: one_of(&choices.editors, "its configuration file allows no editor"),
            });
        }
    };
    let editor = editor.filter(|name| name != NO_EDITOR);
    if let Some(name) = &editor
        && editors.find(name).is_none()
    {
        return Err(Refused {
            field: "editor",
            code: "no_such_editor",
            reason: format!(
                "the agent's configuration file names the editor {name}, which the server does not have"
            ),
            hint: "the server has ".to_owned() + &editors.names().join(", "),
        });
    }
    let names: Vec<_> = choices.classes.iter().map(|it| it.name.clone()).collect();
    let class = match class {
        None => names.first().cloned(),
        Some(name) if names.contains(&name) => Some(name),
        Some(name) => {
            return Err(Refused {
                field: "class",
                code: "no_such_class",
                reason: format!("there is no class {} on this agent", cut(&name)),
                hint: one_of(&names, "its configuration file has no classes"),
            });
        }
    };
    Ok(Chosen {
        backend: backend.unwrap_or(choices.backend),
        editor,
        class,
    })
}

/// What can be asked for on an agent.
pub(crate) fn choices(settings: &RemoteDevelopment, editors: &Editors) -> Choices {
    let names = match &settings.editors {
        Some(names) => names.clone(),
        None => {
            let usual = editors.usual().map(|it| it.name().to_owned());
            let usual = usual.unwrap_or_else(|| NO_EDITOR.to_owned());
            let all = editors.names().into_iter().chain([NO_EDITOR.to_owned()]);
            let others: Vec<_> = all.filter(|name| *name != usual).collect();
            [usual].into_iter().chain(others).collect()
        }
    };
    let class = |class: &Class| ClassView {
        name: class.name.clone(),
        resources: class.resources.clone(),
    };
    let shared = &settings.shared_namespace;
    Choices {
        enabled: settings.enabled,
        backend: settings
            .backend
            .map_or_else(BackendKind::default, Into::into),
        editors: names,
        classes: settings.classes.iter().map(class).collect(),
        shared_namespace: (!shared.is_empty()).then(|| shared.clone()),
    }
}

fn one_of(names: &[String], none: &str) -> String {
    match names {
        [] => none.to_owned(),
        names => format!("one of {}", names.join(", ")),
    }
}

/// Who asks may have put anything there.
fn cut(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use model::configuration::{Backend, parse};

    use super::*;
    use crate::config::EditorSettings;

    fn settings(section: &str) -> RemoteDevelopment {
        let text = format!("remote_development: {section}");
        parse(&text).unwrap().configuration.remote_development
    }

    fn editors(usual: &str) -> Editors {
        Editors::load(&EditorSettings {
            editor: usual.into(),
            ..EditorSettings::default()
        })
        .unwrap()
    }

    #[test]
    fn without_a_word_the_file_decides_and_without_a_file_the_server() {
        let chosen = |section: &str, usual: &str| {
            choose(Asked::default(), &settings(section), &editors(usual)).unwrap()
        };
        let plain = chosen("{}", "code-server");
        assert_eq!(plain.backend, BackendKind::Native);
        assert_eq!(
            (plain.editor.as_deref(), plain.class),
            (Some("code-server"), None)
        );
        assert_eq!(chosen("{}", "none").editor, None);
        let file = chosen(
            "{backend: devworkspace, editors: [gitlab-vscode], classes: [{name: s, resources: {}}, {name: l, resources: {}}]}",
            "code-server",
        );
        assert_eq!(
            file,
            Chosen {
                backend: BackendKind::Devworkspace,
                editor: Some("gitlab-vscode".into()),
                class: Some("s".into()),
            }
        );
        assert_eq!(chosen("{editors: []}", "code-server").editor, None);
        assert_eq!(settings("{backend: native}").backend, Some(Backend::Native));
    }

    #[test]
    fn what_is_asked_for_must_be_among_what_the_file_names() {
        let ask = |section: &str, editor: Option<&str>, class: Option<&str>| {
            let asked = Asked {
                backend: Some(BackendKind::Native),
                editor: editor.map(str::to_owned),
                class: class.map(str::to_owned),
            };
            choose(asked, &settings(section), &editors("code-server"))
        };
        let classes = "{backend: devworkspace, classes: [{name: s, resources: {}}, {name: l, resources: {}}]}";
        let chosen = ask(classes, Some("none"), Some("l")).unwrap();
        assert_eq!(chosen.backend, BackendKind::Native, "asked for");
        assert_eq!((chosen.editor, chosen.class.as_deref()), (None, Some("l")));
        for (section, editor, class, hint) in [
            (classes, None, Some("xl"), "one of s, l"),
            (
                "{}",
                None,
                Some("s"),
                "its configuration file has no classes",
            ),
            (
                "{}",
                Some("vi"),
                None,
                "one of code-server, gitlab-vscode, none",
            ),
            (
                "{editors: [gitlab-vscode]}",
                Some("code-server"),
                None,
                "one of gitlab-vscode",
            ),
            (
                "{editors: []}",
                Some("none"),
                None,
                "its configuration file allows no editor",
            ),
            (
                "{editors: [vi]}",
                None,
                None,
                "the server has code-server, gitlab-vscode",
            ),
        ] {
            assert_eq!(
                ask(section, editor, class).unwrap_err().hint,
                hint,
                "{section}"
            );
        }
    }
}
