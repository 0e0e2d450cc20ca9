//! Classes of jobs that are alike for planning.

use std::collections::HashMap;
use std::sync::Arc;

use crate::resources::Request;
use crate::workflow::{Job, Workflow};

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
                    requests.push(request(workflow, job));
                    pins.push(job.scheduler);
                    u32::try_from(requests.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect();
        Self { requests, pins, of_job }
    }
}

fn request(workflow: &Workflow, job: &Job) -> Request {
    let header = &workflow.header;
    let needs = &header.requirements[job.requirements as usize];
    Request {
        priority: job.priority,
        scheduler: job.scheduler.map(|index| header.schedulers[index as usize].name.clone()),
        labels: job.labels.clone().unwrap_or_else(|| Arc::from([])),
        cpus: needs.cpus,
        memory: needs.memory,
        gpus: needs.gpus,
        nodes: needs.nodes,
        ntasks_per_node: needs.ntasks_per_node,
        runtime: needs.runtime,
    }
}
