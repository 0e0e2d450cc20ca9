//! The executor's interface: steps are launched, and what comes of them is told.

use serde::{Deserialize, Serialize};

use super::{Node, Step, StepId};

/// Of `launch`: takes a step over. What comes of it is an [`Event`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaunchRequest {
    /// The step.
    pub step: Step,
}

/// Of `signal`: to all processes of a step, unless it is unknown or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignalRequest {
    /// The step.
    pub step: StepId,
    /// What to do.
    pub signal: Signal,
}

/// What to do to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Its termination signal, then SIGKILL after the lead; it ends as [`Outcome::Cancelled`] unless it exits by itself
    /// with code 0.
    Cancel,
    /// The same because time is up; it ends as [`Outcome::TimedOut`].
    TimeUp,
    /// SIGKILL now; it ends as [`Outcome::Cancelled`].
    Kill,
}

/// Of `reconcile`: what became of steps, asked after a restart of torc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reconcile {
    /// The steps; the answer has a [`StepState`] for each, in the same order.
    pub steps: Vec<StepId>,
}

/// Of `inventory`: the nodes that steps can be launched on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InventoryAnswer {
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepState {
    /// It runs; its end will be told.
    Running,
    /// It ended like this.
    Ended {
        /// When.
        at: u64,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// Nothing is known of it, and no process of it is left.
    Unknown,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It exited by itself.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// A signal ended it that torc did not ask for.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It exited with 0, but left out files that it declared.
    FilesMissing {
        /// Which.
        files: Vec<String>,
    },
    /// No process of it ever ran.
    LaunchFailed {
        /// What was being done: `prepare`, `output`, `working_dir` or `execute`.
        stage: String,
        /// Why.
        reason: String,
    },
    /// Its time was up.
    TimedOut {
        /// The code with which it exited by itself when it was asked to end.
        code: Option<i32>,
    },
    /// It used more memory than it was given.
    OutOfMemory {
        /// Bytes, as far as they are known.
        used: Option<u64>,
    },
    /// Its node failed.
    NodeFailed,
    /// Its allocation was taken away.
    Preempted,
    /// It was asked to end.
    Cancelled,
    /// Nobody knows.
    Lost,
}

/// What a step used, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Processor time of all its processes, in milliseconds.
    pub cpu_ms: u64,
    /// The largest memory seen, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

/// What an executor tells: of each step at most once that it started, then exactly once that it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Its first process runs.
    Started {
        /// The step.
        step: StepId,
        /// When.
        at: u64,
    },
    /// No process of it is left.
    Ended {
        /// The step.
        step: StepId,
        /// When.
        at: u64,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// A node was found good or bad for new work.
    NodeChanged {
        /// The number of its allocation.
        allocation: u32,
        /// Its name.
        node: String,
        /// When.
        at: u64,
        /// Its state from now on.
        state: NodeState,
        /// Why.
        reason: String,
    },
}

/// Whether a node may be given new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It may.
    Up,
    /// What runs there ends in peace.
    Draining,
    /// It failed.
    Down,
}
