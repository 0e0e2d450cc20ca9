//! Looking after allocations: wishes are handed over when they can be of use, what is of no use is given
//! back, who is to leave is seen off.
//!
//! Decides synchronously; what follows is held until it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use torc_core::engine::{AllocationBook, Event, Future, NOTHING_LEFT, Phase};
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::traits::AllocationEnd;

use super::served::Disturbed;
use super::{Driver, Served};

/// The pause between two looks at the allocations while nothing about them changes.
pub(super) const MIND_EVERY: Duration = Duration::from_secs(1);
/// How long a worker that was told to leave has for it before its allocation is cancelled.
const TIME_TO_LEAVE: Duration = Duration::from_secs(60);
/// How long nodes are kept that could run something if others recovered: a node that is suspected is
/// given up, or trusted again, within a little less.
pub(super) const NODES_RECOVER_WITHIN: Duration = Duration::from_secs(360);
/// The scheduler is asked so long before what runs in an allocation is asked to end, since its end may have moved:
/// longer than it usually takes to answer.
const ASK_AHEAD: Duration = Duration::from_secs(10);

impl Driver {
    /// Looks after the allocations: wishes are handed over when they can be of use, what is of no use
    /// is given back.
    pub(super) fn mind_allocations(&mut self, now: Timestamp) {
        self.ask_ahead(now);
        let Some(served) = &mut self.served else { return };
        let nothing = Disturbed::Some(BTreeSet::new());
        let disturbed = std::mem::replace(&mut served.disturbed, nothing);
        let is_time = now >= served.mind_at;
        if is_time {
            served.mind_at = now + MIND_EVERY;
        }
        let concerned: Vec<AllocationId> = match disturbed {
            Disturbed::Some(disturbed) if !is_time => disturbed.into_iter().collect(),
            _ => self.engine.allocation_books().map(|book| book.allocation.id).collect(),
        };
        let is_open = |allocation: &AllocationId| {
            let book = self.engine.allocation_book(*allocation);
            book.is_some_and(|book| book.is_open_request())
        };
        let open: Vec<AllocationId> = concerned.into_iter().filter(is_open).collect();
        for &allocation in &open {
            self.release_if_useless(allocation, now);
        }
        self.release_what_waits_in_vain(&open, now);
        // What leaves may have last commands, and must not be told to go before they have run.
        self.act(now);
        for &allocation in &open {
            self.mind_wish(allocation, now);
            self.see_off(allocation, now);
        }
    }

    /// The scheduler is asked once more before the time of an allocation is up.
    fn ask_ahead(&mut self, now: Timestamp) {
        let Some(served) = &mut self.served else { return };
        let (before, until) = (served.asked_ahead_of, now + ASK_AHEAD);
        let is_news = |allocation| {
            let book = self.engine.allocation_book(allocation);
            book.and_then(|book| self.engine.stop_at(book)).is_some_and(|at| at > before)
        };
        if self.engine.expiring(until).any(is_news) {
            served.asked_ahead_of = until;
            served.around.allocator.nudge();
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
        let is_kept = book.is_live() && book.closed_at.is_none() && self.engine.keeps_workers();
        if book.is_leaving || is_kept {
            return;
        }
        let is_over = self.engine.phase() != Phase::Running;
        let is_unused = book.is_live() && self.engine.is_idle(allocation);
        let future = if is_unused { self.engine.future_in(allocation, now) } else { Future::Open };
        if !is_over && future == Future::Open {
            served.idle_since.remove(&allocation);
            return;
        }
        let since = *served.idle_since.entry(allocation).or_insert(now);
        let all_have_ended =
            self.engine.counts().ended() as usize == self.engine.workflow().jobs.len();
        let mut wait = Duration::from_secs(self.engine.workflow().header.wait_for_new_jobs_seconds);
        if future == Future::IfNodesRecover {
            wait = wait.max(NODES_RECOVER_WITHIN);
        }
        let is_due = now.since(since) >= wait;
        if is_over || all_have_ended || book.closed_at.is_some() || is_due {
            self.apply(Event::AllocationLeaving { at: now, allocation });
        }
    }

    /// Allocations that wait in a scheduler's queue, and in which no job could run that has not ended, are
    /// given back. Nobody asks for them again in this run: their actions have fired.
    fn release_what_waits_in_vain(&mut self, open: &[AllocationId], now: Timestamp) {
        let Some(offers) = self.served.as_ref().and_then(|served| served.offers.as_ref()) else {
            return;
        };
        let mut is_in_vain: BTreeMap<u32, bool> = BTreeMap::new();
        let mut in_vain = Vec::new();
        for &allocation in open {
            let Some(book) = self.engine.allocation_book(allocation) else { continue };
            let Some(request) = &book.request else { continue };
            if book.is_live() || book.is_unsubmitted() || book.is_leaving || book.end.is_some() {
                continue;
            }
            let scheduler = request.scheduler;
            let offer = &offers[scheduler as usize];
            let has_open_job = || self.engine.has_open_job_for(scheduler, |one| offer.fits(one));
            // Those of one scheduler are alike.
            if *is_in_vain.entry(scheduler).or_insert_with(|| !has_open_job()) {
                in_vain.push(allocation);
            }
        }
        for allocation in in_vain {
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
                let why = NOTHING_LEFT.to_owned();
                self.end_allocation(allocation, (AllocationEnd::Cancelled, why), Vec::new(), now);
            } else if self.served.as_mut().is_some_and(|served| served.cancelled.insert(allocation))
            {
                self.held.cancellations.push(who);
            }
            return;
        }
        let scheduler = request.scheduler;
        let settings = &self.engine.workflow().header.schedulers[scheduler as usize];
        let why = if served.offers.is_none() {
            Some("its scheduler is being asked what nodes it has".to_owned())
        } else if !self.is_of_use(served, scheduler) {
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

    /// Whether a job that is ready could run in an allocation of a scheduler, as far as is known.
    fn is_of_use(&self, served: &Served, scheduler: u32) -> bool {
        let offer = served.offers.as_ref().map(|offers| &offers[scheduler as usize]);
        let fits = |request: &_| offer.is_none_or(|offer| offer.fits(request));
        self.engine.has_ready_job_for(scheduler, fits)
    }

    /// Whether a wish will be submitted, unless something else happens first. One that is held back
    /// since no job that is ready could run in it never will be once nothing runs any more.
    pub(super) fn may_come(&self, wish: &AllocationBook) -> bool {
        let (Some(served), Some(request)) = (&self.served, &wish.request) else { return true };
        wish.is_leaving
            || served.handed_over.contains(&wish.allocation.id)
            || served.offers.is_none()
            || self.is_of_use(served, request.scheduler)
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
        let is_busy =
            !self.engine.is_idle(allocation) || commands.any(|command| command.is_for(allocation));
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
        let has_open = self.engine.allocation_books().any(|book| book.is_open_request());
        // Those that were kept may have last commands when they are gone.
        !has_open && (self.served.is_none() || self.engine.commands_under_way().next().is_none())
    }
}
