//! What a server and its workers need of their surroundings, tried out.
//!
//! Each trial does what a server or a worker does, with files of its own that it removes. What follows
//! from what was found is not said here.

mod file_system;
mod node;
mod probe;

pub use file_system::{FileSystemError, SecondOwner, Trial, second_owner};
pub use node::{FolderSight, NodeSight, look};
pub use probe::Probe;
