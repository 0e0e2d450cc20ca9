//! Going on after an interruption, and beginning anew after an end.

use crate::ids::{JobId, RunId};
use crate::time::Timestamp;
use crate::traits::{Outcome, Usage};

use super::{Engine, Event, JobStatus, Phase, Refused};

impl Engine {
    /// Whether a run was begun and has not come to its end: it goes on with
    /// [`Event::RunResumed`].
    pub fn can_resume(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping | Phase::Ended { complete: false })
    }

    /// The event that begins the next run of these jobs.
    pub fn next_run(&self, at: Timestamp, reset: Vec<(JobId, JobId)>) -> Event {
        Event::RunStarted { run: RunId(self.run.map_or(1, |run| run.0 + 1)), at, reset }
    }

    /// The jobs that a new run would start from the beginning: those that have not completed, and
    /// all that depends on them. Inclusive ranges of job numbers, ascending.
    pub fn unfinished_jobs(&self) -> Vec<(JobId, JobId)> {
        let is_unfinished =
            |job| !matches!(self.status(job), JobStatus::Completed | JobStatus::Disabled);
        let again = self.with_downstream(is_unfinished).into_iter();
        ranges_of(again.filter(|job| self.status(*job) != JobStatus::Disabled))
    }

    /// The jobs of the run under way that ended without having completed, and what waits for them.
    /// What has completed stays so, and what runs keeps what it depends on as it is. Inclusive ranges
    /// of job numbers, ascending.
    pub fn jobs_to_put_back(&self) -> Vec<(JobId, JobId)> {
        let is_lost = |job| {
            use JobStatus::{Canceled, Failed, Terminated};
            matches!(self.status(job), Failed | Canceled | Terminated)
        };
        let in_use = self.upstream_of_running();
        let mut stays = vec![false; self.jobs.len()];
        for job in self.with_downstream(|job| is_lost(job) && in_use[job.index()]) {
            stays[job.index()] = true;
        }
        let again = self.with_downstream(|job| is_lost(job) && !stays[job.index()]);
        let stays = [JobStatus::Completed, JobStatus::Disabled];
        ranges_of(again.into_iter().filter(|job| !stays.contains(&self.status(*job))))
    }

    /// For each job whether something that runs, or whose recovery script does, depends on it.
    pub(super) fn upstream_of_running(&self) -> Vec<bool> {
        let mut found = vec![false; self.jobs.len()];
        let mut open: Vec<JobId> =
            self.running.keys().copied().chain(self.scripts.jobs()).collect();
        while let Some(job) = open.pop() {
            for dependency in &self.workflow.jobs[job.index()].depends_on {
                if !std::mem::replace(&mut found[dependency.index()], true) {
                    open.push(*dependency);
                }
            }
        }
        found
    }

    /// The chosen jobs and all that depends on them, ascending.
    fn with_downstream(&self, is_chosen: impl Fn(JobId) -> bool) -> Vec<JobId> {
        let jobs = || (0..self.jobs.len()).map(JobId::from_index);
        let mut again: Vec<bool> = jobs().map(&is_chosen).collect();
        let mut open: Vec<JobId> = jobs().filter(|job| again[job.index()]).collect();
        while let Some(job) = open.pop() {
            for dependent in self.dependents.get(job) {
                if !std::mem::replace(&mut again[dependent.index()], true) {
                    open.push(*dependent);
                }
            }
        }
        jobs().filter(|job| again[job.index()]).collect()
    }

    /// Cancels jobs of an interrupted run that no process drives any more: what was under way is
    /// known to be gone. Returns what happened, already applied; nothing when there is nothing to
    /// cancel.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn cancel_without_steps(
        &mut self,
        at: Timestamp,
        jobs: Option<Vec<JobId>>,
    ) -> Result<Vec<Event>, Refused> {
        if !self.can_resume() {
            return Ok(Vec::new());
        }
        let had_ended = matches!(self.phase, Phase::Ended { .. });
        let mut events = vec![Event::RunResumed { at }, Event::CancelRequested { at, jobs }];
        let (outcome, usage) = (Outcome::Lost, Usage::default());
        events.extend(self.running().map(|(job, attempt)| Event::StepEnded {
            job,
            attempt,
            at,
            outcome: outcome.clone(),
            usage,
        }));
        for event in &events {
            self.apply(event)?;
        }
        let complete = self.counts.ended() as usize == self.jobs.len();
        if complete || had_ended {
            let event = Event::RunEnded { at, complete };
            self.apply(&event)?;
            events.push(event);
        }
        Ok(events)
    }
}

/// Ascending job numbers as inclusive ranges.
pub(crate) fn ranges_of(jobs: impl Iterator<Item = JobId>) -> Vec<(JobId, JobId)> {
    let mut ranges: Vec<(JobId, JobId)> = Vec::new();
    for job in jobs {
        match ranges.last_mut() {
            Some((_, last)) if last.0 + 1 == job.0 => *last = job,
            _ => ranges.push((job, job)),
        }
    }
    ranges
}
