//! The image that brings the editor into workspaces: a static shell, and the editor as one file that it unpacks.
//!
//! `tests/cluster/editor/build.sh` says what is in it. The server's definition `code-server` names the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::on_demand::{inputs, lock, once};
use super::{Contents, Scratch, busybox_root, images_folder, write_image};
use crate::hash::Inputs;
use crate::tools::{Tools, remove_old_versions};
use crate::{paths, setup, step};

/// The image's name, as in the server's definition.
pub const EDITOR: &str = "localhost/editor-code-server:4.139.1";
const CODE_SERVER: &str = "4.139.1";
const NODE: &str = "24.21.0";
/// Where it is in a container, as in the server's definition.
const MOUNT: &str = "/opt/editor";
/// What it is unpacked from.
const FILES: &str = "editor.tar";
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
pub fn editor(tools: &Tools) -> Result<&'static str> {
    let _lock = lock()?;
    let files = files()?;
    let made_of = inputs(tools, None)?.text(&files.to_string_lossy());
    once(EDITOR, made_of, |scratch, archive| {
        pack(tools, &files, scratch, EDITOR, archive)
    })?;
    Ok(EDITOR)
}

/// Writes the image under this name to the OCI archive `output`, for a registry elsewhere. Needs no cluster.
///
/// # Errors
/// As [`editor`].
pub fn editor_archive(tools: &Tools, name: &str, output: &Path) -> Result<()> {
    let _lock = lock()?;
    pack(tools, &files()?, &Scratch::new()?, name, output)
}

fn pack(tools: &Tools, files: &Path, scratch: &Scratch, name: &str, output: &Path) -> Result<()> {
    let root = busybox_root(tools, scratch)?;
    fs::hard_link(files, root.join(FILES))?;
    write_image(&tools.toolbox, output, name, &root, &Contents::default())
}

/// The archive of the editor's files in the cache, made when it is not there; with the lock held.
fn files() -> Result<PathBuf> {
    let script = paths::cluster_sources().join("editor/build.sh");
    let versions = [CODE_SERVER, NODE, MOUNT];
    let made_of = Inputs::default().file(&script)?;
    let hash = versions
        .iter()
        .fold(made_of, |it, text| it.text(text))
        .name();
    let folder = images_folder().join(format!("editor-{hash}"));
    if !folder.exists() {
        ensure_programs()?;
        let scratch = Scratch::new()?;
        let work = scratch.folder("editor")?;
        let what = format!("make the files of the image {EDITOR} (the first time: three minutes)");
        step::step(&what, || {
            step::run(Command::new(script).arg(&work).args(versions))
        })?;
        let part = scratch.folder("part")?;
        fs::rename(work.join(FILES), part.join(FILES)).context("the editor was not packed")?;
        fs::rename(&part, &folder)?;
        remove_old_versions(&images_folder(), "editor")?;
    }
    Ok(folder.join(FILES))
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
