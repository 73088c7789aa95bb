//! Delays between attempts. The only module that names the crate `backoff`, which is no longer maintained: whatever
//! replaces it changes this file alone.
//!
//! The numbers are decided by [`agent_core::reconnect::policy`]; here they get their jitter and their clock.

use std::time::Duration;

use agent_core::reconnect::{DelayClass, Policy, STABLE_AFTER, policy};
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::Instant;

/// A sequence of delays that grows until it is reset.
pub trait Delay: Send {
    /// How long to wait before the next attempt.
    fn next_delay(&mut self) -> Duration;
    /// An attempt worked: the next delay is the first again.
    fn reset(&mut self);
}

/// The delays of a [`Policy`].
#[derive(Debug)]
pub struct PolicyDelay {
    policy: Policy,
    backoff: ExponentialBackoff,
    /// When the first delay since the last reset was asked for: the start of the outage.
    since: Option<Instant>,
}

impl PolicyDelay {
    /// Starts with the first delay.
    pub fn new(policy: Policy) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: policy.initial,
            multiplier: policy.multiplier,
            randomization_factor: policy.jitter,
            max_interval: policy.max,
            // Connections are retried for ever.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self {
            policy,
            backoff,
            since: None,
        }
    }
}

impl Delay for PolicyDelay {
    fn next_delay(&mut self) -> Duration {
        let since = *self.since.get_or_insert_with(Instant::now);
        let mut max = self.policy.max;
        if let Some((after, later)) = self.policy.later
            && since.elapsed() >= after
        {
            max = later;
        }
        self.backoff.max_interval = max;
        let delay = self.backoff.next_backoff().unwrap_or(max);
        // The crate draws its jitter around the longest delay too.
        delay.min(max)
    }

    fn reset(&mut self) {
        self.backoff.reset();
        self.since = None;
    }
}

/// One growing delay for each class: a refused token does not make the next outage slow.
pub struct Delays {
    at_once: PolicyDelay,
    outage: PolicyDelay,
    refused: PolicyDelay,
    unsupported: PolicyDelay,
}

impl std::fmt::Debug for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delays").finish_non_exhaustive()
    }
}

impl Default for Delays {
    fn default() -> Self {
        let delay = |class| PolicyDelay::new(policy(class));
        Self {
            at_once: delay(DelayClass::AtOnce),
            outage: delay(DelayClass::Outage),
            refused: delay(DelayClass::Refused),
            unsupported: delay(DelayClass::Unsupported),
        }
    }
}

impl Delays {
    /// How long to wait after an attempt that ended in `class`.
    pub fn next_delay(&mut self, class: DelayClass) -> Duration {
        match class {
            DelayClass::AtOnce => self.at_once.next_delay(),
            DelayClass::Outage => self.outage.next_delay(),
            DelayClass::Refused | DelayClass::OtherCluster => self.refused.next_delay(),
            DelayClass::Unsupported => self.unsupported.next_delay(),
        }
    }

    /// How long to wait after something that lived for `lived` before it ended in `class`. If it was stable, this end is the
    /// first of a new trouble, however long ago the last one was and whether or not it was used meanwhile.
    pub fn after(&mut self, class: DelayClass, lived: Duration) -> Duration {
        if lived >= STABLE_AFTER {
            self.reset();
        }
        self.next_delay(class)
    }

    /// An attempt worked.
    pub fn reset(&mut self) {
        let Self {
            at_once,
            outage,
            refused,
            unsupported,
        } = self;
        for delay in [at_once, outage, refused, unsupported] {
            delay.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_probed_often_in_its_first_minute_and_less_later() {
        let mut delays = Delays::default();
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while start.elapsed() < Duration::from_secs(60) {
            let delay = delays.next_delay(DelayClass::Outage);
            assert!(delay >= Duration::from_millis(80) && delay < Duration::from_secs(1));
            tokio::time::sleep(delay).await;
        }
        for _ in 0..10 {
            let delay = delays.next_delay(DelayClass::Outage);
            longest = longest.max(delay);
        }
        assert!(longest > Duration::from_secs(3) && longest <= Duration::from_secs(5));
        delays.reset();
        assert!(delays.next_delay(DelayClass::Outage) <= Duration::from_millis(120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_after_a_quiet_hour_is_a_new_one() {
        let mut delays = Delays::default();
        for _ in 0..20 {
            delays.next_delay(DelayClass::Outage);
        }
        let hour = Duration::from_secs(3600);
        tokio::time::advance(hour).await;
        let delay = delays.after(DelayClass::Outage, hour);
        assert!(delay <= Duration::from_millis(120), "{delay:?}");
        for _ in 0..20 {
            let delay = delays.after(DelayClass::Outage, Duration::ZERO);
            assert!(delay < Duration::from_secs(1), "{delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_retried_seldom() {
        let mut delays = Delays::default();
        assert!(delays.next_delay(DelayClass::Refused) >= Duration::from_secs(4));
        for _ in 0..10 {
            assert!(delays.next_delay(DelayClass::Refused) <= Duration::from_secs(60));
        }
    }
}
