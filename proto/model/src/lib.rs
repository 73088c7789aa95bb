//! What server and agent must judge alike: names, and the agent's configuration file with its checks.
//!
//! Pure: no gRPC, no async runtime, no cluster client, no clock. Anything that both sides decide stands here once, so that
//! they cannot come to different answers.

pub mod agent_name;
pub mod configuration;

pub use agent_name::AgentName;
