//! JSON values as YAML that every reader, 1.1 or 1.2, reads back the same.

use serde_json::Value;

/// Writes a value.
#[must_use]
pub fn yaml_text(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut text),
        _ => {
            scalar(value, 0, &mut text);
            text.push('\n');
        }
    }
    text
}

fn mapping(value: &Value, indent: usize, text: &mut String) {
    let Value::Object(fields) = value else {
        return;
    };
    for (number, (key, value)) in fields.iter().enumerate() {
        if number > 0 {
            text.push_str(&" ".repeat(indent));
        }
        string(key, text);
        text.push(':');
        below(value, indent, text);
    }
}

fn below(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            text.push_str(&" ".repeat(indent + 2));
            mapping(value, indent + 2, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            list(items, indent, text);
        }
        _ => {
            text.push(' ');
            scalar(value, indent, text);
            text.push('\n');
        }
    }
}

fn list(items: &[Value], indent: usize, text: &mut String) {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(item, indent + 2, text),
            Value::Array(items) if !items.is_empty() => list(items, indent + 2, text),
            _ => {
                scalar(item, indent, text);
                text.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::String(value) => match block(value) {
            Some(header) => {
                text.push_str(header);
                for line in value.trim_end_matches('\n').split('\n') {
                    text.push('\n');
                    if !line.is_empty() {
                        text.push_str(&" ".repeat(indent + 2));
                        text.push_str(line);
                    }
                }
            }
            None => string(value, text),
        },
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

/// The header of a block if the text has several lines and nothing that a block would change.
fn block(value: &str) -> Option<&'static str> {
    let plain = value.contains('\n')
        && !value.starts_with([' ', '\n'])
        && !value.contains(|c: char| c.is_control() && c != '\n')
        && !value.contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'])
        && !value.lines().any(|line| line.ends_with(' '));
    if !plain || value.ends_with("\n\n") {
        return None;
    }
    Some(if value.ends_with('\n') { "|" } else { "|-" })
}

fn string(value: &str, text: &mut String) {
    let safe = value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ' | '(' | ')'))
        && value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !value.ends_with(' ')
        && matches!(
            super::scalar::resolve(value),
            Ok(crate::node::Value::Text(_))
        );
    if safe {
        text.push_str(value);
    } else {
        // A JSON string is a double-quoted YAML string.
        text.push_str(&Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = serde_json::json!({
            "a": "yes", "b": "1e3", "c": "x: y", "d": "l1\nl2\n", "e": "l1\n\n  l2", "f": [],
            "g": {}, "h": [[1, 2], {"i": null, "j": [true]}], "on": "- a", "k": " lead", "l": "\t",
            "m": "tab\tline\n", "n": "", "o": "a\n\n", "p": "#c", "q": "a #c", "r": "\u{85}x\n", "s": "null"
        });
        let text = yaml_text(&value);
        let read = crate::yaml::read_embedded(&text).unwrap();
        assert_eq!(read[0].to_json(), value, "{text}");
    }
}
