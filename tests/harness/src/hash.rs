//! Hashes of inputs, which name what is cached.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Characters of a hash that go into a name: 64 bits, as nobody attacks the cache.
pub(crate) const NAME_LENGTH: usize = 16;

/// Collects what something is made of.
#[derive(Debug, Default)]
pub struct Inputs {
    sha: Sha256,
}

impl Inputs {
    /// Adds a text: a version, a command line.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.add(text.as_bytes());
        self
    }

    /// Adds a file's content.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let content =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.add(&content);
        Ok(self)
    }

    /// Adds names and contents of all files below a folder, in the order of their names.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn folder(mut self, root: &Path) -> Result<Self> {
        for path in files_below(root)? {
            let name = path.strip_prefix(root).unwrap_or(&path).as_os_str();
            self.add(OsStr::as_encoded_bytes(name));
            self = self.file(&path)?;
        }
        Ok(self)
    }

    /// The hash as a short name.
    pub fn name(self) -> String {
        let mut name = String::new();
        for byte in self.sha.finalize().iter().take(NAME_LENGTH / 2) {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    fn add(&mut self, bytes: &[u8]) {
        // With the length, as "ab" + "c" is not "a" + "bc".
        self.sha.update((bytes.len() as u64).to_le_bytes());
        self.sha.update(bytes);
    }
}

/// All files below a folder, sorted.
fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_between_inputs_count() {
        let joined = Inputs::default().text("ab").text("c").name();
        let other = Inputs::default().text("a").text("bc").name();
        assert_eq!(joined.len(), NAME_LENGTH);
        assert_ne!(joined, other);
        assert_eq!(joined, Inputs::default().text("ab").text("c").name());
    }

    #[test]
    fn a_renamed_or_changed_file_changes_the_hash() {
        let folder = std::env::temp_dir().join(format!("harness-hash-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("sub/a"), "1").unwrap();
        let hash = || Inputs::default().folder(&folder).unwrap().name();
        let first = hash();
        assert_eq!(first, hash());
        std::fs::write(folder.join("sub/a"), "2").unwrap();
        let changed = hash();
        std::fs::rename(folder.join("sub/a"), folder.join("sub/b")).unwrap();
        let renamed = hash();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_ne!(first, changed);
        assert_ne!(changed, renamed);
    }
}
