//! A workflow as it can be looked at, live or read from the store.

use std::collections::BTreeMap;

use torc_core::engine::{Attempt, Engine, Sight};
use torc_core::ids::{AllocationId, JobId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationState, PlannedStart};
use torc_core::wire::{
    AllocationReport, AttemptReport, FileReport, JobReport, UserDataReport, WorkflowReport,
};

/// A look at a workflow at one moment.
pub struct View<'a> {
    /// The workflow.
    pub engine: &'a Engine,
    /// The promises that hold.
    pub planned: &'a [PlannedStart],
    /// The moment.
    pub now: Timestamp,
    /// Whether a process runs it.
    pub is_live: bool,
    /// Where torc keeps its files, absolute.
    pub output_dir: &'a str,
    /// Where the workflow was submitted, absolute.
    pub submission_dir: &'a str,
    /// What the scheduler said last of each allocation.
    pub observed: &'a BTreeMap<AllocationId, AllocationState>,
    /// Why requests for allocations have not been submitted.
    pub held_back: &'a BTreeMap<AllocationId, String>,
}

/// Nothing that a scheduler said, for a workflow that nobody runs.
pub(crate) static NOTHING_OBSERVED: BTreeMap<AllocationId, AllocationState> = BTreeMap::new();
/// No request that waits, likewise.
pub(crate) static NOTHING_HELD_BACK: BTreeMap<AllocationId, String> = BTreeMap::new();

impl View<'_> {
    /// The workflow as a whole.
    pub fn workflow(&self) -> WorkflowReport {
        self.engine.workflow_report(self.now, self.is_live, self.planned)
    }

    /// Its allocations, from the wish for each to its end.
    pub fn allocations(&self) -> Vec<AllocationReport> {
        let sight = Sight {
            now: self.now,
            is_live: self.is_live,
            observed: self.observed,
            held_back: self.held_back,
            planned: self.planned,
        };
        self.engine.allocation_reports(sight)
    }

    /// Its files. Whether they are there was not looked at: that takes as long as a file system does.
    pub fn files(&self) -> Vec<FileReport> {
        let mut files = self.engine.file_reports();
        for file in &mut files {
            let location = std::path::Path::new(self.submission_dir).join(&file.path);
            file.location = location.to_string_lossy().into_owned();
        }
        files
    }

    /// Its user data with its present values.
    pub fn user_data(&self) -> Vec<UserDataReport> {
        self.engine.user_data_reports()
    }

    /// Its jobs in expansion order, or the one with this name.
    pub fn jobs(&self, name: Option<&str>) -> Vec<JobReport> {
        let jobs = &self.engine.workflow().jobs;
        let mut causes = self.engine.causes(self.now);
        (0..jobs.len())
            .filter(|index| name.is_none_or(|name| *jobs[*index].name == *name))
            .map(JobId::from_index)
            .map(|job| self.engine.job_report(job, &mut causes, self.output_dir))
            .collect()
    }

    /// Its attempts of all runs from the given position on, in the order of their dispatch, or the
    /// one with this name.
    pub fn attempts(&self, since: usize, step: Option<&str>) -> Vec<AttemptReport> {
        let step = step.map(str::parse::<StepId>);
        let is_wanted = |attempt: &&Attempt| match &step {
            None => true,
            Some(Ok(step)) => {
                step.workflow == self.engine.id()
                    && (step.job, step.run, step.attempt)
                        == (attempt.job, attempt.run, attempt.attempt)
            }
            Some(Err(_)) => false,
        };
        let attempts = self.engine.attempts();
        attempts[since.min(attempts.len())..]
            .iter()
            .filter(is_wanted)
            .map(|attempt| self.engine.attempt_report(attempt, self.now, self.output_dir))
            .collect()
    }
}
