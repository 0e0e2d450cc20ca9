//! Jobs that are left out, and that are taken in again.
//!
//! Owns which jobs can be, and what follows for those that depend on them. Does not know who wishes it.
//! Invariant: a job that is left out counts as one that has ended and did not complete.

use crate::ids::JobId;
use crate::time::Timestamp;

use super::recovery::ranges_of;
use super::status::{Change, JobStatus};
use super::{Engine, Event, Refused};

/// A job can neither be left out nor taken in as things stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Immovable {
    /// It has begun, or has nothing left to do.
    #[error(
        "job `{job}` is {status} and cannot be disabled: it must neither run nor have completed"
    )]
    Begun {
        /// Its name.
        job: Box<str>,
        /// How it stands.
        status: JobStatus,
    },
    /// The spec does not have it any more.
    #[error(
        "job `{job}` cannot be enabled: the spec of the workflow does not have it any more; \
         `torc restart --spec FILE` with a spec that has it does"
    )]
    Removed {
        /// Its name.
        job: Box<str>,
    },
    /// It is about to be tried again.
    #[error(
        "job `{job}` cannot be disabled now: its recovery script runs; wait until that has ended, or cancel the job"
    )]
    Recovering {
        /// Its name.
        job: Box<str>,
    },
    /// Another one goes on without it already.
    #[error(
        "job `{job}` cannot be enabled now: job `{dependent}`, which depends on it, runs without it; \
         enable it when that has ended"
    )]
    InUse {
        /// Its name.
        job: Box<str>,
        /// The one that runs.
        dependent: Box<str>,
    },
}

/// What follows for other jobs from one's being left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follows {
    /// Jobs that are canceled for it, at every depth, now or when the next run begins.
    pub canceled: u32,
    /// Jobs that depend on it and run without it, since the spec says so of them.
    pub run_without: u32,
}

impl Engine {
    /// The event by which these jobs are left out; `None`: all of them are already.
    ///
    /// # Errors
    /// When one of them runs or has completed, or its recovery script runs.
    pub fn disabling(&self, at: Timestamp, jobs: &[JobId]) -> Result<Option<Event>, Immovable> {
        use JobStatus::{Completed, Pending, PendingFailed, Running};
        for job in jobs {
            let status = self.status(*job);
            if matches!(status, Pending | Running | Completed | PendingFailed) {
                return Err(Immovable::Begun { job: self.name_of(*job), status });
            }
            if self.is_recovering(*job) {
                return Err(Immovable::Recovering { job: self.name_of(*job) });
            }
        }
        let jobs = self.of_these(jobs, |status| status != JobStatus::Disabled);
        Ok((!jobs.is_empty()).then_some(Event::JobsDisabled { at, jobs }))
    }

    /// The events by which these jobs are taken in again, and with them what was canceled since they were
    /// left out; none where none of them is left out.
    ///
    /// # Errors
    /// When a job runs without one of them.
    pub fn enabling(&self, at: Timestamp, jobs: &[JobId]) -> Result<Vec<Event>, Immovable> {
        let taken_in = self.of_these(jobs, |status| status == JobStatus::Disabled);
        if taken_in.is_empty() {
            return Ok(Vec::new());
        }
        let chosen: Vec<JobId> = each(&taken_in).collect();
        if let Some(job) = chosen.iter().find(|job| self.is_removed(**job)) {
            return Err(Immovable::Removed { job: self.name_of(*job) });
        }
        let mut events = vec![Event::JobsEnabled { at, jobs: taken_in }];
        if self.can_resume() {
            let in_use = self.upstream_of_running();
            if let Some(job) = chosen.iter().find(|job| in_use[job.index()]) {
                return Err(self.in_use(*job));
            }
            let waits_anew = self.waiting_anew(&chosen, &in_use);
            if !waits_anew.is_empty() {
                events.push(Event::JobsPutBack { at, jobs: waits_anew });
            }
        }
        Ok(events)
    }

    fn in_use(&self, job: JobId) -> Immovable {
        let depends = |other: &JobId| {
            let mut open = vec![*other];
            let mut seen = vec![false; self.jobs.len()];
            while let Some(next) = open.pop() {
                let dependencies = &self.workflow.jobs[next.index()].depends_on;
                if dependencies.contains(&job) {
                    return true;
                }
                let unseen = |of: &&JobId| !std::mem::replace(&mut seen[of.index()], true);
                open.extend(dependencies.iter().filter(unseen));
            }
            false
        };
        let dependent = self.running.keys().copied().find(depends).unwrap_or(job);
        Immovable::InUse { job: self.name_of(job), dependent: self.name_of(dependent) }
    }

    /// Those that depend on these jobs and have not begun, or were canceled.
    fn waiting_anew(&self, jobs: &[JobId], in_use: &[bool]) -> Vec<(JobId, JobId)> {
        use JobStatus::{Blocked, Canceled, Ready};
        let mut found = vec![false; self.jobs.len()];
        let mut open = jobs.to_vec();
        while let Some(job) = open.pop() {
            for dependent in self.dependents.get(job) {
                let waits = matches!(self.status(*dependent), Blocked | Canceled | Ready)
                    && !self.is_recovering(*dependent);
                if waits && !in_use[dependent.index()] && !found[dependent.index()] {
                    found[dependent.index()] = true;
                    open.push(*dependent);
                }
            }
        }
        let all = (0..self.jobs.len()).map(JobId::from_index);
        ranges_of(all.filter(|job| found[job.index()]))
    }

    /// What becomes of those that depend on jobs that are left out.
    pub fn follows_disabling(&self, jobs: &[JobId]) -> Follows {
        let mut follows = Follows::default();
        let mut found = vec![false; self.jobs.len()];
        let mut open = jobs.to_vec();
        while let Some(job) = open.pop() {
            for dependent in self.dependents.get(job) {
                let status = self.status(*dependent);
                let is_over = matches!(status, JobStatus::Completed | JobStatus::Disabled);
                if is_over || status.holds_nodes() || found[dependent.index()] {
                    continue;
                }
                found[dependent.index()] = true;
                if self.workflow.jobs[dependent.index()].cancel_on_blocking_job_failure {
                    follows.canceled += 1;
                    open.push(*dependent);
                } else {
                    follows.run_without += 1;
                }
            }
        }
        follows
    }

    pub(super) fn leave_out(&mut self, ranges: &[(JobId, JobId)]) -> Result<(), Refused> {
        for job in self.changeable(ranges, Change::Disabled)? {
            let had_ended = self.status(job).has_ended();
            self.change(job, Change::Disabled)?;
            if !had_ended {
                self.settle_dependents(job)?;
            }
        }
        Ok(())
    }

    pub(super) fn take_in(&mut self, ranges: &[(JobId, JobId)]) -> Result<(), Refused> {
        let jobs = self.changeable(ranges, Change::Enabled)?;
        for job in &jobs {
            self.change(*job, Change::Enabled)?;
        }
        if self.can_resume() {
            self.recount_actions();
            self.reset(&jobs)?;
        }
        Ok(())
    }

    fn name_of(&self, job: JobId) -> Box<str> {
        (&*self.workflow.jobs[job.index()].name).into()
    }

    fn of_these(&self, jobs: &[JobId], wanted: impl Fn(JobStatus) -> bool) -> Vec<(JobId, JobId)> {
        let mut chosen: Vec<JobId> =
            jobs.iter().copied().filter(|job| wanted(self.status(*job))).collect();
        chosen.sort_unstable();
        chosen.dedup();
        ranges_of(chosen.into_iter())
    }
}

/// The jobs of inclusive ranges.
pub(super) fn each(ranges: &[(JobId, JobId)]) -> impl Iterator<Item = JobId> {
    ranges.iter().flat_map(|(first, last)| first.0..=last.0).map(JobId)
}
