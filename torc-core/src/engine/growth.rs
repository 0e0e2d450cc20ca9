//! Jobs that are added to a workflow while it is there.
//!
//! Owns whether they may be, and what of the engine's state grows by them. Does not know how they were written: that
//! is read by [`spec::add`]. Invariant: jobs, classes and nodes keep their numbers, and a workflow that
//! has grown is run as if it had been so from the beginning.

use std::collections::HashSet;

use crate::addition::{self, Addition};
use crate::diagnostics::Problem;
use crate::ids::{ClassId, JobId};
use crate::placer::feasibility;
use crate::resources::{Allocation, Request};
use crate::spec::{self, Format, Ground, Rejected, Sources};
use crate::time::Timestamp;
use crate::traits::{Delta, NeverReason};
use crate::workflow::Workflow;

use super::classes::Classes;
use super::clearance::ClassPace;
use super::status::Change;
use super::{Dependents, Engine, Event, JobState, JobStatus, Phase, Refused, WaitingCount};

/// Jobs as somebody wrote them.
#[derive(Clone, Copy)]
pub struct Written<'w> {
    /// The fragment of a spec.
    pub text: &'w [u8],
    /// How it is written; `None`: each way is tried.
    pub format: Option<Format>,
    /// Asked for the files that it names.
    pub sources: &'w dyn Sources,
    /// The job that adds them; `None`: somebody else.
    pub by: Option<JobId>,
}

/// What became of a wish to add jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// What happened, already applied; `None`: all of the jobs are there already.
    pub event: Option<Event>,
    /// The jobs that were added.
    pub new: Vec<JobId>,
    /// Those that were there already.
    pub known: Vec<JobId>,
    /// In which iteration the new ones were added.
    pub iteration: u32,
    /// What is legal in the text, but probably not meant or not done.
    pub warnings: Vec<Problem>,
}

/// Jobs are not added; nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotAdded {
    /// The workflow does not allow it.
    #[error(
        "no jobs can be added to this workflow: its spec does not allow it; \
         write `dynamic_jobs: {{max_iterations: 3}}` into the spec"
    )]
    NotDynamic,
    /// They would be added in too late an iteration.
    #[error(
        "these jobs would be added in iteration {iteration}, and `dynamic_jobs` of the spec allows {most}; \
         add them from an earlier job, or raise `max_iterations`"
    )]
    TooLate {
        /// The iteration.
        iteration: u32,
        /// The spec's bound.
        most: u32,
    },
    /// There is no such job that could add others.
    #[error("the workflow has no job {0}")]
    UnknownJob(JobId),
    /// One of them can never run on the nodes that are there.
    #[error("job `{job}` can never run here: {reason}")]
    Never {
        /// The job.
        job: String,
        /// Why.
        reason: Box<NeverReason>,
    },
    /// The text has problems.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl Engine {
    /// Adds jobs to the workflow. The event is applied.
    ///
    /// # Errors
    /// When they cannot be added; nothing has changed then.
    pub fn add_jobs(&mut self, written: Written<'_>, at: Timestamp) -> Result<Added, NotAdded> {
        let most = self.workflow.header.max_dynamic_iterations.ok_or(NotAdded::NotDynamic)?;
        if let Some(job) = written.by {
            self.known(job).map_err(|_| NotAdded::UnknownJob(job))?;
        }
        let before = self.jobs.len();
        let fragment = spec::add(
            written.text,
            written.format,
            written.sources,
            &Ground {
                workflow: &self.workflow,
                by: written.by,
                has_begun: &|job| self.has_begun(job),
                has_fired: &|action| self.firings(action).next().is_some(),
            },
        )?;
        let (addition, warnings) = (fragment.addition, fragment.warnings);
        let iteration = addition.iteration;
        let (known, new): (Vec<JobId>, Vec<JobId>) =
            fragment.jobs.into_iter().partition(|job| job.index() < before);
        let event = if new.is_empty() {
            None
        } else {
            if iteration > most {
                return Err(NotAdded::TooLate { iteration, most });
            }
            self.check_nodes(&addition, at)?;
            let event = Event::JobsAdded { at, addition: Box::new(addition) };
            // What was made for this very workflow fits it.
            self.apply(&event).map_err(|_| NotAdded::NotDynamic)?;
            Some(event)
        };
        Ok(Added { event, new, known, iteration, warnings })
    }

    /// Where nodes are simply there, and no others come, each of the new jobs must be able to run on them.
    fn check_nodes(&self, addition: &Addition, now: Timestamp) -> Result<(), NotAdded> {
        let given = |book: &&super::AllocationBook| book.is_live() && book.request.is_none();
        let nodes: Vec<Allocation> =
            self.allocations.values().filter(given).map(|book| book.allocation.clone()).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let mut header = self.workflow.header.clone();
        header.requirements.extend_from_slice(&addition.requirements);
        let grown = Workflow { header, jobs: Vec::new() };
        let mut asked: HashSet<Request> = HashSet::new();
        for job in &addition.jobs {
            let request = grown.request(job);
            if asked.contains(&request) {
                continue;
            }
            if let Err(reason) = feasibility(&request, &nodes, now) {
                let job = job.name.to_string();
                return Err(NotAdded::Never { job, reason: Box::new(reason) });
            }
            asked.insert(request);
        }
        Ok(())
    }

    /// The jobs of an addition are there from now on.
    pub(super) fn grow(&mut self, addition: &Addition) -> Result<(), Refused> {
        let before = self.jobs.len();
        let relinked = || addition.relinked.iter().map(|one| one.job);
        if relinked().any(|job| job.index() >= self.jobs.len() || self.has_begun(job)) {
            return Err(Refused::Unfit);
        }
        addition::grown(&mut self.workflow, addition).map_err(|_| Refused::Unfit)?;
        self.dependents = Dependents::of(&self.workflow.jobs);
        self.grow_classes();
        self.jobs.resize(self.workflow.jobs.len(), JobState::default());
        let new: Vec<JobId> = addition.numbers(before).collect();
        self.counts.add_uninitialized(new.len());
        for job in &new {
            let class = self.classes.of_job(*job);
            let waiting = &mut self.waiting[class.0 as usize];
            waiting.blocked += 1;
            self.idleness.note(class, *waiting);
        }
        self.recount_actions();
        match self.phase {
            Phase::Running | Phase::Stopping => self.settle_grown(&new, relinked().collect()),
            Phase::Ended { .. } => {
                self.phase = Phase::Ended { complete: false };
                Ok(())
            }
            Phase::New => Ok(()),
        }
    }

    fn grow_classes(&mut self) {
        let known = self.classes.requests().len();
        self.classes = Classes::of(&self.workflow);
        let new = self.classes.requests().iter().zip(0u32..).skip(known);
        self.deltas.extend(new.map(|(request, class)| Delta::ClassAdded {
            class: ClassId(class),
            request: request.clone(),
        }));
        let classes = self.classes.requests().len();
        self.paces.resize(classes, ClassPace::default());
        self.waiting.resize(classes, WaitingCount::default());
        self.idleness.grow(classes);
    }

    /// Whether a job cannot wait for others any more.
    fn has_begun(&self, job: JobId) -> bool {
        let status = self.status(job);
        status.holds_nodes() || status == JobStatus::Completed || self.is_recovering(job)
    }

    /// In a run, new jobs wait or are ready at once, and those that were there wait for them, too.
    fn settle_grown(&mut self, new: &[JobId], mut affected: Vec<JobId>) -> Result<(), Refused> {
        affected.retain(|job| matches!(self.status(*job), JobStatus::Blocked | JobStatus::Ready));
        affected.extend_from_slice(new);
        for job in &affected {
            self.change(*job, Change::Reset)?;
        }
        self.settle_reset(&affected)
    }
}

impl super::StatusCounts {
    fn add_uninitialized(&mut self, jobs: usize) {
        let count = &mut self.0[JobStatus::Uninitialized as usize];
        *count = count.saturating_add(u32::try_from(jobs).unwrap_or(u32::MAX));
    }
}
