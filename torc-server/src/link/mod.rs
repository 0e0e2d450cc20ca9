//! The connection between a server and whoever works with it over a network: TLS with a pinned key, a
//! token, HTTP and JSON for questions, WebSocket for workers.
//!
//! It knows how messages travel, not what they say. Invariant: without the token nothing but a refusal
//! leaves a server, and without the pinned key nothing but a handshake leaves a client.

pub mod addresses;
mod body;
pub mod channel;
pub mod client;
mod connection;
mod dial;
mod entrance;
mod guard;
mod hex;
pub mod identity;
pub mod listener;
mod pump;
pub mod remote;
pub mod secret;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
