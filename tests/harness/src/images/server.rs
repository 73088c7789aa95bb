//! The server's image: its static binary, and the `git` that it reads projects with, of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{CA_ROOTS, Contents, Scratch, pack, write_image};
use crate::tools::Tools;
use crate::{process, tools};

const ENTRYPOINT: &str = "/usr/local/bin/kas-stub";
/// What git starts for an address, beside itself. Nothing of it is a script, so that the image has no shell.
const HELPERS: [&str; 2] = ["git-remote-http", "git-remote-https"];

/// Packs the server's binary and git as `localhost/kas-stub:<tag>` and returns that name.
///
/// # Errors
/// When this machine has no git, or as [`pack`].
pub fn server_image(tools: &Tools, server_binary: &Path, tag: &str) -> Result<String> {
    let name = format!("localhost/kas-stub:{tag}");
    let scratch = Scratch::new()?;
    let root = root(&scratch, server_binary)?;
    pack(tools, &name, &root, &[ENTRYPOINT])?;
    Ok(name)
}

/// Writes the server's image, named `name`, to the OCI archive `archive`, for a registry elsewhere. Needs no cluster.
///
/// # Errors
/// As [`server_image`].
pub fn server_archive(server_binary: &Path, name: &str, archive: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let root = root(&scratch, server_binary)?;
    let contents = Contents::entrypoint(&[ENTRYPOINT]);
    write_image(&tools::toolbox()?, archive, name, &root, &contents)
}

fn root(scratch: &Scratch, server_binary: &Path) -> Result<PathBuf> {
    let root = scratch.folder("image")?;
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file in no folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(())
    };
    put(server_binary, ENTRYPOINT)?;
    put(Path::new(CA_ROOTS), CA_ROOTS)?;

    let git = process::output(Command::new("sh").args(["-c", "command -v git"]))
        .context("git is needed for the server's image")?;
    let git = fs::canonicalize(git.trim())?;
    let exec_path = process::output(Command::new(&git).arg("--exec-path"))?;
    let exec_path = PathBuf::from(exec_path.trim());
    put(&git, "/usr/bin/git")?;
    let mut libraries = libraries(&git)?;
    for helper in HELPERS {
        let path = exec_path.join(helper);
        libraries.extend(self::libraries(&path)?);
        let inside = root.join(exec_path.strip_prefix("/")?);
        fs::create_dir_all(&inside)?;
        if helper == HELPERS[0] {
            put(&path, &path.to_string_lossy())?;
        } else {
            symlink(HELPERS[0], inside.join(helper))?;
        }
    }
    // Git starts parts of itself from there.
    symlink(
        "/usr/bin/git",
        root.join(exec_path.strip_prefix("/")?).join("git"),
    )?;
    for library in libraries {
        put(&library, &library.to_string_lossy())?;
    }
    let tmp = root.join("tmp");
    fs::create_dir_all(&tmp)?;
    fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777))?;
    Ok(root)
}

/// What a program is linked with, the loader included, as the loader itself tells.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let told = process::output(Command::new("ldd").arg(program))?;
    Ok(told.lines().filter_map(library).collect())
}

/// `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)`, or the loader's path alone.
fn library(line: &str) -> Option<PathBuf> {
    let line = line.split_once("=> ").map_or(line, |(_, after)| after);
    let path = line.trim().split(" (").next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_runs_with_nothing_but_what_is_in_the_image() {
        let scratch = Scratch::new().unwrap();
        let binary = std::env::current_exe().unwrap();
        let root = root(&scratch, &binary).unwrap();
        assert!(root.join("usr/local/bin/kas-stub").exists());
        let loader = libraries(Path::new("/usr/bin/git"))
            .unwrap()
            .into_iter()
            .find(|path| path.to_string_lossy().contains("/ld-"))
            .unwrap();
        let folder = root.join("lib/x86_64-linux-gnu");
        // A program that lacks a library does not come as far as its own complaint.
        let exec_path = process::output(Command::new("git").arg("--exec-path")).unwrap();
        let helper = root
            .join(exec_path.trim().trim_start_matches('/'))
            .join("git-remote-https");
        let run = Command::new(root.join(loader.strip_prefix("/").unwrap()))
            .args(["--inhibit-cache", "--library-path"])
            .arg(&folder)
            .arg(helper)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(said.contains("remote-curl: usage"), "{said}");
    }

    #[test]
    fn the_loader_lists_libraries() {
        for (line, path) in [
            (
                "\tlibz.so.1 => /lib/x/libz.so.1 (0x01)",
                Some("/lib/x/libz.so.1"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("\tlinux-vdso.so.1 (0x00007ffd)", None),
            ("\tstatically linked", None),
        ] {
            assert_eq!(library(line), path.map(PathBuf::from), "{line}");
        }
    }
}
