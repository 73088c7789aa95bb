//! Leaves out what a version's schema does not have.

use serde_json::{Map, Value};

use crate::render::{Notes, attribute_path};
use crate::schema::{Field, Schema, Version};

/// Fits a devfile to a version that it was not written for.
pub(super) fn fit(devfile: &mut Value, version: Version, notes: &mut Notes) {
    let why = format!("schemaVersion {} does not have it", version.name());
    let mut fitting = Fitting { why, notes };
    fitting.value(devfile, version.schema(), "");
}

struct Fitting<'a> {
    why: String,
    notes: &'a mut Notes,
}

impl Fitting<'_> {
    /// Whether anything is left of a value.
    fn value(&mut self, value: &mut Value, schema: &Schema, path: &str) -> bool {
        match value {
            Value::Object(fields) => self.mapping(fields, schema, path),
            Value::Array(items) => {
                if let Some(schema) = schema.items() {
                    let mut index = 0;
                    items.retain_mut(|item| {
                        let path = element_path(path, item, index);
                        index += 1;
                        self.value(item, schema, &path)
                    });
                }
                true
            }
            Value::String(text) => schema.allows(text) || self.left_out(path),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }

    fn mapping(&mut self, fields: &mut Map<String, Value>, schema: &Schema, path: &str) -> bool {
        fields.retain(|key, value| {
            let front = if path.is_empty() {
                String::new()
            } else {
                format!("{path}.")
            };
            let path = attribute_path(&front, key);
            match schema.field(key) {
                Field::Known(schema) => self.value(value, schema, &path),
                Field::Free => true,
                Field::Unknown => self.left_out(&path),
            }
        });
        let is_there = |name: &str| fields.contains_key(name);
        let mut bodies = schema.one_of_names().peekable();
        let has_body = bodies.peek().is_none() || bodies.any(is_there);
        let is_whole = has_body && schema.required().iter().all(|name| is_there(name));
        is_whole || self.left_out(path)
    }

    fn left_out(&mut self, path: &str) -> bool {
        self.notes.add(path, "it is left out", self.why.as_str());
        false
    }
}

fn element_path(list: &str, item: &Value, index: usize) -> String {
    let named = ["name", "id"]
        .iter()
        .find_map(|key| Some((key, item.get(key)?.as_str()?)));
    match named {
        Some((key, name)) => format!("{list}[{key}={name}]"),
        None => format!("{list}[{index}]"),
    }
}

/// What later versions write in another way: one host's repositories, and folders that are checked out alone.
pub(super) fn projects_of_2_0_0(devfile: &mut Value, notes: &mut Notes) {
    for list in ["projects", "starterProjects"] {
        for pointer in [format!("/{list}"), format!("/parent/{list}")] {
            let projects = devfile.pointer_mut(&pointer).and_then(Value::as_array_mut);
            for project in projects
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                modern(project, list, notes);
            }
        }
    }
}

fn modern(project: &mut Map<String, Value>, list: &str, notes: &mut Notes) {
    if let Some(github) = project.remove("github") {
        project.insert("git".into(), github);
    }
    let Some(Value::Array(folders)) = project.remove("sparseCheckoutDirs") else {
        return;
    };
    let name = project["name"].as_str().unwrap_or_default();
    notes.add(
        format!("{list}[name={name}].sparseCheckoutDirs"),
        "it became the attribute sparseCheckout",
        "later versions have no such field; DevWorkspace Operator reads the attribute",
    );
    let folders: Vec<&str> = folders.iter().filter_map(Value::as_str).collect();
    let attributes = project
        .entry("attributes")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(attributes) = attributes {
        attributes.insert("sparseCheckout".into(), folders.join(" ").into());
    }
}
