//! What the agent decides, as functions of values.
//!
//! This crate knows no async runtime, no gRPC, no cluster client and no clock: `Cargo.toml` shows that they are absent.
//! Time is an argument, a [`std::time::Duration`] since the agent started. The crate `agent` fetches the values, does
//! what is decided here, and has no choices left to make.
//!
//! - [`tunnel::TunnelPool`]: how many tunnel connections to hold open, which to close, and when.
//! - [`reconcile`]: what to do for one workspace.
//! - [`gitlab`]: the same from the answers of GitLab's JSON reconcile.
//! - [`guard`]: what the server may want applied, whatever it is.
//! - [`pull_secrets`]: what becomes of a Secret that images are pulled with.
//! - [`failures`]: why a workspace is not what was asked.
//! - [`reconnect`]: which delay follows which end of a call to the server, and what of it is worth a line in the log.

pub mod failures;
pub mod gitlab;
pub mod guard;
pub mod pull_secrets;
pub mod reconcile;
pub mod reconnect;
pub mod tunnel;
