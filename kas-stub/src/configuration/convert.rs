//! The configuration as an agent gets it; the one place that knows both its types and the wire's.

use model::configuration::{
    AccessAs, ConfigurationFile, LogLevel, Logging, Observability, UserAccess,
};
use proto::agentcfg::{self, user_access_as_cf};

use super::Good;
use crate::{
    directory::Agent,
    git::{ProjectUrl, guard::Policy},
};

pub(crate) fn configuration(
    agent: &Agent,
    good: &Good,
    external_url: &str,
) -> agentcfg::AgentConfiguration {
    let ConfigurationFile {
        observability,
        user_access,
        remote_development: _,
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
        // GitLab's agent takes workspaces only where this is on; when to ask is said in the answers.
        remote_development: Some(agentcfg::RemoteDevelopmentCf {
            enabled: true,
            ..agentcfg::RemoteDevelopmentCf::default()
        }),
        gitlab_external_url: external_url.to_owned(),
        user_access: user_access.as_ref().map(user_access_cf),
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
