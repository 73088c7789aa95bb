//! Wire messages ⇄ the agent's own types: the only place that knows both.

pub(crate) mod access;
pub(crate) mod configuration;
pub(crate) mod gitlab;
pub(crate) mod http;
pub(crate) mod reconcile;
pub(crate) mod tunnel;

/// Whether a name can be a namespace's, and a part of a path.
fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
