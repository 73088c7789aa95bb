//! A devfile that was checked and flattened, as JSON in the standard's own words.

use devfile::{
    Diagnostic, FlattenOptions, Severity,
    flatten::{Fetch, FetchError, Reference},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::workspaces::workspace::Note;

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

/// A devfile without parents and variables left in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flattened(Map<String, Value>);

impl Flattened {
    pub(crate) fn content(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A list of the devfile; empty when it is not there.
    pub(crate) fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Names of commands that an event runs.
    pub(crate) fn event(&self, name: &str) -> Vec<&str> {
        let events = self.0.get("events");
        let names = events.and_then(|events| events[name].as_array());
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub(crate) fn command(&self, id: &str) -> Option<&Value> {
        // Upper and lower case do not matter in references to commands.
        self.list("commands").iter().find(|command| {
            command["id"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(id))
        })
    }

    /// Container components with their names.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.components("container")
    }

    /// Volume components with their names.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.components("volume")
    }

    fn components(&self, kind: &'static str) -> impl Iterator<Item = (&str, &Value)> {
        self.list("components").iter().filter_map(move |component| {
            let name = component["name"].as_str()?;
            let content = component.get(kind).filter(|it| !it.is_null())?;
            Some((name, content))
        })
    }
}

/// Checks and flattens a devfile; with it what it says that has no effect here.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub(crate) fn check(
    path: &str,
    text: &str,
) -> Result<(Flattened, Vec<Note>), Vec<DevfileProblem>> {
    let options = FlattenOptions::default();
    let found = devfile::flatten(path, text, &options, &mut StandAlone);
    if found.has_errors() {
        let errors = found.diagnostics.into_iter().filter(|it| it.severity == Severity::Error);
        return Err(errors.map(problem).collect());
    }
    let content = found.tree.map(|tree| tree.to_json());
    let Some(Value::Object(content)) = content else {
        return Err(vec![whole("it is empty".into(), None)]);
    };
    let flattened = Flattened(content);
    if flattened.containers().next().is_none() {
        let reason = "it has no container component, so there is nothing to run";
        let hint = "add a component with a container and its image";
        return Err(vec![whole(reason.into(), Some(hint.into()))]);
    }
    let warnings = found.diagnostics.into_iter().map(|it| Note {
        field: it.path,
        reason: it.message,
    });
    let notes = warnings.chain(flattened.without_effect()).collect();
    Ok((flattened, notes))
}

impl Flattened {
    /// What is accepted and does nothing here.
    fn without_effect(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |field: String, reason: &str| {
            let reason = reason.to_owned();
            notes.push(Note { field, reason });
        };
        for (number, component) in self.list("components").iter().enumerate() {
            for kind in ["kubernetes", "openshift", "image", "plugin", "custom"] {
                if component.get(kind).is_some_and(|it| !it.is_null()) {
                    let field = format!("components[{number}].{kind}");
                    note(field, "components of this type are not made");
                }
            }
        }
        for event in ["preStop", "postStop"] {
            if !self.event(event).is_empty() {
                note(format!("events.{event}"), "commands of this event are not run");
            }
        }
        for (event, kind) in [("preStart", "apply"), ("postStart", "exec")] {
            let is_other = |id: &&str| {
                let command = self.command(id);
                command.is_some_and(|it| it[kind].is_null() && it["composite"].is_null())
            };
            for id in self.event(event).into_iter().filter(is_other) {
                let reason = format!("only {kind} commands run in it, and {id} is another");
                note(format!("events.{event}"), &reason);
            }
        }
        for key in ["projects", "dependentProjects"] {
            for (number, project) in self.list(key).iter().enumerate() {
                if project["git"].is_null() {
                    note(format!("{key}[{number}]"), "only Git projects are cloned");
                }
            }
        }
        notes
    }
}

/// Fetches nothing yet, and says so.
struct StandAlone;

impl Fetch for StandAlone {
    fn fetch(&mut self, _: &Reference) -> Result<String, FetchError> {
        Err(FetchError {
            message: "parents and plugins are not fetched by this server yet".into(),
            hint: Some("put its content into the devfile: devfile flatten does that".into()),
        })
    }
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

fn whole(reason: String, hint: Option<String>) -> DevfileProblem {
    DevfileProblem {
        field: String::new(),
        line: 1,
        column: 1,
        code: "nothing-to-run".into(),
        reason,
        hint,
    }
}
