//! Programs that run beside a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// A child that writes to a log file, and is killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            child: command.spawn()?,
            log: log.to_path_buf(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for a line of this process that contains `text`, and returns it.
    ///
    /// # Errors
    /// When the limit passes or the process ends before; then with the end of its log.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let _ = (text, limit);
        anyhow::bail!("not yet")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        false
    }

    /// Asks it to end (SIGTERM) and waits; returns whether it ended well.
    ///
    /// # Errors
    /// When it does not end within the limit (it is killed then).
    pub fn terminate(self, limit: Duration) -> anyhow::Result<bool> {
        let _ = limit;
        anyhow::bail!("not yet")
    }

    /// Kills it (SIGKILL) and reaps it, as dropping does.
    pub fn kill(self) {}
}
