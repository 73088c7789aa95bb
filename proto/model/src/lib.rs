//! What server and agent must judge alike: names, states, and the agent's configuration file.
//!
//! Pure: no gRPC, no async runtime, no cluster client, no clock. Anything that both sides decide stands here once, so that
//! they cannot come to different answers.

pub mod actual_state;
pub mod agent_name;
pub mod configuration;
pub mod failure;
pub mod operator;
pub mod quantity;
pub mod version;
pub mod workspace;

pub use agent_name::AgentName;
pub use failure::{Failure, FailureCode};
pub use operator::{OperatorState, OperatorStatus};
pub use workspace::{ActualState, DesiredState, WorkspaceName};
