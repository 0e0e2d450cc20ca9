//! Direct mode: one process on each node of a Slurm allocation runs the node's jobs as its children.
//!
//! [`Muster`] starts these processes, and [`NodeExecutor`], in each of them, runs the jobs of its node and
//! keeps what they start with srun to their own nodes. How orders get from the one to the other, and who
//! gives them, is not known here.

mod devices;
mod evidence;
mod folder;
mod leftovers;
mod muster;
mod node;
mod notes;
mod outer;
mod restarts;
mod sruns;
mod surroundings;
mod traces;

pub use folder::{CrewFolder, remove_abandoned};
pub use leftovers::{clear_earlier, end_orphaned_workers, end_steps_of};
pub use muster::{Muster, MusterConfig, MusterEvent};
pub use node::{NodeConfig, NodeExecutor};
pub use restarts::{Restart, Restarts};
pub use traces::Traces;
