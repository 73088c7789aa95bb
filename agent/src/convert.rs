//! Wire messages ⇄ the agent's own types: the only place that knows both.

pub(crate) mod access;
pub(crate) mod configuration;
pub(crate) mod http;
pub(crate) mod reconcile;
pub(crate) mod tunnel;
