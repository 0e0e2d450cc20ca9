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
        let mut again: Vec<bool> = self
            .jobs
            .iter()
            .map(|job| !matches!(job.status, JobStatus::Completed | JobStatus::Disabled))
            .collect();
        let mut open: Vec<JobId> =
            (0..again.len()).filter(|index| again[*index]).map(JobId::from_index).collect();
        while let Some(job) = open.pop() {
            for dependent in self.dependents.get(job) {
                if !std::mem::replace(&mut again[dependent.index()], true) {
                    open.push(*dependent);
                }
            }
        }
        let chosen = (0..again.len()).filter(|index| again[*index]);
        ranges_of(chosen.map(JobId::from_index))
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
pub(super) fn ranges_of(jobs: impl Iterator<Item = JobId>) -> Vec<(JobId, JobId)> {
    let mut ranges: Vec<(JobId, JobId)> = Vec::new();
    for job in jobs {
        match ranges.last_mut() {
            Some((_, last)) if last.0 + 1 == job.0 => *last = job,
            _ => ranges.push((job, job)),
        }
    }
    ranges
}
