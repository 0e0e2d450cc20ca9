//! The process around the engine: the store, the loop that drives the engine, and the connection
//! that other processes reach it by.
//!
//! It performs what the engine decides and knows no rule of its own about jobs.

pub mod access;
mod api;
mod driver;
pub mod handle;
pub mod link;
mod private_file;
pub mod session;
pub mod state_dir;
pub mod store;
mod store_task;
mod stored;
pub mod view;

pub use api::ApiError;
pub use driver::DriveError;
pub use private_file::PrivateFileError;
pub use torc_executors::clock;
