//! The clock of a forecast: it ends jobs, grants nodes, and lets the engine decide.
//!
//! Owns: what happens next, and when an allocation is given back. Does not know: what starts where.
//! Invariant: all that happens at one moment happens before time goes on: ends first, then actions,
//! nodes, starts and nodes given back, until nothing follows any more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::model::Assumptions;
use super::offers::Offers;
use crate::engine::{ActionCommand, Effect, Engine, Event, Future, Refused};
use crate::ids::{AllocationId, AttemptId, JobId, WorkflowId};
use crate::placer::WholeNodePlacer;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, Outcome, Usage};
use crate::workflow::Workflow;

/// What is left when nothing happens any more.
pub(super) struct Finish {
    pub(super) engine: Engine,
    /// When the run was over.
    pub(super) ended_at: Timestamp,
    /// When the last job ended.
    pub(super) last_end: Timestamp,
    /// Jobs that would have run for longer than they are let.
    pub(super) overrunning: usize,
    /// Allocations that were asked for and did not get nodes.
    pub(super) ungranted: usize,
    /// Allocations that still waited in the queue when nothing was left to run.
    pub(super) canceled: usize,
    /// Jobs that ran, by allocation.
    pub(super) jobs_in: BTreeMap<AllocationId, u32>,
}

/// The clock, and what it drives.
pub(super) struct Course<'f> {
    engine: Engine,
    offers: &'f Offers,
    assumed: &'f Assumptions,
    now: Timestamp,
    last_end: Timestamp,
    /// What runs, by its end.
    due: BinaryHeap<Reverse<(Timestamp, JobId, AttemptId)>>,
    /// Allocations that were asked for and are not submitted yet, in the order of their numbers.
    wishes: Vec<AllocationId>,
    /// Allocations that wait for their nodes, in the order of submission.
    queue: Vec<Pending>,
    /// Allocations that were asked for and have nodes.
    leases: BTreeMap<AllocationId, Lease>,
    jobs_in: BTreeMap<AllocationId, u32>,
    overrunning: usize,
}

/// An allocation that waits in the queue.
struct Pending {
    id: AllocationId,
    scheduler: u32,
    nodes: u32,
    granted_at: Timestamp,
}

/// An allocation that will be given back.
struct Lease {
    scheduler: u32,
    ends_at: Timestamp,
    /// Jobs that run there.
    running: u32,
    /// Since when nothing runs there and nothing ever will.
    useless_since: Option<Timestamp>,
}

impl<'f> Course<'f> {
    pub(super) fn new(
        workflow: &Arc<Workflow>,
        offers: &'f Offers,
        assumed: &'f Assumptions,
    ) -> Self {
        let header = &workflow.header;
        let placer = match assumed.policy {
            Some(policy) => WholeNodePlacer::with_policy(header, policy),
            None => WholeNodePlacer::of(header),
        };
        Self {
            engine: Engine::new(WorkflowId(1), workflow.clone(), Box::new(placer)),
            offers,
            assumed,
            now: Timestamp::default(),
            last_end: Timestamp::default(),
            due: BinaryHeap::new(),
            wishes: Vec::new(),
            queue: Vec::new(),
            leases: BTreeMap::new(),
            jobs_in: BTreeMap::new(),
            overrunning: 0,
        }
    }

    /// Runs to where nothing happens any more.
    pub(super) fn run(mut self) -> Result<Finish, Refused> {
        let jobs = self.engine.unfinished_jobs();
        self.engine.apply(&self.engine.next_run(self.now, jobs))?;
        if let Some(nodes) = &self.offers.there {
            let allocation = self.engine.number_allocation(nodes.clone(), Arc::from([]), None);
            let at = self.now;
            self.engine.apply(&Event::AllocationGranted { at, began_at: None, allocation })?;
        }
        self.settle()?;
        while let Some(next) = self.next_moment() {
            self.now = next;
            self.end_due()?;
            self.settle()?;
        }
        let complete = self.have_all_ended();
        self.engine.apply(&Event::RunEnded { at: self.now, complete })?;
        Ok(Finish {
            engine: self.engine,
            ended_at: self.now,
            last_end: self.last_end,
            overrunning: self.overrunning,
            ungranted: self.wishes.len(),
            canceled: self.queue.len(),
            jobs_in: self.jobs_in,
        })
    }

    fn have_all_ended(&self) -> bool {
        self.engine.counts().ended() as usize == self.engine.workflow().jobs.len()
    }

    /// How long an allocation is kept that nothing could start in.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.engine.workflow().header.wait_for_new_jobs_seconds)
    }

    /// When something happens next.
    fn next_moment(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|Reverse((end, ..))| *end);
        let patience = self.patience();
        let given_back =
            self.leases.values().filter_map(|lease| Some(lease.useless_since? + patience));
        // What waits for nodes that nobody needs any more is canceled.
        let waiting: &[Pending] = if self.have_all_ended() { &[] } else { &self.queue };
        let granted = waiting.iter().map(|pending| pending.granted_at);
        let next = due.into_iter().chain(self.engine.next_expiry()).chain(given_back);
        let next = next.chain(granted).min()?;
        Some(self.end_of_futures(next))
    }

    /// The first moment until then at which nothing that waits could start any more, by walltime, in
    /// an allocation that is idle; else that moment.
    fn end_of_futures(&self, until: Timestamp) -> Timestamp {
        let mut first = until;
        let mut seen = BTreeSet::new();
        for (allocation, lease) in &self.leases {
            let kind = (lease.scheduler, lease.ends_at);
            let is_open = lease.running == 0 && lease.useless_since.is_none();
            // Those that are alike have the same future.
            if !is_open || !seen.insert(kind) {
                continue;
            }
            let has_none = |at| self.engine.future_in(*allocation, at) == Future::Never;
            if !has_none(first) {
                continue;
            }
            // It has one now, so the moment lies between.
            let (mut before, mut after) = (self.now.0, first.0);
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if has_none(Timestamp(middle)) {
                    after = middle;
                } else {
                    before = middle;
                }
            }
            first = Timestamp(after);
        }
        first
    }

    fn end_due(&mut self) -> Result<(), Refused> {
        while let Some(Reverse((at, job, attempt))) = self.due.peek().copied()
            && at <= self.now
        {
            self.due.pop();
            let lease = self.engine.allocation_of(job).and_then(|id| self.leases.get_mut(&id));
            if let Some(lease) = lease {
                lease.running -= 1;
            }
            let (outcome, usage) = (Outcome::Exited { code: 0 }, Usage::default());
            self.engine.apply(&Event::StepEnded { job, attempt, at, outcome, usage })?;
            self.last_end = at;
        }
        Ok(())
    }

    /// All that follows at this moment.
    fn settle(&mut self) -> Result<(), Refused> {
        loop {
            let has_acted = self.act()?;
            let has_submitted = self.submit()?;
            let has_granted = self.grant()?;
            self.expire()?;
            self.start()?;
            let has_given_back = self.give_back()?;
            if !has_acted && !has_submitted && !has_granted && !has_given_back {
                return Ok(());
            }
        }
    }

    /// Fires the actions whose moment has come.
    fn act(&mut self) -> Result<bool, Refused> {
        if self.offers.there.is_some() {
            return Ok(false);
        }
        let (events, mut effects) = self.engine.fire_actions(self.now);
        for event in &events {
            if let Event::AllocationRequested { allocation, .. } = event {
                self.wishes.push(*allocation);
            }
        }
        while let Some(effect) = effects.pop() {
            let Effect::RunCommand(ActionCommand { action, worker, command }) = effect else {
                continue;
            };
            let ended =
                Event::ActionCommandEnded { at: self.now, action, worker, command, code: 0 };
            effects.extend(self.engine.apply(&ended)?);
        }
        Ok(!events.is_empty())
    }

    /// Submits the allocations that a job which is ready could use.
    fn submit(&mut self) -> Result<bool, Refused> {
        if self.wishes.is_empty() {
            return Ok(false);
        }
        let offers = (0_u32..).zip(&self.offers.schedulers);
        let is_of_use: Vec<bool> = offers
            .map(|(scheduler, offer)| {
                self.engine.has_ready_job_for(scheduler, |request| offer.fits(request))
            })
            .collect();
        if !is_of_use.contains(&true) {
            return Ok(false);
        }
        let mut has_submitted = false;
        for allocation in std::mem::take(&mut self.wishes) {
            let book = self.engine.allocation_book(allocation);
            let scheduler = book.and_then(|book| book.request.as_ref()).map(|of| of.scheduler);
            let Some(scheduler) = scheduler else { continue };
            if is_of_use[scheduler as usize] && !self.has_to_queue(scheduler) {
                self.submit_one(allocation, scheduler)?;
                has_submitted = true;
            } else {
                self.wishes.push(allocation);
            }
        }
        Ok(has_submitted)
    }

    /// Whether the one before has to end first.
    fn has_to_queue(&self, scheduler: u32) -> bool {
        self.offers.schedulers[scheduler as usize].is_serialized
            && (self.leases.values().any(|lease| lease.scheduler == scheduler)
                || self.queue.iter().any(|pending| pending.scheduler == scheduler))
    }

    fn submit_one(&mut self, id: AllocationId, scheduler: u32) -> Result<(), Refused> {
        let at = self.now;
        let handle = AllocationHandle(id.to_string());
        self.engine.apply(&Event::AllocationSubmitted { at, allocation: id, handle })?;
        let nodes = self.offers.schedulers[scheduler as usize].num_nodes();
        let ahead = self.queue.iter().fold(nodes, |sum, of| sum.saturating_add(of.nodes));
        let granted_at = at + self.assumed.queue_wait.of(ahead);
        self.queue.push(Pending { id, scheduler, nodes, granted_at });
        Ok(())
    }

    /// Gives nodes to those whose turn has come.
    fn grant(&mut self) -> Result<bool, Refused> {
        if self.have_all_ended() {
            return Ok(false);
        }
        let now = self.now;
        let due: Vec<Pending> =
            self.queue.extract_if(.., |pending| pending.granted_at <= now).collect();
        for pending in &due {
            self.grant_one(pending.id, pending.scheduler)?;
        }
        Ok(!due.is_empty())
    }

    fn grant_one(&mut self, id: AllocationId, scheduler: u32) -> Result<(), Refused> {
        let at = self.now;
        let offer = &self.offers.schedulers[scheduler as usize];
        let ends_at = at + offer.walltime;
        let granted = self.engine.grant(id, offer.nodes(), Some(ends_at));
        let allocation = granted.ok_or(Refused::WrongAllocation(id))?;
        self.engine.apply(&Event::AllocationGranted { at, began_at: None, allocation })?;
        self.leases.insert(id, Lease { scheduler, ends_at, running: 0, useless_since: None });
        Ok(())
    }

    fn expire(&mut self) -> Result<(), Refused> {
        let expired: Vec<AllocationId> = self.engine.expiring(self.now).collect();
        for allocation in expired {
            // What runs there completes: that it would be asked to end was counted at its start.
            self.engine.apply(&Event::AllocationExpired { at: self.now, allocation })?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Refused> {
        // In allocations the placer keeps to it.
        let most = self.engine.workflow().header.execution.max_parallel_steps;
        let most = most.filter(|_| self.offers.there.is_some());
        let limit = most
            .map_or(usize::MAX, |most| (most as usize).saturating_sub(self.engine.running().len()));
        let dispatch = self.engine.dispatch(self.now, limit);
        if let Some(fault) = dispatch.faults.into_iter().next() {
            return Err(fault);
        }
        for event in dispatch.started {
            if let Event::Dispatched { job, attempt, placement, .. } = event {
                self.begin(job, attempt, placement.allocation);
            }
        }
        Ok(())
    }

    fn begin(&mut self, job: JobId, attempt: AttemptId, allocation: AllocationId) {
        let runtime = self.assumed.runtime(job, self.engine.request_of(job).runtime);
        let mut end = self.now + runtime;
        if let Some(book) = self.engine.allocation_book(allocation) {
            let stop_at = self.engine.stop_at(book);
            self.overrunning += usize::from(stop_at.is_some_and(|stop_at| end > stop_at));
            end = book.allocation.ends_at.map_or(end, |ends_at| end.min(ends_at));
        }
        self.due.push(Reverse((end, job, attempt)));
        if let Some(lease) = self.leases.get_mut(&allocation) {
            lease.running += 1;
        }
        *self.jobs_in.entry(allocation).or_default() += 1;
    }

    /// Gives back what nothing could start in.
    fn give_back(&mut self) -> Result<bool, Refused> {
        let (now, patience, is_over) = (self.now, self.patience(), self.have_all_ended());
        let mut futures: BTreeMap<(u32, Timestamp), Future> = BTreeMap::new();
        let mut given_back = Vec::new();
        for (id, lease) in self.leases.iter_mut().filter(|(_, lease)| lease.running == 0) {
            let book = self.engine.allocation_book(*id);
            let is_closed = book.is_none_or(|book| book.closed_at.is_some());
            let kind = (lease.scheduler, lease.ends_at);
            let has_future = lease.useless_since.is_none()
                && !is_closed
                && *futures.entry(kind).or_insert_with(|| self.engine.future_in(*id, now))
                    != Future::Never;
            if has_future {
                continue;
            }
            let since = *lease.useless_since.get_or_insert(now);
            if is_over || is_closed || now.since(since) >= patience {
                given_back.push((*id, is_closed));
            }
        }
        for (allocation, is_closed) in &given_back {
            self.end(*allocation, *is_closed)?;
        }
        Ok(!given_back.is_empty())
    }

    fn end(&mut self, allocation: AllocationId, is_closed: bool) -> Result<(), Refused> {
        let at = self.now;
        self.engine.apply(&Event::AllocationLeaving { at, allocation })?;
        // The last commands of its worker.
        self.act()?;
        let cause = if is_closed { AllocationEnd::TimedOut } else { AllocationEnd::Completed };
        let reason = String::new();
        self.engine.apply(&Event::AllocationEnded { at, allocation, cause, reason })?;
        self.leases.remove(&allocation);
        Ok(())
    }
}
