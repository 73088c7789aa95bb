//! Container images, made without Docker. The cluster's registry serves all of them under any name.

use std::path::Path;

use crate::tools::Tools;

/// Makes the images that every cluster needs (pause, busybox, DNS, storage) unless they are in the cache.
///
/// # Errors
/// When a build fails.
pub fn ensure_base(tools: &Tools) -> anyhow::Result<()> {
    let _ = tools;
    anyhow::bail!("not yet")
}

/// Packs the folder `root` as the image `name` (with registry and tag). A running cluster sees it at once.
///
/// # Errors
/// When the folder cannot be read or the archive not be written.
pub fn pack(tools: &Tools, name: &str, root: &Path, entrypoint: &[&str]) -> anyhow::Result<()> {
    let _ = (tools, name, root, entrypoint);
    anyhow::bail!("not yet")
}

/// Packs the agent's static binary with a bundle of CA roots as `localhost/remote-dev-agent:<tag>` and returns that name.
///
/// # Errors
/// As [`pack`].
pub fn agent_image(tools: &Tools, agent_binary: &Path, tag: &str) -> anyhow::Result<String> {
    let _ = (tools, agent_binary, tag);
    anyhow::bail!("not yet")
}
