//! Where things are.

use std::path::{Path, PathBuf};

/// Folder name below the cache and state folders of the user.
const NAME: &str = "remote-dev-agent";

/// The checkout.
pub fn repo_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Programs and images, each under a hash of what they are made of; safe to delete.
pub fn cache_dir() -> PathBuf {
    base("XDG_CACHE_HOME", ".cache").join(NAME)
}

/// The life of one cluster, and of the programs beside it.
pub fn state_dir() -> PathBuf {
    base("XDG_STATE_HOME", ".local/state").join(NAME)
}

/// Where Cargo puts the project's programs (`agent`, `kas-stub`) in the development profile.
pub fn binaries_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repo_root().join("target"), PathBuf::from);
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    target.join(host).join("debug")
}

/// `tests/cluster`, whose files the cluster is made of.
pub(crate) fn cluster_sources() -> PathBuf {
    repo_root().join("tests/cluster")
}

fn base(variable: &str, below_home: &str) -> PathBuf {
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => std::env::var_os("HOME")
            .map_or_else(std::env::temp_dir, PathBuf::from)
            .join(below_home),
    }
}
