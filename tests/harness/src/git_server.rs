//! A Git server over smart HTTP, with real hooks: what GitLab is to the agent's configuration.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::process::{Process, output};
use crate::tools;

/// For a small program to listen.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The branch everything is on.
const BRANCH: &str = "main";
/// Runs after each push. It must not fail the push, as GitLab's webhooks do not.
const HOOK: &str = r#"#!/bin/sh
# Tells a server of a push, as GitLab's push webhook does.
cd "$(dirname "$0")"
while read -r before after ref; do
	printf '{"object_kind":"push","event_name":"push","before":"%s","after":"%s","checkout_sha":"%s","ref":"%s"}' \
		"$before" "$after" "$after" "$ref" |
		curl --config push-hook.curl --data-binary @- >>push-hook.log 2>&1 || true
done
"#;

/// What a project takes a push with.
pub struct PushToken(String);

impl PushToken {
    /// One that is known already.
    pub fn of(secret: &str) -> Self {
        Self(secret.to_owned())
    }

    /// For a program's environment.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PushToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushToken")
    }
}

/// A running Git server; ends when dropped.
#[derive(Debug)]
pub struct GitServer {
    /// Read in [`Drop`] order: the process goes before its folder.
    _process: Process,
    address: String,
    folder: PathBuf,
    temporary: bool,
}

impl GitServer {
    /// Starts one on `address` (`10.89.0.1:8180`; port 0 picks one), with projects that are gone when it ends.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(address: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "git-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut server = Self::start_in(&std::env::temp_dir().join(name), address)?;
        server.temporary = true;
        Ok(server)
    }

    /// Starts one whose projects stay in `folder`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start_in(folder: &Path, address: &str) -> Result<Self> {
        let projects = folder.join("projects");
        fs::create_dir_all(&projects)
            .with_context(|| format!("cannot make {}", projects.display()))?;
        let mut command = Command::new(tools::toolbox()?);
        command.args(["git-server", address]).arg(&projects);
        let mut process = Process::spawn(&mut command, &folder.join("git-server.log"))?;
        let line = process.wait_for_log("listening ", START_LIMIT)?;
        let address = line.rsplit(' ').next().unwrap_or(address).to_owned();
        Ok(Self {
            _process: process,
            address,
            folder: folder.to_path_buf(),
            temporary: false,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://<address>/<project>.git`
    pub fn url(&self, project: &str) -> String {
        format!("http://{}/{project}.git", self.address)
    }

    /// Makes an empty project (`group/agents`) with the branch `main`; one that exists stays as it is.
    ///
    /// # Errors
    /// When Git fails.
    pub fn create_project(&self, project: &str) -> Result<()> {
        let bare = self.bare(project)?;
        if bare.join("HEAD").exists() {
            return Ok(());
        }
        git(
            &self.folder,
            &[
                "init",
                "--quiet",
                "--bare",
                &format!("--initial-branch={BRANCH}"),
                text(&bare)?,
            ],
        )?;
        git(&bare, &["config", "http.receivepack", "true"]).map(drop)
    }

    /// Commits files (path, content) on `main`, pushes them over HTTP and returns the commit id.
    ///
    /// # Errors
    /// When Git fails.
    pub fn commit(&self, project: &str, files: &[(&str, &str)], message: &str) -> Result<String> {
        let clone = self.clone_of(project)?;
        for (path, content) in files {
            let file = clone.join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, content)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        self.push(&clone, project, message)
    }

    /// Commits the removal of a file or folder, and pushes it; returns the commit id.
    ///
    /// # Errors
    /// When Git fails.
    pub fn remove(&self, project: &str, path: &str, message: &str) -> Result<String> {
        let clone = self.clone_of(project)?;
        git(&clone, &["rm", "--quiet", "-r", path])?;
        self.push(&clone, project, message)
    }

    /// From now on every push calls `url` with `X-Gitlab-Token: secret` (a post-receive hook with curl).
    ///
    /// # Errors
    /// When the hook cannot be written.
    pub fn set_push_hook(
        &self,
        project: &str,
        url: &str,
        secret: &str,
        ca_file: Option<&Path>,
    ) -> Result<()> {
        let hooks = self.bare(project)?.join("hooks");
        fs::create_dir_all(&hooks)?;
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut config = format!(
            "silent\nshow-error\nfail\nmax-time = 5\nurl = {}\nheader = {}\nheader = \"X-Gitlab-Event: Push Hook\"\nheader = \"Content-Type: application/json\"\n",
            quoted(url),
            quoted(&format!("X-Gitlab-Token: {secret}")),
        );
        if let Some(file) = ca_file {
            config += &format!("cacert = {}\n", quoted(text(&fs::canonicalize(file)?)?));
        }
        // A file, as the arguments of a process can be seen by everybody.
        let file = hooks.join("push-hook.curl");
        fs::write(&file, config)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let script = hooks.join("post-receive");
        fs::write(&script, HOOK)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// From now on a push needs a token, which ends by itself after a time; returns it.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn require_push_token(&self, project: &str, lasts: Duration) -> Result<PushToken> {
        let mut random = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let until = SystemTime::now().duration_since(UNIX_EPOCH)? + lasts;
        let file = self.bare(project)?.join("push-token");
        fs::write(&file, format!("{secret} {}\n", until.as_secs()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(PushToken(secret))
    }

    /// What the calls of the push hook answered, for a failed test's message.
    pub fn push_hook_log(&self, project: &str) -> String {
        let log = self
            .bare(project)
            .map(|bare| bare.join("hooks/push-hook.log"));
        log.ok()
            .and_then(|path| fs::read_to_string(path).ok())
            .unwrap_or_default()
    }

    fn bare(&self, project: &str) -> Result<PathBuf> {
        let plain = project
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'));
        ensure!(plain, "not a project's path: {project:?}");
        Ok(self.folder.join("projects").join(format!("{project}.git")))
    }

    /// A clone that is up to date, kept from commit to commit.
    fn clone_of(&self, project: &str) -> Result<PathBuf> {
        self.bare(project)?; // checks the path
        let clone = self.folder.join("clones").join(project);
        if !clone.join(".git").exists() {
            fs::create_dir_all(&clone)?;
            git(
                &clone,
                &["init", "--quiet", &format!("--initial-branch={BRANCH}")],
            )?;
        }
        // Somebody else may have pushed; an empty project has nothing to fetch.
        git(
            &clone,
            &[
                "fetch",
                "--quiet",
                &self.url(project),
                "+refs/heads/*:refs/remotes/origin/*",
            ],
        )?;
        if git(
            &clone,
            &[
                "rev-parse",
                "--verify",
                "--quiet",
                "refs/remotes/origin/main",
            ],
        )
        .is_ok()
        {
            git(
                &clone,
                &["reset", "--quiet", "--hard", "refs/remotes/origin/main"],
            )?;
        }
        Ok(clone)
    }

    fn push(&self, clone: &Path, project: &str, message: &str) -> Result<String> {
        git(clone, &["add", "--all"])?;
        git(
            clone,
            &["commit", "--quiet", "--allow-empty", "--message", message],
        )?;
        git(
            clone,
            &[
                "push",
                "--quiet",
                &self.url(project),
                &format!("HEAD:refs/heads/{BRANCH}"),
            ],
        )?;
        Ok(git(clone, &["rev-parse", "HEAD"])?.trim().to_owned())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        if self.temporary {
            // Only a temporary folder would stay.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Git without anybody's own configuration.
fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments);
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "Test")
            .env(format!("GIT_{role}_EMAIL"), "test@example.com");
    }
    // Set when a hook runs us; they would point to another repository.
    command
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    output(&mut command).with_context(|| format!("git {}", arguments.first().unwrap_or(&"")))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;
    use std::io::Write as _;
    use std::net::TcpListener;

    #[test]
    fn a_push_calls_the_hook() {
        let server = GitServer::start("127.0.0.1:0").unwrap();
        server.create_project("group/agents").unwrap();
        let first = server
            .commit("group/agents", &[("a/b.yaml", "x: 1\n")], "first")
            .unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        server
            .set_push_hook("group/agents", &url, "se\"cret", None)
            .unwrap();
        let called = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            while !request.contains("\"object_kind\"") {
                let mut part = [0; 1024];
                let length = stream.read(&mut part).unwrap();
                request.push_str(std::str::from_utf8(&part[..length]).unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            request
        });
        let second = server
            .commit("group/agents", &[("a/b.yaml", "x: 2\n")], "second")
            .unwrap();
        let request = called.join().unwrap();
        assert!(
            request.contains("X-Gitlab-Token: se\"cret\r\n"),
            "{request}"
        );
        assert!(
            request.contains(&first) && request.contains(&second),
            "{request}"
        );

        let listed = git(
            &server.folder,
            &["ls-remote", &server.url("group/agents"), "main"],
        )
        .unwrap();
        assert!(listed.starts_with(&second), "{listed}");
    }

    #[test]
    fn a_push_needs_the_token_until_it_ends() {
        let server = GitServer::start("127.0.0.1:0").unwrap();
        server.create_project("guarded").unwrap();
        let token = server
            .require_push_token("guarded", Duration::from_secs(600))
            .unwrap();
        let clone = server.clone_of("guarded").unwrap();
        let push = |address: &str| {
            git(&clone, &["commit", "--quiet", "--allow-empty", "-m", "x"]).unwrap();
            git(&clone, &["push", "--quiet", address, "HEAD:main"])
        };
        let with = server
            .url("guarded")
            .replace("://", &format!("://dev:{}@", token.secret()));
        push(&server.url("guarded")).unwrap_err();
        push(&with.replace(token.secret(), "wrong")).unwrap_err();
        push(&with).unwrap();
        // Reading stays open.
        git(&clone, &["ls-remote", &server.url("guarded")]).unwrap();
        let old = server
            .require_push_token("guarded", Duration::ZERO)
            .unwrap();
        push(&with.replace(token.secret(), old.secret())).unwrap_err();
    }

    #[test]
    fn a_large_push_passes_and_its_folder_goes() {
        let server = GitServer::start("127.0.0.1:0").unwrap();
        server.create_project("large").unwrap();
        // More than Git sends at once (http.postBuffer, 1 MiB), and not compressible: chunked.
        let noise: String = (0u64..400_000)
            .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        server
            .commit("large", &[("noise", &noise)], "noise")
            .unwrap();
        let folder = server.folder.clone();
        drop(server);
        wait_until("the folder is gone", START_LIMIT, || Ok(!folder.exists())).unwrap();
    }
}
