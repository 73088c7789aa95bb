//! Going through an object along a list of what may be there.

use serde_json::{Map, Value};

use super::{MAX_VIOLATIONS, Owner, Policy, Violation};

/// Looks at one value. Where it stands is in the [`Walk`].
pub(super) type Look = fn(&mut Walk<'_>, &Value);
/// The fields that an object may have, each with who looks at its value.
pub(super) type Fields = [(&'static str, Look)];

/// An object being looked at.
pub(super) struct Walk<'a> {
    pub(super) owner: Owner<'a>,
    pub(super) policy: &'a Policy,
    /// What counts for all containers of the Pod that is being looked at.
    pub(super) pod: super::pod::PodFacts,
    /// The Pod that a DevWorkspace becomes is isolated, whatever a part of it says.
    pub(super) isolated: bool,
    path: String,
    violations: Vec<Violation>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(owner: Owner<'a>, policy: &'a Policy) -> Self {
        Self {
            owner,
            policy,
            pod: super::pod::PodFacts::default(),
            isolated: false,
            path: String::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn end(self) -> Result<(), Vec<Violation>> {
        match self.violations.is_empty() {
            true => Ok(()),
            false => Err(self.violations),
        }
    }

    /// The value that is being looked at may not be.
    pub(super) fn refuse(&mut self, code: &'static str, reason: impl Into<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation {
                code,
                path: self.path.clone(),
                reason: reason.into(),
            });
        }
    }

    /// As [`Walk::refuse`], of a field of the value that is being looked at.
    pub(super) fn refuse_at(&mut self, field: &str, code: &'static str, reason: impl Into<String>) {
        self.at(field, |walk| walk.refuse(code, reason));
    }

    /// Looks at an object field by field: one that is not on the list is refused. A null says nothing, and is none.
    pub(super) fn fields(&mut self, value: &Value, allowed: &Fields) {
        let Some(fields) = self.object(value) else {
            return;
        };
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match allowed.iter().find(|(known, _)| known == name) {
                Some((_, look)) => self.at(name, |walk| look(walk, value)),
                None => self.refuse_at(shown(name), "field", "a workspace may not set this field"),
            }
        }
    }

    /// Looks at each item of a list.
    pub(super) fn each(&mut self, value: &Value, look: impl Fn(&mut Self, &Value)) {
        let Some(items) = value.as_array() else {
            self.refuse("form", "this is to be a list");
            return;
        };
        for (number, item) in items.iter().enumerate() {
            self.in_step(&format!("[{number}]"), |walk| look(walk, item));
        }
    }

    /// Looks at each entry of a map.
    pub(super) fn entries(&mut self, value: &Value, look: impl Fn(&mut Self, &str, &Value)) {
        let Some(entries) = self.object(value) else {
            return;
        };
        for (key, value) in entries {
            self.in_step(&format!("[{}]", shown(key)), |walk| look(walk, key, value));
        }
    }

    pub(super) fn at<T>(&mut self, field: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        let step = match self.path.is_empty() {
            true => field.to_owned(),
            false => format!(".{field}"),
        };
        self.in_step(&step, look)
    }

    fn in_step<T>(&mut self, step: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        self.path.push_str(step);
        let result = look(self);
        self.path.truncate(before);
        result
    }

    fn object<'v>(&mut self, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.refuse("form", "this is to be an object");
        }
        object
    }
}

/// A name that somebody else chose, short enough to be told.
fn shown(name: &str) -> &str {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

/// Says nothing that could do harm.
pub(super) fn anything(_: &mut Walk<'_>, _: &Value) {}

/// What is not set, or says the same.
pub(super) fn only_false(walk: &mut Walk<'_>, value: &Value) {
    if *value != Value::Bool(false) {
        walk.refuse("privilege", "it may only be false");
    }
}

/// Another host than the Pod itself.
pub(super) fn no_host(walk: &mut Walk<'_>, value: &Value) {
    if value.as_str() != Some("") {
        walk.refuse(
            "host",
            "the node would be made to call another host; leave it out",
        );
    }
}
