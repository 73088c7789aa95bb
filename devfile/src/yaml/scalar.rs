//! What an unquoted scalar is, by the rules of the YAML 1.1 reader that Go tools use.

use serde_json::Number;

use crate::node::Value;

/// The scalar is infinite or no number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotFinite;

/// Reads an unquoted scalar.
pub(super) fn resolve(text: &str) -> Result<Value, NotFinite> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Err(NotFinite),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(Value::Text(text.to_owned()));
    }
    if text.starts_with('.') {
        return Ok(fraction(text).unwrap_or_else(|| Value::Text(text.to_owned())));
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    Ok(integer(&plain)
        .or_else(|| fraction(&plain))
        .unwrap_or_else(|| Value::Text(text.to_owned())))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign would pass the parser below.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    if negative {
        let value = i64::from_str_radix(&format!("-{digits}"), radix).ok()?;
        return Some(Value::Number(value.into()));
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(Value::Number(value.into()))
}

fn fraction(text: &str) -> Option<Value> {
    if !looks_like_fraction(text) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    // A whole number is written without a point in JSON by the Go tools.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value is whole and in range"
    )]
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Some(Value::Number((value as i64).into()));
    }
    Number::from_f64(value).map(Value::Number)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn looks_like_fraction(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = match mantissa.split_once('.') {
        Some((whole, part)) => (whole, part),
        None => (mantissa, ""),
    };
    let mantissa_fits = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_fits && exponent_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match resolve(text) {
            Ok(Value::Null) => "null".into(),
            Ok(Value::Bool(value)) => value.to_string(),
            Ok(Value::Number(number)) => number.to_string(),
            Ok(Value::Text(text)) => format!("{text:?}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn scalars_are_what_a_yaml_1_1_reader_makes_of_them() {
        for (text, expected) in [
            ("y", "true"),
            ("Off", "false"),
            ("oFF", "\"oFF\""),
            ("~", "null"),
            ("010", "8"),
            ("08", "8"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("-0b11", "-3"),
            ("0o14", "12"),
            ("1_000", "1000"),
            ("1.5", "1.5"),
            ("2.0", "2"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.2.3", "\"1.2.3\""),
            ("12:30", "\"12:30\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("--1", "\"--1\""),
            ("-", "\"-\""),
            ("+", "\"+\""),
            ("0x", "\"0x\""),
            ("18446744073709551615", "18446744073709551615"),
            ("1Gi", "\"1Gi\""),
            ("1e", "\"1e\""),
            (".inf", "Err(NotFinite)"),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }
}
