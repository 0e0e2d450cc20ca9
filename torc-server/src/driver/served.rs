//! What a driver takes in when a server drives it: what a scheduler says of allocations.
//!
//! Decides synchronously, as the rest of the driver does; what follows is held until it is durable.
//! While a scheduler says that an allocation lives, its steps run, whoever is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::{AllocationBook, Conclusion, Engine, Event, NOTHING_LEFT, Phase};
use torc_core::ids::{AllocationId, StepId};
use torc_core::offer::Offer;
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationState, Outcome, StepAccount, StepEvent, Usage,
};
use torc_core::wire::link::ToWorker;
use torc_core::workflow::Header;

use super::Driver;
use crate::accountant::{Accountant, EndedStep};
use crate::admission::offers;
use crate::allocator::{Allocator, Tracked};
use crate::clock::now;
use crate::handle::{Acknowledgement, AllocationInput, Handle, KnownShapes};
use crate::store::Submitter;
use crate::workers::{WorkerLink, Workers};

/// What a server gives a driver.
pub(crate) struct Surroundings {
    pub(crate) workers: Arc<Workers>,
    pub(crate) allocator: Allocator,
    /// Asked what steps used; `None`: nobody knows.
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
}

/// What a driver has when a server drives it.
pub(crate) struct Served {
    pub(super) around: Surroundings,
    /// When this server took the workflow up: what was wished for before may have been asked for.
    pub(super) began_at: Timestamp,
    /// What allocations of its schedulers could be; `None`: they are being asked.
    pub(super) offers: Option<Vec<Offer>>,
    /// What the scheduler said last.
    pub(super) observed: BTreeMap<AllocationId, AllocationState>,
    /// Why requests have not been submitted.
    pub(super) held_back: BTreeMap<AllocationId, String>,
    /// Wishes that the allocator knows.
    pub(super) handed_over: BTreeSet<AllocationId>,
    /// The connection that each allocation's worker came over last, by its number. An older one says
    /// nothing about the worker any more, whenever its end is noticed.
    pub(super) connections: BTreeMap<AllocationId, u64>,
    pub(super) idle_since: BTreeMap<AllocationId, Timestamp>,
    /// When workers were told to leave.
    pub(super) told_to_leave: BTreeMap<AllocationId, Timestamp>,
    /// Allocations that the allocator is to cancel.
    pub(super) cancelled: BTreeSet<AllocationId>,
    /// What changed since the allocations were looked after.
    pub(super) disturbed: Disturbed,
    /// When all are looked after again, whatever changed.
    pub(super) mind_at: Timestamp,
    /// Its scheduler was asked again about what is to be asked to end by then.
    pub(super) asked_ahead_of: Timestamp,
}

impl Served {
    /// `offers`: what allocations of its schedulers could be; `None`: they are being asked.
    pub(crate) fn new(around: Surroundings, offers: Option<Vec<Offer>>) -> Self {
        Self {
            around,
            began_at: now(),
            offers,
            observed: BTreeMap::new(),
            held_back: BTreeMap::new(),
            handed_over: BTreeSet::new(),
            connections: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            told_to_leave: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            disturbed: Disturbed::All,
            mind_at: Timestamp::default(),
            asked_ahead_of: Timestamp::default(),
        }
    }
}

impl Served {
    /// Has the allocator follow an allocation that its scheduler has.
    fn follow(&mut self, engine: &Engine, book: &AllocationBook) {
        let id = book.allocation.id;
        let (Some(request), Some(handle)) = (&book.request, book.handle()) else {
            return;
        };
        let settings = &engine.workflow().header.schedulers[request.scheduler as usize];
        self.handed_over.insert(id);
        // A wish that was to be forgotten is an allocation that is to be cancelled.
        self.cancelled.remove(&id);
        let tracked = Tracked {
            who: (engine.id(), id),
            scheduler: settings.name.clone(),
            kind: settings.kind.as_str().into(),
            handle: handle.clone(),
            has_worked: book.granted_at.is_some(),
        };
        self.around.allocator.track(tracked, self.around.handle.clone());
    }

    /// Says how long what runs in an allocation may go on while its worker is away.
    pub(super) fn be_patient(&self, engine: &Engine, allocation: AllocationId) {
        let patience = match engine.is_idle(allocation) {
            true => Duration::ZERO,
            false => patience(&engine.workflow().header),
        };
        self.around.allocator.be_patient((engine.id(), allocation), patience);
    }
}

/// Which allocations something changed for. With many of them, whatever happens to one must not cost a
/// look at all.
#[derive(Debug)]
pub(super) enum Disturbed {
    /// Any.
    All,
    /// These.
    Some(BTreeSet<AllocationId>),
}

impl Driver {
    /// Takes up what an earlier process left: what the scheduler has is followed, commands and scripts that
    /// were interrupted run again. What it does is held until the beginning is durable.
    pub(super) fn take_up(&mut self) {
        self.held.commands.extend(self.engine.commands_under_way());
        self.held.scripts.extend(self.engine.recoveries_under_way());
        let Some(served) = &mut self.served else { return };
        if let Phase::Ended { complete } = self.engine.phase() {
            // Only its allocations are left to be seen off.
            let conclusion = if complete { Conclusion::Complete } else { Conclusion::Stuck };
            self.conclusion = Some(conclusion);
        }
        for book in self.engine.allocation_books().filter(|book| book.is_open_request()) {
            served.follow(&self.engine, book);
            served.be_patient(&self.engine, book.allocation.id);
        }
    }

    /// The schedulers have said what nodes they have, as far as they do.
    pub(super) fn take_shapes(&mut self, shapes: KnownShapes) {
        if let Some(served) = &mut self.served {
            served.offers = Some(offers(&self.engine.workflow().header, &shapes));
        }
        self.disturb_all();
    }

    /// Something changed that concerns this allocation only.
    pub(super) fn disturb(&mut self, allocation: AllocationId) {
        let Some(served) = &mut self.served else { return };
        if let Disturbed::Some(disturbed) = &mut served.disturbed {
            disturbed.insert(allocation);
        }
    }

    pub(super) fn disturb_all(&mut self) {
        if let Some(served) = &mut self.served {
            served.disturbed = Disturbed::All;
        }
    }

    /// Takes a report in, and has it acknowledged once it is durable.
    pub(super) fn take_step(&mut self, report: StepEvent, link: Option<&WorkerLink>) {
        if let StepEvent::Ended { step, at, .. } = &report {
            if let Some(link) = link {
                let acknowledgement = Acknowledgement { link: link.clone(), step: *step };
                self.held.acknowledgements.push(acknowledgement);
            }
            self.hold_for_account(*step, *at);
        }
        self.take_report(report);
    }

    pub(super) fn take_allocation(
        &mut self,
        allocation: AllocationId,
        input: AllocationInput,
        now: Timestamp,
    ) {
        match &input {
            AllocationInput::HeldBack(_) | AllocationInput::Withdrawn => self.disturb(allocation),
            AllocationInput::Observed(_, state, _)
                if !matches!(state, AllocationState::Ended { .. }) =>
            {
                self.disturb(allocation);
            }
            // The next one of its scheduler may have waited for it.
            _ => self.disturb_all(),
        }
        let known = self.engine.allocation_book(allocation).and_then(AllocationBook::handle);
        let has_handle = known.is_some();
        if let AllocationInput::Observed(handle, ..) = &input
            && known.is_some_and(|known| known != handle)
        {
            // Its worker told of another one meanwhile.
            return;
        }
        let Some(served) = &mut self.served else { return };
        match input {
            AllocationInput::Submitted(handle) => self.submitted(allocation, handle, now),
            // A worker of it has told otherwise.
            AllocationInput::Refused(_) if has_handle => {}
            AllocationInput::Refused(reason) => {
                self.end_allocation(allocation, (AllocationEnd::Failed, reason), Vec::new(), now);
            }
            AllocationInput::HeldBack(reason) => {
                served.held_back.insert(allocation, reason);
            }
            AllocationInput::Withdrawn => {
                served.handed_over.remove(&allocation);
            }
            AllocationInput::Observed(_, AllocationState::Ended { cause, reason }, journal) => {
                let reason = match self.engine.allocation_book(allocation) {
                    Some(book) if book.is_leaving && !book.is_live() => {
                        format!("{NOTHING_LEFT}: {reason}")
                    }
                    _ => reason,
                };
                self.end_allocation(allocation, (cause, reason), journal, now);
            }
            AllocationInput::Observed(_, state, _) => {
                let ends_at = match &state {
                    AllocationState::Running { ends_at } => *ends_at,
                    _ => None,
                };
                let suspended = state == AllocationState::Suspended;
                served.observed.insert(allocation, state);
                let book = self.engine.allocation_book(allocation);
                let Some(book) = book.filter(|book| book.is_live()) else { return };
                let is_news = book.is_suspended != suspended;
                // First its new end, or the old one might seem to have come.
                if let Some(end) = ends_at.filter(|_| differ(book.allocation.ends_at, ends_at)) {
                    self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
                    self.tell_end(allocation, end);
                }
                if is_news {
                    self.apply(Event::AllocationSuspended { at: now, allocation, suspended });
                }
            }
        }
    }

    /// Tells a worker when its allocation ends. One of Slurm's asks Slurm, which is sooner.
    fn tell_end(&self, allocation: AllocationId, end: Timestamp) {
        let is_slurms = self.engine.allocation_book(allocation).is_none_or(|book| {
            let request = book.request.as_ref();
            let schedulers = &self.engine.workflow().header.schedulers;
            let asked = request.map(|request| schedulers.get(request.scheduler as usize));
            asked.is_none_or(|asked| asked.is_none_or(|asked| asked.kind == "slurm"))
        });
        let link = self.served.as_ref().and_then(|served| served.around.workers.get(allocation));
        if let Some(link) = link.filter(|_| !is_slurms) {
            link.send(ToWorker::EndsAt(end));
        }
    }

    pub(super) fn submitted(
        &mut self,
        allocation: AllocationId,
        handle: AllocationHandle,
        now: Timestamp,
    ) {
        // Its worker may have told it first.
        if self.has_handle(allocation) {
            return;
        }
        self.apply(Event::AllocationSubmitted { at: now, allocation, handle });
        if let Some(served) = &mut self.served {
            served.held_back.remove(&allocation);
        }
    }

    fn has_handle(&self, allocation: AllocationId) -> bool {
        self.engine.allocation_book(allocation).is_some_and(|book| book.handle().is_some())
    }

    pub(super) fn follow(&mut self, allocation: AllocationId) {
        if let (Some(served), Some(book)) =
            (&mut self.served, self.engine.allocation_book(allocation))
        {
            served.follow(&self.engine, book);
        }
    }

    /// An allocation is over: what its worker had written down is taken in, what is left of its steps
    /// is gone with it.
    pub(super) fn end_allocation(
        &mut self,
        allocation: AllocationId,
        (cause, reason): (AllocationEnd, String),
        journal: Vec<StepEvent>,
        now: Timestamp,
    ) {
        if let Some(link) =
            self.served.as_ref().and_then(|served| served.around.workers.get(allocation))
        {
            // What it runs is run again elsewhere: it must not go on.
            self.held.dismissals.push((link, format!("allocation {allocation} is over: {reason}")));
        }
        for ended in journal {
            self.take_step(ended, None);
        }
        let left: Vec<_> = self.engine.running_in(allocation).collect();
        for (job, attempt) in left {
            self.hold_for_account(self.engine.step_id(job, attempt), now);
            let (outcome, usage) = (lost_with(cause), Usage::default());
            self.apply(Event::StepEnded { job, attempt, at: now, outcome, usage });
        }
        self.apply(Event::AllocationEnded { at: now, allocation, cause, reason });
        let commands = self.engine.commands_under_way();
        let commands: Vec<_> = commands.filter(|one| one.is_for(allocation)).collect();
        self.held.commands.extend(commands);
        if let Some(served) = &mut self.served {
            served.observed.remove(&allocation);
            served.held_back.remove(&allocation);
            served.handed_over.remove(&allocation);
            served.told_to_leave.remove(&allocation);
            served.idle_since.remove(&allocation);
            served.connections.remove(&allocation);
        }
    }

    pub(super) fn account(&mut self, figures: Vec<(StepId, StepAccount)>, now: Timestamp) {
        for (step, account) in figures {
            self.apply(Event::accounted(now, step, account));
        }
    }

    /// Has the accounting asked about a step that is about to be recorded as ended.
    fn hold_for_account(&mut self, step: StepId, at: Timestamp) {
        if let Some(allocation) = self.engine.accountable(step) {
            let allocation = allocation.clone();
            self.held.accountable.push(EndedStep { allocation, step, at });
        }
    }
}

/// How long a worker may go on by itself: until it gives up on a server, and its steps have had their
/// time to end.
fn patience(header: &Header) -> Duration {
    let minutes = header.wait_for_server_minutes;
    let headroom = header.execution.sigkill_headroom_seconds;
    Duration::from_secs(minutes.saturating_mul(60).saturating_add(headroom))
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
