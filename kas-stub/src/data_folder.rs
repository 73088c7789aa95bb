//! The folder of everything that a server keeps, and that one program at a time writes there.

use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// The administrator's socket.
pub(crate) const SOCKET: &str = "admin.sock";
/// The key of the cookies for hosts of workspaces.
pub(crate) const ACCESS_KEY: &str = "access.key";
/// Keys and certificates of the server's own authority.
pub(crate) const TLS: &str = "tls";
/// The database.
pub(crate) const DATABASE: &str = "kas-stub.db";
/// Says that a restore was begun and did not come to its end.
const RESTORING: &str = "restore-not-finished";

/// Held by whoever writes in the folder: two servers on one would not know of each other's writes.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    folder: PathBuf,
}

/// Makes the folder for us alone, and takes its lock.
///
/// # Errors
/// When it cannot be made, or another program has it.
pub(crate) fn take(folder: &Path) -> anyhow::Result<Lock> {
    create_folder(folder)?;
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if lock.try_lock().is_err() {
        bail!(
            "another server runs with the data folder {}; stop it first",
            folder.display()
        );
    }
    Ok(Lock {
        _file: lock,
        folder: folder.to_owned(),
    })
}

impl Lock {
    /// As it has to be for a server.
    ///
    /// # Errors
    /// When a restore broke off in it.
    pub(crate) fn check_whole(&self) -> anyhow::Result<()> {
        if self.folder.join(RESTORING).exists() {
            bail!(
                "a restore into {} was not finished, so that files of two states lie there; run `kas-stub restore` again",
                self.folder.display()
            );
        }
        Ok(())
    }

    /// Marks the folder as not whole while `change` runs, and for good when it fails.
    pub(crate) fn while_not_whole(
        &self,
        change: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mark = self.folder.join(RESTORING);
        File::create(&mark)?.sync_all()?;
        change()?;
        fs::remove_file(&mark)?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }
}

/// Makes a folder that only we can look into.
///
/// # Errors
/// When the system does not let us.
pub(crate) fn create_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create folder {}", folder.display()))
}
