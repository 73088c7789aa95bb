//! Images that only some tests need: made when one asks, then kept under a hash of what they are made of.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Contents, Scratch, archive_name, busybox_root, images_folder, write_image};
use crate::hash::Inputs;
use crate::tools::Tools;
use crate::{paths, setup, step};

/// A small Debian with Git and curl.
pub const TOOLS: &str = "localhost/tools:1";
/// What is in it beside Debian's base.
const PACKAGES: &str = "ca-certificates,curl,git,procps,python3";
/// Removed from it: nobody reads this in a container, and each node unpacks it.
const SUPERFLUOUS: &str = "cd \"$1\" && rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* usr/share/doc usr/share/man usr/share/locale dev/*";
/// What an image without a command of its own does, as devfiles expect: nothing, and it ends at once when asked to.
const IDLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"];

/// What a stand-in is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// [`TOOLS`]: Bash, Git, curl, ps, Python.
    Debian,
    /// Busybox, which is there in no time.
    Busybox,
    /// Busybox beside another C library than most editors are made for, as in Alpine.
    Musl,
}

/// Makes the image [`TOOLS`] unless it is in the cache, and returns its name. A running cluster can pull it at once.
///
/// # Errors
/// When debootstrap fails.
pub fn tools_image(tools: &Tools) -> Result<&'static str> {
    let _lock = lock()?;
    tools_archive(tools).map(|_| TOOLS)
}

/// Serves the filling under the name of an image that this cluster cannot have, for devfiles as their authors wrote them.
///
/// Such an image does nothing and says in `/etc/stand-in` what it stands in for. Returns the full name
/// (`node:22` is `docker.io/library/node:22`).
///
/// # Errors
/// When the name has a digest, which nothing else can have.
pub fn stand_in(tools: &Tools, name: &str, filling: Filling) -> Result<String> {
    let _lock = lock()?;
    let name = full_name(name)?;
    let base = base(tools, filling)?;
    let made_of = inputs(tools, base.as_deref())?.text(&name);
    once(&name, made_of, |scratch, archive| {
        let root = root(tools, scratch, filling)?;
        fs::create_dir_all(root.join("etc"))?;
        fs::write(root.join("etc/stand-in"), format!("{name}\n"))?;
        let contents = Contents {
            base: base.as_deref(),
            cmd: &IDLE,
            ..Contents::default()
        };
        write_image(&tools.toolbox, archive, &name, &root, &contents)
    })?;
    Ok(name)
}

/// An image of programs, started as upstream's images of them are: an entrypoint runs the command it is given.
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    /// Programs of this machine, and their names in `/usr/local/bin`.
    pub(crate) files: &'a [(&'a Path, &'a str)],
    pub(crate) filling: Filling,
    pub(crate) env: &'a [&'a str],
    pub(crate) cmd: &'a [&'a str],
}

/// Makes such an image unless it is in the cache.
pub(crate) fn program_image(tools: &Tools, image: &Program<'_>) -> Result<()> {
    let _lock = lock()?;
    let base = base(tools, image.filling)?;
    let mut made_of = inputs(tools, base.as_deref())?.text(image.name);
    for (program, name) in image.files {
        // The folder of a tool says what it is made of.
        made_of = made_of.text(&program.to_string_lossy()).text(name);
    }
    for text in image.env.iter().chain(image.cmd) {
        made_of = made_of.text(text);
    }
    once(image.name, made_of, |scratch, archive| {
        let root = root(tools, scratch, image.filling)?;
        let bin = root.join("usr/local/bin");
        fs::create_dir_all(&bin)?;
        for (program, name) in image.files {
            fs::copy(program, bin.join(name))
                .with_context(|| format!("cannot copy {}", program.display()))?;
        }
        let entrypoint = bin.join("entrypoint");
        fs::write(&entrypoint, "#!/bin/sh\nexec \"$@\"\n")?;
        fs::set_permissions(&entrypoint, fs::Permissions::from_mode(0o755))?;
        let contents = Contents {
            base: base.as_deref(),
            env: image.env,
            entrypoint: &["/usr/local/bin/entrypoint"],
            cmd: image.cmd,
        };
        write_image(&tools.toolbox, archive, image.name, &root, &contents)
    })
    .map(drop)
}

/// The folder that the cluster's registry serves beside the others.
pub(crate) fn on_demand_folder() -> PathBuf {
    images_folder().join("on-demand")
}

/// The archive of [`TOOLS`]; with the lock held.
fn tools_archive(tools: &Tools) -> Result<PathBuf> {
    let release = debian_release()?;
    let made_of = inputs(tools, None)?.text(&release).text(PACKAGES);
    once(TOOLS, made_of, |scratch, archive| {
        step::step(
            &format!("make the image {TOOLS} of Debian's {release} (the first time: two minutes)"),
            || {
                ensure!(
                    setup::has_program("debootstrap"),
                    "debootstrap is needed: `cargo xtask cluster up` or `apt-get install debootstrap` installs it"
                );
                let folder = scratch.folder("debian")?;
                let folder = folder.to_str().context("a path that is not text")?;
                // Files of root stay in there whatever happens, and the scratch is this user's.
                let _files = RootOwned(folder);
                let include = format!("--include={PACKAGES}");
                let bootstrap = ["--variant=minbase", &include, &release, folder];
                step::run(&mut crate::root::command("debootstrap", &bootstrap)?)?;
                step::run(&mut crate::root::command_unchecked(
                    "sh",
                    &["-c", SUPERFLUOUS, "sh", folder],
                ))?;
                let contents = Contents {
                    cmd: &IDLE,
                    ..Contents::default()
                };
                let arguments = contents.arguments(TOOLS, Path::new(folder), archive);
                let arguments: Vec<&str> = arguments
                    .iter()
                    .map(|a| a.to_str().context("a path that is not text"))
                    .collect::<Result<_>>()?;
                let toolbox = tools.toolbox.to_string_lossy();
                step::run(&mut crate::root::command_unchecked(&toolbox, &arguments)).map(drop)
            },
        )
    })
}

/// A folder whose content is root's; removed when dropped.
struct RootOwned<'a>(&'a str);

impl Drop for RootOwned<'_> {
    fn drop(&mut self) {
        // What stays lies in the cache.
        let _ =
            crate::root::command_unchecked("rm", &["-rf", "--one-file-system", self.0]).status();
    }
}

/// Makes the archive of an image with `make` unless one of the same inputs is there. Older ones of the name go.
pub(super) fn once(
    name: &str,
    made_of: Inputs,
    make: impl FnOnce(&Scratch, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = on_demand_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let plain = archive_name(name);
    let stem = plain.trim_end_matches(".tar");
    let archive = folder.join(format!("{stem}-{}.tar", made_of.name()));
    if archive.exists() {
        return Ok(archive);
    }
    make(&Scratch::new()?, &archive).with_context(|| format!("cannot make the image {name}"))?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let of_this_name = path
            .file_name()
            .and_then(|file| file.to_str())
            .and_then(|file| {
                file.strip_prefix(stem)?
                    .strip_prefix('-')?
                    .strip_suffix(".tar")
            })
            .is_some_and(|hash| hash.len() == crate::hash::NAME_LENGTH);
        if of_this_name && path != archive {
            fs::remove_file(path)?;
        }
    }
    Ok(archive)
}

/// The archive that the filling comes from; with the lock held. Busybox is so small that each image has its own.
fn base(tools: &Tools, filling: Filling) -> Result<Option<PathBuf>> {
    match filling {
        Filling::Debian => tools_archive(tools).map(Some),
        Filling::Busybox | Filling::Musl => Ok(None),
    }
}

/// A folder for what an image has on top of its base.
fn root(tools: &Tools, scratch: &Scratch, filling: Filling) -> Result<PathBuf> {
    match filling {
        Filling::Debian => scratch.folder("image"),
        Filling::Busybox => busybox_root(tools, scratch),
        Filling::Musl => {
            let root = busybox_root(tools, scratch)?;
            let lib = root.join("lib");
            fs::create_dir_all(&lib)?;
            fs::copy(&tools.musl, lib.join("libc.musl-x86_64.so.1"))?;
            symlink("libc.musl-x86_64.so.1", lib.join("ld-musl-x86_64.so.1"))?;
            Ok(root)
        }
    }
}

/// What every image here is made of.
pub(super) fn inputs(tools: &Tools, base: Option<&Path>) -> Result<Inputs> {
    // This file lists what goes into them, and the base's name says what is in that.
    Inputs::default()
        .text(include_str!("on_demand.rs"))
        .text(&base.unwrap_or(Path::new("")).to_string_lossy())
        .file(&tools.busybox)?
        .file(&tools.musl)?
        .file(&tools.toolbox)
}

/// The release of this machine: debootstrap and its keys are made for that.
fn debian_release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME")
}

/// The name with registry and tag, as the node asks for it.
fn full_name(name: &str) -> Result<String> {
    if name.contains('@') {
        bail!("{name} has a digest, and nothing else has the same");
    }
    let registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let with_registry = match name.split_once('/') {
        Some((first, _)) if registry(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let last = with_registry.rsplit('/').next().unwrap_or_default();
    if last.contains(':') {
        Ok(with_registry)
    } else {
        Ok(format!("{with_registry}:latest"))
    }
}

/// Keeps two processes from making the same image; the other one waits.
pub(super) fn lock() -> Result<File> {
    let folder = paths::cache_dir();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = File::create(folder.join("images.lock"))?;
    file.lock().context("cannot lock the images")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_registry_and_tag() {
        let full = |name| full_name(name).unwrap();
        assert_eq!(full("node:22"), "docker.io/library/node:22");
        assert_eq!(full("bitnami/redis"), "docker.io/bitnami/redis:latest");
        assert_eq!(
            full("quay.io/devfile/golang"),
            "quay.io/devfile/golang:latest"
        );
        assert_eq!(full("localhost:5000/a"), "localhost:5000/a:latest");
        assert!(full_name("a@sha256:00").is_err());
    }

    #[test]
    fn an_image_is_made_once_for_the_same_inputs() {
        let name = format!("localhost/once-{}:1", std::process::id());
        let mut made = 0;
        let mut make = |input: &str| {
            once(&name, Inputs::default().text(input), |_, archive| {
                made += 1;
                fs::write(archive, "")?;
                Ok(())
            })
            .unwrap()
        };
        let first = make("one");
        assert_eq!(first, make("one"));
        let second = make("two");
        assert!(!first.exists(), "the older version is gone");
        fs::remove_file(second).unwrap();
        assert_eq!(made, 2);
    }
}
