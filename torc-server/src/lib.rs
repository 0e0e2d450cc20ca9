//! The process around the engine: the store, the loop that drives the engine, and the connection
//! that other processes reach it by.
//!
//! It performs what the engine decides and knows no rule of its own about jobs.

pub mod access;
pub mod accountant;
mod action_command;
mod admission;
pub mod allocation_request;
mod allocator;
mod api;
pub mod archive;
pub mod batch_run;
mod change;
mod children;
pub mod crew;
mod disk;
pub mod doctor;
mod driver;
pub mod earlier;
pub mod embed;
pub mod handle;
pub mod inherited;
mod journal;
pub mod known_dirs;
mod leave_out;
pub mod link;
pub mod placers;
mod private_file;
mod restarting;
pub mod schedulers;
pub mod serve;
pub mod server_process;
pub mod session;
pub mod spec_folders;
pub mod state_dir;
mod stop;
pub mod store;
mod store_task;
mod stored;
pub mod submitter;
pub mod view;
pub mod worker;
mod workers;

pub use api::ApiError;
pub use driver::DriveError;
pub use private_file::PrivateFileError;
pub use torc_executors::clock;
