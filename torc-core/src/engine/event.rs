//! What happens to a workflow, in the past tense.
//!
//! Events are all that is stored of a workflow's life: whoever applies them in order to a new
//! [`Engine`](super::Engine) has the live state again. Decisions are events too, so that a replay
//! repeats them instead of making them anew. Field names are short since every job writes a few.

use serde::{Deserialize, Serialize};

use crate::addition::Addition;
use crate::fingerprint::Fingerprint;
use crate::ids::{AllocationId, AttemptId, JobId, NodeId, RunId, StepId, WorkerId};
use crate::resources::{Allocation, Placement};
use crate::restart::Revision;
use crate::time::Timestamp;
use crate::traits::{
    AllocationEnd, AllocationHandle, NodeState, Outcome, StepAccount, StepSignal, Usage,
};

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
    /// Between two runs the workflow was defined anew. Jobs keep their numbers.
    Redefined {
        /// When.
        at: Timestamp,
        /// What is different from now on.
        revision: Box<Revision>,
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
    /// Jobs (inclusive ranges of job numbers) are left out until they are enabled again.
    JobsDisabled {
        /// When.
        at: Timestamp,
        /// The jobs.
        jobs: Vec<(JobId, JobId)>,
    },
    /// Jobs (inclusive ranges of job numbers) are not left out any more. In a run that can go on they
    /// begin to wait anew.
    JobsEnabled {
        /// When.
        at: Timestamp,
        /// The jobs.
        jobs: Vec<(JobId, JobId)>,
    },
    /// An allocation is wanted. Its scheduler is asked for it once, under a key made of its number.
    AllocationRequested {
        /// When.
        at: Timestamp,
        /// The number it will have.
        allocation: AllocationId,
        /// Index into the workflow's schedulers.
        scheduler: u32,
        /// Index of the action that wants it.
        action: Option<u32>,
    },
    /// The scheduler took the request.
    AllocationSubmitted {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
        /// The scheduler's name for it.
        handle: AllocationHandle,
    },
    /// Nodes were granted: to a request, or without one where they are simply there.
    AllocationGranted {
        /// When.
        at: Timestamp,
        /// When they were granted by the scheduler's word: until `at` they were being made ready.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        began_at: Option<Timestamp>,
        /// The allocation.
        allocation: Allocation,
    },
    /// An allocation ends at another time than was known.
    AllocationEndMoved {
        /// When this became known.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
        /// Its end; `None`: it does not end.
        ends_at: Option<Timestamp>,
    },
    /// Whether anything in an allocation is given time to run changed. Nothing new starts meanwhile,
    /// and its end does not come.
    AllocationSuspended {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
        /// From now on.
        suspended: bool,
    },
    /// The worker of an allocation can be talked to from now on, or not. What runs there goes on;
    /// nothing new starts meanwhile.
    AllocationReachable {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
        /// Whether it can.
        reachable: bool,
    },
    /// An allocation's time is up: what runs there was asked to end.
    AllocationExpired {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
    },
    /// An allocation is to be given back: nothing more starts there.
    AllocationLeaving {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
    },
    /// A node is to be given back before its allocation ends: nothing more starts there.
    NodeLeaving {
        /// When.
        at: Timestamp,
        /// The node.
        node: NodeId,
    },
    /// An allocation's nodes are gone, or its request came to nothing.
    AllocationEnded {
        /// When.
        at: Timestamp,
        /// The allocation.
        allocation: AllocationId,
        /// How, as far as the scheduler tells.
        #[serde(default)]
        cause: AllocationEnd,
        /// In the scheduler's words, or torc's own.
        #[serde(default)]
        reason: String,
    },
    /// The moment of an action has come. What its kind wants follows: requests for allocations, or
    /// its commands.
    ActionFired {
        /// When.
        at: Timestamp,
        /// Index into the workflow's actions.
        action: u32,
        /// The worker on whose node commands are run; `None`: the server's host.
        worker: Option<WorkerId>,
    },
    /// A command of an action ended. The next one follows after code 0.
    ActionCommandEnded {
        /// When.
        at: Timestamp,
        /// Index into the workflow's actions.
        action: u32,
        /// The worker it was for.
        worker: Option<WorkerId>,
        /// Index of the command.
        command: u32,
        /// 0 to 255; 128 + n after signal n.
        code: i32,
    },
    /// The recovery script of a job that is tried again is to run, and the job waits for its end.
    RecoveryBegan {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The launch that failed.
        attempt: AttemptId,
    },
    /// A recovery script ended. The job is ready again after code 0, and has failed after any other.
    RecoveryEnded {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The launch that failed.
        attempt: AttemptId,
        /// 0 to 255; 128 + n after signal n.
        code: i32,
    },
    /// A node was found good or bad for new work.
    NodeStateChanged {
        /// When.
        at: Timestamp,
        /// The node.
        node: NodeId,
        /// Its state from now on.
        state: NodeState,
        /// Why, in words for people; empty where nobody said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// From now on these nodes are kept from others for the planned starts of these jobs, and no others.
    #[serde(rename = "h")]
    NodesHeld {
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
        /// The nodes by job, in node order.
        #[serde(rename = "h")]
        held: Vec<(JobId, Vec<NodeId>)>,
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
    /// What the input files of a launch that completed were like then.
    #[serde(rename = "i")]
    InputsSeen {
        /// The job.
        #[serde(rename = "j")]
        job: JobId,
        /// The run.
        #[serde(rename = "r")]
        run: RunId,
        /// The launch.
        #[serde(rename = "a")]
        attempt: AttemptId,
        /// When.
        #[serde(rename = "t")]
        at: Timestamp,
        /// By the index of each file in the workflow as it was defined then.
        #[serde(rename = "f")]
        files: Vec<(u32, Fingerprint)>,
    },
    /// What the scheduler's accounting says about a launch that has ended.
    StepAccounted {
        /// When this became known.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The run.
        run: RunId,
        /// The launch.
        attempt: AttemptId,
        /// What it used.
        usage: Usage,
        /// How it ended, in the scheduler's words. Logs from before this was kept have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<Box<str>>,
    },
    /// User data has this value from now on. It says nothing about the time of a run: nobody may drive it.
    UserDataSet {
        /// When.
        at: Timestamp,
        /// Index into the workflow's user data.
        item: u32,
        /// The value.
        value: serde_json::Value,
        /// The job that set it; `None`: somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<JobId>,
    },
    /// Jobs were added to the workflow.
    JobsAdded {
        /// When.
        at: Timestamp,
        /// They, and what else changes by them.
        addition: Box<Addition>,
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
    /// That the accounting says this about a step, as became known at `at`.
    pub fn accounted(at: Timestamp, step: StepId, account: StepAccount) -> Self {
        let StepId { job, run, attempt, .. } = step;
        let StepAccount { usage, state } = account;
        Self::StepAccounted { at, job, run, attempt, usage, state }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::RunStarted { at, .. }
            | Self::RunResumed { at }
            | Self::Redefined { at, .. }
            | Self::InputsSeen { at, .. }
            | Self::JobsPutBack { at, .. }
            | Self::JobsDisabled { at, .. }
            | Self::JobsEnabled { at, .. }
            | Self::AllocationRequested { at, .. }
            | Self::AllocationSubmitted { at, .. }
            | Self::AllocationGranted { at, .. }
            | Self::AllocationEndMoved { at, .. }
            | Self::AllocationReachable { at, .. }
            | Self::AllocationSuspended { at, .. }
            | Self::AllocationLeaving { at, .. }
            | Self::AllocationExpired { at, .. }
            | Self::AllocationEnded { at, .. }
            | Self::ActionFired { at, .. }
            | Self::ActionCommandEnded { at, .. }
            | Self::RecoveryBegan { at, .. }
            | Self::RecoveryEnded { at, .. }
            | Self::NodeStateChanged { at, .. }
            | Self::NodeLeaving { at, .. }
            | Self::NodesHeld { at, .. }
            | Self::LaunchesCleared { at, .. }
            | Self::Dispatched { at, .. }
            | Self::StepStarted { at, .. }
            | Self::StepEnded { at, .. }
            | Self::StepAccounted { at, .. }
            | Self::UserDataSet { at, .. }
            | Self::JobsAdded { at, .. }
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
    /// Run a command of an action, and say how it ended.
    RunCommand(ActionCommand),
    /// Run the recovery script of a launch that failed, and say how it ended.
    RunRecovery(FailedLaunch),
    /// End that script: nobody waits for it any more.
    EndRecovery(FailedLaunch),
}

/// A launch that failed, and whose job is tried again after its recovery script. That is run at least
/// once: a crash may come between its end and the record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailedLaunch {
    /// The job.
    pub job: JobId,
    /// Its launch in the current run.
    pub attempt: AttemptId,
}

/// A command of an action. Run at least once: a crash may come between its end and the record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionCommand {
    /// Index into the workflow's actions.
    pub action: u32,
    /// The worker on whose node it is run; `None`: the server's host.
    pub worker: Option<WorkerId>,
    /// Index into the action's commands.
    pub command: u32,
}

impl ActionCommand {
    /// Whether a worker of this allocation runs it.
    pub fn is_for(&self, allocation: AllocationId) -> bool {
        self.worker.is_some_and(|worker| worker.allocation == allocation)
    }
}
