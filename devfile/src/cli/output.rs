//! Texts, JSON and YAML for the terminal and for programs.

use clap::ValueEnum;
use devfile::diagnostic::{Diagnostic, Severity, has_errors};
use devfile::render::Note;
use serde_json::{Value, json};

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people; objects as YAML.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What became of one input.
pub(super) enum Outcome {
    Checked {
        name: String,
        diagnostics: Vec<Diagnostic>,
    },
    Unreadable {
        name: String,
        reason: String,
    },
}

impl Outcome {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Checked { diagnostics, .. } => u8::from(has_errors(diagnostics)),
            Self::Unreadable { .. } => 2,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Checked { name, diagnostics } => json!({
                "input": name,
                "valid": !has_errors(diagnostics),
                "diagnostics": diagnostics,
            }),
            Self::Unreadable { name, reason } => json!({
                "input": name,
                "valid": false,
                "error": reason,
                "diagnostics": [],
            }),
        }
    }
}

/// All outcomes; with a summary if there are several.
pub(super) fn outcomes(all: &[Outcome], format: Format, color: bool) -> String {
    let valid = all
        .iter()
        .filter(|outcome| outcome.exit_code() == 0)
        .count();
    let unreadable = all
        .iter()
        .filter(|outcome| outcome.exit_code() == 2)
        .count();
    if format != Format::Text {
        let value = json!({
            "inputs": all.iter().map(Outcome::to_json).collect::<Vec<_>>(),
            "summary": {"valid": valid, "invalid": all.len() - valid - unreadable, "unreadable": unreadable},
        });
        return self::value(&value, format);
    }
    let mut text = String::new();
    for outcome in all {
        match outcome {
            Outcome::Checked { name, diagnostics } => {
                text.push_str(&self::diagnostics(diagnostics, color));
                if !has_errors(diagnostics) {
                    text.push_str(&format!("{name}: valid\n"));
                }
            }
            Outcome::Unreadable { reason, .. } => text.push_str(&format!("{reason}\n")),
        }
    }
    if all.len() > 1 {
        text.push_str(&format!(
            "{valid} valid, {} with errors, {unreadable} unreadable\n",
            all.len() - valid - unreadable
        ));
    }
    text
}

/// What is told beside a result: for people, or for programs.
pub(super) fn beside(
    diagnostics: &[Diagnostic],
    notes: &[Note],
    format: Format,
    color: bool,
) -> String {
    if format != Format::Text {
        return value(&json!({"diagnostics": diagnostics, "notes": notes}), format);
    }
    let mut text = self::diagnostics(diagnostics, color);
    for note in notes {
        text.push_str(&printable(&format!("note: {note}\n")));
    }
    text
}

/// A text without what steers a terminal: what stands in a devfile must not.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n';
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Diagnostics for people.
pub(super) fn diagnostics(all: &[Diagnostic], color: bool) -> String {
    let mut text = String::new();
    for diagnostic in all {
        let shown = printable(&diagnostic.to_string());
        if color {
            let (word, code) = match diagnostic.severity {
                Severity::Error => ("error[", "31;1"),
                Severity::Warning => ("warning[", "33;1"),
            };
            let colored = format!("\u{1b}[{code}m{word}");
            let shown = shown
                .replacen(word, &colored, 1)
                .replacen("]: ", "]\u{1b}[0m: ", 1);
            text.push_str(&shown);
        } else {
            text.push_str(&shown);
        }
        text.push('\n');
    }
    text
}

/// A value as JSON or YAML.
pub(super) fn value(value: &Value, format: Format) -> String {
    match format {
        Format::Json => {
            let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
            text.push('\n');
            text
        }
        Format::Text | Format::Yaml => devfile::yaml_text(value),
    }
}
