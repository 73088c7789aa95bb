//! A Git server over smart HTTP, with real hooks.

use std::path::Path;

/// A running Git server; ends when dropped.
#[derive(Debug)]
pub struct GitServer {}

impl GitServer {
    /// Starts one on `address` (`10.89.0.1:8180`; port 0 picks one), with projects that are gone when it ends.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(address: &str) -> anyhow::Result<Self> {
        let _ = address;
        anyhow::bail!("not yet")
    }

    /// Starts one whose projects stay in `folder`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start_in(folder: &Path, address: &str) -> anyhow::Result<Self> {
        let _ = (folder, address);
        anyhow::bail!("not yet")
    }

    /// `http://<address>/<project>.git`
    pub fn url(&self, project: &str) -> String {
        project.to_owned()
    }

    /// Makes an empty project (`group/agents`) with the branch `main`; one that exists stays as it is.
    ///
    /// # Errors
    /// When Git fails.
    pub fn create_project(&self, project: &str) -> anyhow::Result<()> {
        let _ = project;
        anyhow::bail!("not yet")
    }

    /// Commits files (path, content) on `main`, pushes them over HTTP and returns the commit id.
    ///
    /// # Errors
    /// When Git fails.
    pub fn commit(
        &self,
        project: &str,
        files: &[(&str, &str)],
        message: &str,
    ) -> anyhow::Result<String> {
        let _ = (project, files, message);
        anyhow::bail!("not yet")
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
    ) -> anyhow::Result<()> {
        let _ = (project, url, secret, ca_file);
        anyhow::bail!("not yet")
    }
}
