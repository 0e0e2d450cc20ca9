//! Why a job that is ready has not started, or did not before its run ended.
//!
//! Owns: the choice of the one cause that is told, where the placer's word about the nodes there are is
//! not all there is to say: nodes may be on their way, not asked for yet, refused, or over. Does not know
//! how a cause is said. Invariant: it rests on the books alone, so that the store tells the same as a
//! process that runs the workflow. Work grows with classes of jobs, not with jobs.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::unfired::Unfired;
use super::wait_cause::{LeftOver, Unstarted, WaitCause};
use super::{AllocationBook, Engine, JobStatus, Phase, RequestBook};
use crate::ids::{ClassId, JobId};
use crate::placer::feasibility;
use crate::resources::{Allocation, Request, START_UP_GRACE};
use crate::time::Timestamp;
use crate::traits::{NeverReason, NotNowReason, Waiting};

impl Engine {
    /// Why a job that is ready has not started. Answers for the state of the latest
    /// [`Self::dispatch`].
    pub fn waiting(&self, job: JobId, now: Timestamp) -> Option<WaitCause> {
        self.causes(now).of(job)
    }

    /// The same for many jobs, at one moment.
    pub fn causes(&self, now: Timestamp) -> Causes<'_> {
        let (pasts, unfired) = (OnceCell::new(), OnceCell::new());
        let (outlooks, told) = (HashMap::new(), HashMap::new());
        Causes { engine: self, now, pasts, unfired, outlooks, told }
    }

    /// The jobs that are ready and have not started, by why.
    pub fn unstarted(&self, now: Timestamp) -> Vec<Unstarted> {
        let mut causes = self.causes(now);
        let name = |job: JobId| self.workflow.jobs[job.index()].name.to_string();
        let ready = self.jobs_with(|status| status == JobStatus::Ready);
        Unstarted::group(ready.filter_map(|job| Some((name(job), causes.of(job)?))))
    }

    /// The allocations that the current run could have used.
    pub(super) fn books_of_run(&self) -> impl Iterator<Item = &AllocationBook> {
        let began = self.run_started_at.unwrap_or_default();
        let was_there = move |book: &&AllocationBook| match &book.end {
            Some(end) => end.at >= began,
            None => true,
        };
        self.allocations.values().filter(was_there)
    }
}

/// Why jobs wait, at one moment.
pub struct Causes<'e> {
    engine: &'e Engine,
    pub(super) now: Timestamp,
    pasts: OnceCell<Vec<Past<'e>>>,
    unfired: OnceCell<Vec<Unfired<'e>>>,
    outlooks: HashMap<ClassId, Arc<Outlook>>,
    /// What a placer that is not torc's own said of the first job of a class. A question to it takes time,
    /// and jobs of a class are alike.
    told: HashMap<ClassId, Option<Waiting>>,
}

/// An allocation that was granted.
struct Past<'e> {
    book: &'e AllocationBook,
    granted_at: Timestamp,
    /// It as it was then, on a clock that began to run with it.
    whole: Allocation,
}

/// What the jobs of a class have to expect apart from the nodes there are.
struct Outlook {
    /// Nodes that they may use are on their way.
    is_awaited: bool,
    /// What they could have used last was refused, or came to nothing.
    refusal: Option<LeftOver>,
    /// What became of the allocations that were granted and that they fit.
    ended: Option<LeftOver>,
    /// Why they fit none of those that were granted.
    unfit: Option<NeverReason>,
    /// Schedulers whose allocations may serve them, at the index of the scheduler.
    served_by: Vec<bool>,
}

impl<'e> Past<'e> {
    fn of(book: &'e AllocationBook) -> Option<Self> {
        let granted_at = book.granted_at?;
        let lasted = |ends_at: Timestamp| Timestamp::default() + ends_at.since(granted_at);
        let ends_at = book.allocation.ends_at.map(lasted);
        let whole = Allocation { ends_at, ..book.allocation.clone() };
        Some(Self { book, granted_at, whole })
    }

    fn fits(&self, request: &Request) -> bool {
        let alone = std::slice::from_ref(&self.whole);
        feasibility(request, alone, Timestamp::default()).is_ok()
    }
}

impl<'e> Causes<'e> {
    /// Why a job has not started. `None`: it waits for other jobs, or for nothing.
    pub fn of(&mut self, job: JobId) -> Option<WaitCause> {
        let engine = self.engine;
        if let Some((attempt, since)) = engine.recovering_since(job) {
            return Some(WaitCause::Recovering { attempt, since });
        }
        if engine.status(job) != JobStatus::Ready {
            return None;
        }
        let class = engine.classes.of_job(job);
        if matches!(engine.phase, Phase::Ended { .. }) {
            let outlook = self.outlook(class);
            return Some(self.why_not_before_the_end(job, &outlook));
        }
        let ask = || engine.ask_placer(job, self.now);
        let told = match engine.has_guest_placer() {
            true => self.told.entry(class).or_insert_with(ask).clone()?,
            false => ask()?,
        };
        match told {
            Waiting::NotNow(reason) if reason != NotNowReason::NoAllocation => {
                return Some(WaitCause::NotNow(reason));
            }
            _ => {}
        }
        let outlook = self.outlook(class);
        if outlook.is_awaited {
            return Some(WaitCause::NotNow(NotNowReason::NoAllocation));
        }
        Some(self.why_nothing_comes(job, &outlook, told))
    }

    /// Of a run that is over.
    fn why_not_before_the_end(&self, job: JobId, outlook: &Outlook) -> WaitCause {
        let left_over = outlook.refusal.clone().or_else(|| outlook.ended.clone());
        left_over
            .map(WaitCause::LeftOver)
            .or_else(|| self.not_asked(outlook, |unfired| !unfired.waits_for(job)))
            .or_else(|| outlook.unfit.clone().map(WaitCause::Never))
            .or_else(|| self.not_asked(outlook, |_| true))
            .unwrap_or(WaitCause::LeftOver(LeftOver::NoNodes))
    }

    /// While the run goes on, and nothing is on its way that the job could use. `told`: the placer's
    /// word about the nodes there are.
    fn why_nothing_comes(&self, job: JobId, outlook: &Outlook, told: Waiting) -> WaitCause {
        let (told, is_general) = match told {
            Waiting::Never(reason) => {
                let is_general = reason == NeverReason::NoMatchingAllocation;
                (WaitCause::Never(reason), is_general)
            }
            Waiting::NotNow(reason) => (WaitCause::NotNow(reason), true),
        };
        let refusal = outlook.refusal.clone().map(WaitCause::LeftOver);
        let found = refusal
            .or_else(|| self.not_asked(outlook, |unfired| !unfired.waits_for(job)))
            .or_else(|| (!is_general).then(|| told.clone()))
            .or_else(|| outlook.ended.clone().map(WaitCause::LeftOver))
            .or_else(|| outlook.unfit.clone().map(WaitCause::Never))
            .or_else(|| self.not_asked(outlook, |_| true));
        found.unwrap_or(told)
    }

    fn not_asked(
        &self,
        outlook: &Outlook,
        is_wanted: impl Fn(&Unfired<'_>) -> bool,
    ) -> Option<WaitCause> {
        let serves = |one: &&Unfired<'_>| outlook.served_by[one.scheduler];
        let unfired = self.unfired.get_or_init(|| self.engine.unfired());
        let found = unfired.iter().filter(serves).find(|one| is_wanted(one))?;
        Some(WaitCause::NotAsked(found.told.clone()))
    }

    /// The allocations that were granted.
    fn pasts(&self) -> &[Past<'e>] {
        self.pasts.get_or_init(|| self.engine.books_of_run().filter_map(Past::of).collect())
    }

    fn outlook(&mut self, class: ClassId) -> Arc<Outlook> {
        if let Some(known) = self.outlooks.get(&class) {
            return known.clone();
        }
        let request = self.engine.classes.request(class);
        let in_time =
            |walltime| request.runtime.is_none_or(|runtime| runtime <= walltime + START_UP_GRACE);
        let schedulers = &self.engine.workflow.header.schedulers;
        let served_by: Vec<bool> = schedulers
            .iter()
            .map(|settings| settings.may_serve(request) && in_time(settings.walltime()))
            .collect();
        let is_on_its_way =
            |book: &AllocationBook| book.is_open_request() && !book.is_live() && !book.is_leaving;
        let fitting: Vec<&Past<'_>> =
            self.pasts().iter().filter(|past| past.fits(request)).collect();
        let last_grant = fitting.iter().map(|past| past.granted_at).max();
        let outlook = Arc::new(Outlook {
            is_awaited: self.engine.books_of_run().any(|book| {
                is_on_its_way(book)
                    && book.request.as_ref().is_some_and(|asked| asked.is_in(&served_by))
            }),
            refusal: self.refusal(&served_by, last_grant.unwrap_or_default()),
            ended: self.ended(&fitting),
            unfit: if fitting.is_empty() { self.unfit(request) } else { None },
            served_by,
        });
        self.outlooks.insert(class, outlook.clone());
        outlook
    }

    /// The last request for nodes that came to nothing, if it did after this moment.
    fn refusal(&self, served_by: &[bool], since: Timestamp) -> Option<LeftOver> {
        let mut failures: Vec<Failure<'_>> = self
            .engine
            .books_of_run()
            .filter_map(Failure::of)
            .filter(|failure| failure.request.is_in(served_by) && failure.at >= since)
            .collect();
        failures.sort_by_key(|failure| failure.at);
        let last = failures.last()?;
        let alike =
            || failures.iter().filter(|one| one.request.scheduler == last.request.scheduler);
        // A scheduler that is given up is refused with the words of its last failure at the end: that
        // one says it itself, and how it failed.
        let first_hand = |told: &Failure<'_>, one: &Failure<'_>| {
            !one.reason.is_empty() && told.reason.ends_with(one.reason)
        };
        let told =
            alike().rev().fold(last, |told, one| if first_hand(told, one) { one } else { told });
        let scheduler = last.request.scheduler as usize;
        let scheduler = self.engine.workflow.header.schedulers.get(scheduler)?.name.to_string();
        let times = u32::try_from(alike().count()).unwrap_or(u32::MAX);
        let reason = told.reason.to_owned();
        Some(match told.request.handle {
            None => LeftOver::Refused { scheduler, times, reason },
            Some(_) => LeftOver::CameToNothing { scheduler, times, reason },
        })
    }

    /// What became of these allocations.
    fn ended(&self, fitting: &[&Past<'_>]) -> Option<LeftOver> {
        let end = |past: &Past<'_>| past.book.end.as_ref().map(|end| end.at);
        let last = fitting.iter().max_by_key(|past| end(past).unwrap_or(self.now))?;
        Some(LeftOver::Ended {
            scheduler: last.book.allocation.scheduler.as_deref().map(str::to_owned),
            allocations: u32::try_from(fitting.len()).unwrap_or(u32::MAX),
            last: last.book.end.as_ref().map(|end| end.cause),
        })
    }

    /// Why none of the allocations that were granted could hold the job, if one was that it may use.
    fn unfit(&self, request: &Request) -> Option<NeverReason> {
        let all: Vec<Allocation> = self.pasts().iter().map(|past| past.whole.clone()).collect();
        let reason = feasibility(request, &all, Timestamp::default()).err()?;
        (reason != NeverReason::NoMatchingAllocation).then_some(reason)
    }
}

impl RequestBook {
    /// Whether its scheduler is one of those that are marked.
    fn is_in(&self, schedulers: &[bool]) -> bool {
        schedulers.get(self.scheduler as usize).copied().unwrap_or(false)
    }
}

/// A request for nodes that came to nothing, without torc having wished so.
struct Failure<'e> {
    request: &'e RequestBook,
    at: Timestamp,
    reason: &'e str,
}

impl<'e> Failure<'e> {
    fn of(book: &'e AllocationBook) -> Option<Self> {
        let end = book.end.as_ref().filter(|_| book.granted_at.is_none() && !book.is_leaving)?;
        Some(Self { request: book.request.as_ref()?, at: end.at, reason: &end.reason })
    }
}
