//! The connection between a server and whoever works with it over a network: TLS with a pinned key, a
//! token, HTTP and JSON for questions, WebSocket for workers.
//!
//! It knows how messages travel, not what they say. Invariant: without the token nothing but a refusal
//! leaves a server, and without the pinned key nothing but a handshake leaves a client.

pub mod addresses;
mod hex;
pub mod identity;
pub mod remote;
pub mod secret;
pub mod tls;
