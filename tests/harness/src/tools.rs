//! The programs that the cluster and its tests need, built from source or taken from Debian, and cached.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::hash::Inputs;
use crate::{paths, step};

/// Versions of one tool that stay in the cache: other checkouts and branches may use them.
const KEPT_VERSIONS: usize = 3;
/// Packages of `testcluster` that are told the version of Kubernetes when they are linked.
const VERSION_PACKAGES: [&str; 2] = [
    "k8s.io/component-base/version",
    "k8s.io/client-go/pkg/version",
];

/// Paths of the tools.
#[derive(Debug, Clone)]
pub struct Tools {
    /// All programs of Kubernetes in one.
    pub testcluster: PathBuf,
    /// Small helpers: certificates, images, registry, Git server.
    pub toolbox: PathBuf,
    /// The real Helm.
    pub helm: PathBuf,
    /// The cluster's own kubectl (WebSocket).
    pub kubectl: PathBuf,
    /// Debian's old kubectl (SPDY).
    pub kubectl_old: PathBuf,
    /// What enforces NetworkPolicy.
    pub(crate) kube_router: PathBuf,
    /// CoreDNS, for its image.
    pub(crate) coredns: PathBuf,
    /// The local-path provisioner, for its image.
    pub(crate) local_path: PathBuf,
    /// Debian's static busybox, for its image.
    pub(crate) busybox: PathBuf,
    /// The C library of distributions such as Alpine: loader and library in one.
    pub(crate) musl: PathBuf,
}

impl Tools {
    /// Builds and fetches what is not in the cache yet.
    ///
    /// # Errors
    /// When a build or a download fails.
    pub fn ensure() -> Result<Self> {
        let _lock = lock()?;
        let toolbox = go_program(&TOOLBOX)?;
        let testcluster = go_program(&TESTCLUSTER)?;
        let kubectl = testcluster.with_file_name("kubectl");
        if fs::symlink_metadata(&kubectl).is_err() {
            std::os::unix::fs::symlink("testcluster", &kubectl)?;
        }
        Ok(Self {
            kubectl,
            testcluster,
            toolbox,
            helm: go_program(&HELM)?,
            kube_router: go_program(&KUBE_ROUTER)?,
            coredns: go_program(&COREDNS)?,
            local_path: go_program(&LOCAL_PATH)?,
            kubectl_old: debian_program("kubernetes-client", "usr/bin/kubectl")?,
            busybox: debian_program("busybox-static", "bin/busybox")?,
            musl: debian_program("musl", "lib/x86_64-linux-musl/libc.so")?,
        })
    }

    /// The cluster's own kubectl, run on this host.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments);
        command
    }
}

/// The toolbox alone, which builds in seconds and without a network.
pub(crate) fn toolbox() -> Result<PathBuf> {
    let _lock = lock()?;
    go_program(&TOOLBOX)
}

/// Helm alone, for charts without a cluster.
///
/// # Errors
/// When it does not build.
pub fn helm() -> Result<PathBuf> {
    let _lock = lock()?;
    go_program(&HELM)
}

/// A small program around the Go library for devfiles.
///
/// # Errors
/// When it does not build.
pub fn devfile_library() -> Result<PathBuf> {
    let _lock = lock()?;
    go_program(&DEVFILE_LIBRARY)
}

/// A program built from a Go module in `tests/cluster`.
struct GoProgram {
    name: &'static str,
    /// Folder of the module, below `tests/cluster`.
    module: &'static str,
    package: &'static str,
    /// What a person should know while it builds for the first time.
    effort: &'static str,
}

const TOOLBOX: GoProgram = GoProgram {
    name: "toolbox",
    module: "toolbox",
    package: ".",
    effort: "a few seconds",
};
const TESTCLUSTER: GoProgram = GoProgram {
    name: "testcluster",
    module: "testcluster",
    package: ".",
    effort: "all of Kubernetes, six minutes on two cores",
};
const HELM: GoProgram = GoProgram {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    effort: "two minutes",
};
const COREDNS: GoProgram = GoProgram {
    name: "coredns",
    module: "coredns",
    package: ".",
    effort: "two minutes",
};
const KUBE_ROUTER: GoProgram = GoProgram {
    name: "kube-router",
    module: "network-policy",
    package: "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
    effort: "two and a half minutes",
};
const LOCAL_PATH: GoProgram = GoProgram {
    name: "local-path-provisioner",
    module: "storage",
    package: "github.com/rancher/local-path-provisioner",
    effort: "one minute",
};

/// The Go library for devfiles, which the benchmark measures beside ours.
const DEVFILE_LIBRARY: GoProgram = GoProgram {
    name: "devfile-go",
    module: "../devfile-go",
    package: ".",
    effort: "a minute",
};

const DEVWORKSPACE_CONTROLLER: GoProgram = GoProgram {
    name: "devworkspace-operator",
    module: "devworkspace",
    package: "github.com/devfile/devworkspace-operator",
    effort: "a minute and a half",
};
const DEVWORKSPACE_WEBHOOK: GoProgram = GoProgram {
    name: "webhook",
    module: "devworkspace",
    package: "github.com/devfile/devworkspace-operator/webhook",
    effort: "some seconds",
};
const PROJECT_CLONE: GoProgram = GoProgram {
    name: "project-clone",
    module: "devworkspace",
    package: "github.com/devfile/devworkspace-operator/project-clone",
    effort: "some seconds",
};
const KWOK: GoProgram = GoProgram {
    name: "kwok",
    module: "kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    effort: "three minutes",
};

/// The programs of DevWorkspace Operator.
#[derive(Debug)]
pub(crate) struct DevWorkspacePrograms {
    pub(crate) controller: PathBuf,
    pub(crate) webhook: PathBuf,
    pub(crate) project_clone: PathBuf,
}

impl DevWorkspacePrograms {
    /// Builds what is not in the cache yet.
    pub(crate) fn ensure() -> Result<Self> {
        let _lock = lock()?;
        Ok(Self {
            controller: go_program(&DEVWORKSPACE_CONTROLLER)?,
            webhook: go_program(&DEVWORKSPACE_WEBHOOK)?,
            project_clone: go_program(&PROJECT_CLONE)?,
        })
    }
}

/// Kwok, built unless it is in the cache.
pub(crate) fn kwok() -> Result<PathBuf> {
    let _lock = lock()?;
    go_program(&KWOK)
}

/// The source of a module that one in `tests/cluster` requires: its version and folder.
pub(crate) fn required_module(module: &str, required: &str) -> Result<(String, PathBuf)> {
    let mut go = Command::new("go");
    go.current_dir(paths::cluster_sources().join(module))
        .args(["mod", "download", "-json", required]);
    let answer: serde_json::Value = serde_json::from_str(&step::run(&mut go)?)?;
    let text = |field: &str| {
        let value = answer[field].as_str().map(str::to_owned);
        value.with_context(|| format!("go mod download gave no {field} of {required}"))
    };
    Ok((text("Version")?, text("Dir")?.into()))
}

fn go_program(program: &GoProgram) -> Result<PathBuf> {
    let source = paths::cluster_sources().join(program.module);
    let flags = linker_flags(&source)?;
    let hash = Inputs::default()
        .text(go_version()?)
        .text(&flags)
        .text(program.package)
        .folder(&source)?
        .name();
    let folder = paths::cache_dir()
        .join("tools")
        .join(format!("{}-{hash}", program.name));
    let built = folder.join(program.name);
    if built.exists() {
        return Ok(built);
    }
    let what = format!(
        "build {} (the first time: {})",
        program.name, program.effort
    );
    let begin = || {
        let part = folder.with_extension("part");
        fs::create_dir_all(&part)?;
        // Flags are part of Go's own cache key: with others, all of Kubernetes would be compiled again.
        let mut go = Command::new("go");
        go.current_dir(&source).env("CGO_ENABLED", "0").args([
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &flags,
        ]);
        step::run(
            go.arg("-o")
                .arg(part.join(program.name))
                .arg(program.package),
        )?;
        fs::rename(&part, &folder)
            .with_context(|| format!("cannot move to {}", folder.display()))?;
        remove_old_versions(&paths::cache_dir().join("tools"), program.name)
    };
    step::step(&what, begin)?;
    Ok(built)
}

/// `-s -w` leave debugging information out; Kubernetes' own programs also say their version.
fn linker_flags(source: &Path) -> Result<String> {
    let file = source.join("go.mod");
    let modules =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut flags = "-s -w".to_owned();
    let line = modules
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    if let Some(version) = line.and_then(|rest| rest.split_whitespace().next()) {
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        for package in VERSION_PACKAGES {
            flags += &format!(" -X {package}.gitVersion={version} -X {package}.gitMajor={major}");
            flags += &format!(" -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean");
        }
    }
    Ok(flags)
}

fn go_version() -> Result<&'static str> {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let version = step::run(Command::new("go").arg("version")).context("Go is needed")?;
    Ok(VERSION.get_or_init(|| version))
}

/// A program out of a Debian package that is only unpacked: installing it could displace another of the same name.
fn debian_program(package: &str, path: &str) -> Result<PathBuf> {
    let folder = paths::cache_dir().join("debian").join(package);
    let program = folder.join(path);
    if program.exists() {
        return Ok(program);
    }
    step::step(
        &format!("fetch Debian's {package} (unpacked into the cache, not installed)"),
        || {
            let part = folder.with_extension("part");
            if part.exists() {
                fs::remove_dir_all(&part)?;
            }
            fs::create_dir_all(&part)?;
            let download = || {
                step::run(
                    Command::new("apt-get")
                        .args(["download", "--quiet", package])
                        .current_dir(&part),
                )
            };
            if download().is_err() {
                step::run(&mut crate::root::command(
                    "apt-get",
                    &["update", "--quiet"],
                )?)?;
                download()?;
            }
            let names: Vec<_> = fs::read_dir(&part)?.collect::<Result<_, _>>()?;
            let archive = names
                .iter()
                .map(fs::DirEntry::path)
                .find(|path| path.extension().is_some_and(|e| e == "deb"));
            let archive = archive.with_context(|| format!("apt-get downloaded no {package}"))?;
            step::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&part))?;
            fs::remove_file(archive)?;
            ensure!(part.join(path).exists(), "Debian's {package} has no {path}");
            fs::rename(&part, &folder)?;
            Ok(program)
        },
    )
}

/// Keeps two processes from building the same thing; the other one waits.
fn lock() -> Result<File> {
    let folder = paths::cache_dir();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = File::create(folder.join("lock"))?;
    file.lock().context("cannot lock the cache")?;
    Ok(file)
}

/// Removes all but the newest few folders `name-<hash>` of a folder.
pub(crate) fn remove_old_versions(folder: &Path, name: &str) -> Result<()> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let hash = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .map(str::len);
        if hash == Some(crate::hash::NAME_LENGTH) {
            versions.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    versions.sort();
    for (_, old) in versions.iter().rev().skip(KEPT_VERSIONS) {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_programs_are_told_their_version() {
        let flags = linker_flags(&paths::cluster_sources().join("testcluster")).unwrap();
        assert!(
            flags.starts_with("-s -w -X k8s.io/component-base/version.gitVersion=v1."),
            "{flags}"
        );
        assert_eq!(
            linker_flags(&paths::cluster_sources().join("toolbox")).unwrap(),
            "-s -w"
        );
    }
}
