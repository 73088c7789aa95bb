//! Waiting on a state, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two questions: short beside the seconds that things take, long beside what a question costs.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks `ready` again and again until it answers `Some`. An error counts as "not yet".
///
/// # Errors
/// When the limit passes; the message names `what`, and the last error if there was one.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let answer = ready();
        if let Ok(Some(value)) = answer {
            return Ok(value);
        }
        if begin.elapsed() >= limit {
            let seconds = limit.as_secs_f64();
            match answer {
                Err(error) => {
                    return Err(error.context(format!("not within {seconds:.1} s: {what}")));
                }
                Ok(_) => bail!("not within {seconds:.1} s: {what}"),
            }
        }
        std::thread::sleep(INTERVAL.min(limit));
    }
}

/// Asks `ready` again and again until it says yes. An error counts as "not yet".
///
/// # Errors
/// When the limit passes, as [`wait_for`].
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_for(what, limit, || Ok(ready()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_as_not_yet() {
        let mut tries = 0;
        let found = wait_for("three tries", Duration::from_secs(5), || {
            tries += 1;
            if tries < 3 {
                bail!("not yet")
            } else {
                Ok(Some(tries))
            }
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn the_limit_names_what_and_why() {
        let limit = Duration::from_millis(1);
        let error = wait_until("the moon", limit, || bail!("too far")).unwrap_err();
        assert_eq!(format!("{error:#}"), "not within 0.0 s: the moon: too far");
    }
}
