//! The server: a KAS with the "Rails side" built in, as a library with a thin `main`.
//!
//! ```text
//!  kubectl ──HTTPS──▶ proxy ──▶ tunnel ◀── agents ◀──gRPC── agent
//!  browser, CLI ────▶ api, page ──┐          │
//!                                 ▼          ▼
//!  Git server ◀── git ──▶ configuration   directory ──▶ store (SQLite)
//! ```
//!
//! - [`app`] wires everything and owns every task; the other modules return futures or are called.
//! - `directory` is the in-memory index over the store: authenticating a call does no SQL.
//! - `authorization` is one pure function and the table it reads, which every request asks; `audit` keeps what it said.
//! - `workspaces` makes workspaces of devfiles and reconciles them with the agents that run them.
//! - `tunnel` keeps the streams that agents opened and hands each to one call.
//! - Wire types stop at `agents` (configuration, presence), `workspaces::reconcile::convert`, `tunnel` (frames) and `proxy::wire`
//!   (HTTP over gRPC).
//!
//! It never talks to a cluster except through the tunnel, and knows nothing of the crate `agent`.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;

mod access;
mod agents;
mod api;
mod audit;
mod authorities;
mod authorization;
mod configuration;
mod connection_headers;
mod data_folder;
mod directory;
mod fetch;
mod git;
mod lingering;
mod listener;
mod membership;
mod metrics;
mod observability;
mod oidc;
mod proxy;
mod secret;
mod sign_in;
mod store;
mod tls;
mod tunnel;
mod workspaces;
