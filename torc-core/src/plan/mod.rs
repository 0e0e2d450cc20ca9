//! Planning: which allocations a workflow should ask for, and when, if its author has not said so.
//!
//! Owns: the way from a workflow and the partitions of a cluster to schedulers and `schedule_nodes`
//! actions. Does not know: how full the cluster is, and how to ask it. Invariant: the same input
//! gives the same plan; every job that can run is served by exactly one stage, whose allocations
//! can run it by the placer's own rules.
//!
//! # How
//!
//! Jobs that are alike get the same *site*: a partition and a kind of node in it, the default one
//! where it fits. Jobs of one site, the same labels and the same number of nodes are in one *stage*
//! as long as no job of another kind has to run in between: a chain of single-node jobs is one stage, a
//! two-node job and then a four-node job are two, the second asked for when its jobs are ready.
//! Each stage is simulated with the placer, on several numbers of nodes; the module `choose` says how
//! these are compared. A stage that wants many nodes at one time and few at another is cut in two where that
//! saves node-hours; a small stage runs in the allocation of the one before it where that costs little.
//!
//! Node-hours and times are estimates: they trust the declared runtimes, and a stage whose first jobs
//! come one by one counts as if they all came when it is asked for.

mod choose;
mod classes;
mod complete;
mod fold;
mod model;
mod planner;
mod settings;
mod simulate;
mod sites;
mod split;
mod stages;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod totals;
mod words;
mod work;

pub use complete::complete;
pub(crate) use complete::is_for_direct;
pub use model::{
    Layout, NeverJobs, PartitionShape, Plan, PlanError, PlanOptions, Stage, Strategy, Totals,
};
pub use totals::{Reach, totals};
pub use work::ASSUMED_RUNTIME;

use self::planner::Planner;
use crate::workflow::{ActionKind, Workflow};

/// Plans the allocations of a workflow.
///
/// Schedulers of the spec that no action starts are planned, too: when to ask for how many of their
/// allocations. A workflow with a `schedule_nodes` action has been planned by its author: the plan is
/// empty.
///
/// # Errors
/// When the partition does not exist, there is none with nodes, or no account is known.
pub fn plan(
    workflow: &Workflow,
    partitions: &[PartitionShape],
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut actions = workflow.header.actions.iter();
    let is_planned = actions.any(|action| matches!(action.kind, ActionKind::ScheduleNodes { .. }));
    if is_planned || workflow.jobs.is_empty() {
        return Ok(Plan::default());
    }
    Planner::new(workflow, partitions, options)?.plan()
}
