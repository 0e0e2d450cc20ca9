//! When a scheduler is asked for allocations, and how often it is asked about them. Pure: it decides,
//! somebody else asks.
//!
//! Owns the rules that keep a site's scheduler from being overrun: so many pending allocations at
//! most, one request at a time with a pause between, sources by turns, waiting longer after each refusal
//! and each silence, giving up on a source whose allocations fail before anything runs, all questions in
//! one batch, asked the more seldom the less changes. Does not know jobs. Whatever is in doubt is looked
//! for before it is asked for, so that nothing is asked for twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{AllocationId, WorkflowId};
use crate::time::Timestamp;
use crate::traits::{AllocationHandle, AllocationState};

mod answers;
mod kinds;
#[cfg(test)]
mod tests;
mod turns;

pub use kinds::Governors;
use turns::Turn;

/// An allocation of a workflow.
pub type Who = (WorkflowId, AllocationId);

/// How much a scheduler may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Allocations in its queue at once.
    pub max_pending: usize,
    /// The pause between two requests for allocations.
    pub submit_pause: Duration,
    /// The pause between two questions while something changes.
    pub shortest_interval: Duration,
    /// The same while nothing does.
    pub longest_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pending: 20,
            submit_pause: Duration::from_millis(200),
            shortest_interval: Duration::from_secs(5),
            longest_interval: Duration::from_secs(60),
        }
    }
}

/// After so many allocations in a row that came to nothing, no more are asked for.
const MOST_FAILURES: u32 = 3;
/// An allocation that the scheduler does not know for so long is over, unless something may still run
/// there.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// What is to be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Whether the request was made already.
    Find(Who),
    /// For an allocation.
    Submit(Who),
    /// Where these stand.
    Observe(Vec<(Who, AllocationHandle)>),
    /// To end one.
    Cancel(Who, AllocationHandle),
}

/// What became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The scheduler has taken the request.
    Submitted(Who, AllocationHandle),
    /// It never will.
    Refused(Who, String),
    /// Where an allocation stands. Told at each observation.
    Observed(Who, AllocationHandle, AllocationState),
    /// Why a request waits.
    HeldBack(Who, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// To be asked for; `in_doubt`: it may have been.
    Wanted { in_doubt: bool },
    /// A question about it is under way.
    Asking { in_doubt: bool },
    /// It is in the scheduler's hands.
    Taken { handle: AllocationHandle, is_pending: bool },
}

#[derive(Clone, Debug)]
struct Entry {
    stage: Stage,
    source: Source,
    /// Its place in the order of the wishes.
    order: u64,
    /// It is to be ended as soon as it can be.
    is_cancelled: bool,
    /// When the scheduler is told so; `None`: it is being told, or has heard it.
    cancel_at: Option<Timestamp>,
    /// Times that it did not hear it.
    cancel_failures: u32,
    /// A worker has connected from it.
    has_worked: bool,
    /// That worker is connected now.
    is_connected: bool,
    /// How long the scheduler must not know it before it is over.
    patience: Duration,
    unknown_since: Option<Timestamp>,
    /// It has lost the node of its worker, and is cancelled for that.
    is_headless: bool,
}

impl Entry {
    fn is_taken(&self) -> bool {
        matches!(self.stage, Stage::Taken { .. })
    }

    /// It may have been asked for, and is to be looked for.
    fn is_in_doubt(&self) -> bool {
        self.stage == Stage::Wanted { in_doubt: true }
    }

    /// When its scheduler is to be told that it is to end, if it is.
    fn to_be_cancelled_at(&self) -> Option<Timestamp> {
        self.cancel_at.filter(|_| self.is_cancelled && self.is_taken())
    }
}

/// A scheduler of a workflow's spec.
type Source = (WorkflowId, Arc<str>);

/// Decides what a scheduler is asked.
#[derive(Debug, Default)]
pub struct Governor {
    limits: Limits,
    entries: BTreeMap<Who, Entry>,
    next_order: u64,
    /// Failures in a row, with the words of the last.
    failures: HashMap<Source, (u32, String)>,
    turns: HashMap<Source, Turn>,
    /// Requests so far, and questions whether one was made.
    requests: u64,
    /// Times in a row that the scheduler did not say whether it takes a request.
    silences: u32,
    is_submitting: bool,
    submit_at: Timestamp,
    is_observing: bool,
    observe_at: Timestamp,
    interval: Duration,
}

impl Governor {
    /// Asks as much as these limits allow.
    pub fn new(limits: Limits) -> Self {
        Self { limits, interval: limits.shortest_interval, ..Self::default() }
    }

    /// An allocation is wanted from a scheduler of a workflow. `in_doubt`: it may have been asked for
    /// before.
    pub fn want(&mut self, who: Who, scheduler: Arc<str>, in_doubt: bool) -> Vec<News> {
        if let Some(Entry { stage: Stage::Taken { handle, .. }, .. }) = self.entries.get(&who) {
            // Whoever asked for it before is gone, and did not hear the answer.
            return vec![News::Submitted(who, handle.clone())];
        }
        let source = (who.0, scheduler);
        if let Some(refusal) = self.given_up(&source) {
            return vec![News::Refused(who, refusal)];
        }
        let stage = Stage::Wanted { in_doubt };
        self.enter(who, source, stage);
        Vec::new()
    }

    /// An allocation is in the scheduler's hands already, even if it is only being asked for as far as
    /// is known here: its worker can be faster than the scheduler's answer.
    /// `has_worked`: a worker had connected from it before.
    pub fn track(
        &mut self,
        who: Who,
        scheduler: Arc<str>,
        handle: AllocationHandle,
        has_worked: bool,
    ) {
        let stage = Stage::Taken { handle: handle.clone(), is_pending: true };
        self.enter(who, (who.0, scheduler), stage.clone());
        self.set_stage(who, stage);
        let Some(entry) = self.entries.get_mut(&who) else { return };
        entry.has_worked |= has_worked;
        // Whoever begins to follow it has heard of no worker yet.
        entry.is_connected = false;
        if let Stage::Taken { handle: known, is_pending } = &mut entry.stage {
            // What its worker calls it is what it is.
            *known = handle;
            *is_pending &= !has_worked;
        }
        self.observe_at = Timestamp::default();
    }

    fn enter(&mut self, who: Who, source: Source, stage: Stage) {
        self.next_order += 1;
        let entry = Entry {
            stage,
            source,
            order: self.next_order,
            is_cancelled: false,
            cancel_at: Some(Timestamp::default()),
            cancel_failures: 0,
            has_worked: false,
            is_connected: false,
            patience: FORGOTTEN_AFTER,
            unknown_since: None,
            is_headless: false,
        };
        self.entries.entry(who).or_insert(entry);
    }

    /// An allocation is not wanted any more. Whether it is gone with that; else it ends when the
    /// scheduler says so.
    pub fn cancel(&mut self, who: Who) -> bool {
        if self.withdraw(who) {
            return true;
        }
        let Some(entry) = self.entries.get_mut(&who) else { return true };
        entry.is_cancelled = true;
        false
    }

    /// An allocation is of no use at the moment. Whether it will not be asked for: one that is being
    /// asked for, or may have been, stays.
    pub fn withdraw(&mut self, who: Who) -> bool {
        let is_wish = |entry: &Entry| entry.stage == (Stage::Wanted { in_doubt: false });
        if self.entries.get(&who).is_some_and(is_wish) {
            self.entries.remove(&who);
        }
        !self.entries.contains_key(&who)
    }

    /// A worker has connected from an allocation: its scheduler's allocations are good for something.
    pub fn worked(&mut self, who: Who) {
        let Some(entry) = self.entries.get_mut(&who) else { return };
        entry.has_worked = true;
        entry.is_connected = true;
        if let Stage::Taken { is_pending, .. } = &mut entry.stage {
            *is_pending = false;
        }
        self.failures.remove(&entry.source);
    }

    /// The worker of an allocation is not connected any more, which may be its end: ask soon.
    pub fn left(&mut self, who: Who, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&who) {
            entry.is_connected = false;
        }
        self.nudge(now);
    }

    /// What runs in an allocation may go on by itself for so long while nobody hears of it: where its
    /// scheduler has forgotten it, it is not over before.
    pub fn be_patient(&mut self, who: Who, patience: Duration) {
        if let Some(entry) = self.entries.get_mut(&who) {
            entry.patience = patience.max(FORGOTTEN_AFTER);
        }
    }

    /// Something may have happened to an allocation, as its end: ask soon.
    pub fn nudge(&mut self, now: Timestamp) {
        self.interval = self.limits.shortest_interval;
        self.observe_at = self.observe_at.min(now);
    }

    /// A workflow begins anew: what failed before is forgotten.
    pub fn forgive(&mut self, workflow: WorkflowId) {
        self.failures.retain(|(of, _), _| *of != workflow);
        self.turns.retain(|(of, _), _| *of != workflow);
    }

    /// What is to be asked now. The answer to each order must be told.
    pub fn next(&mut self, now: Timestamp) -> (Vec<Order>, Vec<News>) {
        let mut orders = Vec::new();
        let mut news = Vec::new();
        for (who, entry) in &mut self.entries {
            if entry.to_be_cancelled_at().is_some_and(|at| at <= now)
                && let Stage::Taken { handle, .. } = &entry.stage
            {
                entry.cancel_at = None;
                orders.push(Order::Cancel(*who, handle.clone()));
            }
        }
        if !self.is_submitting && self.submit_at <= now {
            orders.extend(self.next_request(now, &mut news));
        }
        if !self.is_observing && self.observe_at <= now {
            let taken: Vec<_> = self.taken().collect();
            if !taken.is_empty() {
                self.is_observing = true;
                orders.push(Order::Observe(taken));
            }
        }
        (orders, news)
    }

    /// When there may be something to ask without anything else happening.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let observe_at =
            (!self.is_observing && self.taken().next().is_some()).then_some(self.observe_at);
        let cancel_at = self.entries.values().filter_map(Entry::to_be_cancelled_at).min();
        [self.request_at(), observe_at, cancel_at].into_iter().flatten().min()
    }

    fn taken(&self) -> impl Iterator<Item = (Who, AllocationHandle)> {
        self.entries.iter().filter_map(|(who, entry)| match &entry.stage {
            Stage::Taken { handle, .. } => Some((*who, handle.clone())),
            _ => None,
        })
    }

    /// What the scheduler has stays in its hands until it has ended.
    fn set_stage(&mut self, who: Who, stage: Stage) {
        if let Some(entry) = self.entries.get_mut(&who)
            && !entry.is_taken()
        {
            entry.stage = stage;
        }
    }

    fn is_taken(&self, who: Who) -> bool {
        self.entries.get(&who).is_some_and(Entry::is_taken)
    }

    /// The refusal of a source that is given up, if it is.
    fn given_up(&self, source: &Source) -> Option<String> {
        let (count, last) = self.failures.get(source)?;
        (*count >= MOST_FAILURES).then(|| {
            format!(
                "the last {count} allocations of scheduler `{}` came to nothing, so no more are \
                 asked for; the last one: {last}",
                source.1
            )
        })
    }
}
