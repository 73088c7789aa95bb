//! Wire messages ⇄ the agent's own types: the only place that knows both.

pub(crate) mod access;
pub(crate) mod configuration;
pub(crate) mod gitlab;
pub(crate) mod http;
pub(crate) mod reconcile;
pub(crate) mod tunnel;

use model::configuration::ImagePullSecret;

/// Where a pull secret is; `None` where a part of it cannot be a part of a path.
fn pull_secret(name: &str, namespace: &str) -> Option<ImagePullSecret> {
    let is_name = name.len() <= 253 && name.split('.').all(is_dns_label);
    (is_name && is_dns_label(namespace)).then(|| ImagePullSecret {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    })
}

/// Whether a name can be a namespace's, and a part of a path.
fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
