//! Allocations of several hosts that are not Slurm's: a worker on each runs the host's jobs as its children.
//!
//! Which hosts there are, and how something is started on one of them, is said by whoever gave the allocation
//! ([`Granted`], [`StartTemplate`]). [`HostMuster`] starts the workers, and [`HostExecutor`], in each of them, runs
//! the jobs of its host and leads what starts ranks in them to their own hosts: it finds a program to call like rsh,
//! behind which the worker of the other host starts what is asked for. Which scheduler it is, is not known here, but
//! for the variables in which Grid Engine names hosts to jobs.

mod agent;
mod granted;
mod muster;
mod node;
mod start;
mod surroundings;

pub use agent::{asked_of_rsh, become_shell, write_agent};
pub use granted::{Granted, GrantedError};
pub use muster::{HostEnded, HostMuster, HostMusterConfig};
pub use node::{HostConfig, HostExecutor};
pub use start::{StartError as StartTemplateError, StartTemplate};
pub use surroundings::{HOST, inherited_by_helpers};
