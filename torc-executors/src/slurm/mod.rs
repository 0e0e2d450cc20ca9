//! Slurm: where allocations come from, and what launches steps inside one.
//!
//! Everything that Slurm is asked or told goes through its client programs, in batches, with deadlines;
//! what is said and what is answered is rendered and read by pure functions. The scheduler keeps no
//! books: what it says is what Slurm said just now. Inside an allocation, one worker on the first node
//! starts every step with srun, as a child of a keeper; what srun says, not its exit code, is the
//! evidence of how a step ended.

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
pub(crate) mod launcher;
mod nodes;
mod options;
mod outcome;
mod overrun;
mod partitions;
mod position;
mod queue;
mod records;
mod refusals;
mod scheduler;
pub mod script;
mod service;
pub mod settings;
pub mod show;
pub(crate) mod sights;
pub mod states;
pub(crate) mod steps;
mod stop;
mod survey;
mod task;
mod terms;
mod usage;
pub mod version;
mod watch;

pub use allocation::{AllocationError, SlurmAllocation};
pub use command::{Answer, Call, CommandError, Programs};
pub use executor::{SlurmConfig, SlurmExecutor, SlurmStartError};
pub(crate) use executor::{host_name, is_alive};
pub use launcher::SrunLauncher;
pub use outcome::Standing;
pub use partitions::{NodeKind, Partition};
pub use position::QueuePosition;
pub use scheduler::SlurmScheduler;
pub use settings::{ScriptError, SettingsProblem, SlurmSettings};
pub use steps::Srun;
pub use survey::SlurmSurvey;
pub use usage::Accounting;
pub use watch::{Sight, Watched, watch};
