//! Leaving jobs of a workflow out, and taking them in again, by their names.
//!
//! Owns what whoever wishes it is told. Does not know whether somebody drives the workflow. Invariant: what is
//! refused has changed nothing.

use torc_core::engine::{Engine, Event, Immovable, Refused};
use torc_core::time::Timestamp;
use torc_core::wire::{DisableReport, EnableReport, NamedJobs};

use crate::driver::find_jobs;
use crate::handle::RequestError;

/// Leaves jobs out. The events are applied, and are to be made durable.
///
/// # Errors
/// When there is no such job, or it runs or has completed.
pub(crate) fn disable(
    engine: &mut Engine,
    request: &NamedJobs,
    at: Timestamp,
) -> Result<(Vec<Event>, DisableReport), RequestError> {
    let jobs = find_jobs(engine, &request.jobs)?;
    let event = engine.disabling(at, &jobs)?;
    let follows = engine.follows_disabling(&jobs);
    let disabled = event.as_ref().map_or(0, count);
    let events: Vec<Event> = event.into_iter().collect();
    apply(engine, &events)?;
    let (canceled, run_without) = (follows.canceled, follows.run_without);
    Ok((events, DisableReport { disabled, canceled, run_without }))
}

/// Takes jobs in again. The events are applied, and are to be made durable.
///
/// # Errors
/// When there is no such job, or another one runs without it.
pub(crate) fn enable(
    engine: &mut Engine,
    request: &NamedJobs,
    at: Timestamp,
) -> Result<(Vec<Event>, EnableReport), RequestError> {
    let jobs = find_jobs(engine, &request.jobs)?;
    let events = engine.enabling(at, &jobs)?;
    apply(engine, &events)?;
    let mut counts = events.iter().map(count);
    let report = EnableReport {
        enabled: counts.next().unwrap_or(0),
        put_back: counts.next().unwrap_or(0),
        waits_for_restart: !engine.can_resume(),
    };
    Ok((events, report))
}

fn apply(engine: &mut Engine, events: &[Event]) -> Result<(), Refused> {
    events.iter().try_for_each(|event| engine.apply(event).map(drop))
}

fn count(event: &Event) -> u32 {
    let (Event::JobsDisabled { jobs, .. }
    | Event::JobsEnabled { jobs, .. }
    | Event::JobsPutBack { jobs, .. }) = event
    else {
        return 0;
    };
    jobs.iter().map(|(first, last)| last.0 - first.0 + 1).sum()
}

impl From<Immovable> for RequestError {
    fn from(immovable: Immovable) -> Self {
        Self::Refused(immovable.to_string())
    }
}

impl From<Refused> for RequestError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.to_string())
    }
}
