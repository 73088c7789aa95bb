//! A document as a tree in which every value knows its place, also after overriding and merging.

use std::fmt;

use serde_json::Number;

use crate::source::Place;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it is written.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A mapping's key, the key's place, and the value below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is written.
    pub place: Place,
    /// The value.
    pub node: Node,
}

/// What YAML can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer or a fraction.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order it is written.
    Mapping(Vec<Entry>),
}

impl Value {
    /// What a person calls this.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(number) if number.is_f64() => "a number",
            Self::Number(_) => "an integer",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

impl Node {
    /// A value at a place.
    #[must_use]
    pub fn new(place: Place, value: Value) -> Self {
        Self { place, value }
    }

    /// A text at a place.
    #[must_use]
    pub fn text(place: Place, text: impl Into<String>) -> Self {
        Self::new(place, Value::Text(text.into()))
    }

    /// The value below a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        Some(&self.entry(key)?.node)
    }

    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value below a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Mapping(entries) => entries
                .iter_mut()
                .find(|entry| entry.key == key)
                .map(|entry| &mut entry.node),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                None
            }
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::List(_)
            | Value::Mapping(_) => None,
        }
    }

    /// The text below a key.
    #[must_use]
    pub fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// The elements of a list; of anything else none.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Mapping(_) => &[],
        }
    }

    /// The elements of a list below a key.
    #[must_use]
    pub fn items_at(&self, key: &str) -> &[Self] {
        self.get(key).map_or(&[], Self::items)
    }

    /// The entries of a mapping; of anything else none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                &[]
            }
        }
    }

    /// Sets a key, replacing what was there.
    pub fn set(&mut self, key: &str, node: Self) {
        if !matches!(self.value, Value::Mapping(_)) {
            self.value = Value::Mapping(Vec::new());
        }
        if let Value::Mapping(entries) = &mut self.value {
            match entries.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.node = node,
                None => entries.push(Entry {
                    key: key.to_owned(),
                    place: node.place,
                    node,
                }),
            }
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) -> Option<Self> {
        match &mut self.value {
            Value::Mapping(entries) => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at).node)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                None
            }
        }
    }

    /// Whether it is an empty text, list or mapping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The same without places.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// The nearest value to a path that exists: its own place, else its parent's.
    #[must_use]
    pub fn place_of(&self, trail: &Trail<'_>) -> Place {
        self.find(trail).map_or_else(
            || {
                trail
                    .parent
                    .map_or(self.place, |above| self.place_of(above))
            },
            |node| node.place,
        )
    }

    fn find(&self, trail: &Trail<'_>) -> Option<&Self> {
        let above = match trail.parent {
            Some(parent) => self.find(parent)?,
            None => return Some(self),
        };
        match trail.step {
            Step::Key(key) => above.get(key),
            Step::Index(index) => above.items().get(index),
        }
    }
}

/// A path to a value, as a chain through the callers' stack: nothing is allocated until it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Trail<'a> {
    /// The path of the whole document.
    pub const ROOT: Self = Self {
        parent: None,
        step: Step::Key(""),
    };

    /// The path one key further down.
    #[must_use]
    pub fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// The path one element further down.
    #[must_use]
    pub fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The name of the last step, if it is a key.
    #[must_use]
    pub fn last_key(&self) -> Option<&'a str> {
        match (self.parent, self.step) {
            (Some(_), Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The key that names the list or mapping this path is in.
    #[must_use]
    pub fn nearest_key(&self) -> Option<&'a str> {
        self.last_key()
            .or_else(|| self.parent.and_then(Trail::nearest_key))
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(f)?;
        match self.step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                if parent.parent.is_some() {
                    f.write_str(".")?;
                }
                // A key with dots would read as several.
                if key.contains(['.', '[', ' ']) || key.is_empty() {
                    write!(f, "{key:?}")
                } else {
                    f.write_str(key)
                }
            }
        }
    }
}
