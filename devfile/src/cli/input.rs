//! Where devfiles are read from.

use std::io::Read as _;
use std::path::Path;

use devfile::flatten::{Fetch as _, Reference};
use devfile::limits::MAX_DOCUMENT_BYTES;

use super::fetch::CommandFetch;

/// The names a devfile has in a folder, in the order they are looked for.
pub(super) const NAMES: [&str; 4] = [
    "devfile.yaml",
    ".devfile.yaml",
    "devfile.yml",
    ".devfile.yml",
];

/// A text and where it is from.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads an argument: `-`, an address, a file, or a folder.
pub(super) fn read(argument: &str, fetch: &mut CommandFetch) -> Result<Input, String> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(limit())
            .read_to_end(&mut bytes)
            .map_err(|error| format!("standard input: {error}"))?;
        return Ok(Input {
            name: "-".into(),
            text: decode("standard input", bytes)?,
        });
    }
    if argument.starts_with("http://") || argument.starts_with("https://") {
        let text = fetch
            .fetch(&Reference::Location(argument.to_owned()))
            .map_err(|error| format!("{argument}: {}", error.message))?;
        return Ok(Input {
            name: argument.to_owned(),
            text,
        });
    }
    let path = Path::new(argument);
    if path.is_dir() {
        let found = NAMES
            .iter()
            .map(|name| path.join(name))
            .find(|path| path.is_file());
        let Some(found) = found else {
            return Err(format!(
                "{argument}: there is no devfile in this folder (looked for {})",
                NAMES.join(", ")
            ));
        };
        let name = found.to_string_lossy().into_owned();
        let text = read_file(&name)?;
        return Ok(Input { name, text });
    }
    Ok(Input {
        name: argument.to_owned(),
        text: read_file(argument)?,
    })
}

/// One byte more than may be, so that a larger text is told as too large.
fn limit() -> u64 {
    u64::try_from(MAX_DOCUMENT_BYTES + 1).unwrap_or(u64::MAX)
}

/// Reads a file up to the limit of a document.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limit())
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{path}: {error}"))?;
    decode(path, bytes)
}

/// Bytes to text. A cut at the limit may go through a character: such a text is too large anyway.
fn decode(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "{name}: byte {} is no UTF-8",
            error.utf8_error().valid_up_to() + 1
        )
    })
}
