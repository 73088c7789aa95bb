//! Drives what the end-to-end tests and the demo stand on: the test cluster, its images and tools,
//! the Git server, and the processes of the project itself.
//!
//! Synchronous on purpose, and small: `cargo xtask` links it and must start at once. It knows neither
//! the agent nor the server as crates, only as programs.
//!
//! Start with [`setup`] (what this machine lacks), then [`tools::Tools::ensure`], [`images`],
//! [`cluster::Cluster::up`]. Whatever it starts ends with it: see [`process::Process`] and
//! [`watchdog::Watchdog`].

pub mod cluster;
pub mod devworkspace;
pub mod git_server;
pub mod hash;
pub mod images;
pub mod kwok;
pub mod oidc;
pub mod paths;
pub mod process;
pub mod reachability;
mod root;
pub mod setup;
pub mod step;
pub mod tools;
pub mod wait;
pub mod watchdog;
