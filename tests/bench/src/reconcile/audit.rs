//! Counts what the agent asked of the API server, in its audit log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// How the agent calls itself.
const USER_AGENT: &str = "gitlab-agent/";
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// A place in the log.
pub(super) struct Audit {
    path: PathBuf,
    file: File,
}

/// What was asked; the lease is not counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Asked {
    pub(super) requests: usize,
    pub(super) writes: usize,
}

impl Audit {
    /// Now.
    pub(super) fn mark(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// What was asked since then.
    pub(super) fn count(self) -> anyhow::Result<Asked> {
        let mut asked = Asked::default();
        let opened = self.file.metadata()?.ino();
        asked.read(self.file)?;
        // The log is rotated by its size: a new file takes the name.
        let newer = File::open(&self.path)?;
        if newer.metadata()?.ino() != opened {
            asked.read(newer)?;
        }
        Ok(asked)
    }
}

impl Asked {
    fn read(&mut self, file: File) -> anyhow::Result<()> {
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Value>(&line?) else {
                continue;
            };
            let is_agent = event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with(USER_AGENT));
            if !is_agent || event["objectRef"]["resource"] == "leases" {
                continue;
            }
            self.requests += 1;
            let verb = event["verb"].as_str().unwrap_or_default();
            self.writes += usize::from(WRITES.contains(&verb));
        }
        Ok(())
    }
}
