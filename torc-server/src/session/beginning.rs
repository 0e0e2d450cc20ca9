//! The events with which a run of this process begins or goes on.
//!
//! Owns their order. Does not know what launches steps. Invariant: whatever was under way in the store has ended
//! before a new run begins.

use torc_core::engine::{Engine, Event, JobStatus, Phase};
use torc_core::ids::{AttemptId, JobId};
use torc_core::resources::Allocation;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationEnd, Outcome, StepState, Usage};

use super::{Begun, RunError};
use crate::clock::now;
use crate::restarting::Restart;

/// Begins a run, or goes on with one. `states`: what became of the steps that were under way, in their order.
/// `restart`: a new run as it was decided; `None`: the interrupted one goes on, else what is unfinished runs. The
/// events are applied.
pub(super) fn begin(
    engine: &mut Engine,
    restart: Option<&Restart>,
    states: Vec<StepState>,
    allocation: Allocation,
) -> Result<(Vec<Event>, Begun), RunError> {
    let lost = engine.cleared_jobs().len();
    let mut log = Log { engine, events: Vec::new() };
    let lost = lost + log.leave(states)?;
    let at = now();
    // A run whose time was up has ended, though not all of its jobs have: what it terminated runs
    // again, too.
    let is_interrupted = matches!(log.engine.phase(), Phase::Running | Phase::Stopping);
    let is_resumed = is_interrupted && restart.is_none();
    match restart {
        Some(restart) => log.begin_anew(restart, at)?,
        None if is_resumed => log.add(Event::RunResumed { at })?,
        None => {
            let reset = log.engine.unfinished_jobs();
            if reset.is_empty() && log.engine.run().is_some() {
                return Err(RunError::NothingLeft(log.engine.id()));
            }
            log.add(log.engine.next_run(at, reset))?;
        }
    }
    log.add(Event::AllocationGranted { at, began_at: None, allocation })?;
    let Log { engine, events } = log;
    let begun = Begun {
        is_resumed,
        completed: engine.counts().of(JobStatus::Completed),
        again: restart.map_or(0, |restart| restart.completed_again),
        lost: u32::try_from(lost).unwrap_or(u32::MAX),
    };
    Ok((events, begun))
}

/// Brings an engine to where a new run would be that was decided, as far as that can be known beforehand.
pub(super) fn rehearse(engine: &mut Engine, restart: &Restart) -> Result<(), RunError> {
    let states = engine.running().map(|_| StepState::Unknown).collect();
    let mut log = Log { engine, events: Vec::new() };
    log.leave(states)?;
    log.begin_anew(restart, now())
}

/// What happens, as it is applied.
struct Log<'a> {
    engine: &'a mut Engine,
    events: Vec<Event>,
}

impl Log<'_> {
    fn add(&mut self, event: Event) -> Result<(), RunError> {
        self.engine.apply(&event).map_err(|refused| RunError::Internal(refused.to_string()))?;
        self.events.push(event);
        Ok(())
    }

    /// What was under way when torc died has ended, and its nodes are gone. How many steps that were.
    fn leave(&mut self, states: Vec<StepState>) -> Result<usize, RunError> {
        // Nobody saw when the last torc ended; it was after the last thing that is known.
        let ended_at = self.engine.last_event_at();
        let under_way: Vec<_> = self.engine.running().collect();
        let ends = under_way
            .iter()
            .zip(states)
            .filter_map(|((job, attempt), state)| end_of(*job, *attempt, state, ended_at));
        let ends: Vec<Event> = ends.collect();
        let lost = ends.len();
        let gone = self.engine.live_allocations().map(|allocation| Event::AllocationEnded {
            at: ended_at,
            allocation: allocation.id,
            cause: AllocationEnd::Unknown,
            reason: "torc ended".to_owned(),
        });
        let gone: Vec<Event> = gone.collect();
        for event in ends.into_iter().chain(gone) {
            self.add(event)?;
        }
        Ok(lost)
    }

    /// The run that was interrupted is over, and the one begins that was decided.
    fn begin_anew(&mut self, restart: &Restart, at: Timestamp) -> Result<(), RunError> {
        let ended_at = self.engine.last_event_at();
        if self.engine.phase() == Phase::Stopping {
            self.add(Event::RunResumed { at: ended_at })?;
        }
        if self.engine.phase() == Phase::Running {
            let jobs = self.engine.workflow().jobs.len();
            let complete = self.engine.counts().ended() as usize == jobs;
            self.add(Event::RunEnded { at: ended_at, complete })?;
        }
        for event in restart.events(self.engine, at) {
            self.add(event)?;
        }
        Ok(())
    }
}

/// What became of a step that was under way when torc died; `None`: it still runs.
fn end_of(job: JobId, attempt: AttemptId, state: StepState, last_seen: Timestamp) -> Option<Event> {
    let (at, outcome, usage) = match state {
        StepState::Running => return None,
        StepState::Ended { at, outcome, usage } => (at, outcome, usage),
        StepState::Unknown => (last_seen, Outcome::Lost, Usage::default()),
    };
    Some(Event::StepEnded { job, attempt, at, outcome, usage })
}
