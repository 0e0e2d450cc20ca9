//! The placer itself: what it knows, and how it takes note of what happens.
//!
//! Owns: the classes, the queue, the fleet and the promise, and what of them a delta touches. Does
//! not know: how a decision is made (`pass`) or explained (`explain`). Invariant: a waiting job does
//! not run, a running job does not wait, and every node on which more became possible since the last
//! complete decision is noted as touched.

use std::time::Duration;

use super::fleet::{Fleet, NEVER};
use super::pass;
use super::promise::{Forecast, Promise};
use super::queue::{Key, Queue};
use super::search::Ask;
use crate::ids::{ClassId, JobId, NodeId};
use crate::resources::{Allocation, Request};
use crate::time::Timestamp;
use crate::traits::{
    Delta, NodeState, Placer, Plan, PlannedStart, RunningStep, Snapshot, Waiting, WaitingJob,
};
use crate::workflow::{ExecutionConfig, Header, SortMethod};

/// How single-node jobs are put onto nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Where the fewest GPUs, then CPUs, then memory are left over, to keep nodes whole.
    #[default]
    Pack,
    /// Where the most CPUs, then memory are free.
    Spread,
}

impl Policy {
    /// The placers that torc has, by their names in a spec.
    pub const NAMES: [(&'static str, Self); 2] = [("pack", Self::Pack), ("spread", Self::Spread)];

    /// What a workflow asks for by the name of a placer.
    pub fn of(execution: &ExecutionConfig) -> Self {
        let named = |(name, _): &(&str, Self)| execution.placer.as_deref() == Some(*name);
        Self::NAMES.into_iter().find(named).map(|(_, policy)| policy).unwrap_or_default()
    }

    /// Whether a placer of this name is torc's own.
    pub fn is_known(name: &str) -> bool {
        Self::NAMES.iter().any(|(known, _)| *known == name)
    }
}

/// The placer that all built-in executors share. The module describes its rules.
///
/// Deltas that make no sense are ignored: a class that is not the next one, a job of an unknown
/// class, a job that waits although it runs, the end of a job that does not run, the withdrawal of
/// one that does not wait, an allocation or node number that is taken or unknown.
#[derive(Debug)]
pub struct WholeNodePlacer {
    pub(super) policy: Policy,
    pub(super) classes: Vec<Class>,
    pub(super) queue: Queue,
    pub(super) fleet: Fleet,
    pub(super) promise: Option<Promise>,
    /// The last class for which a start was foreseen in vain, where a pass gave up to look for more.
    pub(super) gave_up_at: Option<Key>,
    pub(super) touched: Touched,
}

/// Jobs that are alike.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) request: Request,
    /// The pools of allocations that it may run in.
    pub(super) pools: Vec<u32>,
}

/// Nodes on which more may be possible than at the last complete decision.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Perhaps more than once.
    pub(super) slots: Vec<u32>,
    /// Any node at all.
    pub(super) all: bool,
}

impl Touched {
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.all = false;
    }
}

impl WholeNodePlacer {
    /// A placer that knows nothing yet.
    pub fn new(sort: SortMethod, policy: Policy) -> Self {
        Self {
            policy,
            classes: Vec::new(),
            queue: Queue::new(sort),
            fleet: Fleet::new(u32::MAX),
            promise: None,
            gave_up_at: None,
            touched: Touched::default(),
        }
    }

    /// The placer of a workflow, that knows nothing yet.
    pub fn of(header: &Header) -> Self {
        Self::with_policy(header, Policy::of(&header.execution))
    }

    /// The placer of a workflow, with another policy than it asks for.
    pub fn with_policy(header: &Header, policy: Policy) -> Self {
        Self::new(header.sort_method, policy).with_most_steps(header.most_steps())
    }

    /// Lets no more steps run at once in an allocation of a scheduler; `None`: as many as fit. Nodes that
    /// are simply there are not concerned. To be said before anything else.
    #[must_use]
    pub fn with_most_steps(self, most: Option<u32>) -> Self {
        Self { fleet: Fleet::new(most.map_or(u32::MAX, |most| most.max(1))), ..self }
    }

    /// The question where a job of the class would start, with nothing held back.
    pub(super) fn ask<'a>(&'a self, class: &'a Class, now: Timestamp) -> Ask<'a> {
        Ask {
            request: &class.request,
            pools: &class.pools,
            now,
            policy: self.policy,
            may_use_held: true,
            barred: None,
        }
    }

    /// The promise as others are told of it.
    pub(super) fn planned_start(&self) -> Option<PlannedStart> {
        let promise = self.promise.as_ref()?;
        let nodes = promise.forecast.slots.iter().map(|&slot| self.fleet.node(slot).id).collect();
        Some(PlannedStart { job: promise.job, at: promise.forecast.until, nodes })
    }

    /// Replaces the promise, and files the nodes held for gangs apart.
    pub(super) fn set_promise(&mut self, promise: Option<Promise>) {
        let gang_slots = |promise: &Option<Promise>| match promise {
            Some(promise) if promise.is_gang => promise.forecast.slots.clone(),
            _ => Vec::new(),
        };
        let (old, new) = (gang_slots(&self.promise), gang_slots(&promise));
        for &slot in old.iter().filter(|slot| new.binary_search(slot).is_err()) {
            self.fleet.set_held(slot, false);
        }
        for &slot in &new {
            self.fleet.set_held(slot, true);
        }
        if !keeps_all(self.promise.as_ref(), promise.as_ref()) {
            let both = [self.promise.as_ref(), promise.as_ref()];
            let slots = both.into_iter().flatten().flat_map(|promise| &promise.forecast.slots);
            self.touched.slots.extend(slots);
        }
        self.promise = promise;
    }

    /// Looks at the forecast again at the next decision.
    pub(super) fn upset_promise(&mut self) {
        if let Some(promise) = &mut self.promise {
            promise.is_stale = true;
        }
    }

    fn add_class(&mut self, class: ClassId, request: Request) {
        if class.0 as usize != self.classes.len() {
            return;
        }
        self.queue.add_class(&request);
        let may_run_in = |pool: u32| {
            let pool = &self.fleet.pools[pool as usize];
            request.may_run_under(pool.scheduler.as_deref(), &pool.labels)
        };
        let pools = (0..).take(self.fleet.pools.len()).filter(|&pool| may_run_in(pool)).collect();
        self.classes.push(Class { request, pools });
    }

    fn add_job(&mut self, waiting: WaitingJob) {
        if self.fleet.is_running(waiting.job) {
            return;
        }
        self.queue.insert(waiting.job, waiting.class);
        self.follow_promised_job();
    }

    fn withdraw(&mut self, job: JobId) {
        self.queue.remove(job);
        self.follow_promised_job();
    }

    /// The promise is for the first waiting job of its class: all of them are alike. It ends when
    /// the job itself has left the class.
    fn follow_promised_job(&mut self) {
        let Some(promise) = &mut self.promise else { return };
        if self.queue.class_of(promise.job) != Some(promise.class) {
            self.set_promise(None);
        } else if let Some(key) = self.queue.key(promise.class) {
            promise.job = key.job;
        }
    }

    fn end_step(&mut self, job: JobId) {
        let Self { fleet, touched, promise, classes, policy, .. } = self;
        let opened = fleet.release(job, |fleet, slot| {
            touched.slots.push(slot);
            let Some(promise) = promise.as_mut().filter(|promise| !promise.is_stale) else {
                return;
            };
            let Some(class) = classes.get(promise.class.0 as usize) else { return };
            let ask = Ask {
                request: &class.request,
                pools: &class.pools,
                now: Timestamp::default(),
                policy: *policy,
                may_use_held: true,
                barred: None,
            };
            promise.is_stale = promise.is_upset_by(fleet, slot, ask);
        });
        if let Some(site) = opened.and_then(|site| self.fleet.site(site)) {
            self.touched.slots.extend(site.slots());
            self.upset_promise();
        }
    }

    fn add_allocation(&mut self, allocation: Allocation) {
        let known = self.fleet.pools.len();
        if self.fleet.add(allocation).is_none() {
            return;
        }
        for (index, pool) in self.fleet.pools.iter().enumerate().skip(known) {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            for class in &mut self.classes {
                if class.request.may_run_under(pool.scheduler.as_deref(), &pool.labels) {
                    class.pools.push(index);
                }
            }
        }
        self.fleet_grew();
    }

    /// Anything may be possible now.
    fn fleet_grew(&mut self) {
        self.touched.all = true;
        self.queue.forget_unpromisable();
        self.upset_promise();
    }

    fn remove_allocation(&mut self, site: u32) {
        self.fleet.remove(site);
        if self.promise.as_ref().is_some_and(|promise| promise.forecast.site == site) {
            self.set_promise(None);
        }
        self.upset_promise();
    }

    fn set_node_state(&mut self, node: NodeId, state: NodeState) {
        let Some(slot) = self.fleet.slot_of(node) else { return };
        self.fleet.set_state(slot, state);
        if state == NodeState::Up {
            self.touched.slots.push(slot);
            self.queue.forget_unpromisable();
        }
        self.upset_promise();
    }

    fn take_over(&mut self, step: &RunningStep) {
        let class = self.classes.get(step.class.0 as usize);
        let runtime = class.and_then(|class| class.request.runtime);
        let ends = expected_end(step.started_at, runtime);
        self.fleet.book(step.job, ends, &step.placement.shares);
    }

    fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::ClassAdded { class, request } => self.add_class(*class, request.clone()),
            Delta::JobReady(waiting) => self.add_job(*waiting),
            Delta::JobWithdrawn(job) => self.withdraw(*job),
            Delta::StepEnded(job) => self.end_step(*job),
            Delta::AllocationAdded(allocation) => self.add_allocation(allocation.clone()),
            Delta::AllocationEndMoved { allocation, ends_at } => {
                if let Some(site) = self.fleet.site_of(*allocation) {
                    self.fleet.move_end(site, *ends_at);
                    self.fleet_grew();
                }
            }
            Delta::AllocationRemoved(allocation) => {
                if let Some(site) = self.fleet.site_of(*allocation) {
                    self.remove_allocation(site);
                }
            }
            Delta::NodeStateChanged { node, state } => self.set_node_state(*node, *state),
        }
    }
}

/// Whether whoever respected the old promise has nothing to gain from the new one.
fn keeps_all(old: Option<&Promise>, new: Option<&Promise>) -> bool {
    let gives_nothing = |old: &Forecast, new: &Forecast| {
        // Without a time the bound is the end of the allocation, which is later than any time.
        old.slots == new.slots && old.until >= new.until
    };
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            old.class == new.class && gives_nothing(&old.forecast, &new.forecast)
        }
        _ => false,
    }
}

/// When a step is expected to end by what its job declared.
pub(super) fn expected_end(started_at: Timestamp, runtime: Option<Duration>) -> Timestamp {
    runtime.map_or(NEVER, |runtime| started_at + runtime)
}

impl Placer for WholeNodePlacer {
    fn apply(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            self.note(delta);
        }
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        pass::plan(self, now, limit)
    }

    fn explain(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        self.why_waiting(job, now)
    }

    /// What a snapshot does not carry is which job a promise was held for, and on which nodes
    /// without a time. Afterwards the promise is for the first blocked job in queue order.
    fn rebuild(&mut self, snapshot: &Snapshot) {
        let most = Some(self.fleet.most_steps());
        *self = Self::new(self.queue.sort(), self.policy).with_most_steps(most);
        for (class, request) in (0..).map(ClassId).zip(&snapshot.classes) {
            self.add_class(class, request.clone());
        }
        for allocation in &snapshot.allocations {
            self.add_allocation(allocation.clone());
        }
        for (node, state) in &snapshot.node_states {
            self.set_node_state(*node, *state);
        }
        for step in &snapshot.running {
            self.take_over(step);
        }
        for waiting in &snapshot.waiting {
            self.add_job(*waiting);
        }
    }
}
