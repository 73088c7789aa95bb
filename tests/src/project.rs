//! The Git project that an agent's configuration file lives in.

use std::path::Path;

use anyhow::Result;
use harness::git_server::GitServer;

use crate::server::CreatedAgent;

/// One project on the Git server, with the configuration file of one agent.
#[derive(Debug)]
pub struct Project {
    name: String,
    path: String,
}

impl Project {
    /// Makes the project with a first configuration file for the agent.
    ///
    /// # Errors
    /// When Git fails.
    pub fn create(git: &GitServer, name: &str, agent: &str, configuration: &str) -> Result<Self> {
        git.create_project(name)?;
        let project = Self {
            name: name.to_owned(),
            path: configuration_path(agent),
        };
        project.push(git, configuration, "Add the agent's configuration")?;
        Ok(project)
    }

    /// Lets every push call the server.
    ///
    /// # Errors
    /// When the hook cannot be written.
    pub fn tell_pushes(&self, git: &GitServer, agent: &CreatedAgent, ca_file: &Path) -> Result<()> {
        git.set_push_hook(
            &self.name,
            &agent.hook_url,
            &agent.hook_secret,
            Some(ca_file),
        )
    }

    /// Commits and pushes the configuration file; returns the commit.
    ///
    /// # Errors
    /// When Git fails.
    pub fn push(&self, git: &GitServer, configuration: &str, message: &str) -> Result<String> {
        git.commit(&self.name, &[(&self.path, configuration)], message)
    }
}

/// Where an agent's configuration file is in its project.
pub fn configuration_path(agent: &str) -> String {
    format!(".gitlab/agents/{agent}/config.yaml")
}
