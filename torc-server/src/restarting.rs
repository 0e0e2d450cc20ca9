//! What a restart of a workflow that nobody drives comes to.
//!
//! Owns the way from a wish, over what lies on disk, to the events that the next run begins with. The decision is
//! the core's. Invariant: until those events are stored, nothing has changed.

use torc_core::engine::{Engine, Event, JobStatus};
use torc_core::ids::{JobId, RunId};
use torc_core::restart::{Again, Checklist, Evidence, Plan, Reason, Revision, Wish, decide};
use torc_core::time::Timestamp;
use torc_core::wire::{RestartPlanReport, RestartRequest, RestartedJob};
use torc_core::workflow::Workflow;

use crate::disk::Disk;
use crate::handle::RequestError;
use crate::view::View;

/// A restart that was decided.
pub(crate) struct Restart {
    pub(crate) plan: Plan,
    /// Jobs that have completed and run again all the same.
    pub(crate) completed_again: u32,
    /// What is defined otherwise, and the workflow that this comes to.
    revision: Option<(Revision, Workflow)>,
}

impl Restart {
    /// Decides which jobs run again. Looks at their files, beside everything else.
    ///
    /// # Errors
    /// When jobs were added to the workflow, of which a spec does not know; when the spec cannot be made to fit
    /// the workflow, which is an error in torc.
    pub(crate) async fn decide(
        engine: Engine,
        request: RestartRequest,
        submission_dir: &str,
    ) -> Result<(Engine, Self), RequestError> {
        let all = request.all;
        let (revision, list) = prepare(&engine, request)?;
        let mut disk = Disk::at(submission_dir);
        let looked = tokio::task::spawn_blocking(move || list.evidence(&mut disk)).await;
        let evidence: Evidence = looked.map_err(|error| RequestError::Store(error.to_string()))?;
        let defined = revision.as_ref().map(|(revision, workflow)| (revision, workflow));
        let plan = decide(&engine, Wish { revision: defined, all }, &evidence);
        let begun = engine.workflow().jobs.len();
        let has_completed =
            |job: JobId| job.index() < begun && engine.status(job) == JobStatus::Completed;
        let again = plan.jobs.iter().filter(|again| has_completed(again.job)).count();
        let completed_again = u32::try_from(again).unwrap_or(u32::MAX);
        Ok((engine, Self { plan, completed_again, revision }))
    }

    /// The events that the next run begins with.
    pub(crate) fn events(&self, engine: &Engine, at: Timestamp) -> Vec<Event> {
        let redefined = self
            .revision
            .as_ref()
            .map(|(revision, _)| Event::Redefined { at, revision: Box::new(revision.clone()) });
        redefined.into_iter().chain([engine.next_run(at, self.plan.reset())]).collect()
    }

    /// How many jobs run again.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.plan.jobs.len()).unwrap_or(u32::MAX)
    }

    /// What would be done.
    pub(crate) fn report(&self, engine: &Engine) -> RestartPlanReport {
        let workflow =
            self.revision.as_ref().map_or(&**engine.workflow(), |(_, workflow)| workflow);
        let name = |job: &JobId| workflow.jobs[job.index()].name.to_string();
        let begun = engine.workflow().jobs.len();
        let status = |job: JobId| match job.index() < begun {
            true => engine.status(job),
            false => JobStatus::Uninitialized,
        };
        let run = engine.run().map_or(0, |run| run.0);
        let removed = self.revision.iter().flat_map(|(revision, _)| &revision.removed);
        let removed = removed.flat_map(|(first, last)| first.0..=last.0).map(JobId);
        RestartPlanReport {
            workflow: engine.id(),
            run: RunId(if self.plan.goes_on { run } else { run + 1 }),
            goes_on: self.plan.goes_on,
            jobs: (self.plan.jobs.iter())
                .map(|Again { job, reasons }| RestartedJob {
                    id: *job,
                    name: name(job),
                    status: status(*job),
                    reasons: reasons.clone(),
                })
                .collect(),
            kept: self.plan.kept,
            barred: self.plan.barred.iter().map(name).collect(),
            removed: removed
                .filter(|job| status(*job) != JobStatus::Disabled)
                .map(|job| name(&job))
                .collect(),
        }
    }
}

/// What is defined otherwise, and which files are to be looked at.
fn prepare(
    engine: &Engine,
    request: RestartRequest,
) -> Result<(Option<(Revision, Workflow)>, Checklist), RequestError> {
    if let (Some(_), Some(added)) = (&request.spec, engine.workflow().header.growth.added.first()) {
        let job = &engine.workflow().jobs[added.first.index()].name;
        return Err(RequestError::Refused(format!(
            "jobs were added to the workflow while it ran, `{job}` first, and no spec has them; restart it \
             without --spec, or start the spec anew"
        )));
    }
    let revision = request.spec.map(|spec| Revision::between(engine.workflow(), &spec));
    let Some(revision) = revision.filter(|revision| !revision.is_nothing_for(engine)) else {
        return Ok((None, Checklist::of(engine, engine.workflow())));
    };
    let workflow = revision
        .applied_to(engine.workflow())
        .map_err(|error| RequestError::Store(error.to_string()))?;
    let list = Checklist::of(engine, &workflow);
    Ok((Some((revision, workflow)), list))
}

/// What would be put back into a run that is under way; `None`: none is.
pub(crate) fn live_report(view: &View<'_>) -> Option<RestartPlanReport> {
    let engine = view.engine;
    if !view.is_live || engine.phase() != torc_core::engine::Phase::Running {
        return None;
    }
    let ranges = engine.jobs_to_put_back();
    let jobs = ranges.iter().flat_map(|(first, last)| first.0..=last.0).map(JobId);
    let jobs = jobs.map(|job| RestartedJob {
        id: job,
        name: engine.workflow().jobs[job.index()].name.to_string(),
        status: engine.status(job),
        reasons: vec![match engine.status(job) {
            JobStatus::Failed => Reason::Failed,
            JobStatus::Terminated => Reason::Terminated,
            JobStatus::Canceled => Reason::Canceled,
            _ => Reason::Unfinished,
        }],
    });
    Some(RestartPlanReport {
        workflow: engine.id(),
        run: engine.run().unwrap_or(RunId(1)),
        goes_on: true,
        jobs: jobs.collect(),
        kept: engine.counts().of(JobStatus::Completed),
        barred: Vec::new(),
        removed: Vec::new(),
    })
}
