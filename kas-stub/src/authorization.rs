//! Who may do what: one pure function over closed sets, asked by every request.

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Nobody that we know.
    Anonymous,
    /// An administrator, and how they showed it.
    Administrator { user_id: u64, by: Proof },
    /// An agent, by one of its tokens.
    Agent { agent_id: u64 },
    /// The Git server of an agent's project, by the webhook's secret.
    Webhook { agent_id: u64 },
}

/// How a person showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The Unix socket, which only the server's own user can open.
    Socket,
    /// A browser's session cookie.
    Session,
    /// A personal token.
    Token { token_id: u64 },
}

impl Principal {
    /// The person, if it is one.
    pub(crate) fn user_id(&self) -> Option<u64> {
        match self {
            Self::Administrator { user_id, .. } => Some(*user_id),
            Self::Agent { .. } | Self::Webhook { .. } | Self::Anonymous => None,
        }
    }

    /// For the audit log.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".into(),
            Self::Administrator { user_id, by } => match by {
                Proof::Socket => format!("user {user_id} by socket"),
                Proof::Session => format!("user {user_id} by session"),
                Proof::Token { token_id } => format!("user {user_id} by token {token_id}"),
            },
            Self::Agent { agent_id } => format!("agent {agent_id}"),
            Self::Webhook { agent_id } => format!("webhook of agent {agent_id}"),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    ListAgents,
    CreateAgent,
    ReadAgent,
    ManageAgentTokens,
    /// Says that the project of an agent was pushed to.
    NotifyPush,
    ManagePersonalTokens,
    CreateSignInLink,
    /// Shows the page, which shows little to strangers.
    OpenPage,
    /// Uses a sign-in link.
    SignIn,
    ReadCertificateAuthority,
    /// Calls the Kubernetes API of an agent's cluster.
    UseKubernetes,
    ListWorkspaces,
    CreateWorkspace,
    ReadWorkspace,
    /// Starts, stops, restarts or deletes it.
    ChangeWorkspace,
    /// Opens a port of it: its editor, for example.
    OpenWorkspace,
    /// Serves as the agent: configuration, presence, tunnels.
    ServeAgent,
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Server,
    Agent { id: u64 },
    Workspace { owner: u64 },
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// Who asks is not known; with a credential it might be allowed.
    Unauthenticated,
    /// Who asks is known, and may not.
    Forbidden,
}

/// Decides whether the principal may do the action on the resource.
pub(crate) fn authorize(principal: &Principal, action: Action, resource: Resource) -> Decision {
    use Action as A;
    let allowed = match (principal, action) {
        (_, A::OpenPage | A::SignIn | A::ReadCertificateAuthority) => true,
        // A sign-in link becomes a session that outlives the credential it was made with, so it takes more than a token.
        (Principal::Administrator { by, .. }, A::CreateSignInLink) => *by == Proof::Socket,
        (
            Principal::Administrator { .. },
            A::ListAgents
            | A::CreateAgent
            | A::ReadAgent
            | A::ManageAgentTokens
            | A::NotifyPush
            | A::ManagePersonalTokens
            | A::UseKubernetes
            | A::ListWorkspaces
            | A::CreateWorkspace
            | A::ReadWorkspace
            | A::ChangeWorkspace,
        ) => true,
        // What runs in a workspace acts as its owner, so that no role stands in for being it.
        (Principal::Administrator { user_id, .. }, A::OpenWorkspace) => {
            resource == Resource::Workspace { owner: *user_id }
        }
        (Principal::Administrator { .. }, A::ServeAgent) => false,
        (Principal::Agent { agent_id }, A::ServeAgent)
        | (Principal::Webhook { agent_id }, A::NotifyPush) => {
            resource == Resource::Agent { id: *agent_id }
        }
        (
            Principal::Agent { .. } | Principal::Webhook { .. } | Principal::Anonymous,
            A::ListAgents
            | A::CreateAgent
            | A::ReadAgent
            | A::ManageAgentTokens
            | A::NotifyPush
            | A::ManagePersonalTokens
            | A::CreateSignInLink
            | A::UseKubernetes
            | A::ListWorkspaces
            | A::CreateWorkspace
            | A::ReadWorkspace
            | A::ChangeWorkspace
            | A::OpenWorkspace
            | A::ServeAgent,
        ) => false,
    };
    match (allowed, principal) {
        (true, _) => Decision::Allowed,
        (false, Principal::Anonymous) => Decision::Unauthenticated,
        (
            false,
            Principal::Administrator { .. } | Principal::Agent { .. } | Principal::Webhook { .. },
        ) => Decision::Forbidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 17] = [
        Action::ListAgents,
        Action::CreateAgent,
        Action::ReadAgent,
        Action::ManageAgentTokens,
        Action::NotifyPush,
        Action::ManagePersonalTokens,
        Action::CreateSignInLink,
        Action::OpenPage,
        Action::SignIn,
        Action::ReadCertificateAuthority,
        Action::UseKubernetes,
        Action::ListWorkspaces,
        Action::CreateWorkspace,
        Action::ReadWorkspace,
        Action::ChangeWorkspace,
        Action::OpenWorkspace,
        Action::ServeAgent,
    ];

    /// The whole table, on agent 1: + allowed, - forbidden, ? unauthenticated.
    const TABLE: &str = "
                             socket session token agent1 agent2 hook1 hook2 anonymous
ListAgents                   +      +       +     -      -      -     -     ?
CreateAgent                  +      +       +     -      -      -     -     ?
ReadAgent                    +      +       +     -      -      -     -     ?
ManageAgentTokens            +      +       +     -      -      -     -     ?
NotifyPush                   +      +       +     -      -      +     -     ?
ManagePersonalTokens         +      +       +     -      -      -     -     ?
CreateSignInLink             +      -       -     -      -      -     -     ?
OpenPage                     +      +       +     +      +      +     +     +
SignIn                       +      +       +     +      +      +     +     +
ReadCertificateAuthority     +      +       +     +      +      +     +     +
UseKubernetes                +      +       +     -      -      -     -     ?
ListWorkspaces               +      +       +     -      -      -     -     ?
CreateWorkspace              +      +       +     -      -      -     -     ?
ReadWorkspace                +      +       +     -      -      -     -     ?
ChangeWorkspace              +      +       +     -      -      -     -     ?
OpenWorkspace                -      -       -     -      -      -     -     ?
ServeAgent                   -      -       -     +      -      -     -     ?
";

    #[test]
    fn the_table_is_as_written() {
        let person = |by| Principal::Administrator { user_id: 1, by };
        let principals = [
            person(Proof::Socket),
            person(Proof::Session),
            person(Proof::Token { token_id: 1 }),
            Principal::Agent { agent_id: 1 },
            Principal::Agent { agent_id: 2 },
            Principal::Webhook { agent_id: 1 },
            Principal::Webhook { agent_id: 2 },
            Principal::Anonymous,
        ];
        let mut table = vec![TABLE.lines().nth(1).unwrap().to_owned()];
        for action in ACTIONS {
            let mut line = format!("{:29}", format!("{action:?}"));
            for (principal, width) in principals.iter().zip([7, 8, 6, 7, 7, 6, 6, 1]) {
                let sign = match authorize(principal, action, Resource::Agent { id: 1 }) {
                    Decision::Allowed => "+",
                    Decision::Forbidden => "-",
                    Decision::Unauthenticated => "?",
                };
                line.push_str(&format!("{sign:width$}"));
            }
            table.push(line);
        }
        assert_eq!(table.join("\n"), TABLE.trim_matches('\n'));
    }

    #[test]
    fn only_its_owner_opens_a_workspace() {
        let open = |principal| {
            authorize(
                &principal,
                Action::OpenWorkspace,
                Resource::Workspace { owner: 1 },
            )
        };
        for by in [Proof::Socket, Proof::Session, Proof::Token { token_id: 5 }] {
            let person = |user_id| Principal::Administrator { user_id, by };
            assert_eq!(open(person(1)), Decision::Allowed);
            assert_eq!(open(person(2)), Decision::Forbidden);
        }
        assert_eq!(open(Principal::Agent { agent_id: 1 }), Decision::Forbidden);
        assert_eq!(open(Principal::Anonymous), Decision::Unauthenticated);
    }

    #[test]
    fn an_agent_serves_no_server() {
        let agent = Principal::Agent { agent_id: 1 };
        assert_eq!(
            authorize(&agent, Action::ServeAgent, Resource::Server),
            Decision::Forbidden
        );
    }
}
