//! YAML text to a tree in which every value knows its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{MAX_CONFIGURATION_BYTES, Problem};

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A mapping's key, its place, and the value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// A number as far as keys need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Whole(i64),
    /// With a fraction, or beyond what any key takes.
    Other,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

impl Value {
    /// What a person calls this.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Reads a text. An empty one is an empty mapping.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_CONFIGURATION_BYTES {
        return Err(Problem {
            line: 1,
            column: 1,
            field: String::new(),
            reason: format!("the file has {} bytes", text.len()),
            expected: format!("at most {MAX_CONFIGURATION_BYTES} bytes"),
        });
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // Source lines in an error text could show what should not be shown.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Value>>>(text, options) {
        Ok(Some(root)) => Ok(node(root)),
        Ok(None) => Ok(Node {
            place: start,
            value: Value::Null,
        }),
        Err(error) => {
            let place = error.location().map_or(start, Place::from);
            Err(Problem {
                line: place.line,
                column: place.column,
                field: String::new(),
                reason: format!(
                    "this is no YAML that can be read: {}",
                    error.without_snippet()
                ),
                expected: "one YAML document without repeated keys".into(),
            })
        }
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node {
        place: spanned.referenced.into(),
        value: spanned.value,
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(Number::Whole(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        let whole = i64::try_from(value);
        Ok(Value::Number(whole.map_or(Number::Other, Number::Whole)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number(Number::Other))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            let place = key.referenced.into();
            mapping.push(Entry {
                key: key.value,
                place,
                node: node(value),
            });
        }
        Ok(Value::Mapping(mapping))
    }
}
