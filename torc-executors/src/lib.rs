//! What launches steps and keeps their processes: the Local executor, the keeper that is the parent
//! of all its jobs, and what this host has to offer; and Slurm: where allocations come from, and what
//! launches steps inside one, by srun or on each of its nodes; and the hosts of allocations that are not Slurm's.
//!
//! A program that embeds this crate calls [`keeper::run_if_asked`] first thing in its `main`.

pub mod clock;
pub mod direct;
pub mod file_lock;
pub mod host;
pub mod hosts;
pub mod keeper;
mod kept;
pub mod launched;
pub mod local;
mod processes;
pub mod slurm;
