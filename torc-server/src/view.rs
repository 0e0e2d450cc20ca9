//! A workflow as it can be looked at, live or read from the store.

use torc_core::engine::Engine;
use torc_core::ids::JobId;
use torc_core::time::Timestamp;
use torc_core::traits::PlannedStart;
use torc_core::wire::{AttemptReport, JobReport, WorkflowReport};

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
}

impl View<'_> {
    /// The workflow as a whole.
    pub fn workflow(&self) -> WorkflowReport {
        self.engine.workflow_report(self.now, self.is_live, self.planned)
    }

    /// Its jobs, in expansion order.
    pub fn jobs(&self) -> Vec<JobReport> {
        (0..self.engine.workflow().jobs.len())
            .map(JobId::from_index)
            .map(|job| self.engine.job_report(job, self.now, self.output_dir))
            .collect()
    }

    /// Its attempts of all runs from the given position on, in the order of their dispatch.
    pub fn attempts(&self, since: usize) -> Vec<AttemptReport> {
        let attempts = self.engine.attempts();
        attempts[since.min(attempts.len())..]
            .iter()
            .map(|attempt| self.engine.attempt_report(attempt, self.now, self.output_dir))
            .collect()
    }
}
