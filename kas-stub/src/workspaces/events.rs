//! The steps of a workspace's life, each with its time: the newest [`MAX_EVENTS`].

use std::collections::VecDeque;

use jiff::Timestamp;
use model::{ActualState, DesiredState};
use serde::{Deserialize, Serialize};

/// Steps kept per workspace. A life has about ten; one that flaps shows its last hours.
pub(crate) const MAX_EVENTS: usize = 200;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Counts up within a workspace, from 1.
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) step: Step,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Step {
    /// The wish changed.
    Desired {
        state: DesiredState,
        generation: u64,
        /// Why, when nobody asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It was rendered again, with the agent's configuration of this commit.
    Rendered {
        generation: u64,
        commit: String,
        /// What the configuration said otherwise before.
        fields: Vec<String>,
    },
    /// The agent applied a wish completely.
    Applied { generation: u64 },
    /// What is seen changed.
    Actual { state: ActualState },
    /// Something is not as asked.
    Failure {
        code: String,
        component: String,
        message: String,
    },
    /// It is no longer so.
    FailureCleared { code: String, component: String },
}

impl Step {
    /// The name in JSON, and of the server-sent event.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Desired { .. } => "desired",
            Self::Rendered { .. } => "rendered",
            Self::Applied { .. } => "applied",
            Self::Actual { .. } => "actual",
            Self::Failure { .. } => "failure",
            Self::FailureCleared { .. } => "failure_cleared",
        }
    }
}

/// The newest steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Events {
    last_sequence: u64,
    kept: VecDeque<Event>,
}

impl Events {
    /// Adds steps, each with its time; the oldest make room.
    pub(crate) fn add(&mut self, steps: impl IntoIterator<Item = (Timestamp, Step)>) {
        for (at, step) in steps {
            self.last_sequence += 1;
            self.kept.push_back(Event {
                sequence: self.last_sequence,
                at,
                step,
            });
            if self.kept.len() > MAX_EVENTS {
                self.kept.pop_front();
            }
        }
    }

    /// Those behind a sequence number; all that are kept for 0.
    pub(crate) fn after(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        self.kept
            .iter()
            .filter(move |event| event.sequence > sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_counted_on() {
        let mut events = Events::default();
        for generation in 0..300 {
            events.add([(Timestamp::UNIX_EPOCH, Step::Applied { generation })]);
        }
        let sequences: Vec<_> = events.after(0).map(|event| event.sequence).collect();
        assert_eq!(sequences, (101..=300).collect::<Vec<_>>());
        assert_eq!(events.after(299).count(), 1);
    }

    #[test]
    fn a_step_reads_as_one_flat_object() {
        let event = Event {
            sequence: 3,
            at: Timestamp::UNIX_EPOCH,
            step: Step::Actual {
                state: ActualState::Running,
            },
        };
        let json =
            r#"{"sequence":3,"at":"1970-01-01T00:00:00Z","type":"actual","state":"Running"}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), event);
        assert_eq!(event.step.name(), "actual");
    }
}
