//! Reads one file at the head of a Git project, by the `git` program, through the [`guard`].
//!
//! The program runs without the system's or a user's settings, without prompts, without redirects, with a time limit,
//! and connects only to the address that was checked.

pub(crate) mod at_ref;
pub(crate) mod guard;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::Semaphore,
};

pub(crate) use guard::ProjectUrl;

use crate::authorities::Authorities;

/// Runs of git at a time, for all agents: each is a few processes and a network connection.
const MAX_CONCURRENT: usize = 4;
/// What is read of git's complaint.
const MAX_STDERR: u64 = 4 * 1024;
/// What is read of an answer that is one line.
const MAX_LINE: u64 = 4 * 1024;
/// Our name for the head that was fetched.
const FETCHED: &str = "refs/heads/fetched";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Guard(#[from] guard::GuardError),
    #[error("git could not be started; is it installed?")]
    Start(#[source] std::io::Error),
    #[error("git {command} took longer than {limit:?}")]
    TimedOut {
        command: &'static str,
        limit: Duration,
    },
    #[error("git {command} failed: {message}")]
    Failed {
        command: &'static str,
        message: String,
    },
    #[error("git answered what was not understood")]
    Answer,
    #[error("folder for the Git cache")]
    Folder(#[source] std::io::Error),
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Missing,
    /// More bytes than asked for.
    TooLarge,
    Content(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Git {
    cache: PathBuf,
    policy: guard::Policy,
    timeout: Duration,
    /// All authorities in one file; `None`: those that git knows by itself.
    bundle: Option<PathBuf>,
    permits: Semaphore,
}

impl Git {
    pub(crate) fn new(
        cache: PathBuf,
        policy: guard::Policy,
        timeout: Duration,
        authorities: &Authorities,
    ) -> Self {
        Self {
            cache,
            policy,
            timeout,
            bundle: authorities.bundle.clone(),
            permits: Semaphore::new(MAX_CONCURRENT),
        }
    }

    pub(crate) fn policy(&self) -> guard::Policy {
        self.policy
    }

    /// The commit at the head of the default branch; `None` for an empty project.
    pub(crate) async fn head(&self, project: &ProjectUrl) -> Result<Option<String>, Error> {
        let pinned = guard::resolve(project, self.policy).await?;
        let mut command = self.command(&self.cache, Some(&pinned));
        command
            .args(["ls-remote", "--quiet", "--"])
            .arg(project.as_str())
            .arg("HEAD");
        let answer = self.run("ls-remote", command, MAX_LINE).await?;
        let answer = String::from_utf8(answer).map_err(|_| Error::Answer)?;
        let Some(line) = answer.lines().next() else {
            return Ok(None);
        };
        let commit = line.split('\t').next().unwrap_or_default();
        is_object_id(commit)
            .then(|| Some(commit.to_owned()))
            .ok_or(Error::Answer)
    }

    /// Fetches the head and reads a file of it: the commit, and the file. `name` is the cache's.
    pub(crate) async fn read_head(
        &self,
        project: &ProjectUrl,
        name: &str,
        path: &str,
        max_bytes: usize,
    ) -> Result<(String, File), Error> {
        let repository = self.cache.join(format!("{name}.git"));
        if !repository.join("HEAD").exists() {
            tokio::fs::create_dir_all(&repository)
                .await
                .map_err(Error::Folder)?;
            let mut init = self.command(&repository, None);
            init.args(["init", "--quiet", "--bare", "."]);
            self.run("init", init, MAX_LINE).await?;
        }
        let pinned = guard::resolve(project, self.policy).await?;
        let mut fetch = self.command(&repository, Some(&pinned));
        fetch
            .args([
                "fetch",
                "--quiet",
                "--depth=1",
                "--no-tags",
                "--no-write-fetch-head",
            ])
            .args(["--no-recurse-submodules", "--"])
            .arg(project.as_str())
            .arg(format!("+HEAD:{FETCHED}"));
        self.run("fetch", fetch, MAX_LINE).await?;

        let commit = self.line(&repository, &["rev-parse", FETCHED]).await?;
        if !is_object_id(&commit) {
            return Err(Error::Answer);
        }
        // One line "<mode> blob <id>\t<path>", or nothing.
        let entry = self
            .line(&repository, &["ls-tree", &commit, "--", path])
            .await?;
        let mut words = entry.split([' ', '\t']);
        let (Some(mode), Some("blob"), Some(id)) = (words.next(), words.next(), words.next())
        else {
            return Ok((commit, File::Missing));
        };
        // A symbolic link is no file: its content would be a path.
        if !mode.starts_with("100") || !is_object_id(id) {
            return Ok((commit, File::Missing));
        }
        let size = self.line(&repository, &["cat-file", "-s", id]).await?;
        let size: u64 = size.parse().map_err(|_| Error::Answer)?;
        if size > max_bytes as u64 {
            return Ok((commit, File::TooLarge));
        }
        let mut read = self.command(&repository, None);
        read.args(["cat-file", "blob", id]);
        let content = self.run("cat-file", read, size).await?;
        Ok((commit, File::Content(content)))
    }

    async fn line(&self, repository: &Path, arguments: &[&str]) -> Result<String, Error> {
        let mut command = self.command(repository, None);
        command.args(arguments);
        let answer = self.run("read", command, MAX_LINE).await?;
        let answer = String::from_utf8(answer).map_err(|_| Error::Answer)?;
        Ok(answer.trim_end().to_owned())
    }

    fn command(&self, folder: &Path, pinned: Option<&guard::Pinned>) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", &self.cache)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.policy.git_protocols())
            .args(["-c", "http.followRedirects=false"])
            .args(["-c", "credential.helper="])
            .args(["-c", "gc.autoDetach=false"])
            // Git's transport helper outlives a killed git; this ends it when the peer stalls.
            .args(["-c", "http.lowSpeedLimit=1"])
            .arg("-c")
            .arg(format!(
                "http.lowSpeedTime={}",
                self.timeout.as_secs().max(1)
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(bundle) = &self.bundle {
            command
                .arg("-c")
                .arg(format!("http.sslCAInfo={}", bundle.display()));
        }
        if let Some(resolve) = pinned.and_then(guard::Pinned::curl_resolve) {
            command
                .arg("-c")
                .arg(format!("http.curloptResolve={resolve}"));
        }
        command
    }

    async fn run(
        &self,
        name: &'static str,
        mut command: Command,
        max_bytes: u64,
    ) -> Result<Vec<u8>, Error> {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Answer)?;
        let run = async {
            let mut child = command.spawn().map_err(Error::Start)?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let (stdout, stderr, status) = tokio::join!(
                read_bounded(stdout, max_bytes),
                read_bounded(stderr, MAX_STDERR),
                child.wait()
            );
            if status.map_err(Error::Start)?.success() {
                return Ok(stdout);
            }
            let message = String::from_utf8_lossy(&stderr);
            let message = message.trim().trim_start_matches("fatal: ");
            Err(Error::Failed {
                command: name,
                message: message.to_owned(),
            })
        };
        tokio::time::timeout(self.timeout, run)
            .await
            .unwrap_or(Err(Error::TimedOut {
                command: name,
                limit: self.timeout,
            }))
    }
}

/// Reads all, keeps the beginning: a program that writes more must not block on it.
async fn read_bounded(from: Option<impl AsyncRead + Unpin>, max_bytes: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let read = (&mut from).take(max_bytes).read_to_end(&mut kept).await;
        if read.is_ok() {
            let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        }
    }
    kept
}

/// SHA-1 or SHA-256, in hexadecimal.
fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
