//! What is said across the boundary, typed: requests, answers and events, JSON on the way.
//!
//! All times are milliseconds since 1970-01-01T00:00:00Z, all spans of time milliseconds, all memory bytes. What is
//! not known to this version of a message is ignored when it is read.

mod executor;
mod launcher;
mod placer;
mod scheduler;
mod step;
mod text;

pub use executor::{
    Event, InventoryAnswer, LaunchRequest, NodeState, Outcome, Reconcile, Signal, SignalRequest,
};
pub use executor::{StepState, Usage};
pub use launcher::{LaunchPlan, LaunchPlanRequest};
pub use placer::{
    Allocation, Delta, Explain, Node, NodeShare, Placement, Plan, PlanRequest, PlannedStart,
};
pub use placer::{
    MemoryRequest, Rebuild, Request, RunningStep, Snapshot, Start, Waiting, WaitingJob,
};
pub use scheduler::{
    AllocationEnd, AllocationRequest, AllocationState, Cancel, Find, NodeShape, Observe, Shapes,
    Submit,
};
pub use step::{Layout, Limits, Stdio, Step, StepId, StepNode};
pub use text::OsText;
