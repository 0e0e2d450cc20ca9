//! Direct mode: one process on each node of a Slurm allocation runs the node's jobs as its children.
//!
//! [`NodeExecutor`] runs the jobs of one node, and keeps what they start with srun to their own nodes.
//! How its orders reach it, and who tells it of jobs, is not known here.

mod devices;
mod leftovers;
mod node;
mod sruns;
mod surroundings;

pub use node::{NodeConfig, NodeExecutor};
