//! What a spec says now, made to fit a workflow that has begun.
//!
//! Owns the numbers of jobs over all definitions of a workflow. Does not know which jobs run again. Invariants:
//! a job keeps its number for as long as the workflow is there, whether the spec has it or not; applied to the
//! workflow that it was made for, a revision leads to the same one each time.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, ranges_of};
use crate::ids::JobId;
use crate::workflow::{DanglingReference, Family, Header, Job, Trigger, Workflow};

/// What is different in a workflow from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// All but the jobs, as a whole.
    pub header: Header,
    /// The jobs that are defined otherwise, ascending; those without a number so far follow the others.
    pub jobs: Vec<(JobId, Job)>,
    /// All jobs that the spec does not have any more, as inclusive ranges of job numbers: they are left out.
    pub removed: Vec<(JobId, JobId)>,
}

impl Revision {
    /// From a workflow as it is stored to what its spec says now. Jobs are known again by their names.
    pub fn between(old: &Workflow, spec: &Workflow) -> Self {
        let known: HashMap<&str, JobId> =
            old.jobs.iter().zip(1..).map(|(job, number)| (&*job.name, JobId(number))).collect();
        let mut next = old.jobs.len();
        let mut number = |job: &Job| {
            known.get(&*job.name).copied().unwrap_or_else(|| {
                next += 1;
                JobId::from_index(next - 1)
            })
        };
        let numbers: Vec<JobId> = spec.jobs.iter().map(&mut number).collect();
        let mut is_there = vec![false; old.jobs.len()];
        let mut jobs = Vec::new();
        for (job, number) in spec.jobs.iter().zip(&numbers) {
            let job = renumbered(job, &numbers);
            let before = old.jobs.get(number.index());
            if before.is_some() {
                is_there[number.index()] = true;
            }
            if before != Some(&job) {
                jobs.push((*number, job));
            }
        }
        let gone = is_there.iter().enumerate().filter(|(_, there)| !**there);
        let gone: Vec<JobId> = gone.map(|(index, _)| JobId::from_index(index)).collect();
        for number in &gone {
            let before = &old.jobs[number.index()];
            let at_rest = at_rest(before);
            if *before != at_rest {
                jobs.push((*number, at_rest));
            }
        }
        jobs.sort_by_key(|(number, _)| *number);
        let removed = ranges_of(gone.into_iter());
        Self { header: header(&spec.header, &numbers), jobs, removed }
    }

    /// The workflow with it.
    ///
    /// # Errors
    /// When it is for another workflow: something would lead nowhere.
    pub fn applied_to(&self, old: &Workflow) -> Result<Workflow, DanglingReference> {
        let mut jobs = old.jobs.clone();
        for (number, job) in &self.jobs {
            match number.0.checked_sub(1).map(|index| index as usize) {
                Some(index) if index < jobs.len() => jobs[index] = job.clone(),
                Some(index) if index == jobs.len() => jobs.push(job.clone()),
                _ => return Err(DanglingReference::Gap(*number)),
            }
        }
        let workflow = Workflow { header: self.header.clone(), jobs };
        workflow.check_references()?;
        Ok(workflow)
    }

    /// Whether it leaves a workflow as it is.
    pub fn is_nothing_for(&self, engine: &Engine) -> bool {
        let jobs = (0..engine.workflow().jobs.len()).map(JobId::from_index);
        let is_removed = self.is_removed();
        self.jobs.is_empty()
            && self.header == engine.workflow().header
            && jobs.into_iter().all(|job| is_removed(job) == engine.is_removed(job))
    }

    /// Whether a job is one that the spec does not have any more.
    pub fn is_removed(&self) -> impl Fn(JobId) -> bool {
        |job| {
            let after = self.removed.partition_point(|(first, _)| *first <= job);
            after.checked_sub(1).is_some_and(|range| job <= self.removed[range].1)
        }
    }
}

fn renumbered(job: &Job, numbers: &[JobId]) -> Job {
    let mut depends_on = renumbered_jobs(&job.depends_on, numbers);
    depends_on.sort_unstable();
    Job { depends_on, ..job.clone() }
}

fn renumbered_jobs(jobs: &[JobId], numbers: &[JobId]) -> Box<[JobId]> {
    jobs.iter().map(|job| numbers[job.index()]).collect()
}

/// A job that the spec does not have any more refers to nothing that the spec may not have either, and wants
/// no nodes.
fn at_rest(job: &Job) -> Job {
    let (requirements, failure_handler, scheduler, data) = (0, None, None, None);
    Job { requirements, failure_handler, scheduler, data, labels: None, ..job.clone() }
}

fn header(spec: &Header, numbers: &[JobId]) -> Header {
    let mut header = spec.clone();
    for action in &mut header.actions {
        if let Trigger::OnJobsReady(jobs) | Trigger::OnJobsComplete(jobs) = &mut action.trigger {
            *jobs = renumbered_jobs(jobs, numbers);
        }
    }
    header.families = spec.families.iter().flat_map(|family| parts(family, numbers)).collect();
    header.families.sort_by_key(|family| family.first);
    for (job, _) in &mut header.growth.written {
        *job = numbers[job.index()];
    }
    header.growth.written.sort_by_key(|(job, _)| *job);
    header
}

/// A family whose jobs do not follow one another any more, in parts of which that is true.
fn parts(family: &Family, numbers: &[JobId]) -> Vec<Family> {
    let first = family.first.index();
    let mut members = numbers[first..first + family.jobs as usize].to_vec();
    members.sort_unstable();
    let part = |(first, last): (JobId, JobId)| Family {
        name: family.name.clone(),
        first,
        jobs: last.0 - first.0 + 1,
    };
    ranges_of(members.into_iter()).into_iter().map(part).collect()
}
