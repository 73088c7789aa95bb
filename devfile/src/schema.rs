//! The published JSON schemas of all versions, and checking a tree against one.
//!
//! The schemas use twelve keywords and four patterns; a reader for just these knows every value's place and can say
//! what would be right. A test makes sure that a newer schema does not bring a keyword this reader does not know.

mod check;
mod mend;
mod pattern;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

pub(crate) use check::{check, nearest};
pub(crate) use mend::mend;
use pattern::Pattern;

/// One schema, or the part of it for one value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    #[serde(default)]
    properties: BTreeMap<String, Schema>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    additional_properties: Option<Additional>,
    #[serde(default)]
    items: Option<Box<Schema>>,
    #[serde(default, rename = "enum")]
    allowed: Vec<String>,
    #[serde(default)]
    pattern: Option<Pattern>,
    #[serde(default)]
    max_length: Option<usize>,
    #[serde(default)]
    one_of: Vec<Alternative>,
    #[serde(default)]
    unique_items: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Object,
    Array,
    String,
    Integer,
    Boolean,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "a mapping",
            Self::Array => "a list",
            Self::String => "a text",
            Self::Integer => "an integer",
            Self::Boolean => "true or false",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Additional {
    Allowed(bool),
    Schema(Box<Schema>),
}

/// What a schema says of a field.
pub(crate) enum Field<'a> {
    /// It has this schema.
    Known(&'a Schema),
    /// It may hold anything.
    Free,
    /// It may not be there.
    Unknown,
}

/// All that the schemas say in an alternative is which field makes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alternative {
    required: [String; 1],
}

impl Schema {
    /// What is said of a field.
    pub(crate) fn field(&self, key: &str) -> Field<'_> {
        match (self.properties.get(key), &self.additional_properties) {
            (Some(schema), _) => Field::Known(schema),
            (None, Some(Additional::Schema(schema))) => Field::Known(schema),
            (None, Some(Additional::Allowed(false))) => Field::Unknown,
            (None, Some(Additional::Allowed(true)) | None) => Field::Free,
        }
    }

    /// What is said of a list's elements.
    pub(crate) fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    /// The fields that must be there.
    pub(crate) fn required(&self) -> &[String] {
        &self.required
    }

    /// Whether a text is one of those that may stand here.
    pub(crate) fn allows(&self, text: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|allowed| allowed == text)
    }

    /// The fields of which there is exactly one.
    pub(crate) fn one_of_names(&self) -> impl Iterator<Item = &str> {
        self.one_of
            .iter()
            .map(|alternative| alternative.required[0].as_str())
    }
}

/// A version of the devfile standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2.0.0
    V2_0_0,
    /// 2.1.0
    V2_1_0,
    /// 2.2.0
    V2_2_0,
    /// 2.2.1
    V2_2_1,
    /// 2.2.2
    V2_2_2,
    /// 2.3.0
    V2_3_0,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 6] = [
        Self::V2_0_0,
        Self::V2_1_0,
        Self::V2_2_0,
        Self::V2_2_1,
        Self::V2_2_2,
        Self::V2_3_0,
    ];

    /// The newest one.
    pub const NEWEST: Self = Self::V2_3_0;

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_0_0 => "2.0.0",
            Self::V2_1_0 => "2.1.0",
            Self::V2_2_0 => "2.2.0",
            Self::V2_2_1 => "2.2.1",
            Self::V2_2_2 => "2.2.2",
            Self::V2_3_0 => "2.3.0",
        }
    }

    /// The published JSON schema, without titles and descriptions.
    #[must_use]
    pub fn json_schema(self) -> &'static str {
        self.slot_and_text().1
    }

    /// Reads a `schemaVersion`. What follows a hyphen does not count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|version| version.name() == core)
    }

    pub(crate) fn schema(self) -> &'static Schema {
        static SCHEMAS: [OnceLock<Schema>; 4] = [const { OnceLock::new() }; 4];
        let (slot, text) = self.slot_and_text();
        SCHEMAS[slot].get_or_init(|| load(text))
    }

    fn slot_and_text(self) -> (usize, &'static str) {
        // 2.2.1 and 2.3.0 changed descriptions only.
        match self {
            Self::V2_0_0 => (0, include_str!("../schemas/devfile-2.0.0.json")),
            Self::V2_1_0 => (1, include_str!("../schemas/devfile-2.1.0.json")),
            Self::V2_2_0 | Self::V2_2_1 => (2, include_str!("../schemas/devfile-2.2.0.json")),
            Self::V2_2_2 | Self::V2_3_0 => (3, include_str!("../schemas/devfile-2.2.2.json")),
        }
    }
}

/// The schema of a DevWorkspace object; a template's `spec` is its `spec.template`.
pub(crate) fn dev_workspace() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| load(include_str!("../schemas/dev-workspace.json")))
}

/// The schema of a DevWorkspaceTemplate's `spec`.
pub(crate) fn template() -> &'static Schema {
    let spec = &dev_workspace().properties["spec"];
    &spec.properties["template"]
}

fn load(text: &str) -> Schema {
    serde_json::from_str(text).expect("the schemas are part of the crate and read by its tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_only_keywords_that_are_read() {
        for version in Version::ALL {
            assert!(version.schema().properties.contains_key("components"));
        }
        assert!(template().properties.contains_key("components"));
    }
}
