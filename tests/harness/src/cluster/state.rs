//! What the folder of a cluster says about it, checked against the processes that run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

/// The file that `outside.sh` writes when the namespaces are there.
const IDENTITY: &str = "cluster.pid";

/// A process, told apart from a later one with the same number by when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessIdentity {
    pub(super) id: u32,
    began: u64,
}

/// The two processes that a cluster hangs on, seen from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// PID 1 of the cluster's namespaces.
    pub(super) init: ProcessIdentity,
    /// `outside.sh`, which cleans up when it is asked to end.
    pub(super) holder: ProcessIdentity,
}

/// The folder with everything of the cluster.
pub(super) fn folder() -> PathBuf {
    paths::state_dir().join("cluster")
}

/// Reads the identity, if a cluster was started in this folder.
pub(super) fn read_identity(state: &Path) -> Result<Option<Identity>> {
    let text = match fs::read_to_string(state.join(IDENTITY)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot read the cluster's state"),
    };
    parse_identity(&text)
        .map(Some)
        .with_context(|| format!("{IDENTITY} does not hold four numbers: {text:?}"))
}

fn parse_identity(text: &str) -> Option<Identity> {
    let mut words = text.split_whitespace();
    let mut process = || {
        Some(ProcessIdentity {
            id: words.next()?.parse().ok()?,
            began: words.next()?.parse().ok()?,
        })
    };
    Some(Identity {
        init: process()?,
        holder: process()?,
    })
}

impl ProcessIdentity {
    /// Whether that very process still runs.
    pub(super) fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.id))
            .is_ok_and(|stat| began(&stat) == Some(self.began))
    }
}

/// When a process began, from its `/proc/<id>/stat`: field 22, and 20 after the name in parentheses.
/// None for one that is dead but not reaped.
fn began(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    if rest.starts_with('Z') {
        return None;
    }
    rest.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_an_older_one_of_its_number_is_not() {
        let id = std::process::id();
        let began = began(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(ProcessIdentity { id, began }.is_alive());
        assert!(
            !ProcessIdentity {
                id,
                began: began - 1
            }
            .is_alive()
        );
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(began(stat), Some(4711));
        assert_eq!(began(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn identity_needs_four_numbers() {
        assert!(parse_identity("1 2 3 4\n").is_some());
        assert!(parse_identity("1 2 3\n").is_none());
    }
}
