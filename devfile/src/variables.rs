//! Putting the values of variables into texts: `{{name}}`, once, in the fields that the standard lists.

use std::collections::{BTreeMap, HashSet};

use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::limits::{MAX_SUBSTITUTED_BYTES, MAX_SUBSTITUTION_GROWTH};
use crate::node::{Node, Trail, Value};
use crate::schema::nearest;
use crate::source::Place;

/// References in one text whose values refer to others: these are replaced one by one.
const MAX_NESTED_REFERENCES: usize = 1_000;

/// Fields of components that variables are put into. `[]` is every element, `{}` every key and value.
const COMPONENT_FIELDS: &[&str] = &[
    "container.image",
    "container.command[]",
    "container.args[]",
    "container.memoryLimit",
    "container.memoryRequest",
    "container.sourceMapping",
    "container.env[].name",
    "container.env[].value",
    "container.volumeMounts[].path",
    "container.endpoints[].path",
    "kubernetes.uri",
    "kubernetes.inlined",
    "kubernetes.endpoints[].path",
    "openshift.uri",
    "openshift.inlined",
    "openshift.endpoints[].path",
    "image.imageName",
    "image.dockerfile.uri",
    "image.dockerfile.git.fileLocation",
    "image.dockerfile.git.checkoutFrom.revision",
    "image.dockerfile.git.checkoutFrom.remote",
    "image.dockerfile.git.remotes{}",
    "image.dockerfile.devfileRegistry.id",
    "image.dockerfile.devfileRegistry.registryUrl",
    "image.dockerfile.buildContext",
    "image.dockerfile.args[]",
    "volume.size",
];

const COMMAND_FIELDS: &[&str] = &[
    "exec.commandLine",
    "exec.workingDir",
    "exec.label",
    "exec.env[].name",
    "exec.env[].value",
    "composite.label",
    "apply.label",
];

const PROJECT_FIELDS: &[&str] = &[
    "clonePath",
    "zip.location",
    "git.checkoutFrom.revision",
    "git.checkoutFrom.remote",
    "git.remotes{}",
];

const STARTER_PROJECT_FIELDS: &[&str] = &[
    "description",
    "subDir",
    "zip.location",
    "git.checkoutFrom.revision",
    "git.checkoutFrom.remote",
    "git.remotes{}",
];

const LISTS: [(&str, &[&str]); 5] = [
    ("components", COMPONENT_FIELDS),
    ("commands", COMMAND_FIELDS),
    ("projects", PROJECT_FIELDS),
    ("starterProjects", STARTER_PROJECT_FIELDS),
    ("dependentProjects", PROJECT_FIELDS),
];

/// Puts the devfile's own variables and those from outside, which win, into its texts.
pub(crate) fn substitute(
    content: &mut Node,
    outside: &BTreeMap<String, String>,
    reporter: &mut Reporter<'_>,
) {
    let mut variables: BTreeMap<String, String> = content
        .get("variables")
        .map_or(&[][..], Node::entries)
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), entry.node.as_text()?.to_owned())))
        .collect();
    if !outside.is_empty() {
        let place = content
            .get("variables")
            .map_or(content.place, |node| node.place);
        if content.get("variables").is_none() {
            content.set("variables", Node::new(place, Value::Mapping(Vec::new())));
        }
        if let Some(own) = content.get_mut("variables") {
            for (key, value) in outside {
                own.set(key, Node::text(place, value));
                variables.insert(key.clone(), value.clone());
            }
        }
    }
    let mut substitution = Substitution {
        variables: &variables,
        growth: 0,
        reporter,
    };
    for (list, fields) in LISTS {
        let at = Trail::ROOT.key(list);
        let Some(Node {
            value: Value::List(items),
            ..
        }) = content.get_mut(list)
        else {
            continue;
        };
        for (index, item) in items.iter_mut().enumerate() {
            let item_at = at.index(index);
            for field in fields {
                substitution.field(item, field, &item_at);
            }
        }
    }
}

struct Substitution<'a, 'r, 's> {
    variables: &'a BTreeMap<String, String>,
    growth: usize,
    reporter: &'r mut Reporter<'s>,
}

impl Substitution<'_, '_, '_> {
    fn field(&mut self, node: &mut Node, field: &str, at: &Trail<'_>) {
        let (step, rest) = field.split_once('.').unwrap_or((field, ""));
        if let Some(list) = step.strip_suffix("[]") {
            let Some(Node {
                value: Value::List(items),
                ..
            }) = node.get_mut(list)
            else {
                return;
            };
            let list_at = at.key(list);
            for (index, item) in items.iter_mut().enumerate() {
                let item_at = list_at.index(index);
                if rest.is_empty() {
                    self.text(item, &item_at);
                } else {
                    self.field(item, rest, &item_at);
                }
            }
        } else if let Some(map) = step.strip_suffix("{}") {
            if let Some(map_node) = node.get_mut(map) {
                self.map(map_node, &at.key(map));
            }
        } else if let Some(below) = node.get_mut(step) {
            let below_at = at.key(step);
            if rest.is_empty() {
                self.text(below, &below_at);
            } else {
                self.field(below, rest, &below_at);
            }
        }
    }

    fn text(&mut self, node: &mut Node, at: &Trail<'_>) {
        let place = node.place;
        if let Value::Text(text) = &mut node.value
            && text.contains("{{")
        {
            *text = self.replace(text, place, at);
        }
    }

    /// Keys and values. Two keys may become one: then the first in the order of the keys stays.
    fn map(&mut self, node: &mut Node, at: &Trail<'_>) {
        let Value::Mapping(entries) = &mut node.value else {
            return;
        };
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        for entry in entries.iter_mut() {
            let written = entry.key.clone();
            let entry_at = at.key(&written);
            self.text(&mut entry.node, &entry_at);
            if written.contains("{{") {
                entry.key = self.replace(&written, entry.place, &entry_at);
            }
        }
        let mut seen = HashSet::new();
        entries.retain(|entry| seen.insert(entry.key.clone()));
    }

    fn replace(&mut self, text: &str, place: Place, at: &Trail<'_>) -> String {
        let found = references(text);
        self.tell_unknown(&found, place, at);
        let braces = |text: &str| text.contains(['{', '}']);
        let independent = found.iter().all(|(_, key)| {
            !braces(key) && !self.variables.get(*key).is_some_and(|value| braces(value))
        });
        let result = if independent {
            self.replace_at_once(text, &found)
        } else if found.len() <= MAX_NESTED_REFERENCES {
            self.replace_one_by_one(text, &found)
        } else {
            None
        };
        result.unwrap_or_else(|| {
            self.reporter.add(
                Code::VariableTooLarge,
                place,
                at,
                "variables make this text too large",
                Some(format!(
                    "at most {MAX_SUBSTITUTED_BYTES} bytes, and {MAX_NESTED_REFERENCES} references whose values refer to others"
                )),
            );
            text.to_owned()
        })
    }

    fn tell_unknown(&mut self, found: &[(&str, &str)], place: Place, at: &Trail<'_>) {
        let mut told = HashSet::new();
        for (_, key) in found {
            if self.variables.contains_key(*key) || !told.insert(*key) {
                continue;
            }
            let near = nearest(key, self.variables.keys().map(String::as_str));
            self.reporter.add(
                Code::VariableUnknown,
                place,
                at,
                format!("there is no variable {key:?}; the text stays as it is"),
                near.map(|near| format!("did you mean {near}?")),
            );
        }
    }

    /// When no value and no name has a brace, no replacement touches another: the same result in one pass.
    fn replace_at_once(&mut self, text: &str, found: &[(&str, &str)]) -> Option<String> {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        for (whole, key) in found {
            let (before, after) = rest.split_once(whole)?;
            result.push_str(before);
            result.push_str(self.variables.get(*key).map_or(*whole, String::as_str));
            rest = after;
            if !self.fits(result.len(), text.len()) {
                return None;
            }
        }
        result.push_str(rest);
        self.grow(result.len(), text.len())?;
        Some(result)
    }

    /// As the library does it: every reference that stood in the text at first is replaced everywhere, in order.
    fn replace_one_by_one(&mut self, text: &str, found: &[(&str, &str)]) -> Option<String> {
        let mut result = text.to_owned();
        for (whole, key) in found {
            let Some(value) = self.variables.get(*key) else {
                continue;
            };
            let length = result.len() + result.matches(whole).count() * value.len();
            if !self.fits(length, text.len()) {
                return None;
            }
            result = result.replace(whole, value);
        }
        self.grow(result.len(), text.len())?;
        Some(result)
    }

    fn fits(&self, length: usize, before: usize) -> bool {
        length <= MAX_SUBSTITUTED_BYTES.max(before)
            && self.growth + length.saturating_sub(before) <= MAX_SUBSTITUTION_GROWTH
    }

    fn grow(&mut self, length: usize, before: usize) -> Option<()> {
        let fits = self.fits(length, before);
        self.growth += length.saturating_sub(before);
        fits.then_some(())
    }
}

/// The references in a text, as `\{\{\s*(.*?)\s*\}\}` finds them: the whole and the name in it.
fn references(text: &str) -> Vec<(&str, &str)> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("{{").map(|at| at + from) {
        let Some(end) = text[start + 2..].find("}}").map(|at| at + start + 2) else {
            break;
        };
        let key = text[start + 2..end].trim_matches(space);
        if let Some(newline) = key.rfind('\n') {
            // The next reference that can end here starts behind the newline, or so that only space stands before it.
            let newline = text[start + 2..end].len()
                - text[start + 2..end].trim_start_matches(space).len()
                + newline;
            let before = text[start + 2..start + 2 + newline].trim_end_matches(space);
            from = (start + 2 + before.len()).saturating_sub(2).max(start + 1);
            while !text.is_char_boundary(from) {
                from += 1;
            }
            continue;
        }
        found.push((&text[start..end + 2], key));
        from = end + 2;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_as_the_expression_finds_them() {
        assert_eq!(
            references("a{{ b }}c{{d}}"),
            vec![("{{ b }}", "b"), ("{{d}}", "d")]
        );
        assert_eq!(references("{{{a}}}"), vec![("{{{a}}", "{a")]);
        assert_eq!(references("{{a\nb}} {{c}}"), vec![("{{c}}", "c")]);
        assert_eq!(references("{{\n a\n}}"), vec![("{{\n a\n}}", "a")]);
        assert_eq!(references("{{a"), vec![]);
        assert_eq!(references("{{}}"), vec![("{{}}", "")]);
    }
}
