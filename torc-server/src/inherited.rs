//! A run inside an allocation that nobody asked for on its behalf: what becomes of the allocation meanwhile.
//!
//! Owns the questions to its scheduler, since there is no server that would ask, and passes on what the
//! executor reports. Does not know which scheduler it is. Invariant: a step that went with the allocation is
//! not told before the driver knows not to start anything there any more, and no other report waits for that.

use std::collections::HashSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use torc_core::ids::{AllocationId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationState, Outcome, StepEvent};

use crate::clock::now;
use crate::handle::{Handle, Input, WorkerInput};

/// How often it is asked where the allocation stands: its end can be moved.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// It is also asked so long before what runs there is asked to end: the end may have moved away.
const ASK_AHEAD: Duration = Duration::from_secs(5);

/// How long the question whether the allocation is over may take that reports wait for. One that comes in
/// while such a question is under way waits for the next, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks where an allocation stands now. [`AllocationState::Unknown`] says nothing.
pub type Observe = Box<dyn Fn() -> BoxFuture<'static, AllocationState> + Send>;

/// Lets what runs in an executor come to its end, after which it launches nothing more. It asks the steps to
/// end unless somebody else has; all has been reported when it returns. May be called again.
pub type WindUp = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What a watch is made of.
pub(crate) struct Watch {
    pub(crate) allocation: AllocationId,
    /// When it ends, as far as the driver knows.
    pub(crate) ends_at: Option<Timestamp>,
    /// The run is to end by then, however long the allocation lasts.
    pub(crate) limit: Option<Timestamp>,
    /// How long before the end what runs is asked to end.
    pub(crate) margin: Duration,
    pub(crate) observe: Observe,
    pub(crate) wind_up: Option<WindUp>,
    pub(crate) reports: mpsc::UnboundedReceiver<StepEvent>,
    pub(crate) handle: Handle,
    pub(crate) notices: mpsc::UnboundedSender<String>,
}

impl Watch {
    /// Watches until the executor is gone.
    pub(crate) async fn run(mut self) {
        let events = self.handle.step_events();
        let (mut known, mut held) = (Known::default(), Held::default());
        let mut ask_at = self.next_question();
        let mut asking: JoinSet<AllocationState> = JoinSet::new();
        let mut answering: JoinSet<Result<AllocationState, Elapsed>> = JoinSet::new();
        let mut is_closed = false;
        while !is_closed || !held.is_empty() {
            // What ended together is here before it is asked why.
            tokio::select! {
                biased;
                Some(answer) = answering.join_next() => {
                    // No answer in time says nothing.
                    if let Ok(Ok(state)) = answer {
                        self.take(state, &mut known);
                    }
                    held.answered(known.is_over).for_each(|report| events.emit(report));
                }
                Some(answer) = asking.join_next() => {
                    if let Ok(state) = answer {
                        self.take(state, &mut known);
                    }
                    if known.is_over {
                        held.answered(true).for_each(|report| events.emit(report));
                    }
                    ask_at = self.next_question();
                }
                report = self.reports.recv(), if !is_closed => match report {
                    None => is_closed = true,
                    Some(report) if known.is_over => events.emit(report),
                    Some(report) => held.pass(report).into_iter().for_each(|it| events.emit(it)),
                },
                () = ready(()), if answering.is_empty() && held.has_new() => {
                    held.ask();
                    answering.spawn(timeout(ANSWER_WITHIN, (self.observe)()));
                }
                () = sleep_until(ask_at), if asking.is_empty() && !known.is_over => {
                    asking.spawn((self.observe)());
                }
            }
        }
    }

    fn next_question(&self) -> Instant {
        let ahead = self.margin + ASK_AHEAD;
        let before_end = self.ends_at.map(|ends_at| ends_at.since(now() + ahead));
        let soon = before_end.filter(|wait| !wait.is_zero()).unwrap_or(ASK_EVERY);
        Instant::now() + soon.min(ASK_EVERY)
    }

    fn take(&mut self, state: AllocationState, known: &mut Known) {
        if known.is_over {
            return;
        }
        match state {
            AllocationState::Running { ends_at } => {
                // First its new end, or the old one might seem to have come.
                self.move_end(ends_at);
                self.suspend(false, known);
            }
            AllocationState::Suspended => self.suspend(true, known),
            AllocationState::Ended { reason, .. } => self.end(&reason, known),
            AllocationState::Completing => self.end("it is ending", known),
            AllocationState::Pending { .. } => self.end("it is back in the queue", known),
            AllocationState::Configuring
            | AllocationState::Headless
            | AllocationState::Unclear { .. }
            | AllocationState::Unknown => {}
        }
    }

    fn move_end(&mut self, ends_at: Option<Timestamp>) {
        let ends_at = earlier(ends_at, self.limit);
        if ends_at != self.ends_at {
            self.ends_at = ends_at;
            self.handle.tell(Input::Worker(WorkerInput::EndMoved(self.allocation, ends_at)));
        }
    }

    fn suspend(&self, is_suspended: bool, known: &mut Known) {
        if is_suspended != known.is_suspended {
            known.is_suspended = is_suspended;
            let input = WorkerInput::Suspended(self.allocation, is_suspended);
            self.handle.tell(Input::Worker(input));
        }
    }

    /// What ran there is gone or going, and runs again when the run goes on elsewhere.
    fn end(&self, reason: &str, known: &mut Known) {
        known.is_over = true;
        let _ =
            self.notices.send(format!("the allocation is over ({reason}); nothing more starts"));
        stop(&self.handle, self.wind_up.as_ref());
    }
}

/// What was found out about the allocation.
#[derive(Default)]
struct Known {
    is_suspended: bool,
    is_over: bool,
}

/// Reports that wait for the answer whether the allocation is over, in the order in which they came.
#[derive(Default)]
struct Held {
    /// They were here when the question under way was asked.
    asked: Vec<StepEvent>,
    /// They came later, and its answer may be older than what they tell.
    new: Vec<StepEvent>,
    /// The steps that they are about.
    steps: HashSet<StepId>,
}

impl Held {
    /// A report that need not wait is given back.
    fn pass(&mut self, report: StepEvent) -> Option<StepEvent> {
        let Some(step) = step(&report) else { return Some(report) };
        if !may_come_of_its_end(&report) && !self.steps.contains(&step) {
            return Some(report);
        }
        self.steps.insert(step);
        self.new.push(report);
        None
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether there are some that nobody has asked for yet.
    fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// The question is asked now.
    fn ask(&mut self) {
        self.asked.append(&mut self.new);
    }

    /// Those that need not wait longer after an answer: all of them, once the driver knows that it is over.
    fn answered(&mut self, is_over: bool) -> impl Iterator<Item = StepEvent> + use<> {
        if is_over {
            self.ask();
        }
        let told = std::mem::take(&mut self.asked);
        self.steps = self.new.iter().filter_map(step).collect();
        told.into_iter()
    }
}

/// The step that a report is about.
fn step(report: &StepEvent) -> Option<StepId> {
    match report {
        StepEvent::Started { step, .. } | StepEvent::Ended { step, .. } => Some(*step),
        StepEvent::NodeChanged { .. } => None,
    }
}

/// Has a run end, to go on later. Where its executor knows how to come to its end, it asks what runs.
pub(crate) fn stop(handle: &Handle, wind_up: Option<&WindUp>) {
    match wind_up {
        None => handle.stop(),
        Some(wind_up) => {
            handle.tell(Input::StopUnasked);
            tokio::spawn(wind_up());
        }
    }
}

/// The earlier of two ends, where `None` is none.
pub(crate) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Whether a step ended as those do whose allocation is taken away.
fn may_come_of_its_end(report: &StepEvent) -> bool {
    matches!(report, StepEvent::Ended { outcome: Outcome::Lost | Outcome::Preempted, .. })
}

#[cfg(test)]
mod tests;
