//! The seam between the engine and whatever launches steps on nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, StepId};
use crate::resources::NodeInventory;
use crate::time::{Timestamp, millis};
use crate::traits::launcher::RankLayout;
use crate::traits::placer::NodeState;

/// Launches steps on an allocation's nodes.
///
/// # Order
///
/// `inventory` is asked once before anything is launched, and again by whoever wants to know. A run that goes on where
/// one was interrupted asks `reconcile` next, once, for all steps that were under way. After that `launch` and
/// `signal` come as the workflow goes, and may overlap with each other and with events. No step is launched before
/// its beginning is durable, and none twice.
///
/// `launch` and `signal` hand over and return; what comes of a step is reported through the
/// [`StepEvents`] that the executor was made with: at most one [`StepEvent::Started`], then exactly
/// one [`StepEvent::Ended`], and nothing about the step after that. An end may be reported before `launch` has
/// returned. When the end is reported, no process of the step may be left: its CPUs and memory are given to others at
/// once.
///
/// # What is the executor's to do
///
/// Of a [`Step`] it sees to all fields: environment and working folder, output files, the CPUs and GPUs
/// of its nodes, [`StepLimits`], and [`Step::expected_files`]. What it does not do, nobody does.
/// What becomes of the job is said at each [`Outcome`].
///
/// ```
/// # use std::sync::Arc;
/// # use torc_core::{ids::StepId, resources::NodeInventory, time::Timestamp};
/// use torc_core::traits::*;
///
/// /// Says of each step that it succeeded: for trying out a workflow.
/// struct Dry(NodeInventory, Arc<dyn StepEvents>);
///
/// #[async_trait::async_trait]
/// impl Executor for Dry {
///     async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
///         Ok(vec![self.0.clone()])
///     }
///     async fn launch(&self, Step { id: step, .. }: Step) -> Result<(), ExecutorError> {
///         let (at, outcome) = (Timestamp::default(), Outcome::Exited { code: 0 });
///         self.1.emit(StepEvent::Ended { step, at, outcome, usage: Usage::default() });
///         Ok(())
///     }
///     async fn signal(&self, _: StepId, _: StepSignal) -> Result<(), ExecutorError> {
///         Ok(()) // It has ended already.
///     }
///     async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
///         Ok(vec![StepState::Unknown; steps.len()])
///     }
/// }
/// ```
#[async_trait]
pub trait Executor: Send + Sync {
    /// The nodes that steps can be launched on.
    ///
    /// # Errors
    /// When they cannot be determined.
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError>;

    /// Takes a step over. A step that cannot be launched ends with [`Outcome::LaunchFailed`].
    ///
    /// # Errors
    /// When the executor itself is gone; no event follows then.
    async fn launch(&self, step: Step) -> Result<(), ExecutorError>;

    /// Signals all processes of a step. A step that is unknown or has ended is left alone: its end
    /// was reported or will be.
    ///
    /// # Errors
    /// When the executor itself is gone.
    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError>;

    /// What became of these steps, in the same order. For a server that restarts.
    ///
    /// # Errors
    /// When it cannot be known now; ask again.
    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError>;
}

/// Takes the reports of an executor. Called from any thread; must not block.
pub trait StepEvents: Send + Sync {
    /// Something happened to a step.
    fn emit(&self, event: StepEvent);
}

impl<F: Fn(StepEvent) + Send + Sync> StepEvents for F {
    fn emit(&self, event: StepEvent) {
        self(event);
    }
}

/// The executor as a whole failed; no statement about any step. A run without an executor ends, and can be gone on with;
/// a worker ends, and what ran there is lost.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// It did not start.
    #[error("{0}")]
    NotStarted(String),
    /// Nothing can be launched any more.
    #[error("the executor is gone: {0}")]
    Gone(String),
    /// The nodes could not be determined.
    #[error("cannot determine the nodes' resources: {0}")]
    Inventory(String),
}

/// One launch: everything that an executor needs, and nothing that it would have to ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique for ever.
    pub id: StepId,
    /// The job's name, for messages.
    pub job_name: Arc<str>,
    /// The program and its arguments; never a shell string, though the program may be a shell.
    pub argv: Vec<String>,
    /// Set on top of the executor's base environment. Later wins.
    pub env: BTreeMap<String, String>,
    /// The working folder, absolute.
    pub working_dir: Arc<str>,
    /// Where output goes.
    pub stdio: StdioPaths,
    /// The allocation that its nodes belong to.
    pub allocation: AllocationId,
    /// The nodes it runs on, in node order; a command of a gang starts on the first.
    pub nodes: Vec<StepNode>,
    /// How its ranks are laid out over the nodes.
    pub layout: RankLayout,
    /// What it is held to.
    pub limits: StepLimits,
    /// Files that must exist after an exit with code 0, relative to the working folder or absolute.
    pub expected_files: Vec<Arc<str>>,
}

/// One node of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNode {
    /// The host's name as the scheduler knows it.
    pub name: Box<str>,
    /// The operating system's ids of the CPUs it may use there.
    pub cores: Box<[u32]>,
    /// The device ids of its GPUs there.
    pub gpus: Box<[Box<str>]>,
    /// Memory held there, in bytes.
    pub memory: u64,
}

/// Files that a step's output goes to, absolute; `None` discards it. Equal paths share one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdioPaths {
    /// Standard output.
    pub stdout: Option<Box<str>>,
    /// Standard error.
    pub stderr: Option<Box<str>>,
    /// Remove the files after an exit with code 0.
    pub delete_on_success: bool,
}

/// What a step is held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// End the step when its processes on one node use more than this many bytes.
    pub memory: Option<u64>,
    /// End the step after this time.
    #[serde(with = "millis::option")]
    pub runtime: Option<Duration>,
    /// The signal that asks a step to end, by number.
    pub termination_signal: i32,
    /// Time between that signal and SIGKILL.
    #[serde(with = "millis")]
    pub termination_lead: Duration,
}

/// What to do to the processes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSignal {
    /// The step's limits' termination signal, then SIGKILL after their lead; the step ends as
    /// [`Outcome::Cancelled`] unless it exits by itself with code 0.
    Cancel,
    /// The same because time is up; the step ends as [`Outcome::TimedOut`].
    TimeUp,
    /// SIGKILL now; the step ends as [`Outcome::Cancelled`].
    Kill,
}

/// How a step ended, and what torc makes of it.
///
/// An end that came from outside the job ([`Self::came_from_outside`]) makes it ready again, without spending a retry
/// of the user's; of the others, but for success, a failure handler's rule for the return code may grant a retry, and
/// without one the job has failed. A job whose end somebody wished is canceled, whatever its outcome, unless it
/// succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It exited by itself. With 0 the job completed; else the code is the job's return code.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// A signal that torc did not send ended it. The return code is 128 and the signal's number.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It exited with 0, but left files out that it declared. A failure, with return code 0.
    FilesMissing {
        /// The declared paths that do not exist.
        files: Vec<Arc<str>>,
    },
    /// No process of it ever ran. A failure without a return code: only a rule that matches all codes retries it.
    LaunchFailed {
        /// What was being done.
        stage: LaunchStage,
        /// The operating system's or launcher's words.
        reason: String,
    },
    /// Its time was up, by its own limit or the allocation's. The job is terminated, or completed if it exited with 0
    /// when it was asked to; the return code is the one it exited with, else `timeout_exit_code` (152).
    TimedOut {
        /// The code with which it exited by itself when asked to end; `None` when a signal ended it.
        code: Option<i32>,
    },
    /// It used more memory than it was given. A failure with `oom_exit_code` (137).
    OutOfMemory {
        /// Bytes it used when it was ended, as far as they are known.
        used: Option<u64>,
    },
    /// Its node failed. The job runs again.
    NodeFailed,
    /// Its allocation was preempted. The job runs again.
    Preempted,
    /// torc ended it because somebody wished so. The job is canceled where that was wished of the job, and runs again
    /// where it was torc that stopped.
    Cancelled,
    /// Nobody knows what became of it: the process that watched it is gone. The job runs again.
    Lost,
}

impl Outcome {
    /// Whether a cause outside the job ended it, so that it says nothing about jobs like it.
    pub fn came_from_outside(&self) -> bool {
        matches!(self, Self::NodeFailed | Self::Preempted | Self::Cancelled | Self::Lost)
    }
}

/// What was being done when a launch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchStage {
    /// Preparing the launch: hostfile, launcher.
    Prepare,
    /// Opening the output files.
    Output,
    /// Entering the working folder.
    WorkingDir,
    /// Executing the program.
    Execute,
}

/// What a step used, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes, user and system, in milliseconds.
    pub cpu_ms: u64,
    /// The largest memory seen, in bytes. `None` when it ended before it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

/// A report of an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StepEvent {
    /// Its first process runs.
    Started {
        /// The step.
        step: StepId,
        /// When.
        at: Timestamp,
    },
    /// It ended; no process of it is left.
    Ended {
        /// The step.
        step: StepId,
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// A node was found good or bad for new work. The steps that ran on a failed node end with
    /// reports of their own.
    NodeChanged {
        /// The allocation that it belongs to.
        allocation: AllocationId,
        /// The host's name as the scheduler knows it.
        node: Box<str>,
        /// When.
        at: Timestamp,
        /// Its state from now on.
        state: NodeState,
        /// Why, in the scheduler's words.
        reason: String,
    },
}

/// What became of a step, asked after the fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepState {
    /// It runs; its end will be reported. The run goes on as if it had never been interrupted.
    Running,
    /// It ended like this.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// This executor knows nothing of it, and no process of it is left. It is taken for [`Outcome::Lost`], so its job
    /// runs again: an executor that is not sure returns an error instead.
    Unknown,
}
