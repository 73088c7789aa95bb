//! A kubeconfig that reaches a cluster through the server.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What goes into it.
#[derive(Debug)]
pub(super) struct Kubeconfig<'a> {
    pub(super) agent: &'a str,
    pub(super) agent_id: u64,
    pub(super) external_url: &'a str,
    pub(super) ca_pem: &'a str,
    pub(super) token: &'a str,
}

impl Kubeconfig<'_> {
    /// As YAML. Names and tokens are of a few harmless letters; the URL is quoted.
    pub(super) fn yaml(&self) -> String {
        let Self {
            agent,
            agent_id,
            external_url,
            ca_pem,
            token,
        } = self;
        let ca = STANDARD.encode(ca_pem);
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: {agent}
  cluster:
    server: \"{external_url}/k8s-proxy/\"
    certificate-authority-data: {ca}
users:
- name: {agent}
  user:
    token: \"pat:{agent_id}:{token}\"
contexts:
- name: {agent}
  context:
    cluster: {agent}
    user: {agent}
current-context: {agent}
"
        )
    }
}
