//! What launches steps and keeps their processes: the Local executor, the keeper that is the parent
//! of all its jobs, and what this host has to offer; and Slurm: where allocations come from, and what
//! launches steps inside one, by srun or on each of its nodes; and the hosts of allocations that are not Slurm's;
//! and commands of this host that are no jobs.
//!
//! For programs that embed torc these are parts to build with: [`local::LocalExecutor`] runs steps as processes of
//! this host, [`launched::Launched`] puts a [`Launcher`](torc_core::traits::Launcher) before any executor's, and
//! [`host::inventory`] says what this host has. What an executor promises is the contract of
//! [`Executor`](torc_core::traits::Executor).
//!
//! A program that runs steps by the Local executor calls [`keeper::run_if_asked`] first thing in its `main`:
//!
//! ```
//! fn main() -> std::process::ExitCode {
//!     if let Some(code) = torc_executors::keeper::run_if_asked() {
//!         return code;
//!     }
//!     let host = torc_executors::host::inventory().expect("this host can be looked at");
//!     assert!(host.cpus() >= 1);
//!     std::process::ExitCode::SUCCESS
//! }
//! ```

pub mod clock;
pub mod direct;
pub mod errands;
pub mod file_lock;
pub mod host;
pub mod hosts;
pub mod keeper;
mod kept;
pub mod launched;
pub mod local;
mod processes;
pub mod slurm;
