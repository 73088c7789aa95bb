//! What counts as the same answer.

use std::collections::{BTreeMap, BTreeSet};

use devfile::Code;
use devfile::flatten::Flattened;
use serde_json::{Map, Value};

use crate::corpus::Case;
use crate::decisions::Decisions;
use crate::go::Answer;

pub(crate) struct Difference {
    pub(crate) case: String,
    pub(crate) text: String,
}

/// Each case counts once, also if it is compared with a recorded and with a fresh answer.
#[derive(Default)]
pub(crate) struct Tally {
    all: BTreeSet<String>,
    decided: BTreeMap<String, String>,
    pub(crate) otherwise: Vec<Difference>,
}

impl Tally {
    pub(crate) fn add(&mut self, case: &Case, difference: Option<String>, decisions: &Decisions) {
        self.all.insert(case.name.clone());
        let Some(text) = difference else {
            return;
        };
        match decisions.of(&case.name) {
            Some(decision) => {
                self.decided.insert(case.name.clone(), decision.to_owned());
            }
            None => self.otherwise.push(Difference {
                case: case.name.clone(),
                text,
            }),
        }
    }

    pub(crate) fn decided(&self, case: &str) -> bool {
        self.decided.contains_key(case)
    }

    pub(crate) fn count(&self) -> (usize, usize, usize) {
        let otherwise: BTreeSet<&str> = self
            .otherwise
            .iter()
            .map(|difference| difference.case.as_str())
            .collect();
        let agree = self.all.len() - self.decided.len() - otherwise.len();
        (agree, self.decided.len(), otherwise.len())
    }
}

pub(crate) fn verdict(ours: &Flattened) -> String {
    let errors: Vec<String> = ours
        .diagnostics
        .iter()
        .filter(|found| found.severity == devfile::Severity::Error)
        .map(|found| format!("{} {}: {}", found.code.name(), found.path, found.message))
        .collect();
    if errors.is_empty() {
        "OK".into()
    } else {
        errors.join("; ")
    }
}

/// How a fresh answer differs.
pub(crate) fn run(case: &Case, ours: &Flattened, theirs: &Answer) -> Option<String> {
    if case.needs_network() {
        return None;
    }
    difference(ours, theirs)
}

pub(crate) fn difference(ours: &Flattened, theirs: &Answer) -> Option<String> {
    if theirs.ok == ours.has_errors() {
        return Some(format!(
            "library: {}, ours: {}",
            if theirs.ok { "OK" } else { &theirs.error },
            verdict(ours)
        ));
    }
    if !theirs.ok {
        return None;
    }
    let tree = ours.tree.as_ref()?.to_json();
    let mut ours_flat = normal(tree, false);
    let mut theirs_flat = normal(theirs.flattened.clone(), false);
    sort_events(&mut ours_flat);
    sort_events(&mut theirs_flat);
    if let Some(text) = first_difference("", &ours_flat, &theirs_flat) {
        return Some(format!("flattened differently: {text}"));
    }
    let unknown: BTreeSet<String> = ours
        .diagnostics
        .iter()
        .filter(|found| found.code == Code::VariableUnknown)
        .filter_map(|found| found.message.split('"').nth(1).map(str::to_owned))
        .collect();
    let warned = theirs.warned_variables();
    (unknown != warned).then(|| format!("unknown variables: ours {unknown:?}, library {warned:?}"))
}

/// The Go library leaves out empty values when it writes; nothing depends on them.
fn normal(value: Value, free: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let mut result = Map::new();
            for (key, value) in fields {
                let value = normal(value, free || key == "attributes");
                let empty = match &value {
                    Value::Null => true,
                    Value::String(text) => text.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    Value::Object(fields) => fields.is_empty(),
                    Value::Bool(_) | Value::Number(_) => false,
                };
                // The empty list of a composite's commands and the like are all the same.
                if !empty || free {
                    result.insert(key, value);
                }
            }
            Value::Object(result)
        }
        Value::Array(items) => items.into_iter().map(|item| normal(item, free)).collect(),
        // 1.0 and 1 are the same number.
        Value::Number(number) => number
            .as_f64()
            .and_then(serde_json::Number::from_f64)
            .map_or(Value::Number(number), Value::Number),
        other => other,
    }
}

/// Decision events-in-order: the library sorts them.
fn sort_events(value: &mut Value) {
    if let Some(Value::Object(events)) = value.get_mut("events") {
        for list in events.values_mut() {
            if let Value::Array(ids) = list {
                ids.sort_by_key(ToString::to_string);
            }
        }
    }
}

fn first_difference(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => first_difference(&path, a, b),
                    (a, b) => Some(format!("{path}: ours {a:?}, library {b:?}")),
                }
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| first_difference(&format!("{path}[{index}]"), a, b)),
        (a, b) => (a != b).then(|| format!("{path}: ours {a}, library {b}")),
    }
}
