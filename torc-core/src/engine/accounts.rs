//! What the scheduler's accounting says of launches, some time after they have ended.
//!
//! Owns whose launches are accounted for, and what is kept of the answer. Does not know how the
//! accounting is asked. No decision depends on its figures: they may come late, or never.

use std::collections::BTreeMap;

use crate::ids::{AllocationId, AttemptId, NodeId, StepId};
use crate::resources::Allocation;
use crate::time::Timestamp;
use crate::traits::{AllocationHandle, StepAccount};

use super::{AllocationBook, Engine, Refused};

impl Engine {
    /// The scheduler's name for the allocation of a step that holds nodes now, if the step will be in
    /// the scheduler's accounting.
    pub fn accountable(&self, step: StepId) -> Option<&AllocationHandle> {
        let placement = self.running.get(&step.job)?;
        let latest = self.jobs[step.job.index()].launches;
        if self.step_id(step.job, AttemptId(latest)) != step {
            return None;
        }
        self.accounted_as(placement.allocation)
    }

    /// The launches that have ended since then and that the accounting has said nothing about yet,
    /// each with the scheduler's name for its allocation and when it ended.
    pub fn unaccounted(
        &self,
        since: Timestamp,
    ) -> impl Iterator<Item = (&AllocationHandle, StepId, Timestamp)> {
        let mut handles: BTreeMap<NodeId, &AllocationHandle> = BTreeMap::new();
        for AllocationBook { allocation: Allocation { id, nodes, .. }, .. } in
            self.allocation_books()
        {
            let Some(handle) = self.accounted_as(*id) else { continue };
            handles.extend(nodes.iter().map(|(node, _)| (*node, handle)));
        }
        self.attempts.iter().filter_map(move |attempt| {
            let end = attempt.end.as_ref()?;
            if end.at < since || end.scheduler_state.is_some() {
                return None;
            }
            let handle = handles.get(attempt.nodes.first()?)?;
            let (job, run, attempt) = (attempt.job, attempt.run, attempt.attempt);
            Some((*handle, StepId { workflow: self.id, job, run, attempt }, end.at))
        })
    }

    /// Only what Slurm itself launches as steps is in its accounting.
    fn accounted_as(&self, allocation: AllocationId) -> Option<&AllocationHandle> {
        let book = self.allocations.get(&allocation)?;
        book.handle().filter(|_| self.is_in_slurm(allocation))
    }

    pub(super) fn account(&mut self, step: StepId, account: &StepAccount) -> Result<(), Refused> {
        let StepId { job, run, attempt, .. } = step;
        let latest = self.jobs[self.known(job)?.index()].latest_attempt as usize;
        let found = self.attempts[..latest]
            .iter_mut()
            .rev()
            .find(|found| (found.job, found.run, found.attempt) == (job, run, attempt));
        let end = found.and_then(|found| found.end.as_mut());
        let end = end.ok_or(Refused::StaleAttempt { job, attempt })?;
        // Who looks seldom sees less, so the larger figure is nearer to the truth.
        end.usage.cpu_ms = end.usage.cpu_ms.max(account.usage.cpu_ms);
        end.usage.peak_memory = end.usage.peak_memory.max(account.usage.peak_memory);
        end.scheduler_state.clone_from(&account.state);
        Ok(())
    }
}
