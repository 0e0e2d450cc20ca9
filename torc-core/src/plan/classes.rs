//! Classes of jobs that are alike for planning.

use std::collections::HashMap;

use crate::resources::Request;
use crate::workflow::Workflow;

/// The classes of a workflow.
pub(super) struct Classes {
    /// What the jobs of each class ask for, labels and pin included.
    pub(super) requests: Vec<Request>,
    /// The scheduler that each class is pinned to.
    pub(super) pins: Vec<Option<u32>>,
    /// By job.
    pub(super) of_job: Vec<u32>,
}

impl Classes {
    pub(super) fn of(workflow: &Workflow) -> Self {
        let mut known = HashMap::new();
        let (mut requests, mut pins) = (Vec::new(), Vec::new());
        let of_job = workflow
            .jobs
            .iter()
            .map(|job| {
                let key = (job.requirements, job.priority, job.scheduler, job.labels.as_deref());
                *known.entry(key).or_insert_with(|| {
                    requests.push(workflow.request(job));
                    pins.push(job.scheduler);
                    u32::try_from(requests.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect();
        Self { requests, pins, of_job }
    }
}
