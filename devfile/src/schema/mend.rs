//! Quotes what lacks them, so that the rest of a document can be looked at in the same run.

use super::{Field, Kind, Schema};
use crate::node::{Node, Value};
use crate::source::Sources;

/// Makes texts of the numbers and booleans that stand where the schema has texts. What is wrong with them was told.
pub(crate) fn mend(schema: &Schema, node: &mut Node, sources: &Sources) {
    let place = node.place;
    match &mut node.value {
        value @ (Value::Bool(_) | Value::Number(_))
            if matches!(schema.kind, Some(Kind::String)) =>
        {
            if let Some(written) = sources.written(place) {
                *value = Value::Text(written);
            }
        }
        Value::List(items) => {
            for item in items {
                if let Some(schema) = &schema.items {
                    mend(schema, item, sources);
                }
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                if let Field::Known(schema) = schema.field(&entry.key) {
                    mend(schema, &mut entry.node, sources);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}
