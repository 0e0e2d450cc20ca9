//! An independent, slow and obvious account of what a placer was told and decided.
//!
//! It recomputes everything from scratch at every question: what is free, what fits, when it would
//! fit. It shares no code with the placer but the contract's types.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::super::pass::VAIN_FORECASTS;
use super::super::{Policy, WholeNodePlacer};
use crate::ids::{AllocationId, ClassId, JobId, NodeId};
use crate::resources::{
    Allocation, MemoryRequest, NodeInventory, Placement, Request, START_UP_GRACE,
};
use crate::time::Timestamp;
use crate::traits::{
    Delta, NodeState, NotNowReason, Placer, Plan, PlannedStart, RunningStep, Snapshot, Start,
    Waiting, WaitingJob,
};
use crate::workflow::SortMethod;

pub(super) const GIB: u64 = 1 << 30;
pub(super) const NO_END: Timestamp = Timestamp(u64::MAX);

/// A placer and what it should know.
pub(super) struct Model {
    pub(super) placer: WholeNodePlacer,
    pub(super) now: Timestamp,
    pub(super) classes: Vec<Request>,
    pub(super) allocations: BTreeMap<AllocationId, Allocation>,
    pub(super) states: BTreeMap<NodeId, NodeState>,
    pub(super) running: BTreeMap<JobId, RunningStep>,
    pub(super) waiting: BTreeMap<JobId, ClassId>,
    pub(super) planned: Option<PlannedStart>,
    /// Of the nodes of allocations to come.
    pub(super) threads_per_core: u32,
    /// Of the nodes of allocations to come, in turn.
    pub(super) slots: Vec<Option<u32>>,
    /// Nodes or allocations changed since the last plan.
    is_disturbed: bool,
    next_job: u32,
    next_node: u32,
    next_allocation: u32,
}

/// GPUs, CPUs, bytes.
type Free = [u64; 3];

pub(super) fn request(cpus: u32) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: Arc::from([]),
        cpus,
        memory: MemoryRequest::ShareOfCpus,
        gpus: 0,
        nodes: 1,
        ntasks_per_node: 1,
        runtime: None,
    }
}

pub(super) fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

impl Model {
    pub(super) fn new(sort: SortMethod, policy: Policy) -> Self {
        Self {
            placer: WholeNodePlacer::new(sort, policy),
            now: at(1000),
            classes: Vec::new(),
            allocations: BTreeMap::new(),
            states: BTreeMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            planned: None,
            threads_per_core: 1,
            slots: vec![None],
            is_disturbed: false,
            next_job: 1,
            next_node: 0,
            next_allocation: 1,
        }
    }

    /// The same with so many slots on each of the nodes to come, in turn.
    #[must_use]
    pub(super) fn with_slots(self, slots: Vec<Option<u32>>) -> Self {
        Self { slots, ..self }
    }

    /// Adds an allocation of (cpus, GiB, gpus) nodes.
    pub(super) fn allocate(
        &mut self,
        nodes: &[(u32, u64, u32)],
        ends_at: Option<Timestamp>,
    ) -> AllocationId {
        self.allocate_for(None, &[], nodes, ends_at)
    }

    pub(super) fn allocate_for(
        &mut self,
        scheduler: Option<&str>,
        labels: &[&str],
        nodes: &[(u32, u64, u32)],
        ends_at: Option<Timestamp>,
    ) -> AllocationId {
        let id = AllocationId(self.next_allocation);
        self.next_allocation += 1;
        let slots = self.slots.iter().cycle().copied();
        let nodes = nodes.iter().zip(slots).map(|(&(cpus, gib, gpus), slots)| {
            let node = NodeId(self.next_node);
            self.next_node += 1;
            let inventory = NodeInventory {
                name: format!("node{node}").into(),
                cores: (0..cpus).collect(),
                threads_per_core: self.threads_per_core,
                slots: slots.and_then(NonZeroU32::new),
                memory: gib * GIB,
                gpus: (0..gpus).map(|gpu| gpu.to_string().into()).collect(),
            };
            (node, inventory)
        });
        let allocation = Allocation {
            id,
            scheduler: scheduler.map(Arc::from),
            labels: labels.iter().map(|label| Box::from(*label)).collect(),
            ends_at,
            nodes: nodes.collect(),
            inherited: None,
        };
        self.placer.apply(&[Delta::AllocationAdded(allocation.clone())]);
        self.allocations.insert(id, allocation);
        id
    }

    pub(super) fn deallocate(&mut self, id: AllocationId) {
        self.is_disturbed = true;
        self.allocations.remove(&id);
        self.placer.apply(&[Delta::AllocationRemoved(id)]);
    }

    pub(super) fn move_end(&mut self, id: AllocationId, ends_at: Option<Timestamp>) {
        self.is_disturbed = true;
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.ends_at = ends_at;
        }
        self.placer.apply(&[Delta::AllocationEndMoved { allocation: id, ends_at }]);
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: NodeState) {
        self.is_disturbed = true;
        self.states.insert(node, state);
        self.placer.apply(&[Delta::NodeStateChanged { node, state }]);
    }

    /// Adds a job, in the class of its request.
    pub(super) fn submit(&mut self, request: &Request) -> JobId {
        let job = JobId(self.next_job);
        self.next_job += 1;
        self.resubmit(job, request);
        job
    }

    pub(super) fn resubmit(&mut self, job: JobId, request: &Request) {
        let known = self.classes.iter().position(|known| known == request);
        let class = ClassId(u32::try_from(known.unwrap_or(self.classes.len())).unwrap());
        if known.is_none() {
            self.classes.push(request.clone());
            self.placer.apply(&[Delta::ClassAdded { class, request: request.clone() }]);
        }
        self.waiting.insert(job, class);
        self.placer.apply(&[Delta::JobReady(WaitingJob { job, class })]);
    }

    pub(super) fn submit_many(&mut self, count: usize, request: &Request) -> Vec<JobId> {
        (0..count).map(|_| self.submit(request)).collect()
    }

    pub(super) fn withdraw(&mut self, job: JobId) {
        self.waiting.remove(&job);
        self.placer.apply(&[Delta::JobWithdrawn(job)]);
    }

    pub(super) fn end(&mut self, job: JobId) {
        self.running.remove(&job);
        self.placer.apply(&[Delta::StepEnded(job)]);
    }

    /// Plans without a limit, checks the plan, and returns the jobs started.
    pub(super) fn plan(&mut self) -> Vec<JobId> {
        self.plan_at_most(usize::MAX)
    }

    pub(super) fn plan_at_most(&mut self, limit: usize) -> Vec<JobId> {
        let plan = self.placer.plan(self.now, limit);
        assert!(plan.starts.len() <= limit);
        let jobs = plan.starts.iter().map(|start| start.job).collect::<Vec<_>>();
        let is_complete = jobs.len() < limit;
        let before = self.planned.clone();
        self.take(plan);
        self.check_promise_is_kept(before, &jobs);
        self.is_disturbed = false;
        if is_complete {
            self.check_nobody_waits_who_may_start();
            self.check_planned_start();
        }
        jobs
    }

    /// Books and checks what was decided.
    pub(super) fn take(&mut self, plan: Plan) {
        for start in plan.starts {
            self.check_start(&start);
            let class = self.waiting.remove(&start.job).expect("a started job waited");
            self.running.insert(
                start.job,
                RunningStep {
                    job: start.job,
                    class,
                    placement: start.placement,
                    started_at: self.now,
                },
            );
        }
        assert!(plan.planned.len() <= 1, "one promise at a time");
        self.planned = plan.planned.into_iter().next();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let live: BTreeSet<_> = self.inventories().map(|(node, ..)| node).collect();
        Snapshot {
            classes: self.classes.clone(),
            allocations: self.allocations.values().cloned().collect(),
            node_states: self
                .states
                .iter()
                .filter(|(node, state)| live.contains(node) && **state != NodeState::Up)
                .map(|(node, state)| (*node, *state))
                .collect(),
            running: self.running.values().cloned().collect(),
            waiting: self
                .waiting
                .iter()
                .rev()
                .map(|(&job, &class)| WaitingJob { job, class })
                .collect(),
        }
    }

    pub(super) fn placement(&self, job: JobId) -> &Placement {
        &self.running.get(&job).expect("the job runs").placement
    }

    /// The nodes that a running job is on.
    pub(super) fn nodes_of(&self, job: JobId) -> Vec<u32> {
        self.placement(job).shares.iter().map(|share| share.node.0).collect()
    }

    pub(super) fn why(&self, job: JobId) -> Waiting {
        self.placer.explain(job, self.now).expect("the job waits")
    }

    pub(super) fn why_not_now(&self, job: JobId) -> NotNowReason {
        match self.why(job) {
            Waiting::NotNow(reason) => reason,
            Waiting::Never(reason) => panic!("never: {reason}"),
        }
    }

    fn request_of(&self, job: JobId) -> &Request {
        let class = self.waiting.get(&job).copied().or_else(|| Some(self.running.get(&job)?.class));
        &self.classes[class.expect("a known job").0 as usize]
    }

    fn inventories(&self) -> impl Iterator<Item = (NodeId, &Allocation, &NodeInventory)> {
        self.allocations.values().flat_map(|allocation| {
            allocation.nodes.iter().map(move |(node, inventory)| (*node, allocation, inventory))
        })
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.states.get(&node).is_none_or(|state| *state == NodeState::Up)
    }

    /// What is free on a node, those steps counted as running that `still_runs`.
    fn free(
        &self,
        node: NodeId,
        inventory: &NodeInventory,
        still_runs: &dyn Fn(&RunningStep) -> bool,
    ) -> Free {
        let mut free = idle(inventory);
        for step in self.running.values().filter(|step| still_runs(step)) {
            for share in step.placement.shares.iter().filter(|share| share.node == node) {
                let takes = [share.gpus.len() as u64, share.cores.len() as u64, share.memory];
                for (free, takes) in free.iter_mut().zip(takes) {
                    *free = free.checked_sub(takes).expect("P1: oversubscribed");
                }
            }
        }
        free
    }

    /// P1, P2, P6 and the shape of a placement.
    fn check_start(&self, start: &Start) {
        let request = self.request_of(start.job);
        let allocation = &self.allocations[&start.placement.allocation];
        assert!(may_use(request, allocation), "scheduler and labels");
        assert!(in_walltime(request, allocation, self.now), "P6");
        assert_eq!(start.placement.shares.len(), request.nodes as usize);
        let mut last = None;
        for share in &start.placement.shares {
            assert!(self.is_up(share.node), "P8: only nodes that are up");
            let position = allocation.nodes.iter().position(|(node, _)| *node == share.node);
            let position = position.expect("P2: one allocation");
            assert!(last < Some(position), "node order");
            last = Some(position);
            let inventory = &allocation.nodes[position].1;
            let need = need(request, inventory);
            let takes = [share.gpus.len() as u64, share.cores.len() as u64, share.memory];
            let limit = if request.nodes > 1 { real(inventory) } else { idle(inventory) };
            assert!(covers(limit, need), "P3");
            let all = [limit[0], idle(inventory)[1], limit[2]];
            assert_eq!(takes, if request.nodes > 1 { all } else { need });
            let free = self.free(share.node, inventory, &|_| true);
            assert!(covers(free, takes), "P1: {free:?} free, {takes:?} taken");
            self.check_ids(start, share.node, inventory);
        }
    }

    /// P1: each core id and GPU id has one owner.
    fn check_ids(&self, start: &Start, node: NodeId, inventory: &NodeInventory) {
        let (mut cores, mut gpus) = (BTreeSet::new(), BTreeSet::new());
        let running = self.running.values().flat_map(|step| &step.placement.shares);
        let shares = running.chain(&start.placement.shares).filter(|share| share.node == node);
        for share in shares {
            assert!(share.cores.windows(2).chain(share.gpus.windows(2)).all(|ids| ids[0] < ids[1]));
            assert!(share.cores.iter().all(|core| cores.insert(*core)), "P1: a core twice");
            assert!(share.gpus.iter().all(|gpu| gpus.insert(*gpu)), "P1: a GPU twice");
        }
        assert!(cores.iter().all(|core| u64::from(*core) < idle(inventory)[1]));
        assert!(gpus.iter().all(|gpu| usize::from(*gpu) < inventory.gpus.len()));
    }

    fn expected_end(&self, step: &RunningStep) -> Timestamp {
        let runtime = self.classes[step.class.0 as usize].runtime;
        match runtime.map(|runtime| step.started_at + runtime) {
            Some(end) if end >= self.now => end,
            _ => NO_END,
        }
    }

    /// Whether a job would fit at `start` if all steps that are expected to had ended by then.
    /// `allowed` says what of a node's free amounts it may use.
    fn fits(
        &self,
        request: &Request,
        start: Timestamp,
        allowed: &dyn Fn(NodeId, Free) -> Free,
    ) -> bool {
        let still_runs = |step: &RunningStep| start == self.now || self.expected_end(step) > start;
        self.allocations.values().any(|allocation| {
            if !may_use(request, allocation) || !in_walltime(request, allocation, start) {
                return false;
            }
            let fitting = allocation.nodes.iter().filter(|(node, inventory)| {
                let free = allowed(*node, self.free(*node, inventory, &still_runs));
                let is_idle = !self.running.values().any(|step| {
                    still_runs(step) && step.placement.shares.iter().any(|s| s.node == *node)
                });
                let need = need(request, inventory);
                let fits = if request.nodes > 1 {
                    is_idle && free == idle(inventory) && covers(real(inventory), need)
                } else {
                    covers(free, need)
                };
                self.is_up(*node) && fits
            });
            fitting.count() >= request.nodes as usize
        })
    }

    /// When the job would fit by the known ends.
    fn earliest(&self, request: &Request) -> Option<Timestamp> {
        let mut ends: Vec<_> = self.running.values().map(|step| self.expected_end(step)).collect();
        ends.retain(|end| *end != NO_END);
        ends.sort_unstable();
        ends.into_iter().find(|end| {
            // What ends now has not ended yet.
            *end > self.now && self.fits(request, *end, &|_, free| free)
        })
    }

    /// P4 and the letter of P5.
    fn check_nobody_waits_who_may_start(&self) {
        let promised = self.planned.as_ref().map(|planned| (planned, self.request_of(planned.job)));
        for (&job, class) in &self.waiting {
            let request = &self.classes[class.0 as usize];
            let allowed: Box<dyn Fn(NodeId, Free) -> Free> = match promised {
                Some((planned, promised))
                    if planned.job != job && promised.priority >= request.priority =>
                {
                    Box::new(|node, free| self.left_by(planned, promised, request, node, free))
                }
                _ => Box::new(|_, free| free),
            };
            assert!(
                !self.fits(request, self.now, &*allowed),
                "P4: job {job} ({request:?}) may start and waits; planned {:?}",
                self.planned
            );
        }
    }

    /// What a promise leaves of a node's free amounts to a job.
    fn left_by(
        &self,
        planned: &PlannedStart,
        promised: &Request,
        request: &Request,
        node: NodeId,
        free: Free,
    ) -> Free {
        let leaves = request.runtime.is_some_and(|runtime| self.now + runtime <= planned.at);
        if leaves || !planned.nodes.contains(&node) {
            return free;
        }
        if promised.nodes > 1 || request.nodes > 1 {
            return [0; 3];
        }
        let (_, _, inventory) =
            self.inventories().find(|(id, ..)| *id == node).expect("a promised node lives");
        let need = need(promised, inventory);
        let is_timed = self.earliest(promised) == Some(planned.at);
        let then = if is_timed {
            self.free(node, inventory, &|step| self.expected_end(step) > planned.at)
        } else {
            free
        };
        std::array::from_fn(|index| free[index].min(then[index].saturating_sub(need[index])))
    }

    /// P5: backfill does not delay a planned start that the running jobs kept.
    fn check_promise_is_kept(&self, before: Option<PlannedStart>, started: &[JobId]) {
        let (Some(before), Some(after)) = (before, &self.planned) else { return };
        let priority = self.request_of(after.job).priority;
        let is_bound = before.at == NO_END
            || self.allocations.values().any(|allocation| allocation.ends_at == Some(before.at));
        let overran = self.running.values().any(|step| {
            let runtime = self.classes[step.class.0 as usize].runtime;
            runtime.is_some_and(|runtime| step.started_at + runtime < self.now)
        });
        let outranked = started.iter().any(|job| self.request_of(*job).priority > priority);
        if before.job == after.job && !(self.is_disturbed || is_bound || overran || outranked) {
            assert!(after.at <= before.at, "P5: {before:?} became {after:?}");
        }
    }

    /// The planned start is the earliest there is, and for the right priority.
    fn check_planned_start(&self) {
        let planned = self.planned.as_ref();
        if let Some(planned) = planned {
            assert!(self.waiting.contains_key(&planned.job));
            let request = self.request_of(planned.job);
            assert_eq!(planned.nodes.len(), request.nodes as usize);
            assert!(planned.nodes.iter().all(|node| self.is_up(*node)));
            match self.earliest(request) {
                Some(at) => assert!(
                    planned.at == at || planned.at == self.now,
                    "{planned:?}, but {at:?} is possible; now {:?}",
                    self.now
                ),
                None => {
                    let bound = self.inventories().find(|(node, ..)| *node == planned.nodes[0]);
                    let ends_at = bound.expect("a promised node lives").1.ends_at;
                    assert!(planned.at == ends_at.unwrap_or(NO_END) || planned.at == self.now);
                }
            }
        }
        let classes: BTreeSet<_> = self.waiting.values().collect();
        if classes.len() > VAIN_FORECASTS as usize {
            // So many may come before in vain.
            return;
        }
        let priority = planned.map(|planned| self.request_of(planned.job).priority);
        for class in self.waiting.values() {
            let request = &self.classes[class.0 as usize];
            if priority.is_none_or(|priority| request.priority > priority) {
                assert_eq!(self.earliest(request), None, "{request:?} should have the promise");
            }
        }
    }
}

fn real(inventory: &NodeInventory) -> Free {
    [inventory.gpus.len() as u64, inventory.cores.len() as u64, inventory.memory]
}

/// What is free on a node on which nothing runs: slots in the place of CPUs, if it has any.
fn idle(inventory: &NodeInventory) -> Free {
    let [gpus, cpus, memory] = real(inventory);
    match inventory.slots {
        Some(slots) => [gpus, slots.get().into(), u64::MAX],
        None => [gpus, cpus, memory],
    }
}

fn need(request: &Request, inventory: &NodeInventory) -> Free {
    if request.nodes == 1 && inventory.slots.is_some() {
        return [u64::from(request.gpus), 1, 0];
    }
    let memory = request.memory_on(inventory.cpus(), inventory.memory);
    let ranks = if request.nodes > 1 { request.ntasks_per_node } else { 1 };
    let cores = (request.cpus / ranks).div_ceil(inventory.threads_per_core) * ranks;
    [u64::from(request.gpus), u64::from(cores * inventory.threads_per_core), memory]
}

fn covers(free: Free, need: Free) -> bool {
    free.iter().zip(need).all(|(free, need)| *free >= need)
}

fn may_use(request: &Request, allocation: &Allocation) -> bool {
    let pinned = request.scheduler.is_some() && allocation.scheduler.is_some();
    let wrong_scheduler = pinned && request.scheduler != allocation.scheduler;
    let has_labels = request.labels.iter().all(|label| allocation.labels.contains(label));
    let labelled = !request.labels.is_empty() || allocation.labels.is_empty();
    !wrong_scheduler && has_labels && labelled
}

fn in_walltime(request: &Request, allocation: &Allocation, start: Timestamp) -> bool {
    match (request.runtime, allocation.ends_at) {
        (_, None) => true,
        (Some(runtime), Some(end)) => start < end && start + runtime <= end + START_UP_GRACE,
        (None, Some(end)) => start < end,
    }
}
