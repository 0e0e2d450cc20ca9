//! The Local executor: runs steps as processes of this host, through a keeper.
//!
//! Owns the connection to the keeper and the books of what was handed to it; measures memory. It
//! knows no workflow, decides nothing about placement, and starts no job itself. Every step that was
//! taken over is reported as ended exactly once, whatever becomes of the keeper.

mod aftermath;
mod config;
mod connection;
mod environment;
mod executor;
mod hostfiles;
mod memory;
mod start;
mod watch;

pub use config::{LocalConfig, StartError};
pub use executor::LocalExecutor;
