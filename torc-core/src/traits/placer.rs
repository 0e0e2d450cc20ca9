//! The seam between the engine and whatever decides which ready jobs start where.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, ClassId, JobId, NodeId};
use crate::resources::{Allocation, Placement, Request, Slots};
use crate::time::Timestamp;

/// Decides which ready jobs start on which nodes, now. One placer serves one workflow.
///
/// A placer is pure and deterministic: the same calls give the same answers. It keeps its own
/// books; the engine keeps a ledger of its own and checks every start against it, so that a faulty
/// placer can waste time but never oversubscribe a node. One that cannot go on says so in its next plan,
/// whatever it failed at.
///
/// # Order
///
/// First [`rebuild`](Self::rebuild), with all there is; then [`apply`](Self::apply) with what happened since the last
/// call, followed by [`plan`](Self::plan), again and again. `rebuild` may come at any time after that, when the
/// workflow changed in ways that deltas do not tell. `explain` comes when a person asks, and where nothing runs and
/// nothing starts. One call at a time. `plan` is on the way of every job: it has to be fast.
///
/// # What a start has to be
///
/// A job that waits, on as many nodes as it asked for ([`Request::nodes`](crate::resources::Request::nodes)), all of one
/// allocation that serves it ([`Allocation::serves`]) and is not about to end, each up. On each node it has
/// exactly the CPUs and GPUs, and at least the memory, that the job counts for there, from what is free; a gang has
/// whole nodes ([`Request::share_of_idle`](crate::resources::Request::share_of_idle)). The engine refuses what is not so, says
/// so to the placer by [`Delta::StepEnded`], and after three such plans in a row does without the placer: torc's own
/// decides for the rest of the run, and `torc status` says why. The same where it reports a [`Plan::failure`], or
/// starts nothing although nothing runs and a job could start.
///
/// Not checked is whether it is fair: what torc's own keeps to besides (planned starts, backfill) is its policy.
///
/// ```
/// use torc_core::{ids::JobId, time::Timestamp, traits::*};
///
/// /// Starts nothing. Its books are a snapshot, as those of a real one may be.
/// #[derive(Default)]
/// struct Lazy(Snapshot);
///
/// impl Placer for Lazy {
///     fn apply(&mut self, deltas: &[Delta]) {
///         deltas.iter().for_each(|delta| self.0.apply(delta));
///     }
///     fn plan(&mut self, _: Timestamp, _: usize) -> Plan {
///         Plan::default()
///     }
///     fn explain(&self, job: JobId, _: Timestamp) -> Option<Waiting> {
///         self.0.is_waiting(job).then_some(Waiting::NotNow(NotNowReason::Queued))
///     }
///     fn rebuild(&mut self, all: &Snapshot) {
///         self.0 = all.clone();
///     }
/// }
///
/// # use torc_core::ids::ClassId;
/// let mut lazy = Lazy::default();
/// let waiting = WaitingJob { job: JobId(7), class: ClassId(0) };
/// lazy.apply(&[Delta::JobReady(waiting)]);
/// assert!(lazy.explain(JobId(7), Timestamp::default()).is_some());
/// lazy.apply(&[Delta::JobWithdrawn(JobId(7))]);
/// assert!(lazy.explain(JobId(7), Timestamp::default()).is_none());
/// ```
pub trait Placer: Send {
    /// Takes note of what happened, in order.
    fn apply(&mut self, deltas: &[Delta]);

    /// Chooses at most `limit` jobs to start now, and books them as started. The caller starts
    /// them, or gives one back with [`Delta::StepEnded`], unless that job had been started before.
    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan;

    /// Why this waiting job has not started. `None` when the placer knows no such waiting job.
    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting>;

    /// Forgets everything and takes this state over. Afterwards the placer answers as if it had
    /// been told of all that led there, delta by delta.
    fn rebuild(&mut self, snapshot: &Snapshot);
}

/// Something that the placer must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// A class of jobs exists. Classes are numbered densely from 0 and never change.
    ClassAdded {
        /// The number.
        class: ClassId,
        /// What each of its jobs asks for.
        request: Request,
    },
    /// A job waits for nodes.
    JobReady(WaitingJob),
    /// A waiting job no longer waits, without having been started.
    JobWithdrawn(JobId),
    /// A started job's attempt ended, or was refused by the engine: its nodes are free again.
    StepEnded(JobId),
    /// Nodes can be used from now on.
    AllocationAdded(Allocation),
    /// An allocation's end moved.
    AllocationEndMoved {
        /// The allocation.
        allocation: AllocationId,
        /// Its new end; `None`: it does not end.
        ends_at: Option<Timestamp>,
    },
    /// The allocation's nodes are gone. Steps on them end by deltas of their own, before or after.
    AllocationRemoved(AllocationId),
    /// Whether a node may be given new work changed.
    NodeStateChanged {
        /// The node.
        node: NodeId,
        /// Its state from now on.
        state: NodeState,
    },
}

/// Whether a node may be given new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It may.
    Up,
    /// What runs there ends in peace; nothing new starts.
    Draining,
    /// It failed, or jobs fail on it: nothing starts.
    Down,
}

/// A job in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJob {
    /// The job.
    pub job: JobId,
    /// Its class.
    pub class: ClassId,
}

/// A started job, as the placer's books hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningStep {
    /// The job.
    pub job: JobId,
    /// Its class.
    pub class: ClassId,
    /// What it holds.
    pub placement: Placement,
    /// When it was started.
    pub started_at: Timestamp,
}

/// All that a placer knows, for [`Placer::rebuild`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The classes, at the index of their number.
    pub classes: Vec<Request>,
    /// The live allocations.
    pub allocations: Vec<Allocation>,
    /// Nodes of these allocations that are not [`NodeState::Up`].
    pub node_states: Vec<(NodeId, NodeState)>,
    /// The started jobs.
    pub running: Vec<RunningStep>,
    /// The waiting jobs, in any order.
    pub waiting: Vec<WaitingJob>,
}

impl Snapshot {
    /// Takes note of what happened. So a placer whose books are a snapshot, and nothing else, has its
    /// [`Placer::apply`] and [`Placer::rebuild`].
    pub fn apply(&mut self, delta: &Delta) {
        match delta {
            Delta::ClassAdded { request, .. } => self.classes.push(request.clone()),
            Delta::JobReady(waiting) => self.waiting.push(*waiting),
            Delta::JobWithdrawn(job) => self.waiting.retain(|waiting| waiting.job != *job),
            Delta::StepEnded(job) => self.running.retain(|step| step.job != *job),
            Delta::AllocationAdded(allocation) => self.allocations.push(allocation.clone()),
            Delta::AllocationEndMoved { allocation, ends_at } => {
                let moved = self.allocations.iter_mut().filter(|one| one.id == *allocation);
                moved.for_each(|one| one.ends_at = *ends_at);
            }
            Delta::AllocationRemoved(removed) => {
                let gone = self.allocations.extract_if(.., |one| one.id == *removed);
                let nodes: Vec<NodeId> =
                    gone.flat_map(|one| one.nodes).map(|(node, _)| node).collect();
                self.node_states.retain(|(node, _)| !nodes.contains(node));
            }
            Delta::NodeStateChanged { node, state } => {
                self.node_states.retain(|(known, _)| known != node);
                if *state != NodeState::Up {
                    self.node_states.push((*node, *state));
                }
            }
        }
    }

    /// Books a waiting job as started: what a [`Placer::plan`] does with each of the starts that it returns.
    pub fn start(&mut self, job: JobId, placement: Placement, now: Timestamp) -> Start {
        let started = self.waiting.extract_if(.., |waiting| waiting.job == job);
        let started = started.map(|WaitingJob { job, class }| RunningStep {
            job,
            class,
            placement: placement.clone(),
            started_at: now,
        });
        self.running.extend(started);
        Start { job, placement }
    }

    /// Whether a job waits.
    pub fn is_waiting(&self, job: JobId) -> bool {
        self.waiting.iter().any(|waiting| waiting.job == job)
    }

    /// Whether no job was started on a node that has not ended, and it may be given new work.
    pub fn is_idle(&self, node: NodeId) -> bool {
        let is_held =
            |step: &RunningStep| step.placement.shares.iter().any(|share| share.node == node);
        !self.node_states.iter().any(|(bad, _)| *bad == node) && !self.running.iter().any(is_held)
    }
}

/// What a placer decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The jobs to start now.
    #[serde(default)]
    pub starts: Vec<Start>,
    /// The promises that now hold.
    #[serde(default)]
    pub planned: Vec<PlannedStart>,
    /// The nodes that are kept from others for them, by job and in node order. Of a job on one node only
    /// if another that could start there is kept from it.
    #[serde(default)]
    pub held: Vec<(JobId, Vec<NodeId>)>,
    /// Why this placer cannot go on, in words; the rest of the plan means nothing then.
    #[serde(skip)]
    pub failure: Option<String>,
}

/// One job to start now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The job.
    pub job: JobId,
    /// Where.
    pub placement: Placement,
}

/// The promised start of a job that cannot start yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStart {
    /// The job.
    pub job: JobId,
    /// When at the latest, if running jobs keep their declared runtimes.
    pub at: Timestamp,
    /// The nodes that it is to start on, in node order.
    pub nodes: Vec<NodeId>,
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "waiting", rename_all = "snake_case")]
pub enum Waiting {
    /// It can start later, on what there is.
    NotNow(NotNowReason),
    /// It can never start on what there is.
    Never(NeverReason),
}

/// Why a job cannot start now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum NotNowReason {
    /// No usable allocation exists at all.
    NoAllocation,
    /// Enough would be free on no node at this moment.
    NotEnoughFree {
        /// CPUs it needs on one node, where they are added up.
        needs_cpus: u32,
        /// Bytes it needs on one node.
        needs_memory: u64,
        /// GPUs it needs on one node.
        needs_gpus: u32,
        /// What the nodes have free: at most a few, those closest to fitting first.
        free: Vec<NodeFree>,
        /// Nodes that would have room for it and take nothing new: they failed, are drained, or cannot
        /// be talked to.
        #[serde(default)]
        unusable: u32,
        /// When enough is expected to be free.
        expected_at: Option<Timestamp>,
    },
    /// A gang waits for idle nodes.
    WaitsForIdleNodes {
        /// Nodes it needs.
        needs: u32,
        /// Idle nodes that fit, in the best allocation.
        idle: u32,
        /// Nodes of that allocation that would fit and take nothing new: they failed, are drained, or
        /// cannot be talked to.
        #[serde(default)]
        unusable: u32,
        /// The promise, when it has one.
        planned_at: Option<Timestamp>,
    },
    /// It would have room, but as many steps run there as may at once (`max_parallel_steps`).
    TooManySteps {
        /// How many that is, in each allocation.
        most: u32,
        /// When one of them is expected to end.
        expected_at: Option<Timestamp>,
    },
    /// What would fit is held for a planned start, and this job may outlast it.
    HeldForPlannedStart {
        /// The job that the nodes are held for.
        job: JobId,
        /// Until when.
        until: Timestamp,
    },
    /// It fits now, or others of its class or of a higher priority go first at the next decision.
    Queued,
}

/// What one node has free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFree {
    /// The node's name.
    pub node: Box<str>,
    /// CPUs; all of them where there are slots, since they are not added up there.
    pub cpus: u32,
    /// Bytes of memory; as with CPUs.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// Its slots, if it has any (`max_parallel_jobs` of an action).
    #[serde(default)]
    pub slots: Option<Slots>,
}

/// Why a job can never start on the nodes there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum NeverReason {
    /// No allocation that it may run in: wrong scheduler or labels.
    NoMatchingAllocation,
    /// More CPUs than any node has.
    Cpus {
        /// Wanted on each node.
        needs: u32,
        /// The most that a node has.
        largest: u32,
    },
    /// More CPUs than any node has, since each rank gets whole cores.
    Ranks {
        /// Ranks on each node.
        ranks: u32,
        /// CPUs that each of them gets.
        each: u32,
        /// CPUs of all of them.
        needs: u32,
        /// The most that a node has.
        largest: u32,
    },
    /// More memory than any node has.
    Memory {
        /// Bytes wanted on each node.
        needs: u64,
        /// The most that a node has, in bytes.
        largest: u64,
    },
    /// More GPUs than any node has.
    Gpus {
        /// Wanted on each node.
        needs: u32,
        /// The most that a node has.
        largest: u32,
    },
    /// Each number alone is to be had, but no single node has them together.
    Together,
    /// More nodes than any one allocation has that fit.
    Nodes {
        /// Wanted.
        needs: u32,
        /// The most fitting nodes in one allocation.
        largest: u32,
    },
    /// Its runtime is longer than what is left of every allocation that would fit.
    Walltime {
        /// Its runtime, in milliseconds; 0: it has declared none.
        runtime_ms: u64,
        /// The most time left, in milliseconds.
        longest_ms: u64,
    },
}

impl fmt::Display for NeverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIB: f64 = (1u64 << 30) as f64;
        match self {
            Self::NoMatchingAllocation => f.write_str(
                "no allocation is of its scheduler and has all of its labels (a job without labels \
                 runs only where there are none)",
            ),
            Self::Cpus { needs, largest } => {
                write!(f, "needs {needs} CPUs per node; the largest node has {largest}")
            }
            Self::Ranks { ranks, each, needs, largest } => write!(
                f,
                "needs {needs} CPUs per node for {ranks} ranks in whole cores, {each} each; the largest \
                 node has {largest}"
            ),
            #[expect(clippy::cast_precision_loss, reason = "shown to one decimal")]
            Self::Memory { needs, largest } => write!(
                f,
                "needs {:.1} GiB per node; the largest node has {:.1} GiB",
                *needs as f64 / GIB,
                *largest as f64 / GIB
            ),
            Self::Gpus { needs, largest } => {
                write!(f, "needs {needs} GPUs per node; the most on one node is {largest}")
            }
            Self::Together => {
                f.write_str("no single node has the CPUs, memory and GPUs that it needs together")
            }
            Self::Nodes { needs, largest } => {
                write!(
                    f,
                    "needs {needs} nodes at once; the largest allocation has {largest} that fit"
                )
            }
            Self::Walltime { runtime_ms: 0, .. } | Self::Walltime { longest_ms: 0, .. } => {
                f.write_str("no time is left of any allocation that it fits")
            }
            Self::Walltime { runtime_ms, longest_ms } => write!(
                f,
                "its runtime is {} s; the longest time left is {} s",
                runtime_ms / 1000,
                longest_ms / 1000
            ),
        }
    }
}
