//! The scheduler's interface: allocations are asked for, followed and ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OsText;

/// What is asked for. It is the request of `shapes`, whose answer is [`Shapes`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllocationRequest {
    /// What people see in the queue.
    pub name: String,
    /// Nodes, at least 1.
    pub nodes: u32,
    /// Milliseconds; `None`: as long as it may be.
    pub walltime: Option<u64>,
    /// The settings of the spec's scheduler.
    pub settings: Value,
    /// The program, absolute, and its arguments, to be run once on the first node. The allocation ends with it.
    /// It is a worker of torc, which needs the scheduler's own name for the allocation in its environment
    /// as `TORC_ALLOCATION_HANDLE`. With `TORC_ALLOCATION_CPUS` it uses so many of the node's CPUs, and else
    /// all that it may run on. For more than one node it needs their names in `TORC_ALLOCATION_HOSTS`, its own
    /// first, and how a command is started on another in `TORC_ALLOCATION_START`.
    pub command: Vec<String>,
    /// Its working folder, absolute.
    pub working_dir: String,
    /// The file that its output goes to, absolute.
    pub output: String,
    /// The whole environment that it starts from.
    pub env: Vec<(OsText, OsText)>,
    /// The file mode creation mask that it starts with.
    pub umask: Option<u32>,
    /// It begins only after this allocation has ended.
    pub after: Option<String>,
}

/// Of `submit`. The answer is the scheduler's own name for the allocation, a string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Submit {
    /// What is asked for.
    pub request: AllocationRequest,
    /// A name that no other request has. It is to travel with the request, so that `find` knows it again.
    pub key: String,
}

/// Of `find`: whether such a request was made. The answer is the allocation's name, or null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Find {
    /// The key.
    pub key: String,
}

/// Of `observe`: where allocations stand, all in one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Observe {
    /// Their names; the answer has an [`AllocationState`] for each, in the same order.
    pub allocations: Vec<String>,
}

/// Of `cancel`. One that has ended, or is unknown, is no failure. The answer is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancel {
    /// Its name.
    pub allocation: String,
}

/// A kind of node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeShape {
    /// CPUs.
    pub cpus: u32,
    /// How many of them share a core.
    pub threads_per_core: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// Nodes of this kind.
    pub count: u32,
}

/// What is known of the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Shapes {
    /// These are all.
    Known(Vec<NodeShape>),
    /// Nothing.
    Unknown,
}

/// Where an allocation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AllocationState {
    /// It waits in the queue.
    Pending {
        /// Why, in the scheduler's words.
        reason: String,
        /// When it is expected to start.
        expected_start: Option<u64>,
    },
    /// It has nodes, which are being made ready.
    Configuring,
    /// Its nodes can be used.
    Running {
        /// When it ends.
        ends_at: Option<u64>,
    },
    /// It has nodes, but nothing on them is given time to run.
    Suspended,
    /// It has lost the node that its command ran on, and has others still.
    Headless,
    /// It is ending.
    Completing,
    /// It is over.
    Ended {
        /// How.
        cause: AllocationEnd,
        /// The scheduler's own words.
        reason: String,
    },
    /// The scheduler says something of it that the plugin does not know. Nothing follows from that.
    Unclear {
        /// Its words.
        words: String,
    },
    /// Nothing is known of it.
    Unknown,
}

/// How an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AllocationEnd {
    /// Its command exited with 0.
    Completed,
    /// Its command failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was up.
    TimedOut,
    /// A node failed that it could not do without.
    NodeFailed,
    /// Its nodes were taken away for something else.
    Preempted,
    /// Its command used too much memory.
    OutOfMemory,
    /// Nobody knows.
    Unknown,
}
