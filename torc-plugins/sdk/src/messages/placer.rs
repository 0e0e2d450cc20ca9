//! The placer's interface: which jobs start on which nodes, now.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NodeState;

/// Of `plan`: what happened since the last call, in order, and what is to be decided. The answer is a [`Plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanRequest {
    /// What happened.
    pub deltas: Vec<Delta>,
    /// The time.
    pub now: u64,
    /// Start at most so many.
    pub limit: u64,
}

/// Of `explain`: why a job has not started. The answer is a [`Waiting`], or null for a job that does not wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explain {
    /// What happened since the last call.
    pub deltas: Vec<Delta>,
    /// The job.
    pub job: u32,
    /// The time.
    pub now: u64,
}

/// Of `rebuild`: everything is forgotten, and this is taken over. The answer is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rebuild {
    /// The state.
    pub snapshot: Snapshot,
}

/// Something that a placer must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// A class of jobs exists. Classes are numbered from 0 without a gap, and never change.
    ClassAdded {
        /// Its number.
        class: u32,
        /// What each of its jobs asks for.
        request: Request,
    },
    /// A job waits for nodes.
    JobReady(WaitingJob),
    /// A job no longer waits, without having been started.
    JobWithdrawn(u32),
    /// A started job ended, or was refused by torc: what it held is free.
    StepEnded(u32),
    /// Nodes can be used from now on.
    AllocationAdded(Allocation),
    /// The end of an allocation moved.
    AllocationEndMoved {
        /// Its number.
        allocation: u32,
        /// Its new end; `None`: it does not end.
        ends_at: Option<u64>,
    },
    /// The nodes of an allocation are gone. Steps on them end by deltas of their own.
    AllocationRemoved(u32),
    /// Whether a node may be given new work changed.
    NodeStateChanged {
        /// Its number.
        node: u32,
        /// Its state from now on.
        state: NodeState,
    },
}

/// A job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitingJob {
    /// Its number.
    pub job: u32,
    /// Its class.
    pub class: u32,
}

/// What jobs of a class ask for, on each of their nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Higher starts first.
    pub priority: i32,
    /// Only allocations of this scheduler may run the job.
    pub scheduler: Option<String>,
    /// Only allocations with all of these labels may; a job without labels runs only where there are none.
    pub labels: Vec<String>,
    /// CPUs, at least 1.
    pub cpus: u32,
    /// Memory.
    pub memory: MemoryRequest,
    /// GPUs.
    pub gpus: u32,
    /// Nodes, at least 1. More than 1: whole nodes, of one allocation, exclusively.
    pub nodes: u32,
    /// Ranks on each node of a job on several.
    pub ntasks_per_node: u32,
    /// Milliseconds that the job is said to take.
    pub runtime: Option<u64>,
}

/// Memory that a job asks for on each of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemoryRequest {
    /// Not stated: counts as the CPUs' share of the node's memory, rounded down.
    ShareOfCpus,
    /// Bytes.
    Bytes(u64),
}

/// Nodes that are there for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Allocation {
    /// Its number.
    pub id: u32,
    /// The scheduler of the spec that it came from; `None` stands for all.
    pub scheduler: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
    /// When it ends; `None`: it does not.
    pub ends_at: Option<u64>,
    /// Its nodes, with their numbers.
    pub nodes: Vec<(u32, Node)>,
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// The host's name.
    pub name: String,
    /// The operating system's numbers of its CPUs.
    pub cores: Vec<u32>,
    /// CPUs that are given to a job together.
    #[serde(default = "one")]
    pub threads_per_core: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The device ids of its GPUs.
    pub gpus: Vec<String>,
    /// Jobs on one node that it takes at once, whatever they need of CPUs and memory; `None`: as many as fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

fn one() -> u32 {
    1
}

/// What a job holds on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeShare {
    /// The node's number.
    #[serde(rename = "n")]
    pub node: u32,
    /// Places in the node's list of CPUs, ascending; on a node with slots, numbers of slots.
    #[serde(rename = "c")]
    pub cores: Vec<u16>,
    /// Places in its list of GPUs, ascending.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u16>,
    /// Bytes of memory; none of one that holds a slot.
    #[serde(rename = "m")]
    pub memory: u64,
}

/// What a job holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Placement {
    /// The number of the allocation.
    #[serde(rename = "a")]
    pub allocation: u32,
    /// What it holds of each node, in node order.
    #[serde(rename = "s")]
    pub shares: Vec<NodeShare>,
}

/// What was decided. Nodes that are started on are booked by the placer itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The jobs that start now.
    #[serde(default)]
    pub starts: Vec<Start>,
    /// Starts that are promised to jobs that cannot start yet.
    #[serde(default)]
    pub planned: Vec<PlannedStart>,
    /// The nodes that are kept from others for them, by job.
    #[serde(default)]
    pub held: Vec<(u32, Vec<u32>)>,
}

/// A job that starts now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Start {
    /// Its number.
    pub job: u32,
    /// Where.
    pub placement: Placement,
}

/// A promised start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlannedStart {
    /// The job's number.
    pub job: u32,
    /// When at the latest.
    pub at: u64,
    /// On which nodes, in node order.
    pub nodes: Vec<u32>,
}

/// Why a job waits: an object whose `waiting` is `not_now` or `never`, and whose `cause` says more. docs/plugins.md has
/// the causes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Waiting(pub Value);

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunningStep {
    /// Its number.
    pub job: u32,
    /// Its class.
    pub class: u32,
    /// What it holds.
    pub placement: Placement,
    /// When it was started.
    pub started_at: u64,
}

/// All that a placer has to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The classes, each at the place of its number.
    pub classes: Vec<Request>,
    /// The allocations that are there.
    pub allocations: Vec<Allocation>,
    /// Nodes of theirs that are not up.
    pub node_states: Vec<(u32, NodeState)>,
    /// The jobs that run.
    pub running: Vec<RunningStep>,
    /// The jobs that wait, in any order.
    pub waiting: Vec<WaitingJob>,
}
