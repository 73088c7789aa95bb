//! Takes values out of the tree, and collects what is wrong with them.

use std::ops::RangeInclusive;

use super::{
    Note, Problem,
    document::{Entry, Node, Number, Place, Value},
};

/// Collects what is found on the way.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
    /// Every mapping that was read, with its keys: the schema is compared with it.
    #[cfg(test)]
    pub(super) mappings: std::collections::BTreeMap<String, Vec<String>>,
}

impl Reader {
    /// The entries of a mapping whose keys are known; the others become problems. Nothing (`key:`) is an empty mapping.
    pub(super) fn mapping<'a>(
        &mut self,
        node: &'a Node,
        field: &str,
        known: &[&str],
    ) -> Vec<&'a Entry> {
        #[cfg(test)]
        {
            let keys = known.iter().map(|key| (*key).to_owned()).collect();
            self.mappings.insert(field.to_owned(), keys);
        }
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let reason = format!("this is {}", other.kind());
                self.problem(node.place, field, reason, &expected_keys(known));
                &[]
            }
        };
        let (good, bad): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| known.contains(&entry.key.as_str()));
        for entry in bad {
            let field = if field.is_empty() {
                entry.key.clone()
            } else {
                format!("{field}.{}", entry.key)
            };
            self.problem(
                entry.place,
                &shorten(&field),
                "the key is not known".into(),
                &nearest(&entry.key, known),
            );
        }
        good
    }

    pub(super) fn list<'a>(&mut self, node: &'a Node, field: &str, expected: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            other => {
                self.problem(
                    node.place,
                    field,
                    format!("this is {}", other.kind()),
                    expected,
                );
                &[]
            }
        }
    }

    pub(super) fn text<'a>(
        &mut self,
        node: &'a Node,
        field: &str,
        expected: &str,
    ) -> Option<&'a str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Number(_)
            | Value::Bool(_)
            | Value::Null
            | Value::List(_)
            | Value::Mapping(_) => {
                self.problem(
                    node.place,
                    field,
                    format!("this is {}", node.value.kind()),
                    expected,
                );
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node, field: &str) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            other => {
                let reason = format!("this is {}", other.kind());
                self.problem(node.place, field, reason, "true or false");
                None
            }
        }
    }

    /// A whole number of a range.
    pub(super) fn whole(
        &mut self,
        node: &Node,
        field: &str,
        range: RangeInclusive<i64>,
        expected: &str,
    ) -> Option<i64> {
        let reason = match &node.value {
            Value::Number(Number::Whole(value)) if range.contains(value) => return Some(*value),
            Value::Number(Number::Whole(value)) => format!("{value} is out of range"),
            Value::Number(Number::Other) => "this is no whole number in the range".into(),
            other => format!("this is {}", other.kind()),
        };
        self.problem(node.place, field, reason, expected);
        None
    }

    pub(super) fn problem(&mut self, place: Place, field: &str, reason: String, expected: &str) {
        self.problems.push(Problem {
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            reason,
            expected: expected.to_owned(),
        });
    }

    pub(super) fn note(&mut self, field: &str, reason: &str) {
        self.notes.push(Note {
            field: field.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

/// The known key that was probably meant, or all of them.
fn nearest(key: &str, known: &[&str]) -> String {
    // Slips of the keyboard: two, or one in five letters.
    let near = (key.chars().count() / 5).max(2);
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&shorten(key), candidate),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map_or_else(
            || expected_keys(known),
            |(_, candidate)| format!("'{candidate}' (did you mean that?)"),
        )
}

fn expected_keys(known: &[&str]) -> String {
    if known.is_empty() {
        "{}".into()
    } else {
        format!("a mapping with the keys {}", known.join(", "))
    }
}

/// A value for an error text: the file's author may have put anything there.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    text.chars().take(MOST).collect()
}
