//! Who may do what: one pure function over closed sets, asked by every request, and the one table that it reads.
//!
//! A person stands to a thing in several ways at once (signed in, member of the agent's project, owner of the workspace);
//! a rule names those ways of which one is enough, and the scopes of which a token needs one. The table as people read it is
//! `kas-stub/RIGHTS.md`; a test asks the function and compares.

mod rules;
mod scopes;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use rules::Action;
use rules::{By, Standing, rule};
pub(crate) use scopes::{Scope, Scopes};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Nobody that we know.
    Anonymous,
    /// A user, and how they showed it.
    Person { user_id: u64, role: Role, by: Proof },
    /// An agent, by one of its tokens.
    Agent { agent_id: u64 },
    /// The Git server of an agent's project, by the webhook's secret.
    Webhook { agent_id: u64 },
}

/// What a user is on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    User,
    Administrator,
}

/// How a person showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The Unix socket, which only the server's own user can open.
    Socket,
    /// A browser's session cookie.
    Session,
    /// A personal token.
    Token { token_id: u64, scopes: Scopes },
}

/// What a user is in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberRole {
    Developer,
    Maintainer,
    Owner,
}

/// How the caller is related to a project, or to the project of an agent; the higher includes what the lower may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// Not at all.
    None,
    /// A member of another project that the agent's configuration file lets in.
    Invited,
    Member(MemberRole),
}

impl Principal {
    /// The person, if it is one.
    pub(crate) fn user_id(&self) -> Option<u64> {
        match self {
            Self::Person { user_id, .. } => Some(*user_id),
            Self::Agent { .. } | Self::Webhook { .. } | Self::Anonymous => None,
        }
    }

    /// For the audit log.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".into(),
            Self::Person { user_id, by, .. } => match by {
                Proof::Socket => format!("user {user_id} by socket"),
                Proof::Session => format!("user {user_id} by session"),
                Proof::Token { token_id, .. } => format!("user {user_id} by token {token_id}"),
            },
            Self::Agent { agent_id } => format!("agent {agent_id}"),
            Self::Webhook { agent_id } => format!("webhook of agent {agent_id}"),
        }
    }

    /// In which of these ways it stands to the resource.
    fn stands(&self, standing: Standing, resource: Resource) -> bool {
        let related = |least| match resource {
            Resource::Agent { relation, .. } | Resource::Project { relation } => relation >= least,
            Resource::Server | Resource::Workspace { .. } => false,
        };
        let on_agent = |of: u64| matches!(resource, Resource::Agent { id, .. } if id == of);
        match (self, standing) {
            (_, Standing::Anonymous) => true,
            (Self::Person { .. }, Standing::User) => true,
            (Self::Person { .. }, Standing::Invited) => related(Relation::Invited),
            (Self::Person { .. }, Standing::Developer) => {
                related(Relation::Member(MemberRole::Developer))
            }
            (Self::Person { .. }, Standing::Maintainer) => {
                related(Relation::Member(MemberRole::Maintainer))
            }
            (Self::Person { .. }, Standing::Owner) => related(Relation::Member(MemberRole::Owner)),
            (Self::Person { user_id, .. }, Standing::WorkspaceOwner) => {
                resource == Resource::Workspace { owner: *user_id }
            }
            (Self::Person { role, .. }, Standing::Administrator) => *role == Role::Administrator,
            (Self::Agent { agent_id }, Standing::Agent)
            | (Self::Webhook { agent_id }, Standing::Webhook) => on_agent(*agent_id),
            (Self::Person { .. }, Standing::Agent | Standing::Webhook)
            | (Self::Anonymous | Self::Agent { .. } | Self::Webhook { .. }, _) => false,
        }
    }

    /// Whether a credential of this kind is enough.
    fn proves(&self, by: By) -> bool {
        let Self::Person { by: proof, .. } = self else {
            return true;
        };
        match (by, proof) {
            (By::Anything, _) => true,
            (By::Scopes(_) | By::NoToken | By::SocketOnly, Proof::Socket) => true,
            (By::Scopes(_) | By::NoToken, Proof::Session) => true,
            (By::Scopes(enough), Proof::Token { scopes, .. }) => {
                enough.iter().any(|scope| scopes.has(*scope))
            }
            (By::SocketOnly, Proof::Session | Proof::Token { .. })
            | (By::NoToken, Proof::Token { .. }) => false,
        }
    }
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The server, or what is the caller's own.
    Server,
    Agent {
        id: u64,
        relation: Relation,
    },
    Project {
        relation: Relation,
    },
    Workspace {
        owner: u64,
    },
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// Who asks is not known: with a credential it might be allowed.
    Unauthenticated,
    /// Who asks is known, and may not.
    Forbidden,
    /// Who asks may, but not by this token.
    TokenTooNarrow(&'static [Scope]),
}

/// Decides whether the principal may do the action on the resource.
pub(crate) fn authorize(principal: &Principal, action: Action, resource: Resource) -> Decision {
    let rule = rule(action);
    let stands = |standing: &Standing| principal.stands(*standing, resource);
    match (rule.who.iter().any(stands), principal.proves(rule.by)) {
        (true, true) => Decision::Allowed,
        (true, false) => match (rule.by, principal) {
            (By::Scopes(scopes), _) => Decision::TokenTooNarrow(scopes),
            (By::Anything | By::NoToken | By::SocketOnly, _) => Decision::Forbidden,
        },
        (false, _) => match principal {
            Principal::Anonymous => Decision::Unauthenticated,
            Principal::Person { .. } | Principal::Agent { .. } | Principal::Webhook { .. } => {
                Decision::Forbidden
            }
        },
    }
}
