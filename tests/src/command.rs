//! Commands as a person types them: with a limit, and with output that one can follow.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two looks at whether a command has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

/// Runs a command to its end, whatever that is.
///
/// # Errors
/// When it cannot be started, or the limit passes (it is killed then).
pub fn outcome(command: &mut Command, limit: Duration) -> Result<Outcome> {
    outcome_with_input(command, "", limit)
}

/// As [`outcome`], with text on stdin.
///
/// # Errors
/// As [`outcome`].
pub fn outcome_with_input(command: &mut Command, input: &str, limit: Duration) -> Result<Outcome> {
    let shown = format!("{command:?}");
    let started = Instant::now();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is not wrong for that.
        stdin.write_all(input.as_bytes()).ok();
    }
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill().ok();
            child.wait()?;
            bail!(
                "{shown} did not end within {limit:?}\nstdout: {}\nstderr: {}",
                text(stdout),
                text(stderr)
            );
        }
        std::thread::sleep(LOOK);
    };
    let took = started.elapsed();
    Ok(Outcome {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
        took,
    })
}

/// Runs a command that has to succeed, and returns its stdout.
///
/// # Errors
/// When it fails, with what it said.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let outcome = outcome(command, limit)?;
    if outcome.code != Some(0) {
        bail!(
            "{command:?} failed ({:?})\nstdout: {}\nstderr: {}",
            outcome.code,
            outcome.stdout,
            outcome.stderr
        );
    }
    Ok(outcome.stdout)
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// A running command whose lines (stdout and stderr) are read as they come; killed when dropped.
#[derive(Debug)]
pub struct Followed {
    shown: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Followed {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let shown = format!("{command:?}");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let (sender, lines) = channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in pipes.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(pipe);
                let mut line = Vec::new();
                while reader
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|read| read > 0)
                {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    line.clear();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self {
            shown,
            child,
            stdin,
            lines,
            seen: Vec::new(),
        })
    }

    /// Writes to its stdin.
    ///
    /// # Errors
    /// When it has gone.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        stdin.write_all(text.as_bytes())?;
        stdin.flush()?;
        Ok(())
    }

    /// Waits for the next line that contains `text`; the lines before it are passed over.
    ///
    /// # Errors
    /// When the limit passes or the output ends before; then with all lines so far.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => format!("not within {limit:?}"),
                        RecvTimeoutError::Disconnected => "its output ended".to_owned(),
                    };
                    bail!(
                        "{} did not say {text:?} ({why}); it said:\n{}",
                        self.shown,
                        self.seen.join("\n")
                    );
                }
            }
        }
    }

    /// Waits for its end and returns the exit code.
    ///
    /// # Errors
    /// When the limit passes; then with all lines so far.
    pub fn end(&mut self, limit: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + limit;
        loop {
            while let Ok(line) = self.lines.try_recv() {
                self.seen.push(line);
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > end {
                bail!(
                    "{} did not end within {limit:?}; it said:\n{}",
                    self.shown,
                    self.seen.join("\n")
                );
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_command_over_its_limit_is_killed_and_its_words_are_told() {
        let error = outcome(
            Command::new("sh").args(["-c", "echo begun; exec sleep 60"]),
            SHORT,
        )
        .unwrap_err();
        assert!(error.to_string().contains("begun"), "{error}");
    }

    #[test]
    fn a_failing_command_tells_its_stderr() {
        let error = output(
            Command::new("sh").args(["-c", "echo why >&2; exit 3"]),
            LONG,
        )
        .unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_followed_command_hears_and_speaks() {
        let mut cat = Followed::start(&mut Command::new("cat")).unwrap();
        cat.type_in("one\ntwo\n").unwrap();
        assert_eq!(cat.expect("tw", LONG).unwrap(), "two");
        assert!(cat.expect("three", SHORT).is_err());
    }
}
