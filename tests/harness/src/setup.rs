//! What the machine needs before the first run.

use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster::{AGENT_PORT, Cluster, GIT_PORT};
use crate::{paths, process, root, step};

/// The server's port for people.
pub const PEOPLE_PORT: u16 = 8154;
/// Go's and Cargo's build folders, programs, images, and a running cluster.
const DISK_GIB: u64 = 15;
/// A running cluster takes about 1.5, a linker as much again.
const MEMORY_GIB: u64 = 4;

/// A Debian package, and the file by which one sees that what it brings is there, from wherever.
struct Need {
    package: &'static str,
    file: File,
}

enum File {
    /// In one of the folders for programs.
    Program(&'static str),
    Path(&'static str),
}

const NEEDS: [Need; 20] = [
    Need {
        package: "containerd",
        file: File::Program("containerd"),
    },
    Need {
        package: "containerd",
        file: File::Program("ctr"),
    },
    Need {
        package: "runc",
        file: File::Program("runc"),
    },
    Need {
        package: "crun",
        file: File::Path("/usr/bin/crun"),
    },
    // kube-router speaks through these.
    Need {
        package: "iptables",
        file: File::Program("iptables-restore"),
    },
    Need {
        package: "ipset",
        file: File::Program("ipset"),
    },
    Need {
        package: "containernetworking-plugins",
        file: File::Path("/usr/lib/cni/bridge"),
    },
    Need {
        package: "nftables",
        file: File::Program("nft"),
    },
    Need {
        package: "iproute2",
        file: File::Program("ip"),
    },
    Need {
        package: "ca-certificates",
        file: File::Path("/etc/ssl/certs/ca-certificates.crt"),
    },
    Need {
        package: "curl",
        file: File::Program("curl"),
    },
    Need {
        package: "git",
        file: File::Program("git"),
    },
    Need {
        package: "procps",
        file: File::Program("kill"),
    },
    Need {
        package: "debootstrap",
        file: File::Program("debootstrap"),
    },
    Need {
        package: "chromium",
        file: File::Path("/usr/bin/chromium"),
    },
    // The editor's image is built with these.
    Need {
        package: "npm",
        file: File::Program("npm"),
    },
    Need {
        package: "python3",
        file: File::Program("python3"),
    },
    Need {
        package: "make",
        file: File::Program("make"),
    },
    Need {
        package: "g++",
        file: File::Program("g++"),
    },
    Need {
        package: "patchelf",
        file: File::Program("patchelf"),
    },
];

/// What is not as it has to be.
#[derive(Debug, Default)]
pub struct Missing {
    /// Debian packages to install, one for each program that is not there.
    pub packages: Vec<&'static str>,
    /// What only a person can change (disk, memory, ports in use, root), each a sentence.
    pub problems: Vec<String>,
}

/// Looks for programs, disk, memory, root and the ports of the server and the Git server.
pub fn missing() -> Missing {
    let mut missing = Missing {
        packages: missing_packages(),
        problems: Vec::new(),
    };
    for program in ["go", "gcc"] {
        if !has_program(program) {
            missing
                .problems
                .push(format!("{program} is needed and not installed"));
        }
    }
    let checks = [
        check_disk(),
        check_memory(),
        root::acquire("for the cluster's part"),
    ];
    missing.problems.extend(
        checks
            .into_iter()
            .filter_map(|check| check.err().map(|error| format!("{error:#}"))),
    );
    missing.problems.extend(
        [AGENT_PORT, GIT_PORT, PEOPLE_PORT]
            .into_iter()
            .filter_map(port_in_use),
    );
    missing
}

/// Installs the missing packages after saying which; asks first unless `yes`. Never removes a package.
///
/// # Errors
/// When apt-get fails or the answer is no.
pub fn install(yes: bool) -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !has_program("apt-get") {
        bail!(
            "what these Debian packages bring is missing, and there is no apt-get to install them: {list}"
        );
    }
    let _ = writeln!(
        std::io::stderr(),
        "These Debian packages are missing and will be installed (nothing is removed): {list}"
    );
    if !yes && !confirm()? {
        bail!("not installed: {list}");
    }
    step::step(&format!("install {list}"), || {
        let options = ["install", "--yes", "--no-install-recommends", "--no-remove"];
        let mut install = root::command(
            "env",
            &[
                &["DEBIAN_FRONTEND=noninteractive", "apt-get"],
                &options[..],
                &packages,
            ]
            .concat(),
        )?;
        if step::run(&mut install).is_err() {
            // Lists of packages grow old, and on a new machine there are none.
            step::run(&mut root::command("apt-get", &["update", "--quiet"])?)?;
            step::run(&mut install)?;
        }
        let still = missing_packages();
        if !still.is_empty() {
            bail!(
                "installed, but not where it was looked for: {}",
                still.join(" ")
            );
        }
        Ok(())
    })
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = NEEDS
        .iter()
        .filter(|need| !need.file.exists())
        .map(|need| need.package)
        .collect();
    packages.dedup();
    packages
}

impl File {
    fn exists(&self) -> bool {
        match self {
            Self::Program(name) => has_program(name),
            Self::Path(path) => Path::new(path).exists(),
        }
    }
}

/// Whether a program is there for root, whose folders a user's PATH may lack.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .into_iter()
        .any(|folder| folder.join(name).is_file())
}

fn confirm() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask: give --yes to install without asking");
    }
    let _ = write!(std::io::stderr(), "Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn check_disk() -> Result<()> {
    let mut folder = paths::cache_dir();
    while !folder.exists() && folder.pop() {}
    // GNU df: one number of bytes.
    let text = process::output(
        Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&folder),
    )?;
    let free: u64 = text
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .parse()
        .context("df gave no number")?;
    let cached = paths::cache_dir().join("tools").exists();
    // Most of it is there already after a first run.
    let needed = if cached { DISK_GIB / 3 } else { DISK_GIB };
    if free < needed << 30 {
        bail!(
            "{needed} GiB of disk are needed in {}, and {:.1} are free",
            folder.display(),
            gib(free)
        );
    }
    Ok(())
}

fn check_memory() -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let available = available_memory(&text).context("/proc/meminfo has no MemAvailable")?;
    // With a cluster running, its share is taken already.
    let needed = if matches!(Cluster::is_running(), Ok(true)) {
        MEMORY_GIB / 2
    } else {
        MEMORY_GIB
    };
    if available < needed << 30 {
        bail!(
            "{needed} GiB of memory are needed, and {:.1} are available",
            gib(available)
        );
    }
    Ok(())
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let rest = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

fn port_in_use(port: u16) -> Option<String> {
    let error = TcpListener::bind(("0.0.0.0", port)).err()?;
    Some(format!(
        "port {port} cannot be had ({error}); is a demo or a test still running?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_in_kib() {
        let text = "MemTotal:       100 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available_memory(text), Some(2 << 20));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn finds_programs_by_their_file() {
        assert!(has_program("sh"));
        assert!(!has_program("no-such-program"));
    }
}
