//! Waiting on a state, with a limit.

use std::time::Duration;

/// Asks `ready` again and again until it answers `Some`.
///
/// # Errors
/// When the limit passes; the message names `what`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let _ = limit;
    ready()?.ok_or_else(|| anyhow::anyhow!("{what}"))
}

/// Asks `ready` again and again until it says yes. An error counts as "not yet" and is told when the limit passes.
///
/// # Errors
/// When the limit passes.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    wait_for(what, limit, || Ok(ready()?.then_some(())))
}
