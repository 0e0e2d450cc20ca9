//! What a plugin tells of its steps goes over this desk.
//!
//! Owns: which steps the plugin has, and how often in a row it lost them. Does not know: how the plugin is called.
//! Invariants: of each step that was handed over exactly one end is told, whatever the plugin tells; when its process
//! is gone, what that had is lost; a step whose launch is not answered yet is ended by whoever launches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use torc_core::ids::StepId;
use torc_core::traits::{ExecutorError, Outcome, Step, StepEvent, StepEvents, Usage};

use super::Clock;
use crate::calls::Told;

/// Times that a plugin may lose its steps before it is no longer given any, unless one of them ended in between:
/// what it lost runs again, and would for ever.
const MOST_LOSSES: u32 = 3;

pub(super) struct Desk {
    plugin: String,
    events: Arc<dyn StepEvents>,
    clock: Clock,
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Default)]
struct Books {
    /// The steps that were handed over.
    steps: BTreeMap<StepId, Held>,
    /// How often it lost what it had since a step last came to an end of its own.
    losses: u32,
    /// How it went the last time.
    last_loss: String,
    /// Nothing more is launched.
    is_shut: bool,
}

/// A step that the plugin has.
#[derive(Default)]
struct Held {
    /// Its launch was not answered yet.
    is_launching: bool,
    /// It was told that it started.
    has_started: bool,
    /// Between its termination signal and SIGKILL.
    lead: Duration,
}

/// Whether a step can be launched.
pub(super) enum Entry {
    New,
    Known,
    TooLate,
}

impl Desk {
    pub(super) fn new(plugin: String, events: Arc<dyn StepEvents>, clock: Clock) -> Self {
        Self { plugin, events, clock, books: Mutex::default(), changed: Notify::new() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a step is being launched.
    ///
    /// # Errors
    /// When the plugin has lost its steps too often.
    pub(super) fn enter(&self, step: &Step) -> Result<Entry, ExecutorError> {
        let mut books = self.books();
        if books.losses >= MOST_LOSSES {
            let words = format!(
                "plugin `{}` lost its steps {MOST_LOSSES} times, and none came to an end of its own in between: {}",
                self.plugin, books.last_loss
            );
            return Err(ExecutorError::Gone(words));
        }
        if books.is_shut {
            return Ok(Entry::TooLate);
        }
        if books.steps.contains_key(&step.id) {
            return Ok(Entry::Known);
        }
        let lead = step.limits.termination_lead;
        books.steps.insert(step.id, Held { is_launching: true, has_started: false, lead });
        Ok(Entry::New)
    }

    /// The launch of a step was answered well.
    pub(super) fn take_over(&self, step: StepId) {
        if let Some(held) = self.books().steps.get_mut(&step) {
            held.is_launching = false;
        }
    }

    /// These steps were there before, and run.
    pub(super) fn take_back(&self, steps: impl Iterator<Item = StepId>) {
        let mut books = self.books();
        for step in steps {
            books.steps.entry(step).or_insert(Held { has_started: true, ..Held::default() });
        }
    }

    /// The plugin does not have a step. Whether it was thought to.
    pub(super) fn leave(&self, step: StepId) -> bool {
        let was_there = self.books().steps.remove(&step).is_some();
        self.changed.notify_waiters();
        was_there
    }

    /// Nothing more is launched. The steps that there are, and the longest that one may take to end.
    pub(super) fn shut(&self) -> (Vec<StepId>, Duration) {
        let mut books = self.books();
        books.is_shut = true;
        let lead = books.steps.values().map(|held| held.lead).max().unwrap_or_default();
        (books.steps.keys().copied().collect(), lead)
    }

    /// Waits until it has no step.
    pub(super) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What changes from here on is not missed.
            changed.as_mut().enable();
            if self.books().steps.is_empty() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn hear(&self, told: Told) {
        let event = match told {
            Told::Gone(how) => return self.lose_all(&how),
            Told::Event(event) => event,
        };
        let plugin = &*self.plugin;
        match serde_json::from_slice::<StepEvent>(&event) {
            Ok(event) => self.pass_on(event),
            Err(error) => {
                let event = String::from_utf8_lossy(&event[..event.len().min(200)]).into_owned();
                tracing::error!(plugin, %error, event, "an event cannot be understood");
            }
        }
    }

    /// Passes an event on, unless it is about a step that the plugin does not have.
    fn pass_on(&self, event: StepEvent) {
        let is_due = {
            let mut books = self.books();
            match &event {
                StepEvent::Started { step, .. } => {
                    let held = books.steps.get_mut(step);
                    held.is_some_and(|held| !std::mem::replace(&mut held.has_started, true))
                }
                StepEvent::Ended { step, outcome, .. } => {
                    let was_there = books.steps.remove(step).is_some();
                    if was_there && !outcome.came_from_outside() {
                        books.losses = 0;
                    }
                    was_there
                }
                StepEvent::NodeChanged { .. } => true,
            }
        };
        if is_due {
            self.events.emit(event);
        } else {
            let plugin = &*self.plugin;
            tracing::warn!(plugin, ?event, "it was told before, or of a step that is not there");
        }
        self.changed.notify_waiters();
    }

    /// What the plugin had is lost.
    fn lose_all(&self, how: &str) {
        let lost: Vec<StepId> = {
            let mut books = self.books();
            books.losses += 1;
            how.clone_into(&mut books.last_loss);
            books.steps.extract_if(.., |_, held| !held.is_launching).map(|(step, _)| step).collect()
        };
        self.tell_lost(&lost, how);
    }

    /// The plugin was closed, and tells nothing more.
    pub(super) fn close(&self) {
        let lost: Vec<StepId> = std::mem::take(&mut self.books().steps).into_keys().collect();
        self.tell_lost(&lost, "it was closed");
    }

    fn tell_lost(&self, lost: &[StepId], how: &str) {
        let plugin = &*self.plugin;
        for &step in lost {
            tracing::warn!(plugin, %step, how, "the step is lost with its executor");
            self.end(step, Outcome::Lost);
        }
        self.changed.notify_waiters();
    }

    /// Tells the end of a step that the plugin does not tell.
    pub(super) fn end(&self, step: StepId, outcome: Outcome) {
        let at = (self.clock)();
        self.events.emit(StepEvent::Ended { step, at, outcome, usage: Usage::default() });
    }
}
