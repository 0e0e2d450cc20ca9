//! What this host has to offer to jobs, and how it is cut into pretended nodes.
//!
//! Reads what this process may use, not what the hardware has: its CPU affinity, its cgroup's limits
//! and the GPUs that were given to it. Knows no job.

mod cgroup;
mod gpus;
mod inventory;
mod pretend;

pub use inventory::{InventoryError, inventory};
pub use pretend::{PerNode, PretendError, pretend};
