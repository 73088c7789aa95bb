//! What the demo and the end-to-end tests have in common: the project's programs on the host, the agent in the cluster
//! by its chart, people at their terminals.
//!
//! Like [`harness`] it is synchronous and knows server and agent only as programs. The component tests in
//! `tests/component` are the other kind: both sides as libraries, in one process.

pub mod command;
pub mod journey;
pub mod project;
pub mod release;
pub mod sample;
pub mod server;

/// Where the demo and the end-to-end tests keep logs and data of their runs; Git ignores it.
pub fn output_dir() -> std::path::PathBuf {
    harness::paths::repo_root().join("tests/output")
}
