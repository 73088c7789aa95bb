//! A byte stream inside a WebSocket, as GitLab's agent and server carry gRPC through proxies that let nothing else pass.
//!
//! The bytes are those of a plaintext HTTP/2 connection, client's preface first. They travel in binary messages whose borders
//! mean nothing. The client offers the sub-protocol `ws-tunnel` and the server takes it; messages are not compressed (protocol:
//! GitLab's `internal/tool/wstunnel`). Both sides' handshakes are here ([`connect`], [`accept`]) and what follows them
//! ([`Tunnel`]); no socket, TLS, gRPC or retry is. The server's end makes legal what GitLab's agent sends (`authority`).

mod authority;
mod client;
mod server;
mod tunnel;

pub use client::{ConnectError, Target, connect};
pub use server::{Refusal, accept, is_upgrade};
pub use tunnel::Tunnel;

/// The sub-protocol that both sides must agree on.
pub const SUBPROTOCOL: &str = "ws-tunnel";

/// Largest message taken. GitLab's limit, and so the largest that may be sent to a peer of GitLab's.
pub const MAX_MESSAGE: usize = 10 * 1024 * 1024;

#[cfg(test)]
mod tests;
