//! Commands of the life cycle to commands after the start.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{CONTAINER, no_form, references};
use crate::render::{Notes, attribute_path, cut_name, slug};

/// Longest id of a command.
const MAX_ID: usize = 63;

/// A property whose commands run after the start.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) key: &'static str,
    id: &'static str,
    /// Whether it is meant for the first start alone.
    once: bool,
}

/// In the order in which they run.
const EVENTS: [Event; 4] = [
    Event {
        key: "onCreateCommand",
        id: "on-create",
        once: true,
    },
    Event {
        key: "updateContentCommand",
        id: "update-content",
        once: true,
    },
    Event {
        key: "postCreateCommand",
        id: "post-create",
        once: true,
    },
    Event {
        key: "postStartCommand",
        id: "post-start",
        once: false,
    },
];

pub(super) fn event(key: &str) -> Option<Event> {
    EVENTS.into_iter().find(|event| event.key == key)
}

/// The commands of one property, the one that the event names first.
pub(super) fn read(event: Event, value: &Value, notes: &mut Notes) -> Vec<Value> {
    let Event { key, id, once } = event;
    let commands = match value {
        Value::Object(named) => {
            let mut together = Vec::new();
            for (index, (name, value)) in named.iter().enumerate() {
                let path = attribute_path(&format!("{key}."), name);
                let name = match slug(name) {
                    name if name.is_empty() => index.to_string(),
                    name => name,
                };
                let id = cut_name(&format!("{id}-{name}"), MAX_ID);
                together.extend(exec(&id, value, &path, notes));
            }
            let ids: Vec<&Value> = together.iter().map(|command| &command["id"]).collect();
            let all = json!({"id": id, "composite": {"commands": ids, "parallel": true}});
            if together.is_empty() {
                return together;
            }
            std::iter::once(all).chain(together).collect()
        }
        value => Vec::from_iter(exec(id, value, key, notes)),
    };
    if once && !commands.is_empty() {
        notes.add(
            key,
            "it runs at every start",
            "devfiles have no event for the first start alone",
        );
    }
    commands
}

fn exec(id: &str, value: &Value, path: &str, notes: &mut Notes) -> Option<Value> {
    let line = match value {
        Value::String(line) => references::in_shell(line, path, notes),
        Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            let Some(words) = words else {
                no_form(path, "a list of texts", notes);
                return None;
            };
            let words = words
                .iter()
                .map(|word| references::in_word(word, path, notes));
            words.collect::<Vec<_>>().join(" ")
        }
        _ => {
            no_form(path, "a text, a list of texts or an object of them", notes);
            return None;
        }
    };
    (!line.is_empty()).then(|| {
        json!({
            "id": id,
            "exec": {
                "component": CONTAINER,
                "commandLine": line,
                "workingDir": "${PROJECT_SOURCE}",
            },
        })
    })
}

/// Adds the commands, and the event that runs them.
pub(super) fn add(devfile: &mut Value, mut commands: BTreeMap<&'static str, Vec<Value>>) {
    let in_order: Vec<Vec<Value>> = EVENTS
        .iter()
        .filter_map(|event| commands.remove(event.key))
        .filter(|list| !list.is_empty())
        .collect();
    if in_order.is_empty() {
        return;
    }
    let ids: Vec<Value> = in_order.iter().map(|list| list[0]["id"].clone()).collect();
    devfile["commands"] = in_order.concat().into();
    devfile["events"] = json!({"postStart": ids});
}
