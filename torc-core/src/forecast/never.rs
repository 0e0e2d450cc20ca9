//! Which jobs did not run, and why.
//!
//! Owns: the choice of the one reason that is told. Invariant: a job that could not run on any of the
//! declared nodes is told so with numbers, also when it waits for another.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::model::{NeverRan, WhyNever};
use crate::engine::{Engine, JobStatus};
use crate::ids::JobId;
use crate::placer::feasibility;
use crate::resources::{Allocation, Request};
use crate::time::Timestamp;
use crate::traits::NeverReason;

/// What jobs have in common that did not run for the same reason.
#[derive(PartialEq, Eq, Hash)]
enum Group<'e> {
    Never(&'e Request),
    LeftOver(&'e Request),
    WaitsFor(JobId),
}

/// The jobs that have not run, after all. `offers`: the allocations that there could be, at the time
/// zero.
pub(super) fn never_ran(engine: &Engine, offers: &[Allocation]) -> Vec<NeverRan> {
    let refusals: HashMap<&Request, NeverReason> = engine
        .unfinished_classes()
        .filter_map(|(request, _, _)| {
            let refusal = feasibility(request, offers, Timestamp::default()).err()?;
            Some((request, refusal))
        })
        .collect();
    let mut roots = Roots { engine, refusals: &refusals, known: HashMap::new() };
    let mut groups: IndexMap<Group<'_>, (JobId, usize)> = IndexMap::new();
    let jobs = (0..engine.workflow().jobs.len()).map(JobId::from_index);
    for job in jobs.filter(|job| engine.status(*job) != JobStatus::Completed) {
        let request = engine.request_of(job);
        let group = if refusals.contains_key(request) {
            Group::Never(request)
        } else if engine.status(job) == JobStatus::Blocked {
            Group::WaitsFor(roots.of(job))
        } else {
            Group::LeftOver(request)
        };
        groups.entry(group).or_insert((job, 0)).1 += 1;
    }
    let name = |job: JobId| -> Arc<str> { engine.workflow().jobs[job.index()].name.clone() };
    let found = groups.into_iter().map(|(group, (job, jobs))| {
        let reason = match group {
            Group::Never(request) => WhyNever::Never(refusals[request].clone()),
            Group::LeftOver(_) => WhyNever::LeftOver,
            Group::WaitsFor(root) => WhyNever::WaitsFor { job: name(root) },
        };
        NeverRan { jobs, example: name(job), reason }
    });
    found.collect()
}

/// From a job that waits for others to one that did not run for a reason of its own.
struct Roots<'e> {
    engine: &'e Engine,
    refusals: &'e HashMap<&'e Request, NeverReason>,
    known: HashMap<JobId, JobId>,
}

impl Roots<'_> {
    fn of(&mut self, job: JobId) -> JobId {
        let engine = self.engine;
        let mut way = Vec::new();
        let mut at = job;
        let root = loop {
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            let waits = engine.status(at) == JobStatus::Blocked
                && (at == job || !self.refusals.contains_key(engine.request_of(at)));
            let mut before = engine.workflow().jobs[at.index()].depends_on.iter();
            let open = before.find(|before| engine.status(**before) != JobStatus::Completed);
            match open.filter(|_| waits) {
                Some(open) => {
                    way.push(at);
                    at = *open;
                }
                None => break at,
            }
        };
        self.known.extend(way.into_iter().map(|job| (job, root)));
        root
    }
}
