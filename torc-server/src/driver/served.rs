//! What a driver does beyond running jobs when a server drives it: wishes for allocations, workers
//! that come and go, actions.
//!
//! Decides synchronously, as the rest of the driver does; what follows is held until it is durable.
//! While a scheduler says that an allocation lives, its steps run, whoever is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::{ActionCommand, AllocationBook, Conclusion, Effect, Event, Phase};
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::{MemoryRequest, Request, START_UP_GRACE};
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationState, NodeShape, NodeState, Outcome, StepEvent,
    StepSignal, Usage,
};
use torc_core::wire::link::{Hello, ToWorker};

use super::Driver;
use crate::accountant::Accountant;
use crate::allocator::Allocator;
use crate::handle::{Acknowledgement, AllocationInput, Handle, WorkerInput};
use crate::store::Submitter;
use crate::workers::{WorkerLink, Workers};

/// The pause between two looks at the allocations while nothing about them changes.
const MIND_EVERY: Duration = Duration::from_secs(1);
/// How long a worker that was told to leave has for it before its allocation is cancelled.
const TIME_TO_LEAVE: Duration = Duration::from_secs(60);

/// What a driver has when a server drives it.
pub(crate) struct Served {
    pub(crate) workers: Arc<Workers>,
    pub(crate) allocator: Allocator,
    pub(crate) accountant: Option<Accountant>,
    /// The driver's own way in, for what runs beside it.
    pub(crate) handle: Handle,
    pub(crate) submitter: Submitter,
    /// The program that a worker is, absolute.
    pub(crate) program: String,
    /// The server's generation.
    pub(crate) generation: i64,
    /// A name that no other state directory has.
    pub(crate) store_key: Arc<str>,
    /// What is known of the nodes of each scheduler, by its index.
    pub(crate) shapes: BTreeMap<u32, Vec<NodeShape>>,
    /// What the scheduler said last.
    pub(super) observed: BTreeMap<AllocationId, AllocationState>,
    /// Why requests have not been submitted.
    pub(super) held_back: BTreeMap<AllocationId, String>,
    /// When this server took the workflow up: what was wished for before may have been asked for.
    pub(super) began_at: Timestamp,
    /// Wishes that the allocator knows.
    handed_over: BTreeSet<AllocationId>,
    idle_since: BTreeMap<AllocationId, Timestamp>,
    /// When workers were told to leave.
    told_to_leave: BTreeMap<AllocationId, Timestamp>,
    /// Allocations that the allocator is to cancel.
    cancelled: BTreeSet<AllocationId>,
    /// Something about the allocations changed since they were minded.
    is_dirty: bool,
    mind_at: Timestamp,
}

/// All that a served driver is made with beyond its engine.
pub(crate) struct ServedParts {
    pub(crate) workers: Arc<Workers>,
    pub(crate) allocator: Allocator,
    pub(crate) accountant: Option<Accountant>,
    pub(crate) handle: Handle,
    pub(crate) submitter: Submitter,
    pub(crate) program: String,
    pub(crate) generation: i64,
    pub(crate) store_key: Arc<str>,
    pub(crate) shapes: BTreeMap<u32, Vec<NodeShape>>,
}

impl Served {
    pub(crate) fn new(parts: ServedParts) -> Self {
        Self {
            workers: parts.workers,
            allocator: parts.allocator,
            accountant: parts.accountant,
            handle: parts.handle,
            submitter: parts.submitter,
            program: parts.program,
            generation: parts.generation,
            store_key: parts.store_key,
            shapes: parts.shapes,
            began_at: crate::clock::now(),
            observed: BTreeMap::new(),
            held_back: BTreeMap::new(),
            handed_over: BTreeSet::new(),
            idle_since: BTreeMap::new(),
            told_to_leave: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            is_dirty: true,
            mind_at: Timestamp::default(),
        }
    }

    pub(super) fn disturb(&mut self) {
        self.is_dirty = true;
    }

    /// Why a request cannot be of use now, if it cannot.
    fn fits(&self, scheduler: u32, walltime: Duration, request: &Request) -> bool {
        let in_time = request.runtime.is_none_or(|runtime| runtime <= walltime + START_UP_GRACE);
        let covers = |shape: &NodeShape| {
            let memory = match request.memory {
                MemoryRequest::Bytes(bytes) => bytes,
                MemoryRequest::ShareOfCpus => 0,
            };
            shape.cpus >= request.cpus && shape.gpus >= request.gpus && shape.memory >= memory
        };
        in_time && self.shapes.get(&scheduler).is_none_or(|shapes| shapes.iter().any(covers))
    }
}

impl Driver {
    /// Takes up what an earlier server left: what the scheduler has is followed, commands that were
    /// interrupted run again. What it does is held until the beginning is durable.
    pub(super) fn take_up(&mut self) {
        let Some(served) = &mut self.served else { return };
        if let Phase::Ended { complete } = self.engine.phase() {
            // Only its allocations are left to be seen off.
            let conclusion = if complete { Conclusion::Complete } else { Conclusion::Stuck };
            self.conclusion = Some(conclusion);
        }
        for book in self.engine.allocation_books().filter(|book| book.is_open_request()) {
            let (id, Some(scheduler)) = (book.allocation.id, book.allocation.scheduler.clone())
            else {
                continue;
            };
            if let Some(handle) = book.handle() {
                served.handed_over.insert(id);
                let who = (self.engine.id(), id);
                served.allocator.track(who, scheduler, handle.clone(), served.handle.clone());
            }
        }
        let commands: Vec<ActionCommand> = self.engine.commands_under_way().collect();
        self.held.commands.extend(commands);
    }

    /// The moment of an action may have come.
    pub(super) fn act(&mut self, now: Timestamp) {
        if self.served.is_none() {
            return;
        }
        let (events, effects) = self.engine.fire_actions(now);
        if !events.is_empty() {
            self.pending.extend(events);
            self.disturb();
        }
        self.hold_effects(effects);
    }

    fn disturb(&mut self) {
        if let Some(served) = &mut self.served {
            served.disturb();
        }
    }

    pub(super) fn take_worker(&mut self, input: WorkerInput, now: Timestamp) {
        match input {
            WorkerInput::Joined(hello, link) => self.join(*hello, link, now),
            WorkerInput::EndMoved(allocation, ends_at) => {
                self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
            }
            WorkerInput::Left(allocation, link) => {
                let Some(served) = &self.served else { return };
                if served.workers.unregister(allocation, link) {
                    served.allocator.nudge();
                    self.apply(Event::AllocationReachable {
                        at: now,
                        allocation,
                        reachable: false,
                    });
                }
            }
        }
        self.disturb();
    }

    /// Takes a worker in, unless its allocation is not there for it.
    fn join(&mut self, hello: Hello, link: WorkerLink, now: Timestamp) {
        if let Err(reason) = self.admit(&hello, now) {
            link.send(ToWorker::Refused { reason });
            return;
        }
        let allocation = hello.allocation;
        self.held.welcomes.push((allocation, link.clone()));
        for name in &hello.failed_nodes {
            if let Some(node) = self.engine.find_node(allocation, name) {
                let state = NodeState::Down;
                self.apply(Event::NodeStateChanged { at: now, node, state });
            }
        }
        for ended in hello.ended {
            self.take_step(ended, Some(&link));
        }
        self.compare_steps(allocation, &hello.running);
        let signals = self.engine.signals_for(allocation);
        self.hold_effects(signals);
        let commands = self.engine.commands_under_way();
        let commands: Vec<_> = commands.filter(|one| one.worker == Some(allocation)).collect();
        self.held.commands.extend(commands);
        if let Some(served) = &mut self.served {
            served.told_to_leave.remove(&allocation);
            served.allocator.worked((self.engine.id(), allocation));
        }
    }

    /// Whether a worker's allocation is one of this workflow's that can have a worker; it has nodes
    /// then.
    fn admit(&mut self, hello: &Hello, now: Timestamp) -> Result<(), String> {
        let allocation = hello.allocation;
        let book = self
            .engine
            .allocation_book(allocation)
            .filter(|book| book.is_open_request())
            .ok_or_else(|| format!("allocation {allocation} is over"))?;
        match book.handle() {
            Some(handle) if *handle != hello.handle => {
                return Err(format!("allocation {allocation} is {handle}, not {}", hello.handle));
            }
            Some(_) => {}
            // It was faster than the scheduler's answer, or than this server's beginning.
            None => self.apply(Event::AllocationSubmitted {
                at: now,
                allocation,
                handle: hello.handle.clone(),
            }),
        }
        match self.engine.grant(allocation, hello.nodes.clone(), hello.ends_at) {
            Some(allocation) => self.apply(Event::AllocationGranted { at: now, allocation }),
            None => {
                self.apply(Event::AllocationReachable { at: now, allocation, reachable: true });
                let known = self.engine.allocation_book(allocation);
                if known.is_some_and(|book| book.allocation.ends_at != hello.ends_at) {
                    let ends_at = hello.ends_at;
                    self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
                }
            }
        }
        Ok(())
    }

    /// Compares what a worker runs with what it should: it is given what it never got, and ends what
    /// is not its any more.
    fn compare_steps(&mut self, allocation: AllocationId, runs: &[(StepId, Option<Timestamp>)]) {
        let runs: BTreeMap<StepId, Option<Timestamp>> = runs.iter().copied().collect();
        let mine: Vec<_> = self.engine.running_in(allocation).collect();
        let mut is_mine = BTreeSet::new();
        for (job, attempt) in mine {
            let step = self.engine.step_id(job, attempt);
            is_mine.insert(step);
            match runs.get(&step) {
                Some(Some(at)) => self.apply(Event::StepStarted { job, attempt, at: *at }),
                Some(None) => {}
                None => self.held.launches.extend(self.engine.dispatch_of(job)),
            }
        }
        for step in runs.into_keys().filter(|step| !is_mine.contains(step)) {
            self.held.strangers.push((allocation, step));
        }
    }

    /// Takes a report in, and has it acknowledged once it is durable.
    pub(super) fn take_step(&mut self, report: StepEvent, link: Option<&WorkerLink>) {
        if let StepEvent::Ended { step, .. } = &report {
            if let Some(link) = link {
                let acknowledgement = Acknowledgement { link: link.clone(), step: *step };
                self.held.acknowledgements.push(acknowledgement);
            }
            if let Some(handle) = self.engine.handle_of(*step) {
                self.held.accountable.push((handle.clone(), *step));
            }
        }
        self.take_report(report);
    }

    pub(super) fn take_allocation(
        &mut self,
        allocation: AllocationId,
        input: AllocationInput,
        now: Timestamp,
    ) {
        self.disturb();
        let Some(served) = &mut self.served else { return };
        match input {
            AllocationInput::Submitted(handle) => {
                served.held_back.remove(&allocation);
                self.submitted(allocation, handle, now);
            }
            AllocationInput::Refused(reason) => {
                self.end_allocation(allocation, (AllocationEnd::Failed, reason), Vec::new(), now);
            }
            AllocationInput::HeldBack(reason) => {
                served.held_back.insert(allocation, reason);
            }
            AllocationInput::Withdrawn => {
                served.handed_over.remove(&allocation);
            }
            AllocationInput::Observed(AllocationState::Ended { cause, reason }, journal) => {
                self.end_allocation(allocation, (cause, reason), journal, now);
            }
            AllocationInput::Observed(state, _) => {
                let ends_at = match &state {
                    AllocationState::Running { ends_at } => *ends_at,
                    _ => None,
                };
                served.observed.insert(allocation, state);
                let known = self.engine.allocation_book(allocation).filter(|book| book.is_live());
                let has_moved = |book: &AllocationBook| differ(book.allocation.ends_at, ends_at);
                if ends_at.is_some() && known.is_some_and(has_moved) {
                    self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
                }
            }
        }
    }

    fn submitted(&mut self, allocation: AllocationId, handle: AllocationHandle, now: Timestamp) {
        // Its worker may have told it first.
        let known = self.engine.allocation_book(allocation).and_then(|book| book.handle());
        if known.is_none() {
            self.apply(Event::AllocationSubmitted { at: now, allocation, handle });
        }
    }

    /// An allocation is over: what its worker had written down is taken in, what is left of its steps
    /// is gone with it.
    fn end_allocation(
        &mut self,
        allocation: AllocationId,
        (cause, reason): (AllocationEnd, String),
        journal: Vec<StepEvent>,
        now: Timestamp,
    ) {
        for ended in journal {
            self.take_step(ended, None);
        }
        let left: Vec<_> = self.engine.running_in(allocation).collect();
        for (job, attempt) in left {
            let (outcome, usage) = (lost_with(cause), Usage::default());
            self.apply(Event::StepEnded { job, attempt, at: now, outcome, usage });
        }
        self.apply(Event::AllocationEnded { at: now, allocation, cause, reason });
        let commands = self.engine.commands_under_way();
        let commands: Vec<_> = commands.filter(|one| one.worker == Some(allocation)).collect();
        self.held.commands.extend(commands);
        if let Some(served) = &mut self.served {
            served.observed.remove(&allocation);
            served.held_back.remove(&allocation);
            served.handed_over.remove(&allocation);
            served.told_to_leave.remove(&allocation);
            served.idle_since.remove(&allocation);
        }
    }

    /// Looks after the allocations: wishes are handed over when they can be of use, what is of no use
    /// is given back.
    pub(super) fn mind_allocations(&mut self, now: Timestamp) {
        let Some(served) = &mut self.served else { return };
        let is_over = self.conclusion.is_some();
        if !served.is_dirty && !is_over && now < served.mind_at {
            return;
        }
        served.is_dirty = false;
        served.mind_at = now + MIND_EVERY;
        let open: Vec<AllocationId> = self
            .engine
            .allocation_books()
            .filter(|book| book.is_open_request())
            .map(|book| book.allocation.id)
            .collect();
        for allocation in open {
            self.release_if_useless(allocation, now);
            self.mind_wish(allocation, now);
            self.see_off(allocation, now);
        }
    }

    /// When the allocations are to be looked at again although nothing happened.
    pub(super) fn mind_at(&self) -> Option<Timestamp> {
        let served = self.served.as_ref()?;
        let has_open = self.engine.allocation_books().rev().any(|book| book.is_open_request());
        has_open.then_some(served.mind_at)
    }

    /// Nodes on which nothing runs and nothing can are given back.
    fn release_if_useless(&mut self, allocation: AllocationId, now: Timestamp) {
        let Some(served) = &mut self.served else { return };
        let Some(book) = self.engine.allocation_book(allocation) else { return };
        if book.is_leaving {
            return;
        }
        let is_over = self.engine.phase() != Phase::Running;
        let is_useless = is_over
            || book.is_live()
                && self.engine.is_idle(allocation)
                && !self.engine.has_future_in(allocation, now);
        if !is_useless {
            served.idle_since.remove(&allocation);
            return;
        }
        let since = *served.idle_since.entry(allocation).or_insert(now);
        let all_have_ended =
            self.engine.counts().ended() as usize == self.engine.workflow().jobs.len();
        let wait = self.engine.workflow().header.wait_for_new_jobs_seconds;
        let is_due = now.since(since) >= Duration::from_secs(wait);
        if is_over || all_have_ended || book.closed_at.is_some() || is_due {
            self.apply(Event::AllocationLeaving { at: now, allocation });
        }
    }

    /// A wish is handed over once something could run in what it asks for.
    fn mind_wish(&mut self, allocation: AllocationId, now: Timestamp) {
        let Some(served) = &self.served else { return };
        let Some(book) = self.engine.allocation_book(allocation) else { return };
        if !book.is_unsubmitted() {
            return;
        }
        let Some(request) = &book.request else { return };
        let is_known = served.handed_over.contains(&allocation);
        if book.is_leaving {
            let who = (self.engine.id(), allocation);
            if !is_known {
                let why = "nothing was left to run in it".to_owned();
                self.end_allocation(allocation, (AllocationEnd::Cancelled, why), Vec::new(), now);
            } else if self.served.as_mut().is_some_and(|served| served.cancelled.insert(allocation))
            {
                self.held.cancellations.push(who);
            }
            return;
        }
        let scheduler = request.scheduler;
        let settings = &self.engine.workflow().header.schedulers[scheduler as usize];
        let walltime = settings.walltime();
        let is_of_use = self
            .engine
            .has_ready_job_for(scheduler, |request| served.fits(scheduler, walltime, request));
        let why = if !is_of_use {
            Some("no job that is ready could run in it".to_owned())
        } else if settings.is_serialized() && self.has_unsubmitted_before(allocation, scheduler) {
            Some("the one before it goes first".to_owned())
        } else {
            None
        };
        match (why, is_known) {
            (Some(why), false) => {
                if let Some(served) = &mut self.served {
                    served.held_back.insert(allocation, why);
                }
            }
            (Some(_), true) => self.held.withdrawals.push(allocation),
            (None, true) => {}
            (None, false) => {
                if let Some(served) = &mut self.served {
                    served.handed_over.insert(allocation);
                    served.held_back.remove(&allocation);
                }
                self.held.wishes.push(allocation);
            }
        }
    }

    fn has_unsubmitted_before(&self, allocation: AllocationId, scheduler: u32) -> bool {
        self.engine.allocation_books().any(|book| {
            book.allocation.id < allocation
                && book.is_unsubmitted()
                && book.request.as_ref().is_some_and(|request| request.scheduler == scheduler)
        })
    }

    /// One that is to be given back is, once nothing runs there and its last commands have ended.
    fn see_off(&mut self, allocation: AllocationId, now: Timestamp) {
        let Some(served) = &mut self.served else { return };
        let Some(book) = self.engine.allocation_book(allocation) else { return };
        if !book.is_leaving || book.is_unsubmitted() || book.end.is_some() {
            return;
        }
        let who = (self.engine.id(), allocation);
        let mut commands = self.engine.commands_under_way();
        let is_busy = !self.engine.is_idle(allocation)
            || commands.any(|command| command.worker == Some(allocation));
        if book.is_live() && is_busy {
            return;
        }
        let told_at = served.told_to_leave.get(&allocation).copied();
        let leaves_by_itself = match told_at {
            Some(at) => now.since(at) < TIME_TO_LEAVE,
            None => book.is_live() && book.is_reachable,
        };
        if !leaves_by_itself {
            if served.cancelled.insert(allocation) {
                self.held.cancellations.push(who);
            }
        } else if told_at.is_none() {
            served.told_to_leave.insert(allocation, now);
            self.held.leaves.push(allocation);
        }
    }

    /// Whether nothing is left to follow for a run that is over.
    pub(super) fn has_let_go(&self) -> bool {
        !self.engine.allocation_books().any(|book| book.is_open_request())
    }

    pub(super) fn hold_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Signal { job, attempt, signal } => {
                    self.held.signals.push((job, attempt, signal));
                }
                Effect::RunCommand(command) => self.held.commands.push(command),
            }
        }
    }

    pub(super) fn account(&mut self, figures: Vec<(StepId, Usage)>, now: Timestamp) {
        for (step, usage) in figures {
            let StepId { job, run, attempt, .. } = step;
            self.apply(Event::StepAccounted { at: now, job, run, attempt, usage });
        }
    }

    /// Has a worker end steps that are not its any more.
    pub(super) fn end_strangers(&self, strangers: &[(AllocationId, StepId)]) {
        let Some(served) = &self.served else { return };
        for (allocation, step) in strangers {
            if let Some(link) = served.workers.get(*allocation) {
                link.send(ToWorker::Signal(*step, StepSignal::Kill));
            }
        }
    }
}

/// What the end of an allocation is for the steps that ran in it. None of it says anything about their
/// jobs.
fn lost_with(cause: AllocationEnd) -> Outcome {
    match cause {
        AllocationEnd::Preempted => Outcome::Preempted,
        AllocationEnd::NodeFailed => Outcome::NodeFailed,
        _ => Outcome::Lost,
    }
}

/// Schedulers round ends to seconds or more.
fn differ(known: Option<Timestamp>, told: Option<Timestamp>) -> bool {
    const SAME: u64 = 2_000;
    match (known, told) {
        (Some(known), Some(told)) => known.0.abs_diff(told.0) > SAME,
        (known, told) => known != told,
    }
}
