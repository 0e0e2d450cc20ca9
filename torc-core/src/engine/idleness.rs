//! What the CPUs of a run do, and why they are idle: the engine's events told to the meter.
//!
//! Owns: which classes of jobs wait, or may wait one day, for which allocations. Does not know: who
//! holds which node. Invariant: as for the rest of the engine, all of it follows from the events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::idle::{CpuTime, Demand, IdleCause, IdleMeter};
use crate::ids::{AllocationId, ClassId, JobId, NodeId};
use crate::resources::{Allocation, Placement, Request};
use crate::time::Timestamp;

use super::ledger::Ledger;
use super::{Engine, WaitingCount};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    meter: IdleMeter,
    pools: Vec<Pool>,
    /// At the index of the class's number.
    classes: Vec<Stage>,
    /// Classes whose jobs began or ceased to wait since the demand was last looked at.
    changed: Vec<ClassId>,
    /// Nothing starts any more.
    is_stopping: bool,
    holds: BTreeMap<NodeId, Hold>,
}

/// Which jobs of a class there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stage {
    is_ready: bool,
    is_blocked: bool,
}

impl From<WaitingCount> for Stage {
    fn from(count: WaitingCount) -> Self {
        Self { is_ready: count.ready > 0, is_blocked: count.blocked > 0 }
    }
}

/// Allocations that jobs cannot tell apart.
#[derive(Debug)]
struct Pool {
    scheduler: Option<Arc<str>>,
    labels: Arc<[Box<str>]>,
    allocations: Vec<AllocationId>,
    /// Classes with ready jobs, by the runtime that they declare; zero: none.
    ready: BTreeMap<Duration, u32>,
    /// Classes with jobs that may become ready.
    blocked: u32,
    /// What the meter was told of them all; `None`: not of every one.
    told: Option<Demand>,
}

/// A node that is held for a planned start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) job: JobId,
    pub(super) since: Timestamp,
}

impl Pool {
    fn serves(&self, request: &Request) -> bool {
        request.may_run_under(self.scheduler.as_deref(), &self.labels)
    }

    fn shift(&mut self, request: &Request, before: Stage, after: Stage) {
        let runtime = request.runtime.unwrap_or_default();
        match (before.is_ready, after.is_ready) {
            (false, true) => *self.ready.entry(runtime).or_default() += 1,
            (true, false) => {
                let classes = self.ready.entry(runtime).or_default();
                *classes = classes.saturating_sub(1);
                if *classes == 0 {
                    self.ready.remove(&runtime);
                }
            }
            _ => {}
        }
        self.blocked = self.blocked + u32::from(after.is_blocked) - u32::from(before.is_blocked);
    }

    fn demand(&self) -> Demand {
        match self.ready.first_key_value() {
            Some((&shortest, _)) => Demand::Waiting { shortest },
            None if self.blocked > 0 => Demand::Later,
            None => Demand::Over,
        }
    }
}

impl Idleness {
    /// That of a workflow with so many jobs of each class.
    pub(super) fn new(waiting: &[WaitingCount]) -> Self {
        let classes = waiting.iter().map(|count| Stage::from(*count)).collect();
        Self { classes, ..Self::default() }
    }

    /// The classes of jobs are others from now on. Nobody has nodes meanwhile.
    pub(super) fn redefine(&mut self, waiting: &[WaitingCount]) {
        self.classes = waiting.iter().map(|count| Stage::from(*count)).collect();
        self.changed.clear();
        self.pools.clear();
    }

    /// There are so many classes from now on; nothing of the new ones waits so far.
    pub(super) fn grow(&mut self, classes: usize) {
        self.classes.resize(classes, Stage::default());
    }

    /// Jobs of a class began or ceased to wait.
    pub(super) fn note(&mut self, class: ClassId, waiting: WaitingCount) {
        if self.classes[class.0 as usize] != waiting.into() {
            self.changed.push(class);
        }
    }

    /// Looks at what waits, after all of an event was noted.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        requests: &[Request],
        waiting: &[WaitingCount],
    ) {
        if self.changed.is_empty() {
            return;
        }
        for class in std::mem::take(&mut self.changed) {
            let index = class.0 as usize;
            let after = Stage::from(waiting[index]);
            let before = std::mem::replace(&mut self.classes[index], after);
            for pool in self.pools.iter_mut().filter(|pool| pool.serves(&requests[index])) {
                pool.shift(&requests[index], before, after);
            }
        }
        self.tell_demand(now);
    }

    fn tell_demand(&mut self, now: Timestamp) {
        for pool in &mut self.pools {
            let demand = if self.is_stopping { Demand::Over } else { pool.demand() };
            if pool.told.replace(demand) == Some(demand) {
                continue;
            }
            for allocation in &pool.allocations {
                self.meter.set_demand(now, *allocation, demand);
            }
        }
    }

    /// Nodes are there from now on.
    pub(super) fn add(&mut self, now: Timestamp, allocation: &Allocation, requests: &[Request]) {
        let nodes = allocation.nodes.iter().map(|(node, has)| (*node, has.cpus()));
        self.meter.add(now, allocation.id, allocation.ends_at, nodes);
        let is_same = |pool: &&mut Pool| {
            pool.scheduler == allocation.scheduler && pool.labels == allocation.labels
        };
        match self.pools.iter_mut().find(is_same) {
            Some(pool) => {
                pool.allocations.push(allocation.id);
                pool.told = None;
            }
            None => self.pools.push(self.pool_of(allocation, requests)),
        }
        self.tell_demand(now);
    }

    fn pool_of(&self, allocation: &Allocation, requests: &[Request]) -> Pool {
        let mut pool = Pool {
            scheduler: allocation.scheduler.clone(),
            labels: allocation.labels.clone(),
            allocations: vec![allocation.id],
            ready: BTreeMap::new(),
            blocked: 0,
            told: None,
        };
        for (request, stage) in requests.iter().zip(&self.classes) {
            if pool.serves(request) {
                pool.shift(request, Stage::default(), *stage);
            }
        }
        pool
    }

    /// They had been granted before, and nobody could use them yet.
    pub(super) fn add_start_up(&mut self, allocation: &Allocation, time: Duration) {
        let cpus = allocation.nodes.iter().map(|(_, has)| u64::from(has.cpus())).sum();
        self.meter.add_starting_up(cpus, time);
    }

    /// The nodes of an allocation are gone.
    pub(super) fn remove(&mut self, now: Timestamp, allocation: AllocationId) {
        self.meter.remove(now, allocation);
        for pool in &mut self.pools {
            pool.allocations.retain(|other| *other != allocation);
        }
    }

    /// The end that jobs are reckoned with moved.
    pub(super) fn move_end(
        &mut self,
        now: Timestamp,
        allocation: AllocationId,
        ends_at: Option<Timestamp>,
    ) {
        self.meter.move_end(now, allocation, ends_at);
    }

    /// Whether a node takes new work changed.
    pub(super) fn set_good(&mut self, now: Timestamp, node: NodeId, is_good: bool) {
        self.meter.set_good(now, node, is_good);
    }

    /// A job holds this from now on.
    pub(super) fn take(&mut self, now: Timestamp, placement: &Placement, ledger: &Ledger) {
        for share in &placement.shares {
            self.meter.take(now, share.node, ledger.cpus_of(share).into());
        }
    }

    /// It is free again.
    pub(super) fn give_back(&mut self, now: Timestamp, placement: &Placement, ledger: &Ledger) {
        for share in &placement.shares {
            self.meter.give_back(now, share.node, ledger.cpus_of(share).into());
        }
    }

    /// From now on these nodes are held for planned starts, and no others.
    pub(super) fn hold(&mut self, now: Timestamp, held: &[(JobId, Vec<NodeId>)]) {
        let before = std::mem::take(&mut self.holds);
        for (job, node) in
            held.iter().flat_map(|(job, nodes)| nodes.iter().map(|node| (*job, *node)))
        {
            let known = before.get(&node).filter(|hold| hold.job == job).copied();
            self.holds.entry(node).or_insert(known.unwrap_or(Hold { job, since: now }));
        }
        self.meter.hold(now, self.holds.keys().copied());
    }

    /// For whom a node is held, and since when.
    pub(super) fn hold_of(&self, node: NodeId) -> Option<Hold> {
        self.holds.get(&node).copied()
    }

    /// Whether these and no others are held.
    pub(super) fn holds(&self, held: &[(JobId, Vec<NodeId>)]) -> bool {
        let is_known =
            |job: JobId, node: &NodeId| self.holds.get(node).is_some_and(|hold| hold.job == job);
        let count: usize = held.iter().map(|(_, nodes)| nodes.len()).sum();
        count == self.holds.len()
            && held.iter().all(|(job, nodes)| nodes.iter().all(|node| is_known(*job, node)))
    }

    /// A run begins.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.meter.restart(now);
        self.go_on(now);
    }

    /// A run goes on; nobody gave nodes away since it was last heard of, at `last`.
    pub(super) fn resume(&mut self, last: Timestamp, now: Timestamp) {
        self.meter.pass_over(last, now);
        self.meter.resume(now);
        self.go_on(now);
    }

    fn go_on(&mut self, now: Timestamp) {
        self.is_stopping = false;
        self.tell_demand(now);
    }

    /// Nothing starts any more.
    pub(super) fn stop(&mut self, now: Timestamp) {
        self.is_stopping = true;
        self.hold(now, &[]);
        self.tell_demand(now);
    }

    /// A run has ended.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.hold(now, &[]);
        self.meter.pause(now);
    }

    /// What became of the time of the run until now.
    pub(super) fn until(&self, now: Timestamp) -> CpuTime {
        self.meter.until(now)
    }

    /// Why CPUs of a node are idle now.
    pub(super) fn cause(&self, node: NodeId, now: Timestamp) -> Option<IdleCause> {
        self.meter.cause(node, now)
    }
}

impl Engine {
    /// The moment that what becomes known at `at` counts from: nothing is known late.
    pub(super) fn moment(&self, at: Timestamp) -> Timestamp {
        self.last_event_at.max(at)
    }

    /// The nodes of an allocation were granted some time before they could be used, during this run.
    pub(super) fn note_start_up(
        &mut self,
        at: Timestamp,
        began_at: Option<Timestamp>,
        allocation: &Allocation,
    ) {
        let Some(began_at) = began_at else { return };
        let since = self.run_started_at.map_or(began_at, |started_at| started_at.max(began_at));
        self.idleness.add_start_up(allocation, at.since(since));
    }
}
