//! From a workflow and partitions to a plan, step by step.
//!
//! Owns: the order of the steps, and what of them becomes part of the plan. The steps themselves are
//! in the modules beside it.

use std::time::Duration;

use super::choose::{Choice, Question};
use super::classes::Classes;
use super::fold::{Decided, Folding};
use super::model::{NeverJobs, PartitionShape, Plan, PlanError, PlanOptions, Stage, Totals};
use super::settings::{Names, Request};
use super::sites::{Cluster, Fate, Origin, Sites};
use super::stages::{self, Draft};
use super::words::{self, Reason};
use super::{split, work};
use crate::ids::JobId;
use crate::resources::START_UP_GRACE;
use crate::workflow::{SchedulerSettings, Workflow};

/// How often a stage is cut in two, at most.
const MOST_CUTS: u32 = 3;

/// A stage that works this part of its node-hours is not cut.
const BUSY_ENOUGH: f64 = 0.8;

/// A stage that uses this part of what it asks for is not cut.
const USED_ENOUGH: f64 = 0.5;

/// The part of the node-hours that may be left after a cut that is worth another wait in the queue.
const WORTH_A_CUT: f64 = 0.85;

pub(super) struct Planner<'p> {
    workflow: &'p Workflow,
    partitions: &'p [PartitionShape],
    options: &'p PlanOptions,
    classes: Classes,
    sites: Sites,
    reserve: Duration,
}

impl<'p> Planner<'p> {
    pub(super) fn new(
        workflow: &'p Workflow,
        partitions: &'p [PartitionShape],
        options: &'p PlanOptions,
    ) -> Result<Self, PlanError> {
        let classes = Classes::of(workflow);
        let sites = Cluster { partitions, options, header: &workflow.header }.assign(&classes)?;
        let execution = &workflow.header.execution;
        let margin = execution.stop_margin(execution.mode.may_have_sruns());
        let reserve = START_UP_GRACE.saturating_add(margin);
        Ok(Self { workflow, partitions, options, classes, sites, reserve })
    }

    pub(super) fn plan(&self) -> Result<Plan, PlanError> {
        let drafts = stages::drafts(self.workflow, &self.classes, &self.sites);
        let mut decided = Vec::with_capacity(drafts.len());
        for draft in drafts {
            self.decide(draft, MOST_CUTS, &mut decided);
        }
        let drafts = decided.iter_mut().map(|stage: &mut Decided| &mut stage.draft);
        stages::note_order(drafts, &self.workflow.jobs);
        let folding = Folding {
            workflow: self.workflow,
            classes: &self.classes,
            sites: &self.sites,
            reserve: self.reserve,
        };
        let decided = folding.fold(decided);
        let needs_account =
            decided.iter().any(|stage| self.sites.all[stage.draft.site].origin == Origin::Planned);
        let has_default = self.options.slurm_defaults.contains_key("account");
        if needs_account && self.options.account.is_none() && !has_default {
            return Err(PlanError::NoAccount);
        }
        let mut names = Names::of(&self.workflow.header.schedulers);
        let stages: Vec<Stage> =
            decided.into_iter().filter_map(|stage| self.stage(stage, &mut names)).collect();
        let (never, notes) = (self.never(), self.notes(&stages));
        Ok(Plan { totals: totals_of(&stages), stages, never, notes })
    }

    /// Decides a stage, in parts where that is better.
    fn decide(&self, draft: Draft, cuts_left: u32, decided: &mut Vec<Decided>) {
        let whole = self.decide_whole(draft, cuts_left > 0);
        let Some(is_later) = &whole.cut else {
            decided.push(whole);
            return;
        };
        let part = |later: bool| {
            let jobs = whole.draft.jobs.iter().zip(is_later);
            let jobs = jobs.filter(|(_, is_later)| **is_later == later).map(|(job, _)| *job);
            Draft { jobs: jobs.collect(), ..whole.draft.clone() }
        };
        let mut parts = Vec::new();
        self.decide(part(false), cuts_left - 1, &mut parts);
        self.decide(part(true), cuts_left - 1, &mut parts);
        // What is asked for counts, too: the queue waits for that much room.
        let hours = |stage: &Decided| {
            stage.chosen().map_or(0.0, |layout| layout.node_hours + layout.node_hours_at_most)
        };
        let is_worth_it = parts.iter().map(hours).sum::<f64>() <= WORTH_A_CUT * hours(&whole);
        if is_worth_it {
            decided.append(&mut parts);
        } else {
            decided.push(whole);
        }
    }

    fn decide_whole(&self, draft: Draft, may_be_cut: bool) -> Decided {
        let site = &self.sites.all[draft.site];
        let (work, sums) = work::work(self.workflow, &self.classes, &draft.jobs, &site.node);
        let question = Question {
            work: &work,
            sums,
            site,
            width: draft.width,
            strategy: self.options.strategy,
            max_nodes: self.options.max_nodes,
            reserve: self.reserve,
        };
        let choice = question.choose();
        let mut decided = Decided { choice, draft, sums, cut: None, folded_jobs: 0 };
        let idles = decided.chosen().is_some_and(|layout| {
            let used = layout.node_hours / layout.node_hours_at_most;
            layout.utilisation < BUSY_ENOUGH || used < USED_ENOUGH && sums.unknown == 0
        });
        if may_be_cut && idles && site.origin == Origin::Planned {
            decided.cut = split::cut(&work, &site.node);
        }
        decided
    }

    fn stage(&self, decided: Decided, names: &mut Names) -> Option<Stage> {
        let Decided { draft, sums, choice, folded_jobs, .. } = decided;
        let site = &self.sites.all[draft.site];
        let bound = self.options.max_nodes.unwrap_or(site.node.count).min(site.node.count);
        let reason = Reason {
            choice: &choice,
            strategy: self.options.strategy,
            jobs: sums.jobs,
            folded_jobs,
            nodes_in_partition: site.node.count,
            is_all: bound < draft.width.saturating_mul(2),
        };
        let reason = reason.to_string();
        let Choice { one, many, many_is_chosen } = choice;
        let (chosen, other) = if many_is_chosen { (many?, one) } else { (one?, many) };
        let partition = site.partition.map(|index| self.partitions[index].name.clone());
        let (scheduler, is_given) = match site.origin {
            Origin::Given(index) => (self.workflow.header.schedulers[index as usize].clone(), true),
            Origin::Planned => {
                let request = Request {
                    node: &site.node,
                    partition: site.partition.map(|index| &self.partitions[index]),
                    draft: &draft,
                    layout: &chosen,
                    needs_gpus: self.needs_gpus(&draft),
                };
                let (name, settings) = (names.next(), request.settings(self.options));
                (SchedulerSettings { name, kind: "slurm".into(), settings }, false)
            }
        };
        const FEW: usize = 3;
        let job = |index: &u32| JobId::from_index(*index as usize);
        let name = |index: &u32| self.workflow.jobs[*index as usize].name.clone();
        Some(Stage {
            scheduler,
            is_given,
            partition,
            trigger: stages::trigger(&draft, &self.workflow.jobs),
            examples: draft.jobs.iter().take(FEW).map(name).collect(),
            jobs: draft.jobs.iter().map(job).collect(),
            after: draft.after,
            chosen,
            other,
            reason,
            unknown_runtimes: sums.unknown,
        })
    }

    fn needs_gpus(&self, draft: &Draft) -> bool {
        let class = |job: &u32| &self.classes.requests[self.classes.of_job[*job as usize] as usize];
        draft.jobs.iter().any(|job| class(job).gpus > 0)
    }

    fn never(&self) -> Vec<NeverJobs> {
        let mut found: Vec<Option<NeverJobs>> = vec![None; self.sites.fates.len()];
        for (index, class) in self.classes.of_job.iter().enumerate() {
            let class = *class as usize;
            if let Fate::Never(reason) = &self.sites.fates[class] {
                let never = found[class].get_or_insert_with(|| NeverJobs {
                    jobs: Vec::new(),
                    example: self.workflow.jobs[index].name.clone(),
                    reason: reason.clone(),
                });
                never.jobs.push(JobId::from_index(index));
            }
        }
        found.into_iter().flatten().collect()
    }

    fn notes(&self, stages: &[Stage]) -> Vec<String> {
        let mut notes = Vec::new();
        for stage in stages.iter().filter(|stage| stage.unknown_runtimes > 0) {
            let (name, count) = (&stage.scheduler.name, stage.unknown_runtimes);
            notes
                .push(format!("{name}: {}", words::unknown_runtimes(count, stage.chosen.walltime)));
        }
        for stage in stages.iter().filter(|stage| stage.partition.is_none()) {
            notes.push(words::unknown_partition(&stage.scheduler.name));
        }
        let foreign = |class: &&u32| self.sites.fates[**class as usize] == Fate::Foreign;
        match self.classes.of_job.iter().filter(foreign).count() {
            0 => {}
            count => notes.push(words::foreign(count)),
        }
        notes
    }
}

fn totals_of(stages: &[Stage]) -> Totals {
    let mut totals = Totals::default();
    let mut ends: Vec<Duration> = Vec::with_capacity(stages.len());
    for stage in stages {
        let start = stage.after.iter().filter_map(|before| ends.get(*before)).max();
        let end = start.copied().unwrap_or_default().saturating_add(stage.chosen.makespan);
        ends.push(end);
        totals.makespan = totals.makespan.max(end);
        totals.node_hours += stage.chosen.node_hours;
        totals.node_hours_at_most += stage.chosen.node_hours_at_most;
        totals.num_allocations =
            totals.num_allocations.saturating_add(stage.chosen.num_allocations);
    }
    totals
}
