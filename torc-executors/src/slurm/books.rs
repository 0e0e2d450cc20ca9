//! The books of the steps that the executor has, and what is to be done for them next.
//!
//! Pure: what happened comes in with the time, what is to be done goes out. At most `parallel` sruns run
//! at once; the others wait in their order. A step is stopped by its number within the Slurm job, never
//! by a signal to its srun, except that an srun which has not created its step is asked to end itself.
//! Every step that was launched is concluded exactly once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{Outcome, Step, StepEvent, StepSignal, Usage};

use super::evidence::Evidence;
use super::stop::{Act, Stop};
use crate::keeper::ending::Reason;

/// How often a step is tried to be created while the controller does not answer.
const MOST_TRIES: u32 = 8;

/// The first pause between two tries; each is twice as long as the one before, up to a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The time, by the clock that deadlines are kept by and by the one that people read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) at: Timestamp,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Start its srun.
    Start(Box<Step>),
    /// Send a signal to all processes of a step of the Slurm job.
    Scancel {
        /// Its number.
        number: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Ask Slurm for the numbers of all steps, by name.
    LookUp,
    /// Ask the srun of this step to end: it has not created a step.
    Dismiss(StepId),
    /// Nodes that have failed, as a host list, or could not be reached, and why.
    Suspect {
        /// The nodes.
        nodes: String,
        /// Whether Slurm itself says that they failed.
        have_failed: bool,
    },
    /// Slurm creates no more steps for this job.
    Exhausted,
    /// Find out how it ended, and tell.
    Conclude(Box<Conclusion>),
    /// Tell.
    Emit(StepEvent),
}

/// A step whose srun has ended.
#[derive(Debug, PartialEq)]
pub(super) struct Conclusion {
    pub(super) step: Box<Step>,
    pub(super) at: Timestamp,
    pub(super) srun: Outcome,
    pub(super) evidence: Evidence,
    pub(super) reason: Option<Reason>,
    pub(super) has_outlived_limit: bool,
}

/// A step whose srun runs.
#[derive(Debug)]
struct Running {
    step: Box<Step>,
    tries: u32,
    evidence: Evidence,
    started_at: Option<Instant>,
    /// Slurm's own limit, from the start on.
    limit: Option<Duration>,
    stop: Option<Stop>,
    /// It was waiting when the way of starting steps changed, and is to be started anew.
    is_recalled: bool,
}

/// A step that is to be tried again.
#[derive(Debug)]
struct Delayed {
    until: Instant,
    step: Box<Step>,
    tries: u32,
}

/// The steps.
#[derive(Debug)]
pub(super) struct Books {
    parallel: usize,
    most_steps: u32,
    next_number: u32,
    is_exhausted: bool,
    is_winding_up: bool,
    waiting: VecDeque<(Box<Step>, u32)>,
    delayed: Vec<Delayed>,
    running: HashMap<StepId, Running>,
    /// When Slurm itself ends what still runs, before the allocation ends.
    limit_at: Option<Instant>,
}

impl Books {
    /// No steps yet. At most `parallel` sruns run at once, and Slurm creates at most `most_steps` steps.
    pub(super) fn new(parallel: usize, most_steps: u32) -> Self {
        Self {
            parallel: parallel.max(1),
            most_steps,
            next_number: 0,
            is_exhausted: false,
            is_winding_up: false,
            waiting: VecDeque::new(),
            delayed: Vec::new(),
            running: HashMap::new(),
            limit_at: None,
        }
    }

    /// Slurm itself ends what still runs then; steps are asked to end their lead before, whether a
    /// server says so or not.
    pub(super) fn end_steps_before(&mut self, limit_at: Option<Instant>) {
        self.limit_at = limit_at;
    }

    /// When the first of the steps is asked to end since Slurm will end all of them.
    pub(super) fn all_asked_at(&self) -> Option<Instant> {
        let asked = self.running.values().filter(|running| running.stop.is_none());
        asked.filter_map(|running| running.asked_with_all_at(self.limit_at)).min()
    }

    /// When something is to be done next, unless something happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let delays = self.delayed.iter().map(|delayed| delayed.until);
        let deadline = |running: &Running| running.deadline(self.limit_at);
        delays.chain(self.running.values().filter_map(deadline)).min()
    }

    /// Takes a step over.
    pub(super) fn launch(&mut self, step: Box<Step>, now: Now) -> Vec<Effect> {
        if self.is_exhausted || self.is_winding_up {
            return vec![ended(step.id, now.at, Outcome::Cancelled)];
        }
        self.waiting.push_back((step, 1));
        let mut effects = Vec::new();
        self.start_next(&mut effects);
        effects
    }

    fn start_next(&mut self, effects: &mut Vec<Effect>) {
        while self.running.len() < self.parallel {
            let Some((step, tries)) = self.waiting.pop_front() else { return };
            let running = Running {
                step: step.clone(),
                tries,
                evidence: Evidence::default(),
                started_at: None,
                limit: None,
                stop: None,
                is_recalled: false,
            };
            self.running.insert(step.id, running);
            effects.push(Effect::Start(step));
        }
    }

    /// Notes the limit that Slurm was given for a step.
    pub(super) fn limited(&mut self, step: StepId, limit: Option<Duration>) {
        if let Some(running) = self.running.get_mut(&step) {
            running.limit = limit;
        }
    }

    /// Moves Slurm's own limits of the steps that have one: the allocation ends later than it did. Says
    /// the new ones by the steps' numbers.
    pub(super) fn extend(&mut self, by: Duration) -> Vec<(u32, Duration)> {
        let extended = self.running.values_mut().filter_map(|running| {
            let limit = running.limit?.saturating_add(by);
            running.limit = Some(limit);
            Some((running.evidence.number?, limit))
        });
        extended.collect()
    }

    /// From now on steps are started in another way: those that Slurm has not created yet would wait for
    /// ever, and are started anew.
    pub(super) fn recall(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (&id, running) in &mut self.running {
            if running.evidence.number.is_none() && running.stop.is_none() {
                running.is_recalled = true;
                effects.push(Effect::Dismiss(id));
            }
        }
        effects
    }

    /// The srun of a step said something.
    pub(super) fn hear(&mut self, id: StepId, lines: &[String], now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(running) = self.running.get_mut(&id) else { return effects };
        let known = (running.evidence.failed_nodes.len(), running.evidence.unreachable_nodes.len());
        lines.iter().for_each(|line| running.evidence.read(line));
        let evidence = &running.evidence;
        let suspect =
            |nodes: &String, have_failed| Effect::Suspect { nodes: nodes.clone(), have_failed };
        if evidence.failed_nodes.len() > known.0 {
            effects.extend(evidence.failed_nodes.iter().map(|nodes| suspect(nodes, true)));
        }
        if evidence.unreachable_nodes.len() > known.1 {
            effects.extend(evidence.unreachable_nodes.iter().map(|nodes| suspect(nodes, false)));
        }
        if evidence.has_started() && running.started_at.is_none() {
            running.started_at = Some(now.instant);
            effects.push(Effect::Emit(StepEvent::Started { step: id, at: now.at }));
        }
        let (number, refusal) = (evidence.number, evidence.is_step_limit_reached());
        running.press(now, &mut effects);
        if let Some(number) = number {
            self.next_number = self.next_number.max(number.saturating_add(1));
        }
        if refusal || self.most_steps.saturating_sub(self.next_number) <= self.reserve() {
            self.exhaust(&mut effects);
        }
        effects
    }

    /// Steps that are left for those that have been dispatched already when the limit comes near.
    fn reserve(&self) -> u32 {
        let parallel = u32::try_from(self.parallel).unwrap_or(u32::MAX);
        parallel.saturating_mul(2).min(self.most_steps / 10)
    }

    fn exhaust(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_exhausted {
            self.is_exhausted = true;
            effects.push(Effect::Exhausted);
        }
    }

    /// The srun of a step has ended, or could not be started.
    pub(super) fn srun_ended(&mut self, id: StepId, srun: Outcome, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(running) = self.running.remove(&id) else { return effects };
        if running.is_recalled && running.stop.is_none() && !running.evidence.has_started() {
            self.waiting.push_front((running.step, running.tries));
        } else if running.is_to_be_tried_again() {
            let until = now.instant + pause(running.tries);
            tracing::warn!(step = %id, "the step could not be created, and is tried again: {:?}", running.evidence.refusal);
            self.delayed.push(Delayed { until, step: running.step, tries: running.tries + 1 });
        } else {
            let lasted =
                running.started_at.map(|start| now.instant.saturating_duration_since(start));
            let has_outlived_limit =
                running.limit.is_some_and(|limit| lasted.is_some_and(|lasted| lasted >= limit));
            effects.push(Effect::Conclude(Box::new(Conclusion {
                step: running.step,
                at: now.at,
                srun,
                evidence: running.evidence,
                // One that was faster than its recall, and was hit by it, was ended by torc.
                reason: match running.stop {
                    Some(stop) => Some(stop.reason()),
                    None => running.is_recalled.then_some(Reason::Cancelled),
                },
                has_outlived_limit,
            })));
        }
        self.start_next(&mut effects);
        effects
    }

    /// Somebody wishes a step ended.
    pub(super) fn signal(&mut self, id: StepId, signal: StepSignal, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (reason, is_kill) = match signal {
            StepSignal::Cancel => (Reason::Cancelled, false),
            StepSignal::TimeUp => (Reason::TimeUp, false),
            StepSignal::Kill => (Reason::Cancelled, true),
        };
        if let Some(running) = self.running.get_mut(&id) {
            running.ask_to_end(reason, is_kill, now);
            running.press(now, &mut effects);
        } else if self.withdraw(id) {
            effects.push(ended(id, now.at, never_started(reason)));
        }
        effects
    }

    fn withdraw(&mut self, id: StepId) -> bool {
        let count = self.waiting.len() + self.delayed.len();
        self.waiting.retain(|(step, _)| step.id != id);
        self.delayed.retain(|delayed| delayed.step.id != id);
        self.waiting.len() + self.delayed.len() < count
    }

    /// The executor is to end once nothing runs, and nothing else starts. What runs is asked to end,
    /// unless Slurm has asked it already; that cannot have reached what is not there yet.
    pub(super) fn wind_up(&mut self, is_asked: bool, now: Now) -> Vec<Effect> {
        self.is_winding_up = true;
        let mut effects = self.withdraw_all(now);
        for running in self.running.values_mut() {
            if !is_asked || running.evidence.number.is_none() {
                running.ask_to_end(Reason::Cancelled, false, now);
                running.press(now, &mut effects);
            }
        }
        effects
    }

    /// The executor is being shut down: whatever runs is ended by its keeper, and nothing else starts.
    pub(super) fn close(&mut self, now: Now) -> Vec<Effect> {
        for running in self.running.values_mut() {
            running.stop.get_or_insert(Stop::by_keeper());
        }
        self.withdraw_all(now)
    }

    fn withdraw_all(&mut self, now: Now) -> Vec<Effect> {
        let waiting = self.waiting.drain(..).map(|(step, _)| step.id);
        let delayed = self.delayed.drain(..).map(|delayed| delayed.step.id);
        waiting.chain(delayed).map(|id| ended(id, now.at, Outcome::Cancelled)).collect()
    }

    /// Slurm has told the numbers of all steps that there are, by name.
    pub(super) fn found(&mut self, numbers: &HashMap<String, u32>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, running) in &mut self.running {
            if let Some(stop) = &mut running.stop {
                let number = numbers.get(&id.to_string()).copied();
                running.evidence.number = running.evidence.number.or(number);
                stop.looked_up(number.is_some());
                running.press(now, &mut effects);
            }
        }
        effects
    }

    /// Does what is due.
    pub(super) fn mind_deadlines(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (due, delayed) = self.delayed.drain(..).partition(|one| one.until <= now.instant);
        self.delayed = delayed;
        // They were there before those that wait.
        let due: Vec<Delayed> = due;
        due.into_iter().rev().for_each(|one| self.waiting.push_front((one.step, one.tries)));
        for running in self.running.values_mut() {
            if running.time_is_up_at(self.limit_at).is_some_and(|time| time <= now.instant) {
                running.ask_to_end(Reason::TimeUp, false, now);
            }
            running.press(now, &mut effects);
        }
        self.start_next(&mut effects);
        effects
    }

    /// Whether no step is waiting or running.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.delayed.is_empty()
    }
}

impl Running {
    /// When the step is asked to end: by its own limit, or since Slurm will end all of them.
    fn time_is_up_at(&self, limit_at: Option<Instant>) -> Option<Instant> {
        if self.stop.is_some() {
            return None;
        }
        let limit = self.step.limits.runtime;
        let own = limit.and_then(|limit| self.started_at?.checked_add(limit));
        own.into_iter().chain(self.asked_with_all_at(limit_at)).min()
    }

    fn asked_with_all_at(&self, limit_at: Option<Instant>) -> Option<Instant> {
        limit_at.and_then(|limit| limit.checked_sub(self.step.limits.termination_lead))
    }

    fn deadline(&self, limit_at: Option<Instant>) -> Option<Instant> {
        let by_stop = self.stop.as_ref().and_then(Stop::deadline);
        by_stop.or_else(|| self.time_is_up_at(limit_at))
    }

    fn ask_to_end(&mut self, reason: Reason, is_kill: bool, now: Now) {
        let stop = self.stop.get_or_insert_with(|| Stop::new(reason, now.instant));
        if is_kill {
            stop.hurry(now.instant);
        }
    }

    /// Goes on with stopping the step, if that has been asked for.
    fn press(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(stop) = &mut self.stop else { return };
        let limits = &self.step.limits;
        match stop.next(&self.evidence, limits.termination_lead, now.instant) {
            Some(Act::Ask(number)) => {
                effects.push(Effect::Scancel { number, signal: limits.termination_signal });
            }
            Some(Act::Kill(number)) => {
                effects.push(Effect::Scancel { number, signal: Signal::SIGKILL as i32 });
            }
            Some(Act::LookUp) => effects.push(Effect::LookUp),
            Some(Act::Dismiss) => effects.push(Effect::Dismiss(self.step.id)),
            None => {}
        }
    }

    fn is_to_be_tried_again(&self) -> bool {
        self.stop.is_none() && self.tries < MOST_TRIES && self.evidence.may_be_tried_again()
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(8)).min(LONGEST_PAUSE)
}

fn never_started(reason: Reason) -> Outcome {
    match reason {
        Reason::TimeUp => Outcome::TimedOut { code: None },
        Reason::Cancelled | Reason::OverMemory(_) => Outcome::Cancelled,
    }
}

fn ended(step: StepId, at: Timestamp, outcome: Outcome) -> Effect {
    Effect::Emit(StepEvent::Ended { step, at, outcome, usage: Usage::default() })
}

#[cfg(test)]
mod tests;
