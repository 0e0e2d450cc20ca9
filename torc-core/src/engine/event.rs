//! What happens to a workflow, in the past tense.
//!
//! Events are all that is stored of a workflow's life: whoever applies them in order to a new
//! [`Engine`](super::Engine) has the live state again. Decisions are events too, so that a replay
//! repeats them instead of making them anew. Field names are short since every job writes a few.

use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, AttemptId, JobId, NodeId, RunId};
use crate::resources::{Allocation, Placement};
use crate::time::Timestamp;
use crate::traits::{NodeState, Outcome, StepSignal, Usage};

/// Something that happened to a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub enum Event {
    /// A run began: these jobs (inclusive ranges of job numbers) start from the beginning.
    RunStarted {
        /// The run's number, one more than the last.
        run: RunId,
        /// When.
        at: Timestamp,
        /// The jobs that run again, or for the first time.
        reset: Vec<(JobId, JobId)>,
    },
    /// A run that was stopped or whose server died goes on.
    RunResumed {
        /// When.
        at: Timestamp,
    },
    /// Jobs that did not complete (inclusive ranges of job numbers) were put back into the run that
    /// is under way, and what waits for them begins to wait anew.
    JobsPutBack {
        /// When.
        at: Timestamp,
        /// The jobs.
        jobs: Vec<(JobId, JobId)>,
    },
    /// Nodes were granted.
    AllocationGranted {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: Allocation,
    },
    /// An allocation's time is up: what runs there was asked to end.
    AllocationExpired {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
    },
    /// An allocation's nodes are gone.
    AllocationEnded {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
    },
    /// A node was found good or bad for new work.
    NodeStateChanged {
        /// When.
        at: Timestamp,
        /// The node.
        node: NodeId,
        /// Its state from now on.
        state: NodeState,
    },
    /// These ready jobs (inclusive ranges of job numbers) may be launched once each without
    /// waiting for their dispatch to be stored: jobs so short that waiting would cost more than
    /// they do. Until its dispatch is stored, such a launch is known by this event.
    #[serde(rename = "c")]
    LaunchesCleared {
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
        /// The jobs.
        #[serde(rename = "j")]
        jobs: Vec<(JobId, JobId)>,
    },
    /// A job was given nodes. Its launch follows.
    #[serde(rename = "d")]
    Dispatched {
        /// The job.
        #[serde(rename = "j")]
        job: JobId,
        /// The launch.
        #[serde(rename = "a")]
        attempt: AttemptId,
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
        /// The nodes.
        #[serde(rename = "p")]
        placement: Placement,
    },
    /// The first process of a launch runs.
    #[serde(rename = "s")]
    StepStarted {
        /// The job.
        #[serde(rename = "j")]
        job: JobId,
        /// The launch.
        #[serde(rename = "a")]
        attempt: AttemptId,
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
    },
    /// A launch ended.
    #[serde(rename = "x")]
    StepEnded {
        /// The job.
        #[serde(rename = "j")]
        job: JobId,
        /// The launch.
        #[serde(rename = "a")]
        attempt: AttemptId,
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
        /// How.
        #[serde(rename = "o")]
        outcome: Outcome,
        /// What it used.
        #[serde(rename = "u")]
        usage: Usage,
    },
    /// Somebody wished these jobs ended; all of them when none is named.
    CancelRequested {
        /// When.
        at: Timestamp,
        /// The jobs.
        jobs: Option<Vec<JobId>>,
    },
    /// Somebody wished torc to stop here and go on later. Nothing more starts.
    StopRequested {
        /// When.
        at: Timestamp,
    },
    /// Nothing is left to do, or nothing that could be done.
    RunEnded {
        /// When.
        at: Timestamp,
        /// Whether every job has ended. Otherwise some could not be started.
        complete: bool,
    },
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::RunStarted { at, .. }
            | Self::RunResumed { at }
            | Self::JobsPutBack { at, .. }
            | Self::AllocationGranted { at, .. }
            | Self::AllocationExpired { at, .. }
            | Self::AllocationEnded { at, .. }
            | Self::NodeStateChanged { at, .. }
            | Self::LaunchesCleared { at, .. }
            | Self::Dispatched { at, .. }
            | Self::StepStarted { at, .. }
            | Self::StepEnded { at, .. }
            | Self::CancelRequested { at, .. }
            | Self::StopRequested { at }
            | Self::RunEnded { at, .. } => *at,
        }
    }
}

/// What the outside world is to do, now that an event was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Signal a running step.
    Signal {
        /// The job.
        job: JobId,
        /// Its current launch.
        attempt: AttemptId,
        /// What to send.
        signal: StepSignal,
    },
}
