//! Component tests: agent and server as libraries in one process, talking over loopback, with a fake API server behind
//! the agent. What they show is the wire between the two and what each does when the other goes; what a real API server
//! says is tested on the cluster (`e2e`).
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod access;
mod calls;
mod client;
mod clusters;
mod devworkspaces;
mod fake_api;
mod faults;
mod git;
mod gitlab_json;
#[path = "../../../agent/tests/it/objects.rs"]
#[allow(dead_code, reason = "the agent's own tests look closer")]
mod objects;
mod people;
mod relay;
mod restore;
mod rig;
mod transport;
mod troubles;
mod upstream;
