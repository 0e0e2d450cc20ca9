//! Slurm: where allocations come from.
//!
//! Everything that Slurm is asked or told goes through its client programs, in batches, with deadlines;
//! what is said and what is answered is rendered and read by pure functions. No one of these modules
//! keeps books: Slurm's answers of the moment are all that they know.

pub mod command;
pub mod duration;
pub mod environment;
pub mod hostlist;
mod options;
pub mod partitions;
pub mod queue;
mod refusals;
mod scheduler;
pub mod script;
pub mod settings;
pub mod states;
pub mod version;

pub use command::{Answer, Call, CommandError, Programs};
pub use partitions::{NodeKind, Partition};
pub use queue::QueuePosition;
pub use scheduler::SlurmScheduler;
pub use settings::{ScriptError, SettingsProblem, SlurmSettings};
