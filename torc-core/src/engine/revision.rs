//! A workflow that is defined anew between two runs.
//!
//! Owns what of the engine follows from the definition alone, and is made anew with it. Does not know how a
//! revision comes about. Invariant: jobs keep their numbers, and with them all that happened to them.

use std::sync::Arc;

use crate::ids::JobId;
use crate::placer::WholeNodePlacer;
use crate::restart::Revision;

use super::status::{Change, JobStatus};
use super::{Engine, JobState, Phase, Refused, WaitingCount, actions, clearance};
use super::{classes, graph};

impl Engine {
    /// Whether a job is left out since the spec does not have it any more.
    pub fn is_removed(&self, job: JobId) -> bool {
        self.jobs.get(job.index()).is_some_and(|state| state.is_removed)
    }

    /// Between two runs, when nobody has nodes.
    pub(super) fn redefine(&mut self, revision: &Revision) -> Result<(), Refused> {
        let is_between = !matches!(self.phase, Phase::Running | Phase::Stopping);
        if !is_between || !self.running.is_empty() || self.live_allocations().next().is_some() {
            return Err(self.wrong_phase());
        }
        let workflow = revision.applied_to(&self.workflow)?;
        let added = workflow.jobs.len() - self.jobs.len();
        self.jobs.resize(workflow.jobs.len(), JobState::default());
        self.counts.0[JobStatus::Uninitialized as usize] += u32::try_from(added).unwrap_or(0);
        self.user_data = self.user_data_in(&workflow.header);
        self.workflow = Arc::new(workflow);
        self.follow_definition();
        let is_removed = revision.is_removed();
        for index in 0..self.jobs.len() {
            let job = JobId::from_index(index);
            let removed = is_removed(job);
            let was_removed = std::mem::replace(&mut self.jobs[index].is_removed, removed);
            match (was_removed, removed, self.status(job)) {
                (true, false, JobStatus::Disabled) => self.change(job, Change::Enabled)?,
                (_, true, status) if status != JobStatus::Disabled => {
                    self.change(job, Change::Disabled)?;
                }
                _ => {}
            }
        }
        self.inform_placer_anew();
        Ok(())
    }

    /// Makes anew what is made of the definition, with every job as it stands.
    fn follow_definition(&mut self) {
        let workflow = self.workflow.clone();
        self.dependents = graph::Dependents::of(&workflow.jobs);
        self.classes = classes::Classes::of(&workflow);
        let classes = self.classes.requests().len();
        self.paces = vec![clearance::ClassPace::default(); classes];
        self.changed_paces.clear();
        self.waiting = vec![WaitingCount::default(); classes];
        for (index, state) in self.jobs.iter().enumerate() {
            let class = self.classes.of_job(JobId::from_index(index));
            if let Some(count) = self.waiting[class.0 as usize].of(state.status) {
                *count += 1;
            }
        }
        self.idleness.redefine(&self.waiting);
        self.actions = vec![actions::ActionBook::default(); workflow.header.actions.len()];
        // Whoever drives the next run gives it the placer that the definition names.
        self.guest = None;
        self.placer = Box::new(WholeNodePlacer::of(&workflow.header));
        self.deltas.clear();
    }
}
