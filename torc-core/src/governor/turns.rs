//! Whose turn it is, and how long whoever was sent away stands back.
//!
//! Owns the order of the requests: sources take turns, so that none holds up another, and one that is not
//! served for the moment waits by itself. A scheduler that is silent is left alone by all. Either wait
//! doubles each time, until there is an answer that shows that its cause is gone.

use std::time::Duration;

use super::{Entry, Governor, News, Order, Source, Stage, Who};
use crate::time::Timestamp;
use crate::traits::SchedulerError;

/// The first wait; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long to wait after so many failures in a row, counted from 0.
pub(super) fn wait_after(failures: u32) -> Duration {
    (FIRST_WAIT * 2u32.saturating_pow(failures.min(16))).min(LONGEST_WAIT)
}

/// How a source stands among the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Which request was its last one; 0: it had none.
    last: u64,
    /// Times in a row that it was not served for the moment.
    refusals: u32,
    /// It stands back until then.
    not_before: Timestamp,
}

impl Governor {
    /// What to ask now about a wish, if its time has come.
    pub(super) fn next_request(&mut self, now: Timestamp, news: &mut Vec<News>) -> Option<Order> {
        let has_room = self.has_room();
        let is_due = |entry: &Entry| self.due_at(entry).is_some_and(|at| at <= now);
        let rank = |entry: &Entry| {
            let waits_for_room = !has_room && !entry.is_in_doubt();
            let last = self.turn(&entry.source).last;
            (waits_for_room, last, !entry.is_in_doubt(), entry.order)
        };
        let due = self.entries.iter().filter(|(_, entry)| is_due(entry));
        let (who, entry) = due.min_by_key(|(_, entry)| rank(entry))?;
        let (who, in_doubt, source) = (*who, entry.is_in_doubt(), entry.source.clone());
        if !in_doubt && !has_room {
            let why = format!(
                "{} allocations wait in the scheduler's queue, as many as torc lets wait at once",
                self.limits.max_pending
            );
            news.push(News::HeldBack(who, why));
            return None;
        }
        self.requests += 1;
        self.turns.entry(source).or_default().last = self.requests;
        self.is_submitting = true;
        self.set_stage(who, Stage::Asking { in_doubt });
        Some(if in_doubt { Order::Find(who) } else { Order::Submit(who) })
    }

    /// When there is something to ask about a wish without anything else happening.
    pub(super) fn request_at(&self) -> Option<Timestamp> {
        if self.is_submitting {
            return None;
        }
        let has_room = self.has_room();
        let wishes = self.entries.values().filter(|entry| has_room || entry.is_in_doubt());
        let due_at = wishes.filter_map(|entry| self.due_at(entry)).min()?;
        Some(due_at.max(self.submit_at))
    }

    /// When the source of a wish lets it be asked about; `None`: it is no wish.
    fn due_at(&self, entry: &Entry) -> Option<Timestamp> {
        match entry.stage {
            // To look for one asks nothing of what its source was refused.
            Stage::Wanted { in_doubt: true } => Some(Timestamp::default()),
            Stage::Wanted { in_doubt: false } => Some(self.turn(&entry.source).not_before),
            Stage::Asking { .. } | Stage::Taken { .. } => None,
        }
    }

    fn turn(&self, source: &Source) -> Turn {
        self.turns.get(source).copied().unwrap_or_default()
    }

    /// What may have been asked for takes room as long as that is not known.
    fn has_room(&self) -> bool {
        let takes_room = |entry: &&Entry| {
            entry.is_in_doubt() || matches!(entry.stage, Stage::Taken { is_pending: true, .. })
        };
        self.entries.values().filter(takes_room).count() < self.limits.max_pending
    }

    /// A request is not taken for the moment: what its source wants stands back.
    pub(super) fn stand_back(
        &mut self,
        who: Who,
        error: &SchedulerError,
        now: Timestamp,
    ) -> Vec<News> {
        let Some(entry) = self.entries.get(&who) else { return Vec::new() };
        let turn = self.turns.entry(entry.source.clone()).or_default();
        turn.not_before = now + wait_after(turn.refusals);
        turn.refusals += 1;
        let news = self.not_taken(who);
        let is_wish = self.entries.get(&who).is_some_and(|entry| !entry.is_taken());
        if is_wish { vec![News::HeldBack(who, error.to_string())] } else { news }
    }

    /// The requests of a source are taken.
    pub(super) fn step_forward(&mut self, source: &Source) {
        if let Some(turn) = self.turns.get_mut(source) {
            *turn = Turn { last: turn.last, ..Turn::default() };
        }
    }

    /// An allocation has ended, and limits on jobs pass when jobs end: of those who stand back, the one
    /// that was asked for longest ago may try at once. One, since one place has become free.
    pub(super) fn let_one_try(&mut self, now: Timestamp) {
        let stands_back = |entry: &&Entry| self.due_at(entry).is_some_and(|at| at > now);
        let held = self.entries.values().filter(stands_back).map(|entry| &entry.source);
        let first = held.min_by_key(|source| self.turn(source).last).cloned();
        if let Some(source) = first {
            self.step_forward(&source);
        }
    }
}
