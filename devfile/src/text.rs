//! From bytes to text.

use std::fmt;

use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::flatten::{Fetch, FlattenOptions, Flattened, flatten};
use crate::limits::MAX_DOCUMENT_BYTES;
use crate::node::Trail;
use crate::source::{Place, Source, Sources};

/// Where a text stops being UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUtf8 {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// The first byte that does not fit.
    pub byte: u8,
    /// Whether it looks like UTF-16.
    utf16: bool,
}

impl NotUtf8 {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        if self.utf16 {
            "it looks like UTF-16: save it as UTF-8"
        } else {
            "it may be Latin-1 or Windows-1252: save it as UTF-8"
        }
    }

    fn message(&self) -> String {
        format!("the byte 0x{:02X} here is no UTF-8", self.byte)
    }
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, .. } = self;
        write!(f, "line {line}, column {column}: {}", self.message())
    }
}

/// The text that bytes are. What exceeds [`MAX_DOCUMENT_BYTES`] is let through with replacements: it may have been cut
/// within a character, and is refused for its size later.
///
/// # Errors
/// When it is no UTF-8; with the place.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.as_bytes().len() > MAX_DOCUMENT_BYTES => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(error) => Err(place(error.as_bytes(), error.utf8_error().valid_up_to())),
    }
}

/// As [`flatten()`], of bytes: that they are no UTF-8 is told like everything else that is wrong.
#[must_use]
pub fn flatten_bytes(
    name: &str,
    bytes: Vec<u8>,
    options: &FlattenOptions,
    fetch: &mut dyn Fetch,
) -> Flattened {
    let lossy = String::from_utf8_lossy(&bytes).into_owned();
    match decode(bytes) {
        Ok(text) => flatten(name, &text, options, fetch),
        Err(error) => refused(name, &lossy, error),
    }
}

fn refused(name: &str, lossy: &str, error: NotUtf8) -> Flattened {
    let mut sources = Sources::default();
    let document = sources.add(Source::new(name, lossy));
    let mut reporter = Reporter::new(&sources);
    let place = Place {
        document,
        line: error.line,
        column: error.column,
        length: 1,
    };
    let hint = Some(error.hint().to_owned());
    reporter.add(Code::NotUtf8, place, &Trail::ROOT, error.message(), hint);
    let diagnostics = reporter.finish();
    Flattened {
        devfile: None,
        tree: None,
        form: None,
        version: None,
        sources,
        diagnostics,
    }
}

fn place(bytes: &[u8], valid: usize) -> NotUtf8 {
    let (before, rest) = bytes.split_at(valid);
    // It is UTF-8 up to here.
    let (line, column) = Source::new("", &String::from_utf8_lossy(before)).end();
    NotUtf8 {
        line,
        column,
        byte: rest.first().copied().unwrap_or_default(),
        utf16: bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flatten::NoFetch;

    fn told(bytes: &[u8]) -> String {
        let options = FlattenOptions::default();
        let found = flatten_bytes("devfile.yaml", bytes.to_vec(), &options, &mut NoFetch);
        assert!(found.devfile.is_none());
        let [diagnostic] = found.diagnostics.as_slice() else {
            panic!("{:?}", found.diagnostics);
        };
        diagnostic.to_string()
    }

    #[test]
    fn what_is_no_utf8_is_told_with_its_place() {
        assert_eq!(
            told(b"schemaVersion: 2.2.0\r\nmetadata:\r\n  name: \xc3\xa4h-\xe4h\r\n"),
            "devfile.yaml:3:12: error[not-utf8]: the byte 0xE4 here is no UTF-8\n  \
             3 |   name: äh-\u{fffd}h\n    |            ^\n  \
             hint: it may be Latin-1 or Windows-1252: save it as UTF-8"
        );
        let utf16: Vec<u8> = "\u{feff}schemaVersion: 2.2.0\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let told = told(&utf16);
        assert!(
            told.contains("devfile.yaml:1:1: ") && told.contains("UTF-16"),
            "{told}"
        );
    }

    #[test]
    fn a_text_cut_within_a_character_is_too_large() {
        let mut bytes = "ä".repeat(MAX_DOCUMENT_BYTES / 2 + 1).into_bytes();
        bytes.truncate(MAX_DOCUMENT_BYTES + 1);
        assert!(told(&bytes).contains("document-too-large"));
    }
}
