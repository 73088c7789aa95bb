//! The sample project: what workspaces of the demo and of the browser test are made of.

use anyhow::Result;
use harness::git_server::GitServer;

const FILES: [(&str, &str); 4] = [
    ("devfile.yaml", include_str!("../sample/devfile.yaml")),
    ("README.md", include_str!("../sample/README.md")),
    ("app.py", include_str!("../sample/app.py")),
    ("test_app.py", include_str!("../sample/test_app.py")),
];

/// Makes the project unless it is there; its URL.
///
/// # Errors
/// When Git fails.
pub fn create(git: &GitServer, project: &str) -> Result<String> {
    git.create_project(project)?;
    git.commit(project, &FILES, "Add a sample")?;
    Ok(git.url(project))
}
