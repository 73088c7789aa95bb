//! Where devfiles are read from.

use std::io::Read as _;
use std::path::Path;

use devfile::limits::MAX_DOCUMENT_BYTES;

use super::fetch;

/// The names a devfile has in a folder, in the order they are looked for.
pub(super) const NAMES: [&str; 4] = [
    "devfile.yaml",
    ".devfile.yaml",
    "devfile.yml",
    ".devfile.yml",
];

/// What was read and where it is from.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads an argument: `-`, an address, a file, or a folder.
pub(super) fn read(argument: &str) -> Result<Input, String> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(limit())
            .read_to_end(&mut bytes)
            .map_err(|error| format!("standard input: {error}"))?;
        return Ok(Input {
            name: "-".into(),
            bytes,
        });
    }
    if argument.starts_with("http://") || argument.starts_with("https://") {
        let bytes =
            fetch::curl(argument).map_err(|error| format!("{argument}: {}", error.message))?;
        return Ok(Input {
            name: argument.to_owned(),
            bytes,
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
        let bytes = read_file(&name)?;
        return Ok(Input { name, bytes });
    }
    Ok(Input {
        name: argument.to_owned(),
        bytes: read_file(argument)?,
    })
}

/// One byte more than may be, so that a larger text is told as too large.
fn limit() -> u64 {
    u64::try_from(MAX_DOCUMENT_BYTES + 1).unwrap_or(u64::MAX)
}

/// Reads a file up to the limit of a document.
pub(super) fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limit())
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(bytes)
}
