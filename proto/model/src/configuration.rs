//! The agent's configuration file, `.gitlab/agents/<name>/config.yaml`: what it may say, and what is wrong with one that
//! may not be used.
//!
//! [`parse`] is the one judge; server and agent both ask it. It reads the text into a tree that knows where everything
//! stood (`document`), then walks that tree section by section (`sections`) and collects every [`Problem`], so that a
//! person sees all of them at once. [`judge`] is the same for a file in use: a section with a problem keeps its last good
//! value, and the others take effect.
//!
//! Keys are GitLab's (`pkg/agentcfg/agentcfg.proto`). A key GitLab knows and this version does not act on is accepted and
//! comes back as a [`Note`]; a key nobody knows is a problem, with the nearest known key as a hint.

mod document;
mod reader;
mod remote_development;
mod sections;
mod syntax;

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

pub use remote_development::{
    ApplyChanges, Backend, Class, EgressRule, ImagePullSecret, NetworkPolicy, RemoteDevelopment,
    ResourceAmounts, Resources, WorkspacesProxy,
};

/// The largest file, in bytes (GitLab's `agent.configuration.max_configuration_file_size`).
pub const MAX_CONFIGURATION_BYTES: usize = 128 * 1024;

/// What a file may say, as JSON Schema (draft 2020-12), for editors. What no schema can say ([`parse`] can) is left out: sums,
/// ranges within ranges, names that must differ.
pub const SCHEMA: &str = include_str!("configuration/schema.json");

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

/// A part of the file that takes effect for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `observability`.
    Observability,
    /// `remote_development`.
    RemoteDevelopment,
    /// `user_access`.
    UserAccess,
}

impl Section {
    /// Every section that has an effect.
    pub const ALL: [Self; 3] = [
        Self::Observability,
        Self::RemoteDevelopment,
        Self::UserAccess,
    ];

    /// The name in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observability => "observability",
            Self::RemoteDevelopment => "remote_development",
            Self::UserAccess => "user_access",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ConfigurationFile {
    /// Takes one section of another file.
    pub fn take(&mut self, section: Section, other: &Self) {
        match section {
            Section::Observability => self.observability.clone_from(&other.observability),
            Section::RemoteDevelopment => self
                .remote_development
                .clone_from(&other.remote_development),
            Section::UserAccess => self.user_access.clone_from(&other.user_access),
        }
    }
}

/// A file that may be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// What it says.
    pub configuration: ConfigurationFile,
    /// What it says that this version does not act on.
    pub notes: Vec<Note>,
}

/// What became of a file's sections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// What it says; a section of `wrong` has its default here and must not be used.
    pub configuration: ConfigurationFile,
    /// What it says that this version does not act on.
    pub notes: Vec<Note>,
    /// What is wrong, in the order of the file, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// Sections for which this file says nothing that may be used: each keeps its own last good value.
    pub wrong: BTreeSet<Section>,
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

/// Judges a configuration file, all or nothing.
///
/// # Errors
/// Every problem of the file, in the order of the file, at most [`MAX_PROBLEMS`]. A text that is no YAML has one.
pub fn parse(text: &str) -> Result<Parsed, Vec<Problem>> {
    let Judged {
        configuration,
        notes,
        problems,
        wrong: _,
    } = judge(text);
    if problems.is_empty() {
        Ok(Parsed {
            configuration,
            notes,
        })
    } else {
        Err(problems)
    }
}

/// Judges a configuration file section by section: what is wrong in one does not keep another from taking effect.
///
/// A text that is no YAML makes all sections wrong. So does a key that nobody knows at the file's top for the sections that
/// are not in the file: it may be a slip in the name of one of them.
#[must_use]
pub fn judge(text: &str) -> Judged {
    let root = match document::read(text) {
        Ok(root) => root,
        Err(problem) => {
            return Judged {
                problems: vec![problem],
                wrong: Section::ALL.into(),
                ..Judged::default()
            };
        }
    };
    let mut judged = sections::read(&root);
    let problems = &mut judged.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.truncate(MAX_PROBLEMS);
    judged
}

#[cfg(test)]
mod tests;
