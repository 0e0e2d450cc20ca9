//! Who depends on whom, the other way round: from a job to the jobs that wait for it.

use crate::ids::JobId;
use crate::workflow::Job;

/// The dependents of every job, in one flat list.
#[derive(Debug)]
pub(crate) struct Dependents {
    /// The dependents of job J are `flat[starts[J - 1]..starts[J]]`.
    starts: Vec<u32>,
    flat: Vec<JobId>,
}

impl Dependents {
    pub(crate) fn of(jobs: &[Job]) -> Self {
        let mut starts = vec![0u32; jobs.len() + 1];
        for dependency in jobs.iter().flat_map(|job| &job.depends_on) {
            starts[dependency.index() + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut next = starts.clone();
        let mut flat = vec![JobId(0); starts.last().map_or(0, |end| *end as usize)];
        for (index, job) in jobs.iter().enumerate() {
            for dependency in &job.depends_on {
                let slot = &mut next[dependency.index()];
                flat[*slot as usize] = JobId::from_index(index);
                *slot += 1;
            }
        }
        Self { starts, flat }
    }

    /// The jobs that name this one as a dependency, ascending.
    pub(crate) fn get(&self, job: JobId) -> &[JobId] {
        let index = job.index();
        &self.flat[self.starts[index] as usize..self.starts[index + 1] as usize]
    }
}
