//! `kas-stub check-config`: judges an agent's configuration file as the server does, without one.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use model::configuration::{Judged, MAX_CONFIGURATION_BYTES, SCHEMA, Section, judge};
use serde_json::json;

use super::{Output, output};

/// Prints what is wrong with the file, and what is odd about it.
///
/// # Errors
/// When something is wrong, or it cannot be read.
pub(super) fn check(file: &Path, form: Output) -> anyhow::Result<()> {
    let bytes = read(file).with_context(|| format!("read {}", file.display()))?;
    let name = file.display();
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8 text"))?;
    let Judged {
        configuration: _,
        notes,
        problems,
        wrong,
    } = judge(&text);
    match form {
        Output::Json => {
            let kept: Vec<_> = wrong.iter().map(|it| it.as_str()).collect();
            let answer =
                json!({ "problems": problems, "notes": notes, "sections_without_effect": kept });
            output::line(&format!("{answer:#}"));
        }
        Output::Text => {
            for problem in &problems {
                output::line(&format!("{name}: {problem}"));
            }
            for note in &notes {
                output::line(&format!("{name}: note, {}: {}", note.field, note.reason));
            }
            let kept: Vec<_> = wrong.iter().map(Section::to_string).collect();
            if problems.is_empty() {
                output::line(&format!("{name} is right"));
            } else if !kept.is_empty() {
                let kept = kept.join(", ");
                output::line(&format!(
                    "{name}: stays as it was until that is mended: {kept}"
                ));
            }
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("{name} has a problem"),
        many => bail!("{name} has {many} problems"),
    }
}

/// Prints the schema of such files.
pub(super) fn schema() {
    output::line(SCHEMA.trim_end());
}

/// A little more than may be in a file, so that one that is too large is told as such.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let most = MAX_CONFIGURATION_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        fs::File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
