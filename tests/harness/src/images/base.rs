//! The images that every cluster needs. Their hash, of which this file is a part, is one of the inputs of a cluster.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{
    Contents, Scratch, archive_name, images_folder, on_demand_folder, packed_folder, write_image,
};
use crate::hash::Inputs;
use crate::tools::{Tools, remove_old_versions};
use crate::{paths, step};

/// Makes the images that every cluster needs (pause, busybox, DNS, storage) unless they are in the cache.
///
/// # Errors
/// When a build fails.
pub fn ensure_base(tools: &Tools) -> Result<()> {
    for folder in [packed_folder(), on_demand_folder()] {
        fs::create_dir_all(folder).context("cannot make the folder of images")?;
    }
    let folder = base_folder(tools)?;
    if folder.exists() {
        return Ok(());
    }
    step::step("make the images that every cluster needs", || {
        let part = folder.with_extension("part");
        fs::create_dir_all(&part)?;
        let root = Scratch::new()?;
        let pause = Command::new("gcc")
            .args(["-Os", "-static", "-s", "-o"])
            .arg(root.folder("pause")?.join("pause"))
            .arg(pause_source())
            .output()?;
        anyhow::ensure!(
            pause.status.success(),
            "gcc cannot compile pause.c: {}",
            String::from_utf8_lossy(&pause.stderr)
        );
        let pack = |name: &str, root: &Path, entrypoint: &[&str]| {
            let contents = Contents::entrypoint(entrypoint);
            write_image(
                &tools.toolbox,
                &part.join(archive_name(name)),
                name,
                root,
                &contents,
            )
        };
        pack("localhost/pause:1", &root.folder("pause")?, &["/pause"])?;

        let busybox = busybox_root(tools, &root)?;
        pack("localhost/busybox:1", &busybox, &[])?;
        pack("docker.io/library/busybox:latest", &busybox, &[])?;

        let coredns = root.folder("coredns")?;
        fs::copy(&tools.coredns, coredns.join("coredns"))?;
        pack("localhost/coredns:1", &coredns, &["/coredns"])?;

        let storage = root.folder("storage")?;
        fs::copy(&tools.local_path, storage.join("local-path-provisioner"))?;
        let entrypoint = ["/local-path-provisioner"];
        pack("localhost/local-path-provisioner:1", &storage, &entrypoint)?;

        fs::rename(&part, &folder)?;
        remove_old_versions(&images_folder(), "base")
    })
}

/// The folder of the base images: its name is a hash of what they are made of.
pub(crate) fn base_folder(tools: &Tools) -> Result<PathBuf> {
    let made_of = Inputs::default()
        .file(&tools.toolbox)?
        .file(&tools.coredns)?
        .file(&tools.local_path)?
        .file(&tools.busybox)?;
    // This file lists what goes into the images.
    let hash = made_of
        .file(&pause_source())?
        .text(include_str!("base.rs"))
        .name();
    Ok(images_folder().join(format!("base-{hash}")))
}

fn pause_source() -> PathBuf {
    paths::cluster_sources().join("images/pause.c")
}

/// A root folder with busybox and a link for each of its commands.
pub(super) fn busybox_root(tools: &Tools, scratch: &Scratch) -> Result<PathBuf> {
    let bin = scratch.folder("busybox/bin")?;
    fs::copy(&tools.busybox, bin.join("busybox"))?;
    for command in step::run(Command::new(&tools.busybox).arg("--list"))?
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", bin.join(command))?;
    }
    fs::set_permissions(
        scratch.folder("busybox/tmp")?,
        fs::Permissions::from_mode(0o1777),
    )?;
    scratch.folder("busybox/root")?;
    fs::write(
        scratch.folder("busybox/etc")?.join("passwd"),
        "root:x:0:0:root:/root:/bin/sh\n",
    )?;
    scratch.folder("busybox")
}
