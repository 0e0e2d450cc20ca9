//! Where there is room: every set of nodes is looked at, and everything is added up anew.
//!
//! Owns: the rules P1 to P3, P6 and P8 for one job at one moment. Does not know: queues and promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reference::{Reference, Step};
use crate::ids::{JobId, NodeId};
use crate::resources::{Allocation, MemoryRequest, NodeInventory, NodeShare, Placement, Request};
use crate::time::Timestamp;
use crate::traits::NodeState;

/// P6, as the design states it.
const GRACE: Duration = Duration::from_secs(120);

/// GPUs, CPUs, bytes.
pub(super) type Amounts = [u64; 3];

/// Nodes of one allocation, in its order.
pub(super) type Place = Vec<NodeId>;

/// Which steps are looked upon as over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Now,
    /// Those that are expected to end by then.
    Then(Timestamp),
    /// All.
    Idle,
}

impl Reference {
    /// Every set of nodes on which there is room at a moment, whatever is promised.
    pub(super) fn places(&self, request: &Request, moment: Moment) -> Vec<Place> {
        let start = match moment {
            Moment::Then(then) => then,
            Moment::Now | Moment::Idle => self.now,
        };
        let mut places = Vec::new();
        for allocation in &self.allocations {
            if !may_use(request, allocation)
                || !is_in_walltime(request, allocation, start)
                || self.is_closed(allocation, moment)
            {
                continue;
            }
            for set in 0u32..1 << allocation.nodes.len() {
                let chosen =
                    (0..).zip(&allocation.nodes).filter(|(index, _)| set >> index & 1 == 1);
                let chosen: Vec<_> = chosen.map(|(_, node)| node).collect();
                if chosen.len() == request.nodes as usize
                    && chosen.iter().all(|(node, has)| self.has_room(request, *node, has, moment))
                {
                    places.push(chosen.iter().map(|(node, _)| *node).collect());
                }
            }
        }
        places
    }

    /// Whether as many steps run in an allocation as may at once.
    pub(super) fn is_closed(&self, allocation: &Allocation, moment: Moment) -> bool {
        let steps = self.running.values().filter(|step| {
            step.placement.allocation == allocation.id && !self.is_over(step, moment)
        });
        let steps = steps.count();
        allocation.scheduler.is_some() && self.most_steps.is_some_and(|most| steps >= most)
    }

    fn is_over(&self, step: &Step, moment: Moment) -> bool {
        match moment {
            Moment::Now => false,
            Moment::Then(then) => self.expected_end(step).is_some_and(|end| end <= then),
            Moment::Idle => true,
        }
    }

    pub(super) fn has_room(
        &self,
        request: &Request,
        node: NodeId,
        inventory: &NodeInventory,
        moment: Moment,
    ) -> bool {
        let is_up = self.states.get(&node).is_none_or(|state| *state == NodeState::Up);
        let is_idle = !self.steps_on(node, moment).any(|_| true);
        // A gang is measured by what the node has, whoever else may be let in.
        let free =
            if request.nodes > 1 { real(inventory) } else { self.free(node, inventory, moment) };
        is_up && (request.nodes == 1 || is_idle) && covers(free, need(request, inventory))
    }

    pub(super) fn steps_on(
        &self,
        node: NodeId,
        moment: Moment,
    ) -> impl Iterator<Item = (&Step, &NodeShare)> {
        let steps = self.running.values().filter(move |step| !self.is_over(step, moment));
        let shares = steps.flat_map(|step| step.placement.shares.iter().map(move |s| (step, s)));
        shares.filter(move |(_, share)| share.node == node)
    }

    pub(super) fn free(&self, node: NodeId, inventory: &NodeInventory, moment: Moment) -> Amounts {
        self.steps_on(node, moment).fold(total(inventory), |free, (_, share)| {
            let takes = [share.gpus.len() as u64, share.cores.len() as u64, share.memory];
            std::array::from_fn(|i| free[i].checked_sub(takes[i]).expect("P1: oversubscribed"))
        })
    }

    /// P3: whether the job could run if nothing else ran and all nodes were up.
    pub(super) fn is_possible(&self, request: &Request) -> bool {
        let all_up = Self { states: BTreeMap::new(), ..self.clone() };
        !all_up.places(request, Moment::Idle).is_empty()
    }

    /// Where there is room now, whatever is promised.
    pub(super) fn places_of(&self, request: &Request) -> Vec<Place> {
        self.places(request, Moment::Now)
    }

    /// When the first step ends in an allocation of one of these places, as far as that is known.
    pub(super) fn opens_at(&self, places: &[Place]) -> Option<Timestamp> {
        let allocations: BTreeSet<_> =
            places.iter().map(|place| self.home(place[0]).0.id).collect();
        let steps = self.running.values();
        let steps = steps.filter(|step| allocations.contains(&step.placement.allocation));
        steps.filter_map(|step| self.expected_end(step)).min()
    }

    /// Whether there is room for the job now, whatever is promised.
    pub(super) fn has_room_now(&self, job: JobId) -> bool {
        !self.places(&self.waiting[&job], Moment::Now).is_empty()
    }

    pub(super) fn home(&self, node: NodeId) -> (&Allocation, &NodeInventory) {
        let mut nodes = self.allocations.iter().flat_map(|allocation| {
            allocation.nodes.iter().map(move |(id, has)| (*id, (allocation, has)))
        });
        nodes.find(|(id, _)| *id == node).expect("a live node").1
    }

    /// The GPU ids and the core ids that nobody has.
    pub(super) fn free_ids(&self, node: NodeId, inventory: &NodeInventory) -> [BTreeSet<u16>; 2] {
        let shares: Vec<_> = self.steps_on(node, Moment::Now).map(|(_, share)| share).collect();
        let ids = |count: usize| 0..u16::try_from(count).expect("a small node");
        let is_free = |id: &u16, of: fn(&NodeShare) -> &[u16]| {
            !shares.iter().any(|share| of(share).contains(id))
        };
        let places = usize::try_from(whole(inventory)[1]).expect("few");
        [
            ids(inventory.gpus.len()).filter(|id| is_free(id, |share| &share.gpus)).collect(),
            ids(places).filter(|id| is_free(id, |share| &share.cores)).collect(),
        ]
    }

    /// The lowest free ids on these nodes.
    pub(super) fn lowest_free(&self, request: &Request, place: &Place) -> Placement {
        let shares = place.iter().map(|&node| {
            let (_, inventory) = self.home(node);
            let takes = if request.nodes > 1 { whole(inventory) } else { need(request, inventory) };
            let [gpus, cores] = self.free_ids(node, inventory);
            let count = |amount: u64| usize::try_from(amount).expect("a small node");
            NodeShare {
                node,
                gpus: gpus.into_iter().take(count(takes[0])).collect(),
                cores: cores.into_iter().take(count(takes[1])).collect(),
                memory: takes[2],
            }
        });
        Placement { allocation: self.home(place[0]).0.id, shares: shares.collect() }
    }
}

fn real(inventory: &NodeInventory) -> Amounts {
    [inventory.gpus.len() as u64, inventory.cores.len() as u64, inventory.memory]
}

/// What a gang gets on a node: all of it, in slots where it has any.
pub(super) fn whole(inventory: &NodeInventory) -> Amounts {
    let [gpus, cpus, memory] = real(inventory);
    [gpus, inventory.slots.map_or(cpus, |slots| slots.get().into()), memory]
}

/// What is for single-node jobs: with slots there is memory without end.
fn total(inventory: &NodeInventory) -> Amounts {
    let [gpus, cpus, memory] = whole(inventory);
    [gpus, cpus, if inventory.slots.is_some() { u64::MAX } else { memory }]
}

/// P3: what a job counts for on a node.
pub(super) fn need(request: &Request, inventory: &NodeInventory) -> Amounts {
    if inventory.slots.is_some() && request.nodes == 1 {
        return [u64::from(request.gpus), 1, 0];
    }
    let memory = match request.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => {
            inventory.memory * u64::from(request.cpus) / inventory.cores.len() as u64
        }
    };
    let threads = inventory.threads_per_core;
    let ranks = if request.nodes > 1 { request.ntasks_per_node } else { 1 };
    let cpus = (request.cpus / ranks).div_ceil(threads) * threads * ranks;
    [u64::from(request.gpus), u64::from(cpus), memory]
}

pub(super) fn covers(free: Amounts, need: Amounts) -> bool {
    free.iter().zip(need).all(|(free, need)| *free >= need)
}

/// Pins and labels: a pin meets its scheduler, or an allocation for all; labels meet labels that
/// include them, and none meets none.
fn may_use(request: &Request, allocation: &Allocation) -> bool {
    let is_pinned_elsewhere = match (&request.scheduler, &allocation.scheduler) {
        (Some(pin), Some(scheduler)) => pin != scheduler,
        _ => false,
    };
    let is_labelled = |labels: &[Box<str>]| !labels.is_empty();
    !is_pinned_elsewhere
        && is_labelled(&request.labels) == is_labelled(&allocation.labels)
        && request.labels.iter().all(|label| allocation.labels.contains(label))
}

/// P6.
fn is_in_walltime(request: &Request, allocation: &Allocation, start: Timestamp) -> bool {
    allocation.ends_at.is_none_or(|ends_at| {
        let runtime = request.runtime.unwrap_or_default();
        start < ends_at && start + runtime <= ends_at + GRACE
    })
}
