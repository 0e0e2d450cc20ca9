//! What follows from a scheduler's answers.
//!
//! An answer says something about the allocation that the question was about, and about how soon the
//! next question makes sense. Does not know who asked.

use super::turns::wait_after;
use super::{Entry, Governor, News, Source, Stage, Who};
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, AllocationState, SchedulerError};

impl Governor {
    /// The answer to [`Order::Find`](super::Order::Find).
    pub fn found(
        &mut self,
        who: Who,
        answer: Result<Option<AllocationHandle>, SchedulerError>,
        now: Timestamp,
    ) -> Vec<News> {
        self.is_submitting = false;
        match answer {
            Ok(Some(handle)) => self.take(who, handle, now),
            // That says nothing about whether it would be taken.
            Ok(None) => self.not_taken(who),
            Err(error) => self.wait(who, &error, now),
        }
    }

    /// The answer to [`Order::Submit`](super::Order::Submit).
    pub fn submitted(
        &mut self,
        who: Who,
        answer: Result<AllocationHandle, SchedulerError>,
        now: Timestamp,
    ) -> Vec<News> {
        self.is_submitting = false;
        self.submit_at = now + self.limits.submit_pause;
        if !matches!(answer, Err(SchedulerError::Unavailable(_))) {
            self.silences = 0;
        }
        match answer {
            Ok(handle) => self.take(who, handle, now),
            Err(SchedulerError::Refused(_)) if self.is_taken(who) => Vec::new(),
            Err(SchedulerError::Refused(reason)) => {
                let mut news = vec![News::Refused(who, reason.clone())];
                if let Some(entry) = self.entries.remove(&who) {
                    news.extend(self.note_failure(entry.source, reason));
                }
                news
            }
            Err(error @ SchedulerError::NotNow(_)) => self.stand_back(who, &error, now),
            Err(error @ SchedulerError::Unavailable(_)) => self.wait(who, &error, now),
        }
    }

    fn take(&mut self, who: Who, handle: AllocationHandle, now: Timestamp) -> Vec<News> {
        self.silences = 0;
        let soon = now + self.limits.shortest_interval;
        if self.taken().next().is_none() {
            self.observe_at = soon;
        }
        self.nudge(soon);
        if let Some(source) = self.entries.get(&who).map(|entry| entry.source.clone()) {
            self.step_forward(&source);
        }
        self.set_stage(who, Stage::Taken { handle: handle.clone(), is_pending: true });
        vec![News::Submitted(who, handle)]
    }

    /// The scheduler does not have it: it is a wish again, if it still is one.
    pub(super) fn not_taken(&mut self, who: Who) -> Vec<News> {
        // Its worker may have known better.
        if !self.is_taken(who) && self.entries.get(&who).is_some_and(|entry| entry.is_cancelled) {
            self.entries.remove(&who);
            return vec![News::Refused(who, "not wanted any more".to_owned())];
        }
        self.set_stage(who, Stage::Wanted { in_doubt: false });
        Vec::new()
    }

    /// The scheduler did not answer: whether it took the request is not known.
    fn wait(&mut self, who: Who, error: &SchedulerError, now: Timestamp) -> Vec<News> {
        self.submit_at = now + wait_after(self.silences);
        self.silences += 1;
        if self.is_taken(who) {
            return Vec::new();
        }
        self.set_stage(who, Stage::Wanted { in_doubt: true });
        vec![News::HeldBack(who, error.to_string())]
    }

    /// The answer to [`Order::Observe`](super::Order::Observe), in the order of the question.
    pub fn observed(
        &mut self,
        asked: &[(Who, AllocationHandle)],
        answer: Result<Vec<AllocationState>, SchedulerError>,
        now: Timestamp,
    ) -> Vec<News> {
        self.is_observing = false;
        let Ok(states) = answer else {
            self.slow_down(now);
            return Vec::new();
        };
        let (mut news, mut has_changed) = (Vec::new(), false);
        for ((who, handle), state) in asked.iter().zip(states) {
            let (changed, told) = self.observe((*who, handle), state, now);
            has_changed |= changed;
            news.extend(told);
        }
        if has_changed {
            self.interval = self.limits.shortest_interval;
            self.observe_at = now + self.interval;
        } else {
            self.slow_down(now);
        }
        news
    }

    fn slow_down(&mut self, now: Timestamp) {
        self.observe_at = now + self.interval;
        self.interval = (self.interval * 2).min(self.limits.longest_interval);
    }

    /// What one allocation's state means, and whether something about it changed.
    fn observe(
        &mut self,
        (who, asked): (Who, &AllocationHandle),
        state: AllocationState,
        now: Timestamp,
    ) -> (bool, Vec<News>) {
        let is_asked = |entry: &&mut Entry| matches!(&entry.stage, Stage::Taken { handle, .. } if handle == asked);
        let Some(entry) = self.entries.get_mut(&who).filter(is_asked) else {
            return (false, Vec::new());
        };
        let told = |state| News::Observed(who, asked.clone(), state);
        let state = match state {
            // Its worker knows better.
            AllocationState::Unknown if entry.is_connected => {
                entry.unknown_since = None;
                return (false, Vec::new());
            }
            AllocationState::Unknown => {
                let since = *entry.unknown_since.get_or_insert(now);
                if now.since(since) < entry.patience {
                    return (false, Vec::new());
                }
                let reason = "the scheduler does not know it any more".to_owned();
                AllocationState::Ended { cause: AllocationEnd::Unknown, reason }
            }
            state @ AllocationState::Unclear { .. } => {
                entry.unknown_since = None;
                return (false, vec![told(state)]);
            }
            state => {
                entry.unknown_since = None;
                state
            }
        };
        let state = match state {
            AllocationState::Ended { cause: AllocationEnd::Cancelled, reason }
                if entry.is_headless =>
            {
                let reason = format!("its first node failed: {reason}");
                AllocationState::Ended { cause: AllocationEnd::NodeFailed, reason }
            }
            state => state,
        };
        if state == AllocationState::Headless && !entry.is_headless {
            // What its other nodes still run must be gone before it runs elsewhere.
            (entry.is_headless, entry.is_cancelled) = (true, true);
        }
        if let AllocationState::Ended { cause, reason } = &state {
            let came_to_nothing = !entry.has_worked
                && !entry.is_cancelled
                && !matches!(cause, AllocationEnd::Cancelled | AllocationEnd::Preempted);
            let (source, reason) = (entry.source.clone(), reason.clone());
            self.entries.remove(&who);
            self.let_one_try(now);
            let mut news = vec![told(state)];
            if came_to_nothing {
                news.extend(self.note_failure(source, reason));
            }
            return (true, news);
        }
        let waits = matches!(state, AllocationState::Pending { .. });
        let mut has_changed = false;
        if let Stage::Taken { is_pending, .. } = &mut entry.stage {
            has_changed = *is_pending != waits;
            *is_pending = waits;
        }
        (has_changed, vec![told(state)])
    }

    /// The answer to [`Order::Cancel`](super::Order::Cancel).
    pub fn cancelled(&mut self, who: Who, answer: Result<(), SchedulerError>, now: Timestamp) {
        if answer.is_ok() {
            return self.nudge(now + self.limits.submit_pause);
        }
        if let Some(entry) = self.entries.get_mut(&who) {
            entry.cancel_at = Some(now + wait_after(entry.cancel_failures));
            entry.cancel_failures += 1;
        }
    }

    /// Notes that an allocation came to nothing. When that was one too many, what else is wanted from
    /// there is refused.
    fn note_failure(&mut self, source: Source, reason: String) -> Vec<News> {
        let (count, last) = self.failures.entry(source.clone()).or_default();
        *count += 1;
        *last = reason;
        let Some(refusal) = self.given_up(&source) else { return Vec::new() };
        let of_source = self.entries.iter().filter(|(_, entry)| {
            entry.source == source && entry.stage == (Stage::Wanted { in_doubt: false })
        });
        let whos: Vec<Who> = of_source.map(|(who, _)| *who).collect();
        whos.into_iter()
            .map(|who| {
                self.entries.remove(&who);
                News::Refused(who, refusal.clone())
            })
            .collect()
    }
}
