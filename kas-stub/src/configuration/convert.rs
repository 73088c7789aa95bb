//! The configuration as an agent gets it; the one place that knows both its types and the wire's.

use model::configuration::{
    AccessAs, ConfigurationFile, LogLevel, Logging, Observability, RemoteDevelopment, UserAccess,
};
use proto::agentcfg::{self, user_access_as_cf};

use super::Good;
use crate::{
    directory::Agent,
    git::{ProjectUrl, guard::Policy},
};

/// `has_workspaces`: the agent has some, so its module for them has to run even where no new ones may be made.
pub(crate) fn configuration(
    agent: &Agent,
    good: &Good,
    external_url: &str,
    has_workspaces: bool,
) -> agentcfg::AgentConfiguration {
    let ConfigurationFile {
        observability,
        user_access,
        remote_development,
    } = &*good.configuration;
    let any = Policy {
        allow_http: true,
        allow_private: true,
    };
    let project_path = agent
        .project_url
        .as_deref()
        .and_then(|url| ProjectUrl::parse(url, any).ok())
        .map_or_else(String::new, |url| url.path().to_owned());
    agentcfg::AgentConfiguration {
        observability: Some(observability_cf(observability)),
        agent_id: agent.id as i64,
        // There is no GitLab to number projects; agents only show it.
        project_id: agent.id as i64,
        project_path,
        remote_development: Some(remote_development_cf(remote_development, has_workspaces)),
        gitlab_external_url: external_url.to_owned(),
        user_access: user_access.as_ref().map(user_access_cf),
    }
}

/// What GitLab's agent reads of the section: whether its module runs. (Ours runs it always, to see what is left of
/// workspaces.) All else is in the objects that it is told, and when to ask is said in the answers.
fn remote_development_cf(
    section: &RemoteDevelopment,
    has_workspaces: bool,
) -> agentcfg::RemoteDevelopmentCf {
    agentcfg::RemoteDevelopmentCf {
        enabled: section.enabled || has_workspaces,
        dns_zone: section.dns_zone.clone(),
        ..agentcfg::RemoteDevelopmentCf::default()
    }
}

fn observability_cf(observability: &Observability) -> agentcfg::ObservabilityCf {
    let Observability {
        logging: Logging { level, grpc_level },
    } = observability;
    agentcfg::ObservabilityCf {
        logging: Some(agentcfg::LoggingCf {
            level: log_level(*level).into(),
            grpc_level: Some(log_level(*grpc_level).into()),
        }),
    }
}

fn log_level(level: LogLevel) -> agentcfg::LogLevel {
    match level {
        LogLevel::Info => agentcfg::LogLevel::Info,
        LogLevel::Debug => agentcfg::LogLevel::Debug,
        LogLevel::Warn => agentcfg::LogLevel::Warn,
        LogLevel::Error => agentcfg::LogLevel::Error,
    }
}

fn user_access_cf(access: &UserAccess) -> agentcfg::UserAccessCf {
    let UserAccess {
        access_as,
        projects,
        groups,
    } = access;
    let access_as = match access_as {
        AccessAs::Agent => user_access_as_cf::As::Agent(agentcfg::UserAccessAsAgentCf {}),
        AccessAs::User => user_access_as_cf::As::User(agentcfg::UserAccessAsUserCf {}),
    };
    let project = |id: &String| agentcfg::UserAccessProjectCf { id: id.clone() };
    let group = |id: &String| agentcfg::UserAccessGroupCf { id: id.clone() };
    agentcfg::UserAccessCf {
        access_as: Some(agentcfg::UserAccessAsCf {
            r#as: Some(access_as),
        }),
        projects: projects.iter().map(project).collect(),
        groups: groups.iter().map(group).collect(),
    }
}
