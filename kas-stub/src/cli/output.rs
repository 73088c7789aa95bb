//! What the command line prints.

#![expect(
    clippy::print_stderr,
    reason = "this module is the command line's voice"
)]

use std::{io::Write as _, net::SocketAddr, path::Path};

use anyhow::Context as _;
use serde_json::Value;

pub(super) fn line(line: &str) {
    text(&format!("{line}\n"));
}

pub(super) fn text(text: &str) {
    // A reader that has seen enough (`| head`) is no error.
    let _ = bytes(text.as_bytes());
}

/// Bytes of somebody else's, as they are.
pub(super) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

pub(super) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

pub(super) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

pub(super) fn warning(text: &str) {
    eprintln!("warning: {text}");
}

/// What happens while a command waits; apart from its result.
pub(super) fn progress(since: std::time::Duration, text: &str) {
    eprintln!("{:>6.1} s  {text}", since.as_secs_f64());
}

/// Scripts wait for this line.
pub(super) fn listening(agents: SocketAddr, people: SocketAddr, observability: SocketAddr) {
    eprintln!("listening agents={agents} people={people} observability={observability}");
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(padded.join("  ").trim_end());
    };
    print(&mut head.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Writes a file that only its owner can read.
pub(super) fn secret_file(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o600).open(path)?;
        // One that was there may have been readable for others; emptied only when it no longer is.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.set_len(0)?;
        file.write_all(content.as_bytes())
    };
    write().with_context(|| format!("write {}", path.display()))
}
