//! Small stages that run in the allocation of the stage before them, instead of waiting in the queue
//! for one of their own.
//!
//! Owns: when that is worth it. Invariant: a stage is only folded into one that all of it comes
//! after, so that stages still depend on each other without a cycle, and only where its jobs fit.

use std::time::Duration;

use super::choose::{self, Choice, Question};
use super::classes::Classes;
use super::model::{Layout, Strategy};
use super::sites::{Origin, Sites, covers};
use super::stages::Draft;
use super::work::{self, Sums};
use crate::workflow::Workflow;

/// What the rest of an allocation may cost that waits for a small stage: this part of what the
/// allocation costs anyway.
const WORTH_A_WAIT: f64 = 0.1;

/// A stage that has been decided.
pub(super) struct Decided {
    pub(super) draft: Draft,
    pub(super) sums: Sums,
    pub(super) choice: Choice,
    /// Where it could be cut in two: by job, whether it is in the second part.
    pub(super) cut: Option<Vec<bool>>,
    /// Jobs of other stages that run in its allocation, with the number of those.
    pub(super) folded_jobs: usize,
}

impl Decided {
    /// What is asked for.
    pub(super) fn chosen(&self) -> Option<&Layout> {
        if self.choice.many_is_chosen {
            self.choice.many.as_ref()
        } else {
            self.choice.one.as_ref()
        }
    }
}

/// What stages are folded with.
pub(super) struct Folding<'f> {
    pub(super) workflow: &'f Workflow,
    pub(super) classes: &'f Classes,
    pub(super) sites: &'f Sites,
    /// See [`Question::reserve`].
    pub(super) reserve: Duration,
}

impl Folding<'_> {
    /// Folds what is worth it, in the order of the stages; the rest stays in order.
    pub(super) fn fold(&self, stages: Vec<Decided>) -> Vec<Decided> {
        // By the number that a stage had: its place among those that are kept.
        let mut place_of: Vec<usize> = Vec::with_capacity(stages.len());
        let mut kept: Vec<Decided> = Vec::new();
        // A stage is simulated again with all that was folded into it before.
        let mut jobs_left = choose::BUDGET;
        for mut stage in stages {
            let mut after: Vec<usize> =
                stage.draft.after.iter().map(|before| place_of[*before]).collect();
            after.sort_unstable();
            after.dedup();
            stage.draft.after = after;
            let home = match stage.draft.after[..] {
                [home] => {
                    let jobs = kept[home].draft.jobs.len() + 2 * stage.draft.jobs.len();
                    (jobs <= jobs_left && self.is_worth_it(&kept[home], &stage))
                        .then_some((home, jobs))
                }
                _ => None,
            };
            match home {
                Some((home, jobs)) => {
                    jobs_left -= jobs;
                    self.merge(&mut kept[home], stage);
                    place_of.push(home);
                }
                None => {
                    place_of.push(kept.len());
                    kept.push(stage);
                }
            }
        }
        kept
    }

    fn is_worth_it(&self, home: &Decided, stage: &Decided) -> bool {
        let (home_site, site) =
            (&self.sites.all[home.draft.site], &self.sites.all[stage.draft.site]);
        let (Some(home_layout), Some(own)) = (home.chosen(), stage.chosen()) else { return false };
        let is_possible = home_site.origin == Origin::Planned
            && site.origin == Origin::Planned
            && home_site.partition == site.partition
            && covers(&home_site.node, &site.node)
            && home.draft.labels == stage.draft.labels
            && home_layout.num_allocations == 1
            && home_layout.nodes >= stage.draft.width
            && home.sums.unknown + stage.sums.unknown == 0;
        if !is_possible {
            return false;
        }
        let there = self.in_one(&stage.draft.jobs, home, home_layout.nodes).makespan;
        let makespan = home_layout.makespan.saturating_add(there);
        let fits_in_time =
            home_site.limit.is_none_or(|limit| makespan.mul_f64(choose::SAFETY) <= limit);
        let costs = f64::from(home_layout.nodes) * there.as_secs_f64() / 3600.0;
        let is_cheap = costs - own.node_hours <= WORTH_A_WAIT * home_layout.node_hours;
        let is_soon = there <= own.makespan.saturating_add(choose::LEAST_WAIT);
        fits_in_time && is_cheap && is_soon
    }

    /// These jobs in one allocation on the site of another stage.
    fn in_one(&self, jobs: &[u32], home: &Decided, nodes: u32) -> Layout {
        let site = &self.sites.all[home.draft.site];
        let (work, sums) = work::work(self.workflow, self.classes, jobs, &site.node);
        let strategy = Strategy::One;
        let question = Question {
            work: &work,
            sums,
            site,
            width: nodes,
            strategy,
            max_nodes: None,
            reserve: self.reserve,
        };
        question.in_one(nodes)
    }

    fn merge(&self, home: &mut Decided, stage: Decided) {
        home.folded_jobs += stage.draft.jobs.len();
        home.draft.jobs.extend(&stage.draft.jobs);
        home.draft.jobs.sort_unstable();
        let nodes = home.chosen().map_or(home.draft.width, |layout| layout.nodes);
        let merged = self.in_one(&home.draft.jobs, home, nodes);
        let many = if home.choice.many_is_chosen { None } else { home.choice.many.take() };
        home.choice = Choice { one: Some(merged), many, many_is_chosen: false };
    }
}
