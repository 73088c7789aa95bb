//! Cleaning up even when this process is ended by Ctrl-C or killed.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Runs a command when this process ends without having called [`Watchdog::disarm`].
///
/// A small shell in a process group of its own, where Ctrl-C does not reach it, waits for the end of a pipe
/// that only this process holds open.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Arms it: `command` is a program with its arguments, run without terminal or output.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub fn arm(command: &[&str]) -> Result<Self> {
        let shell = Command::new("sh")
            .args([
                "-c",
                r#"read -r word; [ "$word" = disarmed ] || exec "$@" </dev/null"#,
                "watchdog",
            ])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a shell as watchdog")?;
        Ok(Self { shell })
    }

    /// The cleaning up is not needed any more.
    pub fn disarm(mut self) {
        use std::io::Write;
        if let Some(mut pipe) = self.shell.stdin.take() {
            // If the shell is gone already, so is the danger.
            let _ = pipe.write_all(b"disarmed\n");
        }
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;
    use std::time::Duration;

    #[test]
    fn runs_its_command_only_when_armed() {
        let file = std::env::temp_dir().join(format!("harness-watchdog-{}", std::process::id()));
        let arm = || Watchdog::arm(&["touch", file.to_str().unwrap()]).unwrap();
        arm().disarm();
        assert!(!file.exists());
        drop(arm());
        wait_until("the command ran", Duration::from_secs(5), || {
            Ok(file.exists())
        })
        .unwrap();
        std::fs::remove_file(file).unwrap();
    }
}
