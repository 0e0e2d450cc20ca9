//! Actions that would ask for nodes and have not, with what they wait for.
//!
//! Owns: which they are. Does not know: whose nodes they would be. Invariant: an action that is found here
//! asks for nodes as soon as what is told of it has happened, while the run goes on.

use super::Engine;
use super::wait_cause::{Named, NotAsked};
use crate::ids::JobId;
use crate::workflow::{Action, ActionKind, Trigger};

/// Jobs of an action that are named.
const JOBS_NAMED: usize = 4;

/// An action that would ask for nodes and has not.
pub(super) struct Unfired<'e> {
    /// Index into the workflow's schedulers.
    pub(super) scheduler: usize,
    trigger: &'e Trigger,
    pub(super) told: NotAsked,
}

impl Unfired<'_> {
    /// Whether its moment cannot come before this very job has ended.
    pub(super) fn waits_for(&self, job: JobId) -> bool {
        match self.trigger {
            Trigger::OnWorkflowComplete => true,
            // A trigger's jobs are sorted.
            Trigger::OnJobsComplete(jobs) => jobs.binary_search(&job).is_ok(),
            _ => false,
        }
    }
}

impl Engine {
    /// The actions that would ask for nodes and have not. None where nodes are simply there: nobody is
    /// asked for any then.
    pub(super) fn unfired(&self) -> Vec<Unfired<'_>> {
        if self.books_of_run().any(|book| book.request.is_none()) {
            return Vec::new();
        }
        let header = &self.workflow.header;
        let asking = header.actions.iter().zip(0u32..).filter_map(|(action, index)| {
            let ActionKind::ScheduleNodes { scheduler, .. } = action.kind else { return None };
            if !self.may_fire(action, index) {
                return None;
            }
            let scheduler = scheduler as usize;
            let (jobs, missing) = self.awaited_jobs(&action.trigger);
            let told = NotAsked {
                scheduler: header.schedulers.get(scheduler)?.name.to_string(),
                moment: (&action.trigger).into(),
                jobs: self.named(jobs.iter().copied()),
                missing: self.named(missing),
            };
            Some(Unfired { scheduler, trigger: &action.trigger, told })
        });
        asking.collect()
    }

    /// Whether an action has not done all that it could in this run.
    fn may_fire(&self, action: &Action, index: u32) -> bool {
        let mut firings = self.firings(index).peekable();
        if firings.peek().is_none() {
            return true;
        }
        let is_per_worker =
            matches!(action.trigger, Trigger::OnWorkerStart | Trigger::OnWorkerComplete);
        let fired: Vec<_> = firings.filter_map(|(worker, _)| worker).collect();
        let mut open = self.books_of_run().filter(|book| book.end.is_none());
        action.persistent
            && is_per_worker
            && open.any(|book| self.workers_of(book).any(|worker| !fired.contains(&worker)))
    }

    /// The jobs that an action waits for, and those of them that have not come so far.
    fn awaited_jobs<'a>(&self, trigger: &'a Trigger) -> (&'a [JobId], Vec<JobId>) {
        let missing = |jobs: &[JobId], is_settled: fn(&Self, JobId) -> bool| {
            jobs.iter().copied().filter(|job| !is_settled(self, *job)).collect()
        };
        match trigger {
            Trigger::OnJobsReady(jobs) => (jobs, missing(jobs, Self::has_become_ready)),
            Trigger::OnJobsComplete(jobs) => {
                (jobs, missing(jobs, |engine, job| engine.status(job).has_ended()))
            }
            _ => (&[], Vec::new()),
        }
    }

    fn named(&self, jobs: impl IntoIterator<Item = JobId>) -> Named {
        let mut named = Named::default();
        for job in jobs {
            named.count += 1;
            if named.first.len() < JOBS_NAMED {
                named.first.push(self.workflow.jobs[job.index()].name.to_string());
            }
        }
        named
    }
}
