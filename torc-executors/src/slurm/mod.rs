//! Slurm: what launches steps inside an allocation.
//!
//! One worker on the first node starts every step with srun, as a child of a keeper. What srun says, not
//! its exit code, is the evidence of how a step ended; Slurm's other programs are asked in batches, off
//! the path from one step's end to the next one's start.

mod accounting;
mod allocation;
mod books;
pub mod command;
mod conclude;
pub mod duration;
pub mod environment;
mod evidence;
mod executor;
pub mod hostlist;
mod inventory;
mod launcher;
mod nodes;
mod outcome;
mod service;
pub mod show;
mod sights;
pub mod states;
mod steps;
mod stop;
mod task;
mod terms;
pub mod version;

pub use accounting::{Accounting, StepUsage};
pub use allocation::{AllocationError, SlurmAllocation};
pub use command::{Answer, Call, CommandError, Programs};
pub use executor::{SlurmConfig, SlurmExecutor, SlurmStartError};
pub use launcher::SrunLauncher;
