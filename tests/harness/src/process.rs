//! Programs that run beside a test.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::{wait_for, wait_until};

/// How much of the end of a log an error repeats.
const LOG_TAIL: usize = 2000;

/// A child that writes to a log file, and is killed and reaped when dropped.
///
/// It is in the process group of this process, so Ctrl-C ends both.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where the log ended when this process began: an earlier one may have written to the same file.
    log_begin: u64,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let open = File::options().create(true).append(true).open(log);
        let file = open.with_context(|| format!("cannot write {}", log.display()))?;
        let log_begin = file.metadata()?.len();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        Ok(Self {
            name,
            child,
            log: log.to_path_buf(),
            log_begin,
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

    /// What this process has written so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_begin))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for a line of this process that contains `text`, and returns it.
    ///
    /// # Errors
    /// When the limit passes or the process ends before; then with the end of its log.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("{} says {text:?}", self.name);
        let found = wait_for(&what, limit, || {
            let ended = self.exit_status()?;
            let output = self.output()?;
            // A line counts when it is complete.
            let mut lines = output
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let line = lines
                .find(|line| line.contains(text))
                .map(|line| line.trim_end().to_owned());
            match (line, ended) {
                (Some(line), _) => Ok(Some(Ok(line))),
                (None, Some(status)) => Ok(Some(Err(status))),
                (None, None) => Ok(None),
            }
        });
        match found.with_context(|| self.log_tail())? {
            Ok(line) => Ok(line),
            Err(status) => bail!(
                "{} ended ({status}) before it said {text:?}\n{}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits; returns whether it ended well.
    ///
    /// # Errors
    /// When it does not end within the limit (it is killed then).
    pub fn terminate(mut self, limit: Duration) -> Result<bool> {
        send_signal("TERM", self.id())?;
        let what = format!("{} ends after SIGTERM", self.name);
        wait_until(&what, limit, || Ok(self.exit_status()?.is_some()))
            .with_context(|| self.log_tail())?;
        Ok(self.exit_status()?.is_some_and(|status| status.success()))
    }

    /// Kills it (SIGKILL) and reaps it, as dropping does.
    pub fn kill(self) {}

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    fn log_tail(&self) -> String {
        let output = self.output().unwrap_or_default();
        let mut begin = output.len().saturating_sub(LOG_TAIL);
        while !output.is_char_boundary(begin) {
            begin += 1;
        }
        format!(
            "the end of {}:\n{}",
            self.log.display(),
            output.get(begin..).unwrap_or_default()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The standard library sends only SIGKILL; the shell's built-in sends the others.
pub(crate) fn send_signal(signal: &str, process: u32) -> Result<()> {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status()?;
    if !sent.success() {
        bail!("cannot send SIG{signal} to process {process}");
    }
    Ok(())
}

/// What a quick command writes on stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn start(script: &str, log: &str) -> Process {
        let log =
            std::env::temp_dir().join(format!("harness-process-{}-{log}", std::process::id()));
        Process::spawn(Command::new("sh").args(["-c", script]), &log).unwrap()
    }

    #[test]
    fn finds_a_line_and_dies_when_dropped() {
        let mut process = start("echo port=17; exec sleep 60", "drop");
        assert_eq!(process.wait_for_log("port=", LIMIT).unwrap(), "port=17");
        assert!(process.is_running());
        let (id, log) = (process.id(), process.log().to_path_buf());
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn an_early_end_is_told_with_the_log() {
        let mut process = start("echo broken; exit 7", "early");
        let error = format!("{:#}", process.wait_for_log("port=", LIMIT).unwrap_err());
        assert!(
            error.contains("exit status: 7") && error.contains("broken"),
            "{error}"
        );
        std::fs::remove_file(process.log()).unwrap();
    }

    #[test]
    fn ends_well_when_asked() {
        let mut process = start(
            "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done",
            "term",
        );
        process.wait_for_log("ready", LIMIT).unwrap();
        let log = process.log().to_path_buf();
        assert!(process.terminate(LIMIT).unwrap());
        std::fs::remove_file(log).unwrap();
    }
}
