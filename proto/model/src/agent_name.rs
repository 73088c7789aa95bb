//! The name of an agent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest agent name in bytes: it becomes one DNS label.
pub const MAX_AGENT_NAME_BYTES: usize = 63;

/// An agent's name: lowercase letters, digits and `-`, a letter or digit at both ends, at most 63 characters
/// (the rule of GitLab's `Clusters::Agent`). It is part of the path of the agent's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(String);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where this agent's configuration file lies in its project.
    #[must_use]
    pub fn configuration_path(&self) -> String {
        format!(".gitlab/agents/{}/config.yaml", self.0)
    }
}

/// Why a text is no agent name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not an agent name: {reason}; use at most 63 lowercase letters, digits and '-', with a letter or digit at both ends"
)]
pub struct InvalidAgentName {
    name: String,
    reason: &'static str,
}

impl FromStr for AgentName {
    type Err = InvalidAgentName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidAgentName {
            // A hostile name is not echoed at full length.
            name: name.chars().take(80).collect(),
            reason,
        };
        if name.is_empty() {
            return Err(invalid("it is empty"));
        }
        if name.len() > MAX_AGENT_NAME_BYTES {
            return Err(invalid("it is longer than 63 characters"));
        }
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(invalid("it has another character"));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err(invalid("it starts or ends with '-'"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for AgentName {
    type Error = InvalidAgentName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let longest = "a".repeat(63);
        for good in ["a", "my-agent", "0-9", longest.as_str()] {
            assert_eq!(good.parse::<AgentName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a/../b", "ä", too_long.as_str()] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_gives_the_path_of_its_file() {
        let name: AgentName = "eu-1".parse().unwrap();
        assert_eq!(name.configuration_path(), ".gitlab/agents/eu-1/config.yaml");
    }
}
