//! Classes of jobs that are alike for placement, so that work per decision grows with classes and
//! not with jobs.

use std::collections::HashMap;

use crate::ids::{ClassId, JobId};
use crate::resources::Request;
use crate::workflow::Workflow;

/// The classes of a workflow.
#[derive(Debug)]
pub(super) struct Classes {
    requests: Vec<Request>,
    of_job: Vec<ClassId>,
    /// The jobs of class C, ascending, are `members[starts[C]..starts[C + 1]]`.
    members: Vec<JobId>,
    starts: Vec<u32>,
}

impl Classes {
    pub(super) fn of(workflow: &Workflow) -> Self {
        let mut known: HashMap<Request, ClassId> = HashMap::new();
        let mut requests = Vec::new();
        let of_job: Vec<ClassId> = workflow
            .jobs
            .iter()
            .map(|job| {
                let request = workflow.request(job);
                *known.entry(request).or_insert_with_key(|request| {
                    requests.push(request.clone());
                    ClassId(u32::try_from(requests.len() - 1).unwrap_or(u32::MAX))
                })
            })
            .collect();
        let (members, starts) = members(&of_job, requests.len());
        Self { requests, of_job, members, starts }
    }

    pub(super) fn members(&self, class: ClassId) -> &[JobId] {
        let class = class.0 as usize;
        &self.members[self.starts[class] as usize..self.starts[class + 1] as usize]
    }

    /// How many jobs each class has.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u32> {
        self.starts.windows(2).map(|bounds| bounds[1] - bounds[0])
    }

    pub(super) fn of_job(&self, job: JobId) -> ClassId {
        self.of_job[job.index()]
    }

    pub(super) fn request(&self, class: ClassId) -> &Request {
        &self.requests[class.0 as usize]
    }

    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }
}

/// Jobs sorted by class, and where each class begins.
fn members(of_job: &[ClassId], classes: usize) -> (Vec<JobId>, Vec<u32>) {
    let mut members: Vec<JobId> = (0..of_job.len()).map(JobId::from_index).collect();
    members.sort_by_key(|job| of_job[job.index()]);
    let mut starts = vec![0u32; classes + 1];
    for class in of_job {
        starts[class.0 as usize + 1] += 1;
    }
    for class in 0..classes {
        starts[class + 1] += starts[class];
    }
    (members, starts)
}
