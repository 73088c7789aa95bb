//! The image that brings the editor into workspaces: a static shell, and the editor as one file that it unpacks.
//!
//! `tests/cluster/editor/build.sh` says what is in it. The server's definition `code-server` names the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::on_demand::{inputs, lock, once};
use super::{Contents, Scratch, busybox_root, write_image};
use crate::tools::Tools;
use crate::{paths, setup, step};

/// The image's name, as in the server's definition.
pub const EDITOR: &str = "localhost/editor-code-server:4.139.1";
const CODE_SERVER: &str = "4.139.1";
const NODE: &str = "24.21.0";
/// Where it is in a container, as in the server's definition.
const MOUNT: &str = "/opt/editor";
/// Programs, and the packages of Debian that bring them.
const NEEDS: [(&str, &str); 6] = [
    ("npm", "npm"),
    ("python3", "python3"),
    ("make", "make"),
    ("g++", "g++"),
    ("strip", "binutils"),
    ("patchelf", "patchelf"),
];

/// Makes the image [`EDITOR`] unless it is in the cache, and returns its name. A running cluster can pull it at once.
///
/// # Errors
/// When npm cannot fetch it, or a program for building it is missing.
pub fn editor_image(tools: &Tools) -> Result<&'static str> {
    let _lock = lock()?;
    archive(tools).map(|_| EDITOR)
}

/// Writes the image under this name to the OCI archive `output`, for a registry elsewhere. Needs no cluster.
///
/// # Errors
/// As [`editor_image`].
pub fn editor_archive(tools: &Tools, name: &str, output: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let root = root(tools, &scratch)?;
    write_image(&tools.toolbox, output, name, &root, &Contents::default())
}

fn archive(tools: &Tools) -> Result<PathBuf> {
    let script = paths::cluster_sources().join("editor/build.sh");
    let made_of = inputs(tools, None)?
        .text(include_str!("editor.rs"))
        .file(&script)?;
    once(EDITOR, made_of, |scratch, archive| {
        let root = root(tools, scratch)?;
        write_image(&tools.toolbox, archive, EDITOR, &root, &Contents::default())
    })
}

/// What the image holds.
fn root(tools: &Tools, scratch: &Scratch) -> Result<PathBuf> {
    ensure_programs()?;
    let work = scratch.folder("editor")?;
    let script = paths::cluster_sources().join("editor/build.sh");
    step::step(
        &format!("make the image {EDITOR} (the first time: three minutes)"),
        || {
            let mut build = Command::new(script);
            build.arg(&work).args([CODE_SERVER, NODE, MOUNT]);
            step::run(&mut build)
        },
    )?;
    let root = busybox_root(tools, scratch)?;
    fs::rename(work.join("editor.tar"), root.join("editor.tar"))
        .context("the editor was not packed")?;
    Ok(root)
}

fn ensure_programs() -> Result<()> {
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|(program, _)| !setup::has_program(program))
        .map(|(_, package)| *package)
        .collect();
    ensure!(
        missing.is_empty(),
        "the editor's image is built with programs that are missing: apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    Ok(())
}
