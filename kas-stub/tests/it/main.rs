//! The server from outside: a scripted agent over real TCP on one side, HTTP clients on the other.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "helpers of tests stop a test as its own lines do"
)]

mod agent;
mod agents;
mod api;
mod certificates;
mod git;
mod imports;
mod json;
mod life;
mod lingering;
mod people;
mod proxy;
mod rights;
mod settings;
mod stop;
mod support;
