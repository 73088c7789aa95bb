//! What only root may do: namespaces, mounts, packages.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Makes sure that [`command`] will work without asking anything.
///
/// # Errors
/// When this process is not root and sudo does not help; says what needs root.
pub(crate) fn acquire(why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let quiet = |arguments: &[&str]| {
        let mut sudo = Command::new("sudo");
        sudo.args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sudo.status().is_ok_and(|status| status.success())
    };
    if quiet(&["-n", "true"]) {
        return Ok(());
    }
    // With a terminal sudo may ask for the password, once.
    if std::io::stdin().is_terminal()
        && Command::new("sudo")
            .arg("-v")
            .status()
            .is_ok_and(|status| status.success())
    {
        return Ok(());
    }
    bail!("root is needed {why}: run this as root, or allow sudo");
}

/// A command run as root: as it is, or by sudo.
///
/// # Errors
/// As [`acquire`].
pub(crate) fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    acquire(&format!("to run {program}"))?;
    Ok(command_unchecked(program, arguments))
}

/// As [`command`], after a successful [`acquire`].
pub(crate) fn command_unchecked(program: &str, arguments: &[&str]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.args(arguments);
        return command;
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "--", program]).args(arguments);
    sudo
}
