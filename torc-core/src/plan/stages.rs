//! Jobs that one kind of allocation serves, asked for at one moment.
//!
//! Owns: which jobs are together. Jobs of one kind (site, labels, nodes) are in one stage as long as
//! no job of another kind has to run in between. Does not know: how many allocations a stage gets.
//! Invariant: stages depend on each other without a cycle, and no two jobs that wait for each
//! other's nodes wait for ever: what a stage is asked for by are jobs that nothing in it precedes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::classes::Classes;
use super::sites::{Fate, Origin, Sites, bare};
use crate::ids::JobId;
use crate::workflow::{Job, Trigger, Workflow};

/// A stage before it is decided what to ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    /// Index into the sites.
    pub(super) site: usize,
    /// Labels of its workers.
    pub(super) labels: Arc<[Box<str>]>,
    /// The nodes of its widest job.
    pub(super) width: u32,
    /// Its jobs by index, ascending.
    pub(super) jobs: Vec<u32>,
    /// The stages, by index, whose jobs its jobs depend on. Ascending, all before it. Empty until it
    /// is noted.
    pub(super) after: Vec<usize>,
}

/// What jobs must have in common to share a stage.
#[derive(PartialEq, Eq, Hash)]
enum Kind<'c> {
    /// A planned scheduler: the same site, labels and nodes.
    Planned(usize, &'c [Box<str>], u32),
    /// A scheduler of the spec, whatever they need.
    Given(u32),
}

/// The stages of a workflow, in an order in which they can start.
pub(super) fn drafts(workflow: &Workflow, classes: &Classes, sites: &Sites) -> Vec<Draft> {
    let kind_of_class = kinds(classes, sites);
    let kinds: Vec<Option<u32>> =
        classes.of_job.iter().map(|class| kind_of_class[*class as usize]).collect();
    let ranks = ranks(&workflow.jobs, &kinds);
    let mut found: HashMap<(u32, u32), usize> = HashMap::new();
    let mut drafts: Vec<(u32, Draft)> = Vec::new();
    for (index, kind) in (0_u32..).zip(&kinds) {
        let Some(kind) = kind else { continue };
        let class = classes.of_job[index as usize] as usize;
        let Fate::Runs(site) = sites.fates[class] else { continue };
        let request = &classes.requests[class];
        let rank = ranks[index as usize];
        let draft = *found.entry((rank, *kind)).or_insert_with(|| {
            let labels = request.labels.clone();
            let draft = Draft { site, labels, width: 1, jobs: Vec::new(), after: Vec::new() };
            drafts.push((rank, draft));
            drafts.len() - 1
        });
        let draft = &mut drafts[draft].1;
        draft.jobs.push(index);
        draft.width = draft.width.max(request.nodes);
    }
    drafts.sort_by_key(|(rank, _)| *rank);
    let mut drafts: Vec<Draft> = drafts.into_iter().map(|(_, draft)| draft).collect();
    for draft in &mut drafts {
        draft.site = common_site(draft, classes, sites);
    }
    drafts
}

/// The kind of each class; `None` for one that is not planned.
fn kinds(classes: &Classes, sites: &Sites) -> Vec<Option<u32>> {
    let mut known = HashMap::new();
    let number = |(class, fate): (usize, &Fate)| {
        let Fate::Runs(site) = *fate else { return None };
        let request = &classes.requests[class];
        let kind = match sites.all[site].origin {
            Origin::Planned => Kind::Planned(site, &request.labels, request.nodes),
            Origin::Given(scheduler) => Kind::Given(scheduler),
        };
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        Some(*known.entry(kind).or_insert(next))
    };
    sites.fates.iter().enumerate().map(number).collect()
}

/// How often the kind changes on the way to each job, at most.
fn ranks(jobs: &[Job], kinds: &[Option<u32>]) -> Vec<u32> {
    let mut dependents: Vec<Vec<u32>> = vec![Vec::new(); jobs.len()];
    let mut waits: Vec<usize> = jobs.iter().map(|job| job.depends_on.len()).collect();
    for (index, job) in (0_u32..).zip(jobs) {
        for before in &job.depends_on {
            dependents[before.index()].push(index);
        }
    }
    let mut ranks = vec![0; jobs.len()];
    let mut ready: Vec<usize> = (0..jobs.len()).filter(|index| waits[*index] == 0).collect();
    while let Some(index) = ready.pop() {
        for dependent in std::mem::take(&mut dependents[index]) {
            let dependent = dependent as usize;
            let step = u32::from(kinds[dependent] != kinds[index]);
            ranks[dependent] = ranks[dependent].max(ranks[index] + step);
            waits[dependent] -= 1;
            if waits[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    ranks
}

/// The site on which all jobs of a stage fit: a scheduler of the spec may have several kinds of node.
fn common_site(draft: &Draft, classes: &Classes, sites: &Sites) -> usize {
    let origin = sites.all[draft.site].origin;
    if origin == Origin::Planned {
        return draft.site;
    }
    let needed: HashSet<u32> = draft.jobs.iter().map(|job| classes.of_job[*job as usize]).collect();
    let fitting = |site: &usize| {
        let fits = |class: &&u32| sites.all[*site].fits(&bare(&classes.requests[**class as usize]));
        needed.iter().filter(fits).count()
    };
    let same = (0..sites.all.len()).filter(|site| sites.all[*site].origin == origin);
    // Of those on which most fit, the first.
    same.rev().max_by_key(fitting).unwrap_or(draft.site)
}

/// Notes for each stage the stages that it comes after.
pub(super) fn note_order<'d>(drafts: impl IntoIterator<Item = &'d mut Draft>, jobs: &[Job]) {
    let mut drafts: Vec<&mut Draft> = drafts.into_iter().collect();
    let mut stage_of = vec![None; jobs.len()];
    for (stage, draft) in drafts.iter().enumerate() {
        for job in &draft.jobs {
            stage_of[*job as usize] = Some(stage);
        }
    }
    for (index, draft) in drafts.iter_mut().enumerate() {
        let before = draft.jobs.iter().flat_map(|job| &jobs[*job as usize].depends_on);
        let stages = before.filter_map(|job| stage_of[job.index()]);
        draft.after = stages.filter(|stage| *stage != index).collect();
        draft.after.sort_unstable();
        draft.after.dedup();
    }
}

/// When the allocations of a stage are asked for: when all jobs are ready that nothing in the stage
/// precedes; at the start, if these depend on nothing.
pub(super) fn trigger(draft: &Draft, jobs: &[Job]) -> Trigger {
    let inside: HashSet<u32> = draft.jobs.iter().copied().collect();
    let is_inside = |job: &JobId| u32::try_from(job.index()).is_ok_and(|job| inside.contains(&job));
    let entries = draft.jobs.iter().map(|job| *job as usize);
    let entries = entries.filter(|job| !jobs[*job].depends_on.iter().any(is_inside));
    let entries: Vec<usize> = entries.collect();
    if entries.iter().all(|job| jobs[*job].depends_on.is_empty()) {
        return Trigger::OnWorkflowStart;
    }
    Trigger::OnJobsReady(entries.into_iter().map(JobId::from_index).collect())
}
