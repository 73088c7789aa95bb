//! The table of rules.

use super::Scope;
use super::Scope::{Api, K8sProxy, ReadApi, Workspaces};

/// One way in which a principal may stand to what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As everybody does.
    Anonymous,
    /// Signed in, or by a token.
    User,
    /// Let in by the agent's configuration file.
    Invited,
    Developer,
    Maintainer,
    Owner,
    /// The one who made the workspace.
    WorkspaceOwner,
    Administrator,
    /// The agent itself.
    Agent,
    /// The webhook of the agent's Git project.
    Webhook,
}

/// By which credentials of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Anything,
    /// The socket, a session, or a token with one of these.
    Scopes(&'static [Scope]),
    /// The socket or a session: it is about what outlives a token.
    NoToken,
    SocketOnly,
}

/// Who may do an action, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) who: &'static [Standing],
    pub(super) by: By,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What is asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// All, in the order of the table.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it is called in the audit log.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

actions! {
    ReadCertificateAuthority,
    /// Shows the page, which shows little to strangers.
    OpenPage,
    /// Signs in: by a link, a password or the provider.
    SignIn,
    /// Makes a link that signs in.
    CreateSignInLink,
    /// Sees oneself: name, projects, tokens, sessions.
    ReadOwnAccount,
    /// Makes and revokes tokens of one's own.
    ManagePersonalTokens,
    /// Ends sessions of one's own.
    EndOwnSessions,
    ChangeOwnPassword,
    /// Lists agents; only those are shown that may be read.
    ListAgents,
    ReadAgent,
    /// Makes an agent in a project; without one it takes an administrator.
    CreateAgent,
    /// Makes and revokes an agent's tokens, and accepts another cluster.
    ManageAgentTokens,
    /// Deletes or adopts workspaces that another server left in the agent's cluster.
    ManageOrphans,
    /// Puts an agent into another project.
    MoveAgent,
    /// Says that the project of an agent was pushed to.
    NotifyPush,
    /// Calls the Kubernetes API of an agent's cluster.
    UseKubernetes,
    /// Lists one's own workspaces.
    ListWorkspaces,
    /// Lists those of others.
    ListAllWorkspaces,
    /// Makes a workspace on an agent.
    CreateWorkspace,
    ReadWorkspace,
    /// Starts, stops, restarts or deletes it.
    ChangeWorkspace,
    /// Opens a port of it: its editor, for example.
    OpenWorkspace,
    /// Lists projects; only those are shown that may be read.
    ListProjects,
    ReadProject,
    /// Makes or deletes a project.
    ManageProjects,
    ManageMembers,
    ListUsers,
    /// Makes, suspends and reactivates users, changes their role and resets their password.
    ManageUsers,
    /// Sees and ends sessions of others, and revokes their tokens.
    ManageCredentials,
    ReadAudit,
    /// Serves as the agent: configuration, presence, tunnels.
    ServeAgent,
}

impl Action {
    /// Read or passed through so often that only a refusal is worth to be kept.
    pub(crate) fn is_routine(self) -> bool {
        match self {
            Self::ReadCertificateAuthority
            | Self::OpenPage
            | Self::ReadOwnAccount
            | Self::ListAgents
            | Self::ReadAgent
            | Self::NotifyPush
            | Self::ListWorkspaces
            | Self::ListAllWorkspaces
            | Self::ReadWorkspace
            | Self::ListProjects
            | Self::ReadProject
            | Self::ListUsers
            | Self::ReadAudit
            | Self::ServeAgent => true,
            Self::SignIn
            | Self::CreateSignInLink
            | Self::ManagePersonalTokens
            | Self::EndOwnSessions
            | Self::ChangeOwnPassword
            | Self::CreateAgent
            | Self::ManageAgentTokens
            | Self::ManageOrphans
            | Self::MoveAgent
            | Self::UseKubernetes
            | Self::CreateWorkspace
            | Self::ChangeWorkspace
            | Self::OpenWorkspace
            | Self::ManageProjects
            | Self::ManageMembers
            | Self::ManageUsers
            | Self::ManageCredentials => false,
        }
    }
}

const EVERYBODY: &[Standing] = &[Standing::Anonymous];
const PEOPLE: &[Standing] = &[Standing::User];
const ADMINISTRATORS: &[Standing] = &[Standing::Administrator];
/// Who may use an agent.
const USERS_OF_AGENT: &[Standing] = &[
    Standing::Invited,
    Standing::Developer,
    Standing::Maintainer,
    Standing::Owner,
    Standing::Administrator,
];
const MEMBERS: &[Standing] = &[
    Standing::Developer,
    Standing::Maintainer,
    Standing::Owner,
    Standing::Administrator,
];
const MAINTAINERS: &[Standing] = &[
    Standing::Maintainer,
    Standing::Owner,
    Standing::Administrator,
];
const WEBHOOK_AND_MAINTAINERS: &[Standing] = &[
    Standing::Webhook,
    Standing::Maintainer,
    Standing::Owner,
    Standing::Administrator,
];
const WORKSPACE_OWNER: &[Standing] = &[Standing::WorkspaceOwner];
const WORKSPACE_OWNER_AND_ADMINISTRATORS: &[Standing] =
    &[Standing::WorkspaceOwner, Standing::Administrator];
const AGENT: &[Standing] = &[Standing::Agent];
const OWNERS: &[Standing] = &[Standing::Owner, Standing::Administrator];

const READ: By = By::Scopes(&[Api, ReadApi]);
const CHANGE: By = By::Scopes(&[Api]);
const READ_WORKSPACES: By = By::Scopes(&[Api, ReadApi, Workspaces]);
const CHANGE_WORKSPACES: By = By::Scopes(&[Api, Workspaces]);

/// The table.
pub(super) fn rule(action: Action) -> Rule {
    use Action as A;
    let (who, by) = match action {
        A::ReadCertificateAuthority | A::OpenPage | A::SignIn => (EVERYBODY, By::Anything),
        // A link becomes a session that outlives the credential it was made with, so it takes more than a token.
        A::CreateSignInLink => (ADMINISTRATORS, By::SocketOnly),
        A::ReadOwnAccount | A::ListAgents | A::ListProjects => (PEOPLE, READ),
        // A token makes only tokens that can do no more and live no longer than it does.
        A::ManagePersonalTokens => (PEOPLE, CHANGE),
        A::EndOwnSessions | A::ChangeOwnPassword => (PEOPLE, By::NoToken),
        A::ReadAgent => (USERS_OF_AGENT, READ),
        A::CreateAgent | A::ManageAgentTokens | A::ManageOrphans => (MAINTAINERS, CHANGE),
        A::MoveAgent | A::ManageProjects => (ADMINISTRATORS, CHANGE),
        A::NotifyPush => (WEBHOOK_AND_MAINTAINERS, CHANGE),
        A::UseKubernetes => (USERS_OF_AGENT, By::Scopes(&[K8sProxy])),
        A::ListWorkspaces => (PEOPLE, READ_WORKSPACES),
        A::ListAllWorkspaces => (ADMINISTRATORS, READ),
        A::CreateWorkspace => (USERS_OF_AGENT, CHANGE_WORKSPACES),
        A::ReadWorkspace => (WORKSPACE_OWNER_AND_ADMINISTRATORS, READ_WORKSPACES),
        A::ChangeWorkspace => (WORKSPACE_OWNER_AND_ADMINISTRATORS, CHANGE_WORKSPACES),
        // What runs in a workspace acts as its owner, so that no role stands in for being it.
        A::OpenWorkspace => (WORKSPACE_OWNER, By::Scopes(&[Workspaces])),
        A::ReadProject => (MEMBERS, READ),
        A::ManageMembers => (OWNERS, CHANGE),
        A::ListUsers | A::ReadAudit => (ADMINISTRATORS, READ),
        A::ManageUsers | A::ManageCredentials => (ADMINISTRATORS, CHANGE),
        A::ServeAgent => (AGENT, By::Anything),
    };
    Rule { who, by }
}
