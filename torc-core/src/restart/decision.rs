//! The decision itself.

use crate::engine::{Dependents, Engine, JobStatus, Phase, ranges_of};
use crate::ids::JobId;
use crate::workflow::Workflow;

use super::changes::Comparison;
use super::evidence::Evidence;
use super::reason::Reason;
use super::revision::Revision;

/// What whoever restarts a workflow wishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// What its spec says now, and the workflow that this comes to; `None`: it stays as it is.
    pub revision: Option<(&'a Revision, &'a Workflow)>,
    /// All jobs run again.
    pub all: bool,
}

/// What a restart does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The run that was interrupted goes on; else a new one begins.
    pub goes_on: bool,
    /// The jobs that run again, or for the first time, ascending.
    pub jobs: Vec<Again>,
    /// Jobs that have not ended and are canceled as the run begins: they depend on what is left out.
    pub barred: Vec<JobId>,
    /// Jobs that have completed and stay so.
    pub kept: u32,
}

/// A job that runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// Which.
    pub job: JobId,
    /// Why; at least one reason.
    pub reasons: Vec<Reason>,
}

impl Plan {
    /// The jobs that a new run begins with, as inclusive ranges of job numbers.
    pub fn reset(&self) -> Vec<(JobId, JobId)> {
        let again = self.jobs.iter().map(|again| again.job);
        let mut jobs: Vec<JobId> = again.chain(self.barred.iter().copied()).collect();
        jobs.sort_unstable();
        ranges_of(jobs.into_iter())
    }

    /// Whether nothing is left to be done.
    pub fn is_empty(&self) -> bool {
        !self.goes_on && self.jobs.is_empty()
    }
}

/// Which jobs run again when a workflow that nobody drives is restarted.
pub fn decide(engine: &Engine, wish: Wish<'_>, evidence: &Evidence) -> Plan {
    let workflow = wish.revision.map_or(&**engine.workflow(), |(_, workflow)| workflow);
    let stage = Stage::new(engine, workflow, wish.revision.map(|(revision, _)| revision));
    let is_under_way = matches!(engine.phase(), Phase::Running | Phase::Stopping);
    let plan = stage.new_run(wish, evidence);
    let has_completed = |again: &Again| stage.status(again.job) == JobStatus::Completed;
    let begins_anew = wish.all || plan.jobs.iter().any(has_completed) || stage.is_redefined;
    if is_under_way && !begins_anew { stage.going_on(plan.kept) } else { plan }
}

/// A workflow between two runs, as it is defined from now on.
struct Stage<'a> {
    engine: &'a Engine,
    workflow: &'a Workflow,
    /// At the index of the job: it is left out.
    is_out: Vec<bool>,
    /// It would be canceled at once, since it depends on what is left out.
    is_barred: Vec<bool>,
    is_redefined: bool,
    dependents: Dependents,
}

impl<'a> Stage<'a> {
    fn new(engine: &'a Engine, workflow: &'a Workflow, revision: Option<&Revision>) -> Self {
        let begun = engine.workflow().jobs.len();
        let is_out = (0..workflow.jobs.len()).map(JobId::from_index).map(|job| match revision {
            Some(revision) if revision.is_removed()(job) => true,
            Some(_) if engine.is_removed(job) => false,
            _ => job.index() < begun && engine.status(job) == JobStatus::Disabled,
        });
        let is_out: Vec<bool> = is_out.collect();
        let dependents = Dependents::of(&workflow.jobs);
        let mut is_barred = vec![false; is_out.len()];
        let mut open: Vec<JobId> =
            (0..is_out.len()).filter(|index| is_out[*index]).map(JobId::from_index).collect();
        while let Some(job) = open.pop() {
            for dependent in dependents.get(job) {
                let index = dependent.index();
                let bars = workflow.jobs[index].cancel_on_blocking_job_failure;
                if bars && !is_out[index] && !std::mem::replace(&mut is_barred[index], true) {
                    open.push(*dependent);
                }
            }
        }
        let is_redefined = revision.is_some_and(|revision| !revision.is_nothing_for(engine));
        Self { engine, workflow, is_out, is_barred, is_redefined, dependents }
    }

    fn jobs(&self) -> impl Iterator<Item = JobId> + use<> {
        (0..self.workflow.jobs.len()).map(JobId::from_index)
    }

    fn status(&self, job: JobId) -> JobStatus {
        if job.index() < self.engine.workflow().jobs.len() {
            self.engine.status(job)
        } else {
            JobStatus::Uninitialized
        }
    }

    fn new_run(&self, wish: Wish<'_>, evidence: &Evidence) -> Plan {
        let comparison =
            wish.revision.map(|(_, workflow)| Comparison::of(self.engine.workflow(), workflow));
        let mut reasons: Vec<Vec<Reason>> = self
            .jobs()
            .map(|job| match self.may_run(job) {
                true => self.reasons(job, comparison.as_ref(), wish.all, evidence),
                false => Vec::new(),
            })
            .collect();
        self.follow(&mut reasons);
        let is_barred = |job: &JobId| {
            self.is_barred[job.index()]
                && !self.is_out[job.index()]
                && !self.status(*job).has_ended()
        };
        let barred = self.jobs().filter(is_barred).collect();
        let is_kept = |job: &JobId| {
            self.status(*job) == JobStatus::Completed
                && reasons[job.index()].is_empty()
                && !self.is_out[job.index()]
        };
        let kept = u32::try_from(self.jobs().filter(is_kept).count()).unwrap_or(u32::MAX);
        let again = self.jobs().zip(reasons).filter(|(_, reasons)| !reasons.is_empty());
        let jobs = again.map(|(job, reasons)| Again { job, reasons }).collect();
        Plan { goes_on: false, jobs, barred, kept }
    }

    fn may_run(&self, job: JobId) -> bool {
        !self.is_out[job.index()] && !self.is_barred[job.index()]
    }

    /// Why a job runs again, as far as that does not follow from others.
    fn reasons(
        &self,
        job: JobId,
        comparison: Option<&Comparison<'_>>,
        all: bool,
        evidence: &Evidence,
    ) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = self.ended_badly(job).into_iter().collect();
        if job.index() < self.engine.workflow().jobs.len()
            && self.status(job) != JobStatus::Uninitialized
            && !self.engine.is_removed(job)
        {
            reasons.extend(comparison.into_iter().flat_map(|between| between.changes(job)));
        }
        if self.status(job) == JobStatus::Completed {
            let changed = self.engine.user_data_changed_since(job).into_iter();
            let changed = changed.map(|name| Reason::UserDataChanged { name: name.to_owned() });
            let new = changed.filter(|reason| !reasons.contains(reason)).collect::<Vec<_>>();
            reasons.extend(new);
        }
        reasons.extend(evidence.of(job).iter().cloned());
        if reasons.is_empty() && all {
            reasons.push(Reason::All);
        }
        reasons
    }

    fn ended_badly(&self, job: JobId) -> Option<Reason> {
        Some(match self.status(job) {
            JobStatus::Completed => return None,
            JobStatus::Failed => Reason::Failed,
            JobStatus::Terminated => Reason::Terminated,
            JobStatus::Canceled => Reason::Canceled,
            JobStatus::Uninitialized | JobStatus::Disabled => Reason::NeverRan,
            JobStatus::Blocked
            | JobStatus::Ready
            | JobStatus::Pending
            | JobStatus::Running
            | JobStatus::PendingFailed => Reason::Unfinished,
        })
    }

    /// All that depends on what runs again runs again.
    fn follow(&self, reasons: &mut [Vec<Reason>]) {
        let mut open: Vec<JobId> =
            self.jobs().filter(|job| !reasons[job.index()].is_empty()).collect();
        while let Some(job) = open.pop() {
            for dependent in self.dependents.get(job) {
                let found = &mut reasons[dependent.index()];
                if found.is_empty() && self.may_run(*dependent) {
                    found.push(Reason::After { job: String::new() });
                    open.push(*dependent);
                }
            }
        }
        // Named once all are known, so that it is the first of several whichever way they were found.
        for job in self.jobs() {
            let mut upstream = self.workflow.jobs[job.index()].depends_on.iter();
            let follows = match reasons[job.index()].as_slice() {
                [Reason::After { .. } | Reason::Canceled | Reason::NeverRan] => {
                    upstream.find(|other| !reasons[other.index()].is_empty())
                }
                _ => None,
            };
            let Some(other) = follows else { continue };
            let after = Reason::After { job: self.workflow.jobs[other.index()].name.to_string() };
            let found = &mut reasons[job.index()];
            found.retain(|reason| !matches!(reason, Reason::After { .. }));
            found.push(after);
        }
    }

    /// The interrupted run goes on with what had not ended.
    fn going_on(&self, kept: u32) -> Plan {
        let left = self.jobs().filter(|job| !self.status(*job).has_ended());
        let again = |job| Again { job, reasons: vec![Reason::Unfinished] };
        Plan { goes_on: true, jobs: left.map(again).collect(), barred: Vec::new(), kept }
    }
}
