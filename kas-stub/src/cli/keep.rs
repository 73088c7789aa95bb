//! `kas-stub backup`, `restore` and `idle`: they work on the data folder itself, with or without a server.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::store::backup;

/// Stands for standard output or input.
const STANDARD: &str = "-";

pub(super) fn backup(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    let runtime = runtime()?;
    if file.as_os_str() != STANDARD {
        runtime.block_on(backup::write(data_dir, file))?;
        return Ok(());
    }
    let scratch = Scratch::in_folder(data_dir);
    runtime.block_on(backup::write(data_dir, &scratch.0))?;
    let mut from = std::fs::File::open(&scratch.0)?;
    let mut to = std::io::stdout().lock();
    std::io::copy(&mut from, &mut to).context("write to standard output")?;
    to.flush().context("write to standard output")
}

pub(super) fn restore(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let scratch;
    let file = if file.as_os_str() == STANDARD {
        crate::data_folder::create_folder(data_dir)?;
        scratch = Scratch::in_folder(data_dir);
        let mut to = scratch.create()?;
        std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut to)
            .context("read from standard input")?;
        &scratch.0
    } else {
        file
    };
    let restored = runtime.block_on(backup::restore(data_dir, file))?;
    output::line("restored; what was revoked or deleted after the backup is as it was then");
    if let Some(aside) = restored.aside {
        output::line(&format!("what was there before is in {}", aside.display()));
    }
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) fn idle() -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        output::line("idle; no server runs here");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
}

/// A file that is removed when this is dropped. In the data folder, which only its owner can look into, and which a
/// container can write to.
struct Scratch(PathBuf);

impl Scratch {
    fn in_folder(folder: &Path) -> Self {
        Self(folder.join(format!("scratch-{}", std::process::id())))
    }

    fn create(&self) -> anyhow::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.0)
            .with_context(|| format!("write {}", self.0.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
