//! Leaving jobs of a workflow out, and taking them in again, by their names.
//!
//! Owns what whoever wishes it is told. Does not know whether somebody drives the workflow. Invariant: what is
//! refused has changed nothing.

use serde::{Deserialize, Serialize};
use torc_core::engine::{Engine, Event, Immovable, Refused};
use torc_core::wire::{DisableReport, EnableReport, NamedJobs};

use crate::change::{Change, Moment};
use crate::driver::find_jobs;
use crate::handle::RequestError;

/// Leaves jobs out. Refused when there is no such job, or it runs or has completed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Disable(pub(crate) NamedJobs);

impl Change for Disable {
    type Report = DisableReport;

    fn make(
        &self,
        engine: &mut Engine,
        at: Moment,
    ) -> Result<(DisableReport, Vec<Event>), RequestError> {
        let jobs = find_jobs(engine, &self.0.jobs)?;
        let event = engine.disabling(at.in_run(engine), &jobs)?;
        let follows = engine.follows_disabling(&jobs);
        let disabled = event.as_ref().map_or(0, count);
        let events: Vec<Event> = event.into_iter().collect();
        apply(engine, &events)?;
        let (canceled, run_without) = (follows.canceled, follows.run_without);
        Ok((DisableReport { disabled, canceled, run_without }, events))
    }
}

/// Takes jobs in again. Refused when there is no such job, or another one runs without it.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Enable(pub(crate) NamedJobs);

impl Change for Enable {
    type Report = EnableReport;

    fn make(
        &self,
        engine: &mut Engine,
        at: Moment,
    ) -> Result<(EnableReport, Vec<Event>), RequestError> {
        let jobs = find_jobs(engine, &self.0.jobs)?;
        let events = engine.enabling(at.in_run(engine), &jobs)?;
        apply(engine, &events)?;
        let mut counts = events.iter().map(count);
        let report = EnableReport {
            enabled: counts.next().unwrap_or(0),
            put_back: counts.next().unwrap_or(0),
            waits_for_restart: !engine.can_resume(),
        };
        Ok((report, events))
    }
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
