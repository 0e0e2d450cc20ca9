//! The seams of torc: where allocations come from, what launches steps, what decides who starts,
//! and how a launch is written down.
//!
//! Policies ([`Placer`], [`Launcher`]) are synchronous and pure: they get the time as an argument.
//! Adapters ([`Scheduler`], [`Executor`]) are asynchronous and do I/O. What can happen in normal
//! operation is a value ([`Outcome`], [`Waiting`]); an error means that the seam itself failed.

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
