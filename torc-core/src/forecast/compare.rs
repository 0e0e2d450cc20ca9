//! The same workflow on the same nodes, asked for in different ways.
//!
//! Owns: which ways there are, and which of them is better by how much. Does not know: how each of them
//! goes. Invariant: all ways have the same nodes at once at most, and every job that fits them fits
//! each way.
//!
//! # What is asked for
//!
//! An allocation that ends, because its time is up or nothing is left for it, is followed by another
//! of its kind as soon as a job that is ready could use that; so a walltime that is short is a matter of
//! waiting in the queue again, not of jobs that do not run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::model::{Assumptions, Forecast, ForecastError};
use super::{asks_for_nodes, forecast};
use crate::ids::JobId;
use crate::spec::units;
use crate::workflow::{Action, ActionKind, SchedulerSettings, Trigger, Workflow};

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes at once, at most.
    pub nodes: u32,
    /// How long an allocation lasts; `None`: as long as it takes.
    pub walltime: Option<Duration>,
}

/// The ways beside each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// One large allocation first; many small ones after it, where there is something to split; then
    /// what the workflow's own actions ask for, if they do.
    pub ways: Vec<Way>,
}

/// A way to ask for nodes, and what comes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
    /// Which.
    pub kind: WayKind,
    /// Allocations that are asked for at the beginning; `None`: as the actions say.
    pub num_allocations: Option<u32>,
    /// Nodes of each; `None`: as the actions say.
    pub num_nodes: Option<u32>,
    /// How it would go.
    #[serde(flatten)]
    pub forecast: Forecast,
}

/// A way to ask for nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WayKind {
    /// All nodes in one allocation.
    OneLarge,
    /// As many allocations as there can be, each of as many nodes as the widest job.
    ManySmall,
    /// What the workflow's actions ask for.
    AsWritten,
}

/// By how much the better of two is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lead {
    /// The better one; `None`: they are equal.
    pub better: Option<WayKind>,
    /// By how much, in milliseconds.
    pub by_ms: u64,
    /// What the worse one has, in milliseconds.
    pub of_ms: u64,
}

impl Comparison {
    /// One large allocation and many small ones; `None`: there is nothing to split.
    pub fn pair(&self) -> Option<(&Way, &Way)> {
        let of = |kind| self.ways.iter().find(|way| way.kind == kind);
        of(WayKind::OneLarge).zip(of(WayKind::ManySmall))
    }

    /// Which of the two has its last job done first. `None` where one runs fewer jobs than the other.
    pub fn makespan(&self) -> Option<Lead> {
        self.lead(|forecast| u64::try_from(forecast.makespan.as_millis()).unwrap_or(u64::MAX))
    }

    /// Which of the two holds nodes for less time. `None` where one runs fewer jobs than the other.
    pub fn node_time(&self) -> Option<Lead> {
        self.lead(|forecast| forecast.node_ms)
    }

    fn lead(&self, figure: impl Fn(&Forecast) -> u64) -> Option<Lead> {
        let (one, many) = self.pair()?;
        if one.forecast.completed != many.forecast.completed {
            return None;
        }
        let (of_one, of_many) = (figure(&one.forecast), figure(&many.forecast));
        let better = match of_one.cmp(&of_many) {
            std::cmp::Ordering::Less => Some(one.kind),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(many.kind),
        };
        Some(Lead { better, by_ms: of_one.abs_diff(of_many), of_ms: of_one.max(of_many) })
    }
}

/// The workflow in each way. `assumed.nodes` is not looked at.
///
/// # Errors
/// When too many nodes are asked for, or for an error in torc.
pub fn compare(
    workflow: &Arc<Workflow>,
    assumed: &Assumptions,
    size: Size,
) -> Result<Comparison, ForecastError> {
    let assumed = Assumptions { nodes: None, ..assumed.clone() };
    let walltime = size.walltime.unwrap_or_else(|| long_enough(workflow, &assumed));
    let width = widest(workflow).clamp(1, size.nodes.max(1));
    let mut ways = Vec::new();
    let mut add = |kind, num_allocations, num_nodes| {
        let asking = asking(workflow, num_allocations, num_nodes, walltime);
        let forecast = forecast(&Arc::new(asking), &assumed)?;
        let (num_allocations, num_nodes) = (Some(num_allocations), Some(num_nodes));
        ways.push(Way { kind, num_allocations, num_nodes, forecast });
        Ok::<(), ForecastError>(())
    };
    add(WayKind::OneLarge, 1, size.nodes)?;
    if size.nodes / width > 1 {
        add(WayKind::ManySmall, size.nodes / width, width)?;
    }
    if asks_for_nodes(workflow) {
        let forecast = forecast(workflow, &assumed)?;
        let kind = WayKind::AsWritten;
        ways.push(Way { kind, num_allocations: None, num_nodes: None, forecast });
    }
    Ok(Comparison { ways })
}

/// Nodes of the widest job.
fn widest(workflow: &Workflow) -> u32 {
    let requirements = &workflow.header.requirements;
    let nodes = workflow.jobs.iter().map(|job| requirements[job.requirements as usize].nodes);
    nodes.max().unwrap_or(1)
}

/// A walltime in which all jobs could run one after another.
fn long_enough(workflow: &Workflow, assumed: &Assumptions) -> Duration {
    let header = &workflow.header;
    let runtime = |(index, job): (usize, &crate::workflow::Job)| {
        let declared = header.requirements[job.requirements as usize].runtime;
        // The placer goes by what is declared, the clock by what is known.
        let known = assumed.runtime(JobId::from_index(index), declared);
        known.max(declared.unwrap_or_default())
    };
    let margin = header.execution.stop_margin(true).max(header.execution.stop_margin(false));
    let all = workflow.jobs.iter().enumerate().map(runtime).fold(margin, Duration::saturating_add);
    all.clamp(Duration::from_secs(60), LONGEST) + Duration::from_secs(1)
}

/// No allocation lasts longer: a century.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The workflow with actions that ask for these allocations, and for another for each that ends. Any
/// job may run in any of them, and as many at once as its own actions let.
fn asking(
    workflow: &Workflow,
    num_allocations: u32,
    num_nodes: u32,
    walltime: Duration,
) -> Workflow {
    let mut asking = workflow.clone();
    let settings = json!({ "nodes": num_nodes, "walltime": units::clock(walltime) });
    let (name, kind) = (Arc::from("simulated"), "slurm".to_owned());
    let max_parallel_jobs = asking.header.actions.iter().filter_map(|action| match action.kind {
        ActionKind::ScheduleNodes { max_parallel_jobs, .. } => max_parallel_jobs,
        ActionKind::RunCommands(_) => None,
    });
    let max_parallel_jobs = max_parallel_jobs.max();
    asking.header.schedulers = vec![SchedulerSettings { name, kind, settings }];
    let action = |trigger, persistent, num_allocations| Action {
        trigger,
        persistent,
        kind: ActionKind::ScheduleNodes {
            scheduler: 0,
            num_allocations,
            start_one_worker_per_node: false,
            max_parallel_jobs,
        },
    };
    asking.header.actions = vec![
        action(Trigger::OnWorkflowStart, false, num_allocations),
        action(Trigger::OnWorkerComplete, true, 1),
    ];
    for job in &mut asking.jobs {
        (job.scheduler, job.labels) = (None, None);
    }
    asking
}
