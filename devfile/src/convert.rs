//! Other documents as devfiles: one of another schemaVersion, or a `devcontainer.json`.
//!
//! What has no place in the result comes back as notes, as from a renderer. The result is not checked: flatten it, or
//! validate its text.

mod devcontainer;
mod fit;

use serde_json::{Value, json};

pub use devcontainer::devcontainer;

use crate::diagnostic::{Diagnostic, Reporter};
use crate::document;
use crate::render::{Note, Notes};
use crate::schema::Version;
use crate::source::{Source, Sources};

/// A devfile and what did not become part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The devfile.
    pub devfile: Value,
    /// What is not in it, by its path in what was read, or in the result where its version has no place for it.
    pub notes: Vec<Note>,
}

/// Rewrites a devfile, or the content of a DevWorkspace or its template, for another schemaVersion. Parents, plugins and
/// variables stay as they are written.
///
/// # Errors
/// All that is wrong with the text and its schema.
pub fn to_version(name: &str, text: &str, version: Version) -> Result<Converted, Vec<Diagnostic>> {
    let mut sources = Sources::default();
    let number = sources.add(Source::new(name, text));
    let mut reporter = Reporter::new(&sources);
    let Some(found) = document::read(number, &mut reporter) else {
        return Err(reporter.finish());
    };
    let mut notes = Notes::default();
    let mut devfile = found.into_content().to_json();
    if version != Version::V2_0_0 {
        fit::projects_of_2_0_0(&mut devfile, &mut notes);
    }
    Ok(in_version(devfile, version, notes))
}

/// Leaves out what a version does not have.
fn in_version(mut devfile: Value, version: Version, mut notes: Notes) -> Converted {
    devfile["schemaVersion"] = json!(version.name());
    fit::fit(&mut devfile, version, &mut notes);
    Converted {
        devfile,
        notes: notes.list,
    }
}
