//! What follows the end of a call to the server: a delay, and whether a person wants to read about it.
//!
//! ```text
//! Outcome ──delay_class──▶ DelayClass ──policy──▶ Policy (numbers; the crate `agent` draws the jitter)
//!    └──────Reporter::observe──────▶ Option<Report> (only changes)
//! ```

use std::time::Duration;

/// How a call to the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The server ended it without an error, for example because the stream had reached its age limit.
    Ended,
    /// The server cancelled it, or its deadline passed: for a tunnel, the caller went away.
    Cancelled,
    /// The server could not be reached, or broke off.
    Unavailable,
    /// The server does not know the token, or its agent.
    Refused,
    /// Another cluster has the agent's token, too, and was there first.
    OtherCluster,
    /// The server does not have this method: it is older than the agent.
    Unsupported,
    /// Any other error.
    Failed,
}

/// How long to wait after an [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DelayClass {
    /// Not at all, unless it ends at once again and again ([`MIN_SPACING`]).
    AtOnce,
    /// Short, so that a restarted server is noticed within a second.
    Outage,
    /// Long: only a person can repair a refused token, and each attempt costs the server a look-up.
    Refused,
    /// As long: only a person can say which cluster is meant.
    OtherCluster,
    /// Very long: only an upgrade of the server changes it, and that also breaks the connection.
    Unsupported,
}

/// Calls that end cleanly are repeated at once, but not more often than this.
pub const MIN_SPACING: Duration = Duration::from_millis(200);

/// A call that lived this long shows that the trouble before it was over: delays start again from the smallest.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The numbers of a growing delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The first delay.
    pub initial: Duration,
    /// Each delay is this much longer than the one before.
    pub multiplier: f64,
    /// Each delay is drawn from this part around it, so that agents do not come back in step.
    pub jitter: f64,
    /// No delay is longer, jitter included.
    pub max: Duration,
    /// After this time the longest delay is another.
    pub later: Option<(Duration, Duration)>,
}

/// Says which delay follows `outcome`.
pub fn delay_class(outcome: Outcome) -> DelayClass {
    match outcome {
        Outcome::Ended | Outcome::Cancelled => DelayClass::AtOnce,
        Outcome::Unavailable | Outcome::Failed => DelayClass::Outage,
        Outcome::Refused => DelayClass::Refused,
        Outcome::OtherCluster => DelayClass::OtherCluster,
        Outcome::Unsupported => DelayClass::Unsupported,
    }
}

/// The numbers of a class of delays.
pub fn policy(class: DelayClass) -> Policy {
    match class {
        DelayClass::AtOnce => Policy {
            initial: MIN_SPACING,
            multiplier: 1.0,
            jitter: 0.0,
            max: MIN_SPACING,
            later: None,
        },
        DelayClass::Outage => Policy {
            initial: Duration::from_millis(100),
            multiplier: 1.6,
            jitter: 0.2,
            // With the connection's own time, everything works again within a second of the server's return.
            max: Duration::from_millis(800),
            later: Some((Duration::from_secs(60), Duration::from_secs(5))),
        },
        DelayClass::Refused | DelayClass::OtherCluster => Policy {
            initial: Duration::from_secs(5),
            multiplier: 2.0,
            jitter: 0.2,
            max: Duration::from_secs(60),
            later: None,
        },
        DelayClass::Unsupported => Policy {
            initial: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.2,
            max: Duration::from_secs(600),
            later: None,
        },
    }
}

/// A change that an operator wants to read about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Calls fail now, in this way.
    Trouble(DelayClass),
    /// Calls work again.
    Over,
}

/// Turns a sequence of outcomes into reports: trouble is said once, when it starts or becomes another, and when it is over.
#[derive(Debug, Default)]
pub struct Reporter {
    trouble: Option<DelayClass>,
}

impl Reporter {
    /// Takes the end of a call; says what of it is new.
    pub fn observe(&mut self, outcome: Outcome) -> Option<Report> {
        let class = delay_class(outcome);
        if class == DelayClass::AtOnce {
            // An end without an error says nothing about trouble: whether the call worked is told by `works`.
            return None;
        }
        (self.trouble.replace(class) != Some(class)).then_some(Report::Trouble(class))
    }

    /// Takes the news that a call works; says whether that is a change.
    pub fn works(&mut self) -> Option<Report> {
        self.trouble.take().map(|_| Report::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_said_once_per_change_and_when_it_is_over() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.works(), None);
        assert_eq!(
            reporter.observe(Outcome::Refused),
            Some(Report::Trouble(DelayClass::Refused))
        );
        assert_eq!(reporter.observe(Outcome::Refused), None);
        assert_eq!(reporter.observe(Outcome::Ended), None);
        assert_eq!(
            reporter.observe(Outcome::Unavailable),
            Some(Report::Trouble(DelayClass::Outage))
        );
        assert_eq!(reporter.observe(Outcome::Failed), None);
        assert_eq!(reporter.works(), Some(Report::Over));
        assert_eq!(reporter.works(), None);
    }

    #[test]
    fn an_outage_of_less_than_a_minute_never_waits_a_second() {
        let policy = policy(delay_class(Outcome::Unavailable));
        assert!(policy.max < Duration::from_secs(1));
        assert_eq!(policy.later.unwrap().0, Duration::from_secs(60));
    }
}
