//! The shape of the graph of jobs: its levels, and its longest chain.
//!
//! Knows no nodes. Of several longest chains, the one is told whose last job has the lowest number,
//! and so on from there to its first.

use std::sync::Arc;
use std::time::Duration;

use super::model::{CriticalPath, Level};
use crate::engine::Dependents;
use crate::ids::JobId;
use crate::workflow::{Job, Workflow};

/// Where a job stands in the graph.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    level: usize,
    /// When it ends at the earliest.
    ends: Duration,
    /// The one of those it depends on that ends last.
    after: Option<JobId>,
}

/// The levels and the longest chain. `runtimes`: how long each job takes.
pub(super) fn shape(workflow: &Workflow, runtimes: &[Duration]) -> (Vec<Level>, CriticalPath) {
    let jobs = &workflow.jobs;
    let places = places(jobs, runtimes);
    let depth = places.iter().map(|place| place.level + 1).max().unwrap_or(0);
    let mut levels = vec![Level::default(); depth];
    for ((job, place), runtime) in jobs.iter().zip(&places).zip(runtimes) {
        let needs = &workflow.header.requirements[job.requirements as usize];
        let level = &mut levels[place.level];
        level.jobs += 1;
        level.widest = level.widest.max(needs.nodes);
        level.longest = level.longest.max(*runtime);
        let cpus = u64::from(needs.cpus).saturating_mul(needs.nodes.into());
        let runtime = u64::try_from(runtime.as_millis()).unwrap_or(u64::MAX);
        level.cpu_ms = level.cpu_ms.saturating_add(cpus.saturating_mul(runtime));
    }
    (levels, longest_chain(jobs, &places))
}

fn longest_chain(jobs: &[Job], places: &[Place]) -> CriticalPath {
    let mut last: Option<usize> = None;
    for (index, place) in places.iter().enumerate() {
        if last.is_none_or(|last| place.ends > places[last].ends) {
            last = Some(index);
        }
    }
    let Some(last) = last else { return CriticalPath::default() };
    let mut chain = vec![last];
    let mut first = last;
    while let Some(before) = places[first].after {
        first = before.index();
        chain.push(first);
    }
    let names: Vec<Arc<str>> = chain.iter().rev().map(|index| jobs[*index].name.clone()).collect();
    CriticalPath { length: places[last].ends, jobs: names }
}

/// By job. The graph has no cycle: a workflow is checked.
fn places(jobs: &[Job], runtimes: &[Duration]) -> Vec<Place> {
    let dependents = Dependents::of(jobs);
    let mut waits: Vec<usize> = jobs.iter().map(|job| job.depends_on.len()).collect();
    let mut places = vec![Place::default(); jobs.len()];
    let mut ready: Vec<usize> = (0..jobs.len()).filter(|index| waits[*index] == 0).collect();
    while let Some(index) = ready.pop() {
        for before in &jobs[index].depends_on {
            let (found, place) = (places[before.index()], &mut places[index]);
            place.level = place.level.max(found.level + 1);
            // Ascending, so of equal ones the first stays.
            if place.after.is_none() || found.ends > place.ends {
                (place.after, place.ends) = (Some(*before), found.ends);
            }
        }
        places[index].ends = places[index].ends.saturating_add(runtimes[index]);
        for dependent in dependents.get(JobId::from_index(index)) {
            waits[dependent.index()] -= 1;
            if waits[dependent.index()] == 0 {
                ready.push(dependent.index());
            }
        }
    }
    places
}
