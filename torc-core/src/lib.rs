//! The pure heart of torc: the spec, the workflow made from it, the engine that runs it, the placer
//! that decides what starts where, and the traits that everything else plugs into.
//!
//! Nothing here reads a clock, a file, the environment or the network, and nothing is asynchronous
//! but the signatures of the adapter traits. What the outside world does comes in as events and
//! arguments; what it should do goes out as values.
//!
//! Whoever wants something of their own in torc begins with [`traits`].

pub mod addition;
pub mod diagnostics;
pub mod engine;
pub mod fingerprint;
pub mod forecast;
pub mod governor;
pub mod graph;
pub mod idle;
pub mod ids;
pub mod launch_template;
pub mod offer;
pub mod os_text;
pub mod placer;
pub mod plan;
mod references;
pub mod resources;
pub mod restart;
pub mod simulation;
pub mod spec;
pub mod time;
pub mod traits;
pub mod wire;
pub mod workflow;
