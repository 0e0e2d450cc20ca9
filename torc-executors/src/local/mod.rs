//! The Local executor: runs steps as processes of this host, through a keeper.
//!
//! It knows no workflow, decides nothing about placement, and starts no job itself. Every step that
//! was taken over is reported as ended exactly once, whatever becomes of the keeper.

mod config;
mod environment;
mod executor;

pub use crate::kept::StartError;
pub use config::LocalConfig;
pub use executor::LocalExecutor;
