//! Changes of a workflow that somebody wishes for while it is there: its user data, and more jobs.
//!
//! Owns what such a change does to an engine, the same whether the workflow is driven here or only stored. Does not
//! know who wishes for it, or when it becomes durable. Invariant: a change that is refused has changed nothing.

use std::collections::BTreeMap;

use torc_core::diagnostics::Problem;
use torc_core::engine::{Added, Engine, Event, NotAdded, NotSet, Phase, Written};
use torc_core::ids::JobId;
use torc_core::spec::Sources;
use torc_core::time::Timestamp;
use torc_core::wire::{
    AddJobsAnswer, AddJobsRequest, AddedJobsReport, ProblemInText, UserDataReport, UserDataRequest,
};

use crate::handle::RequestError;

/// When a change is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// Whether somebody drives the workflow.
    pub(crate) is_driven: bool,
}

impl Moment {
    /// When it counts in the time of a run: one that nobody drives stands still.
    pub(crate) fn in_run(self, engine: &Engine) -> Timestamp {
        let stands_still = matches!(engine.phase(), Phase::Running | Phase::Stopping);
        if self.is_driven || !stands_still { self.now } else { engine.last_event_at() }
    }
}

/// A change that somebody wishes for.
pub(crate) trait Change: Send + 'static {
    /// What is said about it.
    type Report: Send + 'static;

    /// Makes it. The events are applied; what is said about it holds once they are durable.
    fn make(
        &self,
        engine: &mut Engine,
        at: Moment,
    ) -> Result<(Self::Report, Vec<Event>), RequestError>;
}

impl Change for UserDataRequest {
    type Report = UserDataReport;

    fn make(
        &self,
        engine: &mut Engine,
        at: Moment,
    ) -> Result<(UserDataReport, Vec<Event>), RequestError> {
        let Self { name, value, by } = self;
        let refused = |error: NotSet| RequestError::Refused(error.to_string());
        let set = engine.set_user_data(name, value.clone(), *by, at.now).map_err(refused)?;
        let item = engine.find_user_data(name).map_err(refused)?;
        Ok((engine.user_data_reports().swap_remove(item as usize), vec![set]))
    }
}

impl Change for AddJobsRequest {
    type Report = AddJobsAnswer;

    fn make(
        &self,
        engine: &mut Engine,
        at: Moment,
    ) -> Result<(AddJobsAnswer, Vec<Event>), RequestError> {
        let Self { text, format, sources, by } = self;
        let sources = Sent(sources);
        let (format, by) = (*format, *by);
        let written = Written { text: text.as_bytes(), format, sources: &sources, by };
        let at = at.in_run(engine);
        let answer = match engine.add_jobs(written, at) {
            Ok(added) => return Ok(report(engine, added)),
            Err(NotAdded::Rejected(rejected)) => {
                AddJobsAnswer::Rejected { problems: in_text(rejected.problems) }
            }
            Err(error @ NotAdded::TooLate { .. }) => {
                AddJobsAnswer::TooLate { error: error.to_string() }
            }
            Err(error @ NotAdded::Never { .. }) => {
                AddJobsAnswer::Never { error: error.to_string() }
            }
            Err(error @ (NotAdded::NotDynamic | NotAdded::UnknownJob(_))) => {
                return Err(RequestError::Refused(error.to_string()));
            }
        };
        Ok((answer, Vec::new()))
    }
}

fn report(engine: &Engine, added: Added) -> (AddJobsAnswer, Vec<Event>) {
    let jobs = &engine.workflow().jobs;
    let names = |numbers: Vec<JobId>| {
        numbers.into_iter().map(|job| jobs[job.index()].name.to_string()).collect()
    };
    let report = AddedJobsReport {
        workflow: engine.id(),
        added: names(added.new),
        present: names(added.known),
        iteration: added.iteration,
    };
    let answer = AddJobsAnswer::Added { report, warnings: in_text(added.warnings) };
    (answer, added.event.into_iter().collect())
}

fn in_text(problems: Vec<Problem>) -> Vec<ProblemInText> {
    problems.into_iter().map(ProblemInText::from).collect()
}

/// The files that came with a text.
struct Sent<'r>(&'r BTreeMap<String, Result<Vec<u8>, String>>);

impl Sources for Sent<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).cloned().unwrap_or_else(|| Err("it was not sent along".to_owned()))
    }
}
