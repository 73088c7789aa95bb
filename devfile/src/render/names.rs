//! Names of objects.

use sha2::{Digest as _, Sha256};

use crate::model::Devfile;

/// Longest name of an object that is also a label value or a host name.
pub(super) const MAX_NAME: usize = 63;

/// Longest name of a workspace: what is made of it must fit as well.
pub(super) const MAX_WORKSPACE_NAME: usize = 40;

/// A name of at most this many characters. A cut one carries a hash of the whole, so that two stay apart.
#[must_use]
pub fn cut_name(name: &str, most: usize) -> String {
    if name.len() <= most {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let kept: String = name.chars().take(most.saturating_sub(9)).collect();
    format!("{}-{hash}", kept.trim_end_matches(['-', '.']))
}

pub(super) fn is_workspace_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= MAX_WORKSPACE_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(inner)
}

/// Lower-case letters, digits and hyphens of a text, none at its ends; nothing if it has none.
pub(crate) fn slug(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let fitting = lower.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    fitting.trim_matches('-').to_owned()
}

/// A workspace's name for a devfile: its own, made to fit.
#[must_use]
pub fn workspace_name(devfile: &Devfile) -> String {
    let own = devfile
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.name.as_deref())
        .unwrap_or_default();
    let fitting = slug(own);
    let fitting = if fitting.is_empty() {
        "workspace".to_owned()
    } else if fitting.starts_with(|c: char| c.is_ascii_digit()) {
        format!("w-{fitting}")
    } else {
        fitting
    };
    cut_name(&fitting, MAX_WORKSPACE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_names_stay_apart_and_fit() {
        let long = "a".repeat(70);
        let other = format!("{long}b");
        assert_eq!(cut_name("short", 63), "short");
        assert_eq!(cut_name(&long, 63).len(), 63);
        assert_ne!(cut_name(&long, 63), cut_name(&other, 63));
        assert!(is_workspace_name("a-1") && !is_workspace_name("1a") && !is_workspace_name("a-"));
    }
}
