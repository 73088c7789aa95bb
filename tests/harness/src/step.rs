//! Steps that a person watches: what is done, that it lives, how long it took.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A step that takes longer shows that it lives.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a terminal sees the sign of life change.
const REFRESH: Duration = Duration::from_millis(500);
/// How often a log file gets a line about a long step.
const REFRESH_LOG: Duration = Duration::from_secs(30);
/// Lines of a failed command that its error repeats.
const LAST_LINES: usize = 30;
/// Bytes of a line that are kept: a program may write without line ends.
const MAX_LINE: usize = 2048;
/// Columns of a sign of life, so that it fits into one line of a terminal.
const COLUMNS: usize = 100;

/// What the innermost running command wrote last.
static LAST_LINE: Mutex<String> = Mutex::new(String::new());

/// Does one step: prints `▸ what` when it begins and `✓ what (12.3 s)` or `✗ what (12.3 s)` when it ends, on stderr.
/// One that takes longer than two seconds shows the last line of the command that [`run`] waits for.
///
/// # Errors
/// Those of `f`.
pub fn step<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("▸ {what}"));
    remember("");
    let begin = Instant::now();
    let (done, life) = mpsc::channel::<()>();
    let terminal = std::io::stderr().is_terminal();
    let watcher = {
        let what = what.to_owned();
        thread::spawn(move || show_life(&what, begin, terminal, &life))
    };
    let result = f();
    drop(done);
    // The watcher only prints; if it panicked there is nothing to lose.
    let _ = watcher.join();
    let mark = if result.is_ok() { '✓' } else { '✗' };
    say(&format!(
        "{mark} {what} ({:.1} s)",
        begin.elapsed().as_secs_f64()
    ));
    result
}

/// Runs a command to its end and returns what it wrote on stdout. Its last line is the sign of life of the step around it.
///
/// # Errors
/// When it cannot be started or fails; then with the last lines it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let errors = {
        let (stream, tail) = (child.stderr.take(), Arc::clone(&tail));
        thread::spawn(move || stream.map(|stream| follow(stream, &tail)))
    };
    let output = child
        .stdout
        .take()
        .map(|stream| follow(stream, &tail))
        .unwrap_or_default();
    let _ = errors.join();
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = tail.iter().map(String::as_str).collect();
        bail!("{name} failed ({status}):\n{}", lines.join("\n"));
    }
    Ok(output)
}

/// Reads a stream to its end, remembering its last lines.
fn follow(stream: impl Read, tail: &Mutex<VecDeque<String>>) -> String {
    let mut all = String::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        let text = String::from_utf8_lossy(&line);
        all.push_str(&text);
        let short: String = text.trim_end().chars().take(MAX_LINE).collect();
        if !short.is_empty() {
            remember(&short);
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.push_back(short);
            if tail.len() > LAST_LINES {
                tail.pop_front();
            }
        }
        line.clear();
    }
    all
}

fn remember(line: &str) {
    line.clone_into(&mut LAST_LINE.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Prints signs of life until the step is done.
fn show_life(what: &str, begin: Instant, terminal: bool, done: &mpsc::Receiver<()>) {
    let mut wait = if terminal { PATIENCE } else { REFRESH_LOG };
    while done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let last = LAST_LINE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let text = life_line(what, begin.elapsed(), &last);
        if terminal {
            // Back to the line's begin and clear it: one line that changes.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
            wait = REFRESH;
        } else {
            say(&text);
        }
    }
    if terminal && begin.elapsed() >= PATIENCE {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
}

fn life_line(what: &str, elapsed: Duration, last: &str) -> String {
    let text = format!("  … {what}, {} s  {last}", elapsed.as_secs());
    let printable = text
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    printable.take(COLUMNS).collect()
}

/// One line on stderr; if nobody reads it, nothing is lost.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gives_its_output() {
        let output = run(Command::new("sh").args(["-c", "echo one; echo two >&2; echo three"]));
        assert_eq!(output.unwrap(), "one\nthree\n");
    }

    #[test]
    fn a_failed_command_tells_its_last_lines() {
        let error = run(Command::new("sh").args([
            "-c",
            "for i in $(seq 100); do echo line $i >&2; done; exit 3",
        ]))
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("line 100"), "{text}");
        assert!(!text.contains("line 70\n"), "{text}");
    }

    #[test]
    fn a_sign_of_life_fits_in_a_line() {
        let line = life_line(
            "build",
            Duration::from_secs(7),
            &format!("a\tb{}", "x".repeat(500)),
        );
        assert!(line.starts_with("  … build, 7 s  a bxx"), "{line}");
        assert_eq!(line.chars().count(), COLUMNS);
    }
}
