//! The agent's configuration file, `.gitlab/agents/<name>/config.yaml`: what it may say, and what is wrong with one that
//! may not be used.
//!
//! [`parse`] is the one judge; server and agent both ask it. It reads the text into a tree that knows where everything
//! stood (`document`), then walks that tree section by section (`sections`) and collects every [`Problem`], so that a
//! person sees all of them at once. A file with a problem is not used at all: the last good one stays in force.
//!
//! Keys are GitLab's (`pkg/agentcfg/agentcfg.proto`). A key GitLab knows and this version does not act on is accepted and
//! comes back as a [`Note`]; a key nobody knows is a problem, with the nearest known key as a hint.

mod document;
mod remote_development;
mod sections;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use remote_development::{
    ApplyChanges, Backend, Class, EgressRule, ImagePullSecret, NetworkPolicy, RemoteDevelopment,
    ResourceAmounts, Resources, WorkspacesProxy,
};

/// The largest file, in bytes (GitLab's `agent.configuration.max_configuration_file_size`).
pub const MAX_CONFIGURATION_BYTES: usize = 128 * 1024;

/// How many problems of one file are listed; a person mends the first few and looks again.
pub const MAX_PROBLEMS: usize = 50;

/// What a configuration file says, defaults filled in. The default is what an empty or missing file means.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigurationFile {
    /// Section `observability`.
    pub observability: Observability,
    /// Section `remote_development`.
    #[serde(default)]
    pub remote_development: RemoteDevelopment,
    /// Section `user_access`; absent means that the file does not speak of it.
    pub user_access: Option<UserAccess>,
}

/// Section `observability`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observability {
    /// `observability.logging`.
    pub logging: Logging,
}

/// `observability.logging`: how much the agent writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// The agent's own log level; default `info`.
    pub level: LogLevel,
    /// The log level of the libraries that speak gRPC and HTTP; default `error`.
    pub grpc_level: LogLevel,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            grpc_level: LogLevel::Error,
        }
    }
}

/// A log level by GitLab's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// State changes that an operator wants to see.
    Info,
    /// Small decisions too.
    Debug,
    /// Only what is odd, or worse.
    Warn,
    /// Only what is broken.
    Error,
}

impl LogLevel {
    /// Every level, most talkative first.
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Section `user_access`: calls of people into the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserAccess {
    /// `access_as`: with whose rights they run.
    #[serde(default)]
    pub access_as: AccessAs,
    /// `projects[].id`: full paths of projects whose members may use the agent.
    pub projects: Vec<String>,
    /// `groups[].id`: full paths of groups whose members may use the agent.
    pub groups: Vec<String>,
}

/// With whose rights calls of people run in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessAs {
    /// `agent: {}`: with the rights that the agent's chart gives to people (`userAccess.rules`).
    #[default]
    Agent,
    /// `user: {}`: with those that the cluster gives to the caller, whom the agent impersonates: `gitlab:user:<name>`. The
    /// chart allows it with `userAccess.impersonation.enabled`.
    User,
}

/// A file that may be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// What it says.
    pub configuration: ConfigurationFile,
    /// What it says that this version does not act on.
    pub notes: Vec<Note>,
}

/// Something accepted that has no effect in this version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Dotted path of the key, for example `ci_access`.
    pub field: String,
    /// What that means for the user.
    pub reason: String,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: u64,
    /// Column in the line, from 1, in characters.
    pub column: u64,
    /// Dotted path of the key, for example `observability.logging.level`; empty when the file is no YAML.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}; expected {}", self.reason, self.expected)
    }
}

/// Judges a configuration file.
///
/// # Errors
/// Every problem of the file, in the order of the file, at most [`MAX_PROBLEMS`]. A text that is no YAML has one.
pub fn parse(text: &str) -> Result<Parsed, Vec<Problem>> {
    let root = document::read(text).map_err(|problem| vec![problem])?;
    let (parsed, mut problems) = sections::read(&root);
    if problems.is_empty() {
        return Ok(parsed);
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.truncate(MAX_PROBLEMS);
    Err(problems)
}

#[cfg(test)]
mod tests;
