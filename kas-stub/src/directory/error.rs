//! Why something cannot be kept.

use super::{
    agents::{MAX_ACTIVE_AGENT_TOKENS, MAX_AGENTS},
    projects::{MAX_MEMBERS, MAX_PROJECTS},
    tokens::{MAX_PERSONAL_TOKENS, MAX_TOKEN_NAME},
    users::MAX_USERS,
};
use crate::store::{self, Kind};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("an agent named {0} exists already")]
    AgentExists(String),
    #[error("the server keeps at most {MAX_AGENTS} agents")]
    TooManyAgents,
    #[error(
        "agent {0} has {MAX_ACTIVE_AGENT_TOKENS} active tokens already, which is the most; revoke one first"
    )]
    TooManyAgentTokens(String),
    #[error(
        "there are {MAX_PERSONAL_TOKENS} active tokens already, which is the most; revoke one first"
    )]
    TooManyPersonalTokens,
    #[error("the name of a token has 1 to {MAX_TOKEN_NAME} characters")]
    TokenName,
    #[error("it is no token of an agent: glagent- and what follows")]
    ImportedToken,
    #[error("an agent's id is a number from 1 to 2^53 - 1")]
    ImportedId,
    #[error("an agent with this id or token exists already")]
    ImportedTwice,
    #[error("there is no such token")]
    NoSuchToken,
    #[error("there is no such session")]
    NoSuchSession,
    #[error("a user named {0} exists already")]
    UserExists(String),
    #[error("there is no user named {0}")]
    NoSuchUser(String),
    #[error("the server keeps at most {MAX_USERS} users")]
    TooManyUsers,
    #[error("user {0} signs in with this identity already")]
    IdentityTaken(String),
    #[error("the local administrator, whom this server's own machine acts as, stays one")]
    LocalAdministrator,
    #[error("user {0} is suspended")]
    Suspended(String),
    #[error("a project {0} exists already")]
    ProjectExists(String),
    #[error("there is no project {0}")]
    NoSuchProject(String),
    #[error("the server keeps at most {MAX_PROJECTS} projects")]
    TooManyProjects,
    #[error("a project has at most {MAX_MEMBERS} members")]
    TooManyMembers,
    #[error("user {0} is no member of the project")]
    NoSuchMember(String),
    #[error("project {0} has agents; move them first")]
    ProjectHasAgents(String),
    #[error("there is no agent named {0}")]
    NoSuchAgent(String),
    #[error("keep it in the database")]
    Store(#[source] store::Error),
    #[error("{kind:?} {id} in the database cannot be read")]
    Corrupt {
        kind: Kind,
        id: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
