//! Configuration and presence.

use model::configuration::{LogLevel, Logging, Observability};
use proto::agent_configuration::rpc::ConfigurationResponse;
use proto::agentcfg;
use proto::entity;

use crate::config::{Pod, VERSION};
use crate::configuration::Configuration;
use crate::kubernetes::KubernetesVersion;

/// What the server pushed; `None` if a part that may not be missing is.
pub(crate) fn from_response(response: ConfigurationResponse) -> Option<Configuration> {
    let ConfigurationResponse {
        configuration,
        commit_id,
    } = response;
    let agentcfg::AgentConfiguration {
        observability,
        agent_id,
        project_id: _,
        project_path,
        remote_development: _,
        gitlab_external_url: _,
        user_access: _,
    } = configuration?;
    if commit_id.is_empty() {
        return None;
    }
    Some(Configuration {
        commit: commit_id,
        agent_id,
        project_path,
        observability: observability_from(observability),
    })
}

fn observability_from(section: Option<agentcfg::ObservabilityCf>) -> Observability {
    let default = Logging::default();
    let logging = section
        .and_then(|section| section.logging)
        .map_or(default.clone(), |logging| Logging {
            level: level_from(logging.level).unwrap_or(default.level),
            grpc_level: logging
                .grpc_level
                .and_then(level_from)
                .unwrap_or(default.grpc_level),
        });
    Observability { logging }
}

fn level_from(level: i32) -> Option<LogLevel> {
    Some(match agentcfg::LogLevel::try_from(level).ok()? {
        agentcfg::LogLevel::Info => LogLevel::Info,
        agentcfg::LogLevel::Debug => LogLevel::Debug,
        agentcfg::LogLevel::Warn => LogLevel::Warn,
        agentcfg::LogLevel::Error => LogLevel::Error,
    })
}

/// Who this Pod is.
pub(crate) fn agent_meta(pod: &Pod, kubernetes: Option<&KubernetesVersion>) -> entity::AgentMeta {
    entity::AgentMeta {
        version: format!("v{VERSION}"),
        commit_id: crate::COMMIT.to_owned(),
        pod_namespace: pod.namespace.clone(),
        pod_name: pod.name.clone(),
        // Always there, as from agentk; empty while the API server has not answered.
        kubernetes_version: Some(kubernetes.map_or_else(
            entity::KubernetesVersion::default,
            |version| entity::KubernetesVersion {
                major: version.major.clone(),
                minor: version.minor.clone(),
                git_version: version.git_version.clone(),
                platform: version.platform.clone(),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_means_the_defaults() {
        let response = ConfigurationResponse {
            configuration: Some(agentcfg::AgentConfiguration::default()),
            commit_id: "abc".to_owned(),
        };
        let configuration = from_response(response).unwrap();
        assert_eq!(configuration.observability, Observability::default());
    }

    #[test]
    fn a_configuration_without_a_commit_is_none() {
        let response = ConfigurationResponse {
            configuration: Some(agentcfg::AgentConfiguration::default()),
            commit_id: String::new(),
        };
        assert_eq!(from_response(response), None);
    }

    #[test]
    fn levels_are_taken_over() {
        let logging = agentcfg::LoggingCf {
            level: agentcfg::LogLevel::Debug.into(),
            grpc_level: Some(agentcfg::LogLevel::Info.into()),
        };
        let observability = observability_from(Some(agentcfg::ObservabilityCf {
            logging: Some(logging),
        }));
        assert_eq!(observability.logging.level, LogLevel::Debug);
        assert_eq!(observability.logging.grpc_level, LogLevel::Info);
    }
}
