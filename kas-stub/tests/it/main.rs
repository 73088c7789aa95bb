//! The server from outside: a scripted agent over real TCP on one side, HTTP clients on the other.

mod agent;
mod agents;
mod api;
mod git;
mod proxy;
mod stop;
mod support;
