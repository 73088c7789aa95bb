//! The agent: one outbound connection to the server, through which the server reaches this cluster.
//!
//! ```text
//!             control connection                         tunnel connections
//!  server ◀── GetConfiguration, Register ── kas    server ── calls ──▶ tunnel ──▶ handlers of modules
//!                     │ watch channel                                               │
//!                     └──▶ sections ──▶ modules (observability, kubernetes_api) ◀───┘ ──▶ API server
//! ```
//!
//! [`app::start`] wires this together and spawns the tasks; [`module::Module`] is what a module is, [`modules`] the list of
//! them. What is decided without I/O is in the crate `agent-core`. Wire types stop at `convert`, the environment at
//! [`config`], and the crate `backoff` at [`backoff`].

mod admin;
pub mod app;
pub mod backoff;
pub mod config;
pub mod configuration;
mod convert;
pub mod doctor;
pub mod drain;
mod kas;
mod kubernetes;
pub mod metrics;
pub mod module;
pub mod modules;
mod readiness;
pub mod rights;
pub mod telemetry;
pub mod tunnel;

/// The commit this was built from, if the build was told.
pub(crate) const COMMIT: &str = match option_env!("AGENT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How the agent calls itself, in GitLab's form.
pub(crate) fn user_agent() -> String {
    format!("gitlab-agent/v{}/{COMMIT}", config::VERSION)
}
