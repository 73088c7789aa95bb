//! As whom the agent shall call, where the configuration file says `access_as: {user: {}}`.
//!
//! Names are GitLab's (`doc/user/clusters/agent/user_access.md`), so that role bindings written for it hold here too. Its
//! groups of projects and roles are not sent: the agent may impersonate only the groups that its chart lists.

use proto::kubernetes_api::rpc::{ExtraKeyVal, HeaderExtra, ImpersonationConfig};

/// The caller, for the cluster. `project_id` is that of the agent's configuration.
pub(super) fn user(name: &str, agent_id: u64, project_id: u64) -> HeaderExtra {
    let extra = |key: &str, value: String| ExtraKeyVal {
        key: format!("agent.gitlab.com/{key}"),
        val: vec![value],
    };
    HeaderExtra {
        imp_config: Some(ImpersonationConfig {
            username: format!("gitlab:user:{name}"),
            groups: vec!["gitlab:user".to_owned()],
            uid: String::new(),
            extra: vec![
                extra("id", agent_id.to_string()),
                extra("username", name.to_owned()),
                extra("access_type", "personal_access_token".to_owned()),
                extra("config_project_id", project_id.to_string()),
            ],
        }),
    }
}
