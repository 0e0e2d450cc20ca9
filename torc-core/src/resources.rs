//! What jobs ask for and what nodes have: requests, inventories, placements. Every number is per
//! node; nothing here adds up over nodes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, NodeId};
use crate::time::{Timestamp, millis};
use crate::traits::AllocationHandle;

/// Time that a job may run past the end of its allocation and still be admitted, so that a job
/// whose runtime equals the walltime starts although start-up took a while.
pub const START_UP_GRACE: Duration = Duration::from_secs(120);

/// The memory a job asks for on each of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryRequest {
    /// Not stated: counts as the CPUs' share of the node's memory, rounded down, and is not
    /// enforced.
    ShareOfCpus,
    /// Bytes.
    Bytes(u64),
}

/// Everything about a job that its placement depends on. Jobs with equal requests form a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Higher starts first.
    pub priority: i32,
    /// Only allocations of this scheduler may run the job.
    pub scheduler: Option<Arc<str>>,
    /// Only workers with all of these labels may run the job, and unlabelled jobs run only on
    /// unlabelled workers. Sorted, without repeats.
    pub labels: Arc<[Box<str>]>,
    /// CPUs on each node, at least 1.
    pub cpus: u32,
    /// Memory on each node.
    pub memory: MemoryRequest,
    /// GPUs on each node.
    pub gpus: u32,
    /// Nodes, at least 1. More than 1 makes the job a gang: whole nodes, exclusively.
    pub nodes: u32,
    /// Ranks on each node of a gang, at least 1.
    pub ntasks_per_node: u32,
    /// The declared duration, if there is one.
    #[serde(with = "millis::option")]
    pub runtime: Option<Duration>,
}

/// CPUs rounded up to whole cores of `threads_per_core` CPUs each.
pub fn whole_cores(cpus: u32, threads_per_core: u32) -> u32 {
    cpus.checked_next_multiple_of(threads_per_core.max(1)).unwrap_or(u32::MAX)
}

impl Request {
    /// Whether the job takes whole nodes, all at once.
    pub fn is_gang(&self) -> bool {
        self.nodes > 1
    }

    /// Whether the job may run in an allocation of this scheduler (`None` stands for all of them)
    /// with these labels: a pin must be met, and all of its labels be there. A job without labels
    /// runs only where there are none.
    pub fn may_run_under(&self, scheduler: Option<&str>, labels: &[Box<str>]) -> bool {
        may_run_under((self.scheduler.as_deref(), &self.labels), (scheduler, labels))
    }

    /// CPUs that the job counts for on a node with cores of so many CPUs: each rank gets whole ones.
    pub fn cpus_on(&self, threads_per_core: u32) -> u32 {
        let ranks = if self.is_gang() { self.ntasks_per_node.max(1) } else { 1 };
        whole_cores(self.cpus.div_ceil(ranks), threads_per_core).saturating_mul(ranks)
    }

    /// What the job holds of a node that is idle, with the lowest places there; `None`: it does not fit. A gang holds
    /// all of it, a job on a node with slots one of these, and its GPUs.
    pub fn share_of_idle(&self, node: NodeId, inventory: &NodeInventory) -> Option<NodeShare> {
        let takes_a_slot = inventory.slots.is_some() && !self.is_gang();
        let cpus = self.cpus_on(inventory.threads_per_core);
        let memory = self.memory_on(inventory.cpus(), inventory.memory);
        let has_room = cpus <= inventory.cpus() && memory <= inventory.memory;
        if self.gpus > inventory.gpu_count() || !(takes_a_slot || has_room) {
            return None;
        }
        let (cores, gpus, memory) = match (self.is_gang(), takes_a_slot) {
            (true, _) => (inventory.places(), inventory.gpu_count(), inventory.memory),
            (_, true) => (1, self.gpus, 0),
            _ => (cpus, self.gpus, memory),
        };
        let lowest = |count: u32| (0..).take(count as usize).collect();
        Some(NodeShare { node, cores: lowest(cores), gpus: lowest(gpus), memory })
    }

    /// Bytes that the job counts for on a node of this size.
    pub fn memory_on(&self, node_cpus: u32, node_memory: u64) -> u64 {
        match self.memory {
            MemoryRequest::Bytes(bytes) => bytes,
            MemoryRequest::ShareOfCpus if node_cpus == 0 => 0,
            MemoryRequest::ShareOfCpus => {
                let share = u128::from(node_memory) * u128::from(self.cpus) / u128::from(node_cpus);
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }
}

/// What one node of an allocation has for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInventory {
    /// The host's name as the scheduler knows it.
    pub name: Box<str>,
    /// The operating system's ids of the CPUs that we may use; numbers from 0 where ids are not
    /// ours to choose.
    pub cores: Box<[u32]>,
    /// CPUs that are given to a job together: hardware threads of a core where only whole cores can
    /// be given (Slurm's steps), else 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub threads_per_core: u32,
    /// Memory that we may use, in bytes.
    pub memory: u64,
    /// The device ids of the GPUs that we may use, as `CUDA_VISIBLE_DEVICES` wants them.
    pub gpus: Box<[Box<str>]>,
    /// Single-node jobs at once, whatever they need of CPUs and memory: each of them takes a slot, and
    /// its GPUs. `None`: as many as fit. A gang takes the whole node either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<NonZeroU32>,
}

/// Slots of a node, at most: more processes than a node is good for, and few enough to count one by one.
pub const MOST_SLOTS: u32 = 4096;

/// Jobs at once on a node that has slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// How many there may be.
    pub all: u32,
    /// Slots that jobs hold; a job on several nodes holds all of a node's.
    pub used: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(count: &u32) -> bool {
    *count == 1
}

impl NodeInventory {
    /// The number of CPUs.
    pub fn cpus(&self) -> u32 {
        u32::try_from(self.cores.len()).unwrap_or(u32::MAX)
    }

    /// The number of GPUs.
    pub fn gpu_count(&self) -> u32 {
        u32::try_from(self.gpus.len()).unwrap_or(u32::MAX)
    }

    /// What the indices of a share's `cores` count: slots where there are any, else CPUs.
    pub fn places(&self) -> u32 {
        self.slots.map_or_else(|| self.cpus(), |slots| slots.get().min(MOST_SLOTS))
    }

    /// CPUs that such indices stand for: a slot stands for its part of the node's CPUs. These parts are
    /// whole numbers, and those of all slots add up to all CPUs.
    pub fn cpus_of(&self, indices: &[u16]) -> u32 {
        if self.slots.is_none() {
            return u32::try_from(indices.len()).unwrap_or(u32::MAX);
        }
        let (cpus, slots) = (u64::from(self.cpus()), u64::from(self.places()));
        let before = |slot: u64| slot * cpus / slots;
        let part = |slot: &u16| before(u64::from(*slot) + 1) - before(u64::from(*slot));
        u32::try_from(indices.iter().map(part).sum::<u64>()).unwrap_or(u32::MAX)
    }
}

/// The rule of [`Request::may_run_under`]. `wanted`: the pin and the labels of a job; `offered`: the
/// scheduler and the labels of an allocation.
pub(crate) fn may_run_under<L: PartialEq>(
    wanted: (Option<&str>, &[L]),
    offered: (Option<&str>, &[L]),
) -> bool {
    let scheduler_is_right = match (wanted.0, offered.0) {
        (Some(pin), Some(scheduler)) => pin == scheduler,
        (None, _) | (_, None) => true,
    };
    let labels_are_right = if wanted.1.is_empty() {
        offered.1.is_empty()
    } else {
        wanted.1.iter().all(|label| offered.1.contains(label))
    };
    scheduler_is_right && labels_are_right
}

/// Nodes granted for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The engine's number.
    pub id: AllocationId,
    /// The scheduler of the spec that it came from; `None` stands for every scheduler (`torc run`,
    /// where this host, or the allocation that it is in, is all there is).
    pub scheduler: Option<Arc<str>>,
    /// The labels of its workers. Sorted, without repeats.
    pub labels: Arc<[Box<str>]>,
    /// When it ends; `None`: it does not.
    pub ends_at: Option<Timestamp>,
    /// Its nodes, in the scheduler's node order, with the engine's numbers.
    pub nodes: Vec<(NodeId, NodeInventory)>,
    /// The scheduler's allocation that these nodes are, where a run was started inside one; `None`: they
    /// were asked for, or are no scheduler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<Inherited>,
}

/// An allocation that a run was started in. Nobody asked for it on the run's behalf, and it ends whenever
/// its scheduler says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// The scheduler's name for it.
    pub handle: AllocationHandle,
    /// Steps there are started by srun, and so are Slurm's.
    pub has_slurm_steps: bool,
}

impl Allocation {
    /// Whether its workers take jobs with this request.
    pub fn serves(&self, request: &Request) -> bool {
        request.may_run_under(self.scheduler.as_deref(), &self.labels)
    }
}

/// What one attempt holds on one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// Indices into the inventory's `cores`, ascending. On a node with slots these are numbered here
    /// instead, from 0, and whoever holds one may use all cores.
    #[serde(rename = "c")]
    pub cores: Box<[u16]>,
    /// Indices into the inventory's `gpus`, ascending.
    #[serde(rename = "g", default, skip_serializing_if = "<[u16]>::is_empty")]
    pub gpus: Box<[u16]>,
    /// Memory held, in bytes; none by a job that holds a slot.
    #[serde(rename = "m")]
    pub memory: u64,
}

/// The nodes, cores and GPUs chosen for one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The allocation that all the nodes belong to.
    #[serde(rename = "a")]
    pub allocation: AllocationId,
    /// One share a node, in node order; the first is where a gang's command starts.
    #[serde(rename = "s")]
    pub shares: Vec<NodeShare>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cpus: u32, slots: u32) -> NodeInventory {
        NodeInventory {
            name: "n".into(),
            cores: (0..cpus).collect(),
            threads_per_core: 1,
            memory: 1,
            gpus: Box::default(),
            slots: NonZeroU32::new(slots),
        }
    }

    #[test]
    fn slots_stand_for_equal_parts_that_add_up_to_all_cpus() {
        for (cpus, slots) in [(8, 1), (8, 2), (8, 3), (7, 4), (2, 5), (64, 64), (0, 3), (5, 4096)] {
            let node = node(cpus, slots);
            let all: Vec<u16> = (0..u16::try_from(slots).expect("few")).collect();
            assert_eq!((node.places(), node.cpus_of(&all)), (slots, cpus));
            let parts = all.iter().map(|slot| node.cpus_of(&[*slot]));
            let (least, most) = (parts.clone().min(), parts.max());
            let range = (Some(cpus / slots), Some(cpus.div_ceil(slots)));
            assert_eq!((least, most), range, "{cpus} CPUs, {slots} slots");
        }
        assert_eq!((node(8, 0).places(), node(8, 0).cpus_of(&[2, 5])), (8, 2));
        assert_eq!(node(8, 4097).places(), MOST_SLOTS);
    }

    /// CPUs and bytes that a job is given of an idle node.
    fn check_share(
        wanted: (u32, u64, u32, u32),
        node: &NodeInventory,
        given: Option<(usize, u64)>,
    ) {
        let (cpus, bytes, gpus, nodes) = wanted;
        let request = Request {
            priority: 0,
            scheduler: None,
            labels: Arc::default(),
            cpus,
            memory: MemoryRequest::Bytes(bytes),
            gpus,
            nodes,
            ntasks_per_node: 1,
            runtime: None,
        };
        let share = request.share_of_idle(NodeId(3), node);
        assert_eq!(share.map(|share| (share.cores.len(), share.memory)), given, "{wanted:?}");
    }

    #[test]
    fn a_job_is_given_what_it_wants_of_a_node_or_all_or_a_slot() {
        let (bare, slotted) = (node(4, 0), node(4, 2));
        check_share((3, 1, 0, 1), &bare, Some((3, 1)));
        check_share((3, 0, 0, 2), &bare, Some((4, 1)));
        for too_much in [(5, 1, 0, 1), (1, 2, 0, 1), (1, 1, 1, 1)] {
            check_share(too_much, &bare, None);
        }
        check_share((5, 2, 0, 1), &slotted, Some((1, 0)));
        check_share((1, 1, 1, 1), &slotted, None);
        check_share((3, 1, 0, 2), &slotted, Some((2, 1)));
        check_share((5, 1, 0, 2), &slotted, None);
    }

    #[test]
    fn what_was_written_without_slots_is_read_and_so_is_the_reverse() {
        let text = |node: &NodeInventory| serde_json::to_string(node).expect("it can be written");
        let without = r#"{"name":"n","cores":[0],"memory":1,"gpus":[]}"#;
        assert_eq!(text(&node(1, 0)), without);
        for node in [node(1, 0), node(1, 3)] {
            let read: NodeInventory = serde_json::from_str(&text(&node)).expect("it can be read");
            assert_eq!(read, node);
        }
    }
}
