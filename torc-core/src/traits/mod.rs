//! The seams of torc: where allocations come from, what launches steps, what decides who starts,
//! and how a launch is written down.
//!
//! Policies ([`Placer`], [`Launcher`]) are synchronous and pure: they get the time as an argument.
//! Adapters ([`Scheduler`], [`Executor`]) are asynchronous and do I/O. What can happen in normal
//! operation is a value ([`Outcome`], [`Waiting`]); an error means that the seam itself failed.
//!
//! # Which one, and in which form
//!
//! | what is different at your site | trait | what calls it, where |
//! |---|---|---|
//! | the program that starts ranks: `flux run`, a container | [`Launcher`] | an executor, on the node where the step starts |
//! | the batch system | [`Scheduler`] | the server |
//! | which job goes first, and where | [`Placer`] | the engine, in the process that runs the workflow |
//! | how a process is started and watched at all | [`Executor`] | the driver of a run, or the worker in an allocation |
//!
//! Take the first of these forms that can express it:
//!
//! 1. a *template* in the spec, for launchers: words with places, no code ([`crate::launch_template`]);
//! 2. a *program* that answers JSON lines, in any language: a process of its own, which cannot take torc along;
//! 3. a *shared library* in Rust or C, where a process for each call is too slow, or state is to be shared;
//! 4. a *program of one's own* that implements these traits and embeds torc (`torc_server::embed`), where the
//!    workflow is a part of something larger. It is built with torc and follows its releases; the other three are not.
//!
//! The first three are told of in `docs/plugins.md`. The contract below is theirs as well.
//!
//! # What holds for all
//!
//! - Everything is `Send`; adapters and launchers are `Sync`, too, and may be called from several tasks at once. A
//!   placer is called by one at a time.
//! - Times are milliseconds since 1970 in UTC ([`Timestamp`](crate::time::Timestamp)), durations are
//!   [`std::time::Duration`] and travel as milliseconds, memory is in bytes. CPUs, GPUs and memory are *per node*.
//! - Names that torc gives, of steps and by keys, are never used again.
//! - A panic is torc's end or that of a run: return an error, or a value that says what happened.

mod executor;
mod launcher;
mod placer;
mod scheduler;

pub use executor::{
    Executor, ExecutorError, LaunchStage, Outcome, StdioPaths, Step, StepEvent, StepEvents,
    StepLimits, StepNode, StepSignal, StepState, Usage,
};
pub use launcher::{LaunchPlan, Launcher, LauncherError, RankLayout};
pub use placer::{
    Delta, NeverReason, NodeFree, NodeState, NotNowReason, Placer, Plan, PlannedStart, RunningStep,
    Snapshot, Start, Waiting, WaitingJob,
};
pub use scheduler::{
    AllocationEnd, AllocationHandle, AllocationRequest, AllocationState, NodeShape, Scheduler,
    SchedulerError, Shapes, StepAccount,
};
