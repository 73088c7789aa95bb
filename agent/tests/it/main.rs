//! The agent as a whole, between a scripted server (`kas`) and a fake API server (`api_server`), in one process.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot go on fails"
)]

mod api_server;
mod calls;
mod connection;
mod doctor;
mod fixture;
mod gitlab;
mod hostile;
mod kas;
mod modules;
mod objects;
mod program;
mod proxy;
mod rights;
mod stopping;
