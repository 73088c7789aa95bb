//! Container images, made without Docker. The cluster's registry serves all of them under any name.

mod base;
mod editor;
mod on_demand;
mod server;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::hash::Inputs;
use crate::tools::Tools;
use crate::{paths, step, tools};

pub(crate) use base::base_folder;
use base::busybox_root;
pub use base::ensure_base;
pub use editor::{EDITOR, editor, editor_archive};
pub use on_demand::{Filling, TOOLS, stand_in, tools_image};
pub(crate) use on_demand::{Program, on_demand_folder, program_image};
pub use server::{server_archive, server_image};

/// Packed images that stay in the cache; the oldest go first.
const KEPT_IMAGES: usize = 24;
/// The agent in its image.
const AGENT_ENTRYPOINT: &str = "/agent";
/// Where Debian's ca-certificates puts the roots in one file.
const CA_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Packs the folder `root` as the image `name` (with registry and tag). A running cluster sees it at once.
///
/// Give changed content a new tag: a node that has an image does not ask for it again.
///
/// # Errors
/// When the folder cannot be read or the archive not be written.
pub fn pack(tools: &Tools, name: &str, root: &Path, entrypoint: &[&str]) -> Result<()> {
    let folder = packed_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let contents = Contents::entrypoint(entrypoint);
    write_image(
        &tools.toolbox,
        &folder.join(archive_name(name)),
        name,
        root,
        &contents,
    )?;
    remove_oldest(&folder, KEPT_IMAGES)
}

/// Packs the agent's static binary with a bundle of CA roots as `localhost/remote-dev-agent:<tag>` and returns that name.
///
/// # Errors
/// As [`pack`].
pub fn agent_image(tools: &Tools, agent_binary: &Path, tag: &str) -> Result<String> {
    let name = format!("localhost/remote-dev-agent:{tag}");
    let scratch = Scratch::new()?;
    let root = agent_root(&scratch, agent_binary)?;
    pack(tools, &name, &root, &[AGENT_ENTRYPOINT])?;
    Ok(name)
}

/// Writes the agent's image, named `name`, to the OCI archive `archive`, for a registry elsewhere. Needs no cluster.
///
/// # Errors
/// As [`pack`].
pub fn agent_archive(agent_binary: &Path, name: &str, archive: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let root = agent_root(&scratch, agent_binary)?;
    let contents = Contents::entrypoint(&[AGENT_ENTRYPOINT]);
    write_image(&tools::toolbox()?, archive, name, &root, &contents)
}

/// What the agent's image holds.
fn agent_root(scratch: &Scratch, agent_binary: &Path) -> Result<PathBuf> {
    let image = scratch.folder("image")?;
    fs::copy(agent_binary, image.join("agent"))
        .with_context(|| format!("cannot read {}", agent_binary.display()))?;
    let certificates = scratch.folder("image/etc/ssl/certs")?;
    fs::copy(CA_ROOTS, certificates.join("ca-certificates.crt"))
        .with_context(|| format!("cannot read {CA_ROOTS}"))?;
    Ok(image)
}

/// A tag for the agent's binary that changes whenever its content does.
///
/// # Errors
/// When it cannot be read.
pub fn content_tag(binary: &Path) -> Result<String> {
    Ok(Inputs::default().file(binary)?.name())
}

/// The folder of all other images.
pub(crate) fn packed_folder() -> PathBuf {
    images_folder().join("packed")
}

fn images_folder() -> PathBuf {
    paths::cache_dir().join("images")
}

/// What an image has beside its name and files.
#[derive(Debug, Default)]
struct Contents<'a> {
    /// Archive of an image to put the files on; the registry has to serve that archive too.
    base: Option<&'a Path>,
    env: &'a [&'a str],
    entrypoint: &'a [&'a str],
    cmd: &'a [&'a str],
}

impl<'a> Contents<'a> {
    fn entrypoint(entrypoint: &'a [&'a str]) -> Self {
        Self {
            entrypoint,
            ..Self::default()
        }
    }

    /// The command line of `toolbox`.
    fn arguments(&self, name: &str, root: &Path, archive: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["image".into()];
        if let Some(base) = self.base {
            arguments.extend(["-on".into(), base.into()]);
        }
        for variable in self.env {
            arguments.extend(["-env".into(), variable.into()]);
        }
        arguments.extend([name.into(), root.into(), archive.into()]);
        arguments.extend(self.entrypoint.iter().map(OsString::from));
        if !self.cmd.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.cmd.iter().map(OsString::from));
        }
        arguments
    }
}

fn write_image(
    toolbox: &Path,
    archive: &Path,
    name: &str,
    root: &Path,
    contents: &Contents<'_>,
) -> Result<()> {
    let mut image = Command::new(toolbox);
    step::run(image.args(contents.arguments(name, root, archive)))
        .with_context(|| format!("cannot pack {name}"))?;
    Ok(())
}

/// A file name for an image's name: `localhost/a:1` becomes `localhost_a_1.tar`.
fn archive_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{plain}.tar")
}

fn remove_oldest(folder: &Path, kept: usize) -> Result<()> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "tar")
        {
            archives.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    archives.sort();
    for (_, old) in archives.iter().rev().skip(kept) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// A folder that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = paths::cache_dir()
            .join("scratch")
            .join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// A folder in it, made when it is not there.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays lies in the cache, which may be removed at any time.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Process, output};
    use std::time::Duration;

    #[test]
    fn archive_names_are_plain() {
        assert_eq!(
            archive_name("localhost:5000/a/b:1.2-x"),
            "localhost_5000_a_b_1.2-x.tar"
        );
    }

    #[test]
    fn the_registry_sees_new_and_changed_archives() {
        let registry = Registry::start();
        let pull = |name: &str| registry.get(&format!("a/b/manifests/1?ns={name}"));
        let pack = |content: &str| registry.pack("b", content, &Contents::default());
        assert!(pull("example.com").is_err());
        pack("one");
        let one = pull("example.com").unwrap();
        assert!(pull("other.example.com").is_err());
        pack("two");
        let two = pull("example.com").unwrap();
        assert_ne!(one, two);
        pack("one");
        assert_eq!(
            one,
            pull("example.com").unwrap(),
            "equal content, equal digests"
        );
    }

    #[test]
    fn an_image_on_another_shares_its_layers() {
        let registry = Registry::start();
        registry.pack("base", "below", &Contents::default());
        let base = registry.archives().join("base.tar");
        let contents = Contents {
            base: Some(&base),
            env: &["HOME=/home"],
            entrypoint: &["/run"],
            cmd: &["idle", "--long"],
        };
        registry.pack("top", "above", &contents);

        let json = |path: &str| -> serde_json::Value {
            serde_json::from_str(&registry.get(path).unwrap()).unwrap()
        };
        let manifest = json("a/top/manifests/1?ns=example.com");
        let digest = |value: &serde_json::Value| value["digest"].as_str().unwrap().to_owned();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for (layer, content) in layers.iter().zip(["below", "above"]) {
            let blob = registry.get(&format!("a/top/blobs/{}", digest(layer)));
            assert!(blob.unwrap().contains(content), "{layer}");
        }
        let config = digest(&manifest["config"]);
        let config = &json(&format!("a/top/blobs/{config}"))["config"];
        assert_eq!(config["Entrypoint"], serde_json::json!(["/run"]));
        assert_eq!(config["Cmd"], serde_json::json!(["idle", "--long"]));
        assert_eq!(config["Env"][1], "HOME=/home");
    }

    /// A registry with a folder of its own.
    struct Registry {
        toolbox: PathBuf,
        address: String,
        _process: Process,
        scratch: Scratch,
    }

    impl Registry {
        fn start() -> Self {
            let toolbox = crate::tools::toolbox().unwrap();
            let scratch = Scratch::new().unwrap();
            let mut command = Command::new(&toolbox);
            command
                .args(["registry", "127.0.0.1:0"])
                .arg(scratch.folder("archives").unwrap());
            let mut process = Process::spawn(&mut command, &scratch.0.join("log")).unwrap();
            let line = process.wait_for_log("listening ", Duration::from_secs(10));
            Self {
                toolbox,
                address: line.unwrap().replace("listening ", ""),
                _process: process,
                scratch,
            }
        }

        fn archives(&self) -> PathBuf {
            self.scratch.0.join("archives")
        }

        fn get(&self, path: &str) -> Result<String> {
            let url = format!("http://{}/v2/{path}", self.address);
            output(Command::new("curl").args(["--silent", "--fail", &url]))
        }

        /// Packs `example.com/a/<name>:1` with one file.
        fn pack(&self, name: &str, content: &str, contents: &Contents<'_>) {
            let root = self.scratch.folder("root").unwrap();
            fs::write(root.join("file"), content).unwrap();
            let archive = self.archives().join(format!("{name}.tar"));
            let name = format!("example.com/a/{name}:1");
            let arguments = contents.arguments(&name, &root, &archive);
            step::run(Command::new(&self.toolbox).args(arguments)).unwrap();
        }
    }
}
