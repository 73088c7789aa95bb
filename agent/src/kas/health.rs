//! Whether the calls to the server work, and the lines of the log about it: one when trouble starts, becomes another kind,
//! or is over; the attempts between are silent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_core::reconnect::{DelayClass, Outcome, Report, Reporter, delay_class};
use tonic::{Code, Status};

use crate::metrics::Metrics;

/// The state of all kinds of calls.
#[derive(Debug)]
pub(crate) struct Health {
    metrics: Metrics,
    calls: Mutex<BTreeMap<&'static str, Call>>,
}

#[derive(Debug, Default)]
struct Call {
    reporter: Reporter,
    trouble: Option<DelayClass>,
}

impl Health {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            calls: Mutex::default(),
        }
    }

    /// A call ended with an error.
    pub(crate) fn failed(&self, name: &'static str, status: &Status) -> Outcome {
        let outcome = outcome(status);
        if delay_class(outcome) == DelayClass::AtOnce {
            return outcome;
        }
        self.metrics.count_failure(name);
        let mut calls = self.calls();
        // One trouble, one line: the tunnel's calls break with the configuration's.
        let class = delay_class(outcome);
        let known = calls
            .iter()
            .any(|(other, call)| *other != name && call.trouble == Some(class));
        let call = calls.entry(name).or_default();
        call.trouble = Some(class);
        let report = call.reporter.observe(outcome);
        drop(calls);
        let error = chain(status);
        if report.is_none() || known {
            tracing::debug!(call = name, error, "call to the server failed again");
            return outcome;
        }
        match class {
            DelayClass::AtOnce => {}
            DelayClass::Outage => {
                tracing::warn!(
                    call = name,
                    error,
                    "no connection to the server, trying again"
                );
            }
            DelayClass::Refused => tracing::error!(
                call = name,
                error,
                "the server refuses the agent's token; it may be revoked, or of another server. Make a new one there and \
                 put it into the token's Secret; the agent takes it up by itself"
            ),
            DelayClass::OtherCluster => tracing::error!(
                call = name,
                error,
                "the server takes this agent for one of another cluster. Give this cluster an agent and a token of its own; if \
                 the other cluster is gone, or got a new CA: kas-stub agent accept-cluster NAME"
            ),
            DelayClass::Unsupported => tracing::info!(
                call = name,
                error,
                "the server does not have this method; it may be older than the agent"
            ),
        }
        outcome
    }

    /// A call works.
    pub(crate) fn works(&self, name: &'static str) {
        let mut calls = self.calls();
        let over = calls.get_mut(name).and_then(|call| {
            call.trouble = None;
            call.reporter.works()
        });
        drop(calls);
        if over == Some(Report::Over) {
            tracing::info!(call = name, "call to the server works again");
        }
    }

    /// The server answers on the control connection: whatever trouble there was, of any call, is over. What still fails is
    /// news again.
    pub(crate) fn all_work(&self) {
        let mut calls = self.calls();
        let mut over = false;
        for call in calls.values_mut() {
            call.trouble = None;
            over |= call.reporter.works().is_some();
        }
        drop(calls);
        if over {
            tracing::info!("the server answers again");
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<&'static str, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome(status: &Status) -> Outcome {
    match status.code() {
        Code::Ok => Outcome::Ended,
        Code::Cancelled | Code::DeadlineExceeded => Outcome::Cancelled,
        // GitLab answers NOT_FOUND for an agent that was deleted.
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound => Outcome::Refused,
        Code::Unimplemented => Outcome::Unsupported,
        // What HTTP/2 and TLS report has no code of its own.
        Code::Unavailable | Code::Unknown => Outcome::Unavailable,
        // Our server's word for a second cluster (`kas-stub/src/agents/clusters.rs`).
        Code::AlreadyExists => Outcome::OtherCluster,
        Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss => Outcome::Failed,
    }
}

/// An error and its causes on one line, each text once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => format!("{:?}: {}", status.code(), status.message()),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
