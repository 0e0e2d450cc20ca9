//! Launching very short jobs without a commit between one and the next.
//!
//! Nothing is launched before an event that says so is durable. For a job that runs for a
//! millisecond, waiting for that commit would cost more than the job. So the engine clears some
//! ready jobs ahead of time: the commit of that event is enough for their next launch, and their
//! dispatch is stored with whatever comes next. After a crash every cleared job that is not known to
//! have been dispatched may have been launched: it gets a lost attempt, and runs again under another
//! number.
//!
//! How many are cleared follows from what was seen of their class, so that long jobs never are.

use std::time::Duration;

use crate::ids::{AttemptId, ClassId, JobId};
use crate::time::Timestamp;
use crate::traits::{Outcome, Usage};

use super::attempts::{Attempt, AttemptEnd};
use super::recovery::ranges_of;
use super::status::JobStatus;
use super::{Engine, Event, Phase, Refused};

/// Clear as many jobs as will probably be dispatched within this time: several commits on a slow
/// disk.
const HORIZON: Duration = Duration::from_millis(50);
/// Never more than this many of a class at once: it bounds the lost attempts after a crash.
const MOST: u32 = 256;
/// Members of a class looked at in one decision: it bounds what a decision costs.
const SCANNED: usize = 1_024;

/// What is known about the jobs of one class while they run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassPace {
    /// Jobs that hold nodes.
    running: u32,
    /// Jobs that are cleared and not dispatched.
    cleared: u32,
    /// A moving average of how long jobs held their nodes.
    mean: Option<Duration>,
    /// Where among the class's members to look for the next job to clear.
    cursor: usize,
}

impl ClassPace {
    pub(super) fn note_start(&mut self) {
        self.running += 1;
    }

    /// `held`: how long the job held its nodes, when that says something about its class.
    pub(super) fn note_end(&mut self, held: Option<Duration>) {
        const WEIGHT: u32 = 8;
        self.running = self.running.saturating_sub(1);
        let Some(held) = held else { return };
        self.mean = Some(match self.mean {
            None => held,
            Some(mean) => (mean * (WEIGHT - 1) + held) / WEIGHT,
        });
    }

    /// Jobs to have cleared, at the pace that was seen.
    fn wanted(&self) -> u32 {
        let Some(mean) = self.mean else { return 0 };
        let one_slot = HORIZON.as_micros() / mean.as_micros().max(1_000);
        let wanted = one_slot.saturating_mul(u128::from(self.running));
        u32::try_from(wanted).unwrap_or(MOST).min(MOST)
    }
}

impl Engine {
    /// Clears the jobs that will be dispatched soon, if that is worth it. The event is applied.
    pub fn clear_ahead(&mut self, now: Timestamp) -> Option<Event> {
        if self.phase != Phase::Running {
            return None;
        }
        let mut jobs = Vec::new();
        let mut classes = std::mem::take(&mut self.changed_paces);
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            self.choose(class, &mut jobs);
        }
        if jobs.is_empty() {
            return None;
        }
        jobs.sort_unstable();
        let event = Event::LaunchesCleared { at: now, jobs: ranges_of(jobs.into_iter()) };
        self.apply(&event).ok()?;
        Some(event)
    }

    /// The next ready jobs of a class, in the order in which they are dispatched.
    fn choose(&mut self, class: ClassId, chosen: &mut Vec<JobId>) {
        let pace = self.paces[class.0 as usize];
        // Half of what is wanted is left: too early for another event.
        if self.classes.request(class).is_gang() || pace.cleared * 2 >= pace.wanted() {
            return;
        }
        let members = self.classes.members(class);
        let wanted = (pace.wanted() - pace.cleared) as usize;
        let mut cursor = pace.cursor;
        let before = chosen.len();
        for job in members[cursor..].iter().take(SCANNED) {
            if chosen.len() - before == wanted {
                break;
            }
            cursor += 1;
            let state = &self.jobs[job.index()];
            if state.status == JobStatus::Ready && !state.is_cleared {
                chosen.push(*job);
            }
        }
        self.paces[class.0 as usize].cursor = cursor;
    }

    /// A job is ready again: the search for jobs to clear begins with it, at the latest.
    pub(super) fn rewind_clearances(&mut self, job: JobId) {
        let class = self.classes.of_job(job);
        let pace = &mut self.paces[class.0 as usize];
        if pace.cursor > 0 {
            let place = self.classes.members(class).partition_point(|member| *member < job);
            pace.cursor = pace.cursor.min(place);
        }
    }

    pub(super) fn clear(&mut self, jobs: &[(JobId, JobId)]) -> Result<(), Refused> {
        let each = || jobs.iter().flat_map(|(first, last)| first.0..=last.0).map(JobId);
        for job in each() {
            let state = &self.jobs[self.known(job)?.index()];
            if state.status != JobStatus::Ready || state.is_cleared {
                return Err(Refused::StaleAttempt { job, attempt: AttemptId(state.launches + 1) });
            }
        }
        for job in each() {
            self.jobs[job.index()].is_cleared = true;
            self.paces[self.classes.of_job(job).0 as usize].cleared += 1;
        }
        Ok(())
    }

    /// Takes a job's clearance back, or notes that it was used.
    pub(super) fn end_clearance(&mut self, job: JobId) {
        if std::mem::take(&mut self.jobs[job.index()].is_cleared) {
            self.paces[self.classes.of_job(job).0 as usize].cleared -= 1;
        }
    }

    pub(super) fn end_all_clearances(&mut self) {
        for job in self.cleared_jobs() {
            self.end_clearance(job);
        }
    }

    /// The jobs that are cleared and not known to have been dispatched.
    pub fn cleared_jobs(&self) -> Vec<JobId> {
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(|(_, job)| job.is_cleared).map(|(index, _)| JobId::from_index(index)).collect()
    }

    /// Whoever launched cleared jobs is gone: each may have been launched and not noted.
    pub(super) fn lose_cleared(&mut self, at: Timestamp) {
        let Some(run) = self.run else { return };
        for job in self.cleared_jobs() {
            self.end_clearance(job);
            let state = &mut self.jobs[job.index()];
            state.launches += 1;
            let mut attempt = Attempt::unplaced((job, run, AttemptId(state.launches)), at);
            attempt.end = Some(AttemptEnd {
                at,
                outcome: Outcome::Lost,
                status: JobStatus::Failed,
                usage: Usage::default(),
                scheduler_state: None,
            });
            self.attempts.push(attempt);
            state.latest_attempt = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_cleared_as_will_be_dispatched_soon() {
        #[track_caller]
        fn check(ends: &[Option<u64>], running: u32, expected: u32) {
            let mut pace = ClassPace::default();
            for held in ends {
                pace.note_start();
                pace.note_end(held.map(Duration::from_millis));
            }
            for _ in 0..running {
                pace.note_start();
            }
            assert_eq!(pace.wanted(), expected);
        }
        check(&[], 2, 0);
        check(&[None], 2, 0);
        check(&[Some(10)], 1, 5);
        check(&[Some(10)], 3, 15);
        check(&[Some(10), None], 3, 15);
        check(&[Some(0)], 1, 50);
        check(&[Some(0)], 6, MOST);
        check(&[Some(50)], 2, 2);
        check(&[Some(51)], 2, 0);
        // (7 * 10 + 18) / 8 is 11.
        check(&[Some(10), Some(18)], 1, 4);
        check(&[Some(10), Some(18)], 0, 0);
    }
}
