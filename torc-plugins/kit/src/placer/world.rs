//! A slow and obvious account of what a placer was told and what it decided.
//!
//! Owns: what is free, what fits, who waits; it adds everything up anew at every question. Does not know: any placer. It
//! shares with torc's own the types of the contract and what they say of themselves. Invariant: it holds only starts
//! that broke no rule.

use std::collections::{BTreeMap, BTreeSet};

use torc_core::ids::{AllocationId, ClassId, JobId, NodeId};
use torc_core::placer::feasibility;
use torc_core::resources::{Allocation, NodeInventory, NodeShare, Request, START_UP_GRACE};
use torc_core::time::Timestamp;
use torc_core::traits::{
    Delta, NodeState, Placer, Plan, PlannedStart, RunningStep, Snapshot, Start, Waiting, WaitingJob,
};

use super::rules::{Breach, Rule, ensure};

/// When cases begin.
const BEGIN: Timestamp = Timestamp(1_000_000);

/// What a placer should know.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) classes: Vec<Request>,
    pub(super) allocations: BTreeMap<AllocationId, Allocation>,
    /// Of nodes that were ever not up.
    pub(super) states: BTreeMap<NodeId, NodeState>,
    pub(super) running: BTreeMap<JobId, RunningStep>,
    pub(super) waiting: BTreeMap<JobId, ClassId>,
    pub(super) planned: Vec<PlannedStart>,
    next_job: u32,
    next_node: u32,
    next_allocation: u32,
}

/// CPUs (or slots), GPUs, bytes.
type Amounts = [u64; 3];

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: BEGIN,
            classes: Vec::new(),
            allocations: BTreeMap::new(),
            states: BTreeMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            planned: Vec::new(),
            next_job: 1,
            next_node: 0,
            next_allocation: 1,
        }
    }

    /// Adds an allocation; its number and those of its nodes are given here.
    pub(super) fn allocate(&mut self, like: Allocation) -> Vec<Delta> {
        let mut allocation = Allocation { id: AllocationId(self.next_allocation), ..like };
        self.next_allocation += 1;
        for (node, inventory) in &mut allocation.nodes {
            *node = NodeId(self.next_node);
            inventory.name = format!("node{node}").into();
            self.next_node += 1;
        }
        self.allocations.insert(allocation.id, allocation.clone());
        vec![Delta::AllocationAdded(allocation)]
    }

    /// Adds a job, in the class of its request.
    pub(super) fn submit(&mut self, request: &Request) -> (JobId, Vec<Delta>) {
        let job = JobId(self.next_job);
        self.next_job += 1;
        (job, self.submit_again(job, request))
    }

    /// The same for a job that has been there before.
    pub(super) fn submit_again(&mut self, job: JobId, request: &Request) -> Vec<Delta> {
        let known = self.classes.iter().position(|known| known == request);
        let index = known.unwrap_or(self.classes.len());
        let class = ClassId(u32::try_from(index).unwrap_or(u32::MAX));
        let mut deltas = Vec::new();
        if known.is_none() {
            self.classes.push(request.clone());
            deltas.push(Delta::ClassAdded { class, request: request.clone() });
        }
        self.waiting.insert(job, class);
        deltas.push(Delta::JobReady(WaitingJob { job, class }));
        deltas
    }

    pub(super) fn withdraw(&mut self, job: JobId) -> Vec<Delta> {
        self.waiting.remove(&job);
        vec![Delta::JobWithdrawn(job)]
    }

    pub(super) fn end(&mut self, job: JobId) -> Vec<Delta> {
        self.running.remove(&job);
        vec![Delta::StepEnded(job)]
    }

    pub(super) fn deallocate(&mut self, id: AllocationId) -> Vec<Delta> {
        self.allocations.remove(&id);
        vec![Delta::AllocationRemoved(id)]
    }

    pub(super) fn move_end(&mut self, id: AllocationId, ends_at: Option<Timestamp>) -> Vec<Delta> {
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.ends_at = ends_at;
        }
        vec![Delta::AllocationEndMoved { allocation: id, ends_at }]
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: NodeState) -> Vec<Delta> {
        self.states.insert(node, state);
        vec![Delta::NodeStateChanged { node, state }]
    }

    /// All that a placer has to know.
    pub(super) fn snapshot(&self) -> Snapshot {
        let live: BTreeSet<NodeId> = self.nodes().map(|(node, ..)| node).collect();
        let states = self.states.iter().map(|(node, state)| (*node, *state));
        let waiting = self.waiting.iter().rev().map(|(&job, &class)| WaitingJob { job, class });
        Snapshot {
            classes: self.classes.clone(),
            allocations: self.allocations.values().cloned().collect(),
            node_states: states
                .filter(|(node, state)| live.contains(node) && *state != NodeState::Up)
                .collect(),
            running: self.running.values().cloned().collect(),
            waiting: waiting.collect(),
        }
    }

    /// Nodes of live allocations.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Allocation, &NodeInventory)> {
        self.allocations.values().flat_map(|allocation| {
            allocation.nodes.iter().map(move |(node, inventory)| (*node, allocation, inventory))
        })
    }

    pub(super) fn request(&self, class: ClassId) -> Option<&Request> {
        self.classes.get(class.0 as usize)
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.states.get(&node).is_none_or(|state| *state == NodeState::Up)
    }

    fn shares_on(&self, node: NodeId) -> impl Iterator<Item = (&RunningStep, &NodeShare)> {
        self.running.values().flat_map(move |step| {
            let shares = step.placement.shares.iter().filter(move |share| share.node == node);
            shares.map(move |share| (step, share))
        })
    }

    fn free(&self, node: NodeId, inventory: &NodeInventory) -> Amounts {
        self.shares_on(node).fold(idle(inventory), |free, (_, share)| less(free, held(share)))
    }

    /// Takes a decision into the account.
    pub(super) fn take(&mut self, plan: &Plan, limit: usize) -> Result<(), Breach> {
        ensure(plan.starts.len() <= limit, Rule::Limit, || {
            format!("{} starts, at most {limit} were asked for", plan.starts.len())
        })?;
        for start in &plan.starts {
            let class = self.check_start(start)?;
            self.waiting.remove(&start.job);
            let (job, placement, started_at) = (start.job, start.placement.clone(), self.now);
            self.running.insert(job, RunningStep { job, class, placement, started_at });
        }
        self.planned = plan.planned.clone();
        for planned in &plan.planned {
            let request = self.waiting.get(&planned.job).and_then(|class| self.request(*class));
            let nodes: BTreeSet<_> = planned.nodes.iter().collect();
            let are_up = |request: &Request| {
                let lives = |node: &NodeId| self.nodes().any(|(live, ..)| live == *node);
                nodes.len() == request.nodes.max(1) as usize
                    && planned.nodes.iter().all(|node| lives(node) && self.is_up(*node))
            };
            ensure(request.is_some_and(are_up), Rule::Promise, || format!("{planned:?}"))?;
        }
        Ok(())
    }

    /// Every rule of a single start.
    fn check_start(&self, start: &Start) -> Result<ClassId, Breach> {
        let seen = |what: &str| format!("{what}: {start:?}");
        let class = self.waiting.get(&start.job).copied();
        let known = class.and_then(|class| Some((class, self.request(class)?)));
        let Some((class, request)) = known else {
            return Err(Breach { rule: Rule::Waits, seen: seen("a job that does not wait") });
        };
        let Some(allocation) = self.allocations.get(&start.placement.allocation) else {
            return Err(Breach {
                rule: Rule::WellFormed,
                seen: seen("an allocation that is not there"),
            });
        };
        ensure(allocation.serves(request), Rule::Fits, || {
            seen("an allocation of another scheduler, or with other labels")
        })?;
        ensure(in_walltime(request, allocation, self.now), Rule::Walltime, || {
            format!("runtime {:?} at {} until {:?}", request.runtime, self.now, allocation.ends_at)
        })?;
        let is_right_count = start.placement.shares.len() == request.nodes.max(1) as usize;
        let rule = if request.is_gang() { Rule::Whole } else { Rule::WellFormed };
        ensure(is_right_count, rule, || seen("a wrong number of nodes"))?;
        let mut last = None;
        for share in &start.placement.shares {
            let position = allocation.nodes.iter().position(|(node, _)| *node == share.node);
            ensure(position.is_some() && position > last, Rule::WellFormed, || {
                seen("nodes that are not the allocation's, or not in its order")
            })?;
            last = position;
            let Some((node, inventory)) = position.and_then(|at| allocation.nodes.get(at)) else {
                continue;
            };
            self.check_share(request, share, (*node, inventory)).map_err(|breach| Breach {
                seen: format!("{}: {start:?}", breach.seen),
                ..breach
            })?;
        }
        Ok(class)
    }

    fn check_share(
        &self,
        request: &Request,
        share: &NodeShare,
        (node, inventory): (NodeId, &NodeInventory),
    ) -> Result<(), Breach> {
        let state = self.states.get(&node);
        ensure(self.is_up(node), Rule::Up, || format!("node {node} is {state:?}"))?;
        let need = need(request, inventory);
        ensure(covers(size(request, inventory), need), Rule::Fits, || {
            format!("{need:?} wanted of {inventory:?}")
        })?;
        let is_ascending = |ids: &[u16]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        let is_there = |ids: &[u16], count: u32| ids.iter().all(|id| u32::from(*id) < count);
        let are_ids = is_ascending(&share.cores)
            && is_ascending(&share.gpus)
            && is_there(&share.cores, inventory.places())
            && is_there(&share.gpus, inventory.gpu_count());
        ensure(are_ids, Rule::WellFormed, || {
            "ids that are not the node's, or not in order".to_owned()
        })?;
        let mut others = self.shares_on(node).peekable();
        if request.is_gang() {
            ensure(others.peek().is_none(), Rule::Whole, || format!("node {node} is not idle"))?;
            let all = [inventory.places().into(), inventory.gpu_count().into(), inventory.memory];
            ensure(held(share) == all, Rule::Whole, || format!("not all of node {node}"))?;
        } else {
            ensure(held(share) == need, Rule::WellFormed, || format!("{need:?} wanted"))?;
        }
        self.check_room(share, (node, inventory))
    }

    /// P1, and the part of P2 that is about others.
    fn check_room(
        &self,
        share: &NodeShare,
        (node, inventory): (NodeId, &NodeInventory),
    ) -> Result<(), Breach> {
        for (step, other) in self.shares_on(node) {
            let is_gang = self.request(step.class).is_some_and(Request::is_gang);
            ensure(!is_gang, Rule::Whole, || format!("job {} has node {node} alone", step.job))?;
            let shared = |own: &[u16], others: &[u16]| own.iter().any(|id| others.contains(id));
            let is_shared = shared(&share.cores, &other.cores) || shared(&share.gpus, &other.gpus);
            ensure(!is_shared, Rule::Room, || {
                format!("a core or GPU of node {node} that job {} has", step.job)
            })?;
        }
        let free = self.free(node, inventory);
        ensure(covers(free, held(share)), Rule::Room, || {
            format!("{:?} taken of {free:?} that is free on node {node}", held(share))
        })
    }

    /// P4, as far as it can be said of any placer: who may start on nodes that no promise keeps from it is started.
    pub(super) fn check_nobody_waits_in_vain(&self) -> Result<(), Breach> {
        for (&job, class) in &self.waiting {
            let Some(request) = self.request(*class) else { continue };
            let kept_by = |planned: &&PlannedStart| {
                let other = self.waiting.get(&planned.job).and_then(|class| self.request(*class));
                let is_gone = request.runtime.is_some_and(|time| self.now + time <= planned.at);
                let outranks = other.is_some_and(|other| other.priority < request.priority);
                planned.job != job && !is_gone && !outranks
            };
            let promises = self.planned.iter().filter(kept_by);
            let kept: BTreeSet<NodeId> =
                promises.flat_map(|planned| &planned.nodes).copied().collect();
            ensure(!self.may_start(request, &kept), Rule::Works, || {
                format!(
                    "job {job} waits and may start: {request:?}; planned are {:?}",
                    self.planned
                )
            })?;
        }
        Ok(())
    }

    /// Whether there is room for such a job now, on nodes that are not kept for others.
    fn may_start(&self, request: &Request, kept: &BTreeSet<NodeId>) -> bool {
        self.allocations.values().any(|allocation| {
            let fitting = allocation.nodes.iter().filter(|(node, inventory)| {
                let need = need(request, inventory);
                let has_room = if request.is_gang() {
                    self.shares_on(*node).next().is_none() && covers(size(request, inventory), need)
                } else {
                    covers(self.free(*node, inventory), need)
                };
                self.is_up(*node) && !kept.contains(node) && has_room
            });
            allocation.serves(request)
                && in_walltime(request, allocation, self.now)
                && fitting.count() >= request.nodes.max(1) as usize
        })
    }

    /// P3 and P9: what the placer says of each job.
    pub(super) fn check_explanations(&self, placer: &dyn Placer) -> Result<(), Breach> {
        let allocations: Vec<Allocation> = self.allocations.values().cloned().collect();
        for (&job, class) in &self.waiting {
            let Some(cause) = placer.explain(job, self.now) else {
                return Err(Breach { rule: Rule::Explains, seen: format!("none for job {job}") });
            };
            let Some(request) = self.request(*class) else { continue };
            // Without allocations there is nothing to judge by.
            let never = feasibility(request, &allocations, self.now).is_err();
            let is_right = allocations.is_empty() || matches!(cause, Waiting::Never(_)) == never;
            ensure(is_right, Rule::Never, || format!("{cause:?} of {request:?}"))?;
        }
        let not_waiting = self.running.keys().copied().chain([JobId(u32::MAX)]);
        for job in not_waiting {
            let cause = placer.explain(job, self.now);
            ensure(cause.is_none(), Rule::Explains, || {
                format!("{cause:?} for job {job}, which does not wait")
            })?;
        }
        Ok(())
    }
}

fn less(from: Amounts, taken: Amounts) -> Amounts {
    std::array::from_fn(|index| from[index].saturating_sub(taken[index]))
}

fn covers(has: Amounts, wanted: Amounts) -> bool {
    has.iter().zip(wanted).all(|(has, wanted)| *has >= wanted)
}

/// What a share takes.
fn held(share: &NodeShare) -> Amounts {
    [share.cores.len() as u64, share.gpus.len() as u64, share.memory]
}

/// What jobs may take of a node on which nothing runs. Where there are slots, memory is not added up.
fn idle(inventory: &NodeInventory) -> Amounts {
    let memory = if inventory.slots.is_some() { u64::MAX } else { inventory.memory };
    [inventory.places().into(), inventory.gpu_count().into(), memory]
}

/// What a node must have for such a job, whatever runs there.
fn size(request: &Request, inventory: &NodeInventory) -> Amounts {
    if request.is_gang() {
        [inventory.cpus().into(), inventory.gpu_count().into(), inventory.memory]
    } else {
        idle(inventory)
    }
}

/// What such a job needs of a node.
fn need(request: &Request, inventory: &NodeInventory) -> Amounts {
    if inventory.slots.is_some() && !request.is_gang() {
        return [1, request.gpus.into(), 0];
    }
    let memory = request.memory_on(inventory.cpus(), inventory.memory);
    [request.cpus_on(inventory.threads_per_core).into(), request.gpus.into(), memory]
}

/// P6.
fn in_walltime(request: &Request, allocation: &Allocation, start: Timestamp) -> bool {
    allocation.ends_at.is_none_or(|end| {
        let runtime = request.runtime.unwrap_or_default();
        start < end && start + runtime <= end + START_UP_GRACE
    })
}
