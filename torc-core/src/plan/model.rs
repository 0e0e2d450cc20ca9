//! What is planned with, and what a plan says.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::ids::JobId;
use crate::time::millis;
use crate::traits::{NeverReason, NodeShape};
use crate::workflow::{SchedulerSettings, Trigger};

/// A partition of a cluster, as far as planning needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionShape {
    /// Its name.
    pub name: String,
    /// The kinds of node that it has.
    pub nodes: Vec<NodeShape>,
    /// The longest walltime; `None`: no limit is known.
    #[serde(with = "millis::option")]
    pub max_walltime: Option<Duration>,
    /// The most nodes of one allocation; `None`: no limit is known.
    pub max_nodes: Option<u32>,
    /// Whether it is taken where none is named.
    pub is_default: bool,
}

/// What the user decides about a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanOptions {
    /// The account that is charged; `None`: the one in `slurm_defaults`.
    pub account: Option<String>,
    /// Only this partition is used; `None`: the default one, and another where a job needs it.
    pub partition: Option<String>,
    /// Whether a stage gets one large or many small allocations.
    pub strategy: Strategy,
    /// The most nodes that a stage has at once; `None`: half of the partition for one large
    /// allocation, all of it for many small ones.
    pub max_nodes: Option<u32>,
    /// The spec's `slurm_defaults` ([`crate::spec::Loaded::slurm_defaults`]), for all planned
    /// schedulers.
    pub slurm_defaults: Map<String, Json>,
}

/// Whether a stage gets one large or many small allocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// What is better by the estimate of the module [`crate::plan`].
    #[default]
    Auto,
    /// One allocation, of as many nodes as are kept busy.
    One,
    /// Allocations of as few nodes as one job needs, so that each starts as soon as those are free.
    Many,
}

/// Which allocations a workflow should ask for, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// In the order in which they can start. Empty when an action of the workflow asks for
    /// allocations already: then its author has planned.
    pub stages: Vec<Stage>,
    /// Jobs that can never run, alike ones together.
    pub never: Vec<NeverJobs>,
    /// What there is to say besides, one sentence each, without a full stop.
    pub notes: Vec<String>,
    /// All stages together.
    pub totals: Totals,
}

/// Jobs that allocations of one kind serve, asked for at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// The scheduler that the allocations come from, complete with its settings.
    pub scheduler: SchedulerSettings,
    /// The scheduler is in the spec already; only the action is new.
    pub is_given: bool,
    /// The partition; `None`: the cluster's default.
    pub partition: Option<String>,
    /// When they are asked for.
    pub trigger: Trigger,
    /// The jobs that they serve, ascending.
    pub jobs: Vec<JobId>,
    /// The names of the first few of them.
    pub examples: Vec<Arc<str>>,
    /// The stages, by index, whose jobs these depend on. Ascending.
    pub after: Vec<usize>,
    /// What is asked for.
    pub chosen: Layout,
    /// What could have been asked for instead, the best of its kind.
    pub other: Option<Layout>,
    /// Both in numbers, and why this one, in words.
    pub reason: String,
    /// How many of the jobs declare no runtime.
    pub unknown_runtimes: usize,
}

/// Allocations, all alike, and what is expected of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layout {
    /// Nodes of each allocation.
    pub nodes: u32,
    /// How many allocations.
    pub num_allocations: u32,
    /// How long each is asked for.
    #[serde(with = "millis")]
    pub walltime: Duration,
    /// From the start of the first to the end of the last job, if all of them start at once and
    /// jobs keep their declared runtimes.
    #[serde(with = "millis")]
    pub makespan: Duration,
    /// Node-hours that are expected to be used: an allocation ends when it has nothing left to run.
    pub node_hours: f64,
    /// Node-hours when every allocation lasts its whole walltime.
    pub node_hours_at_most: f64,
    /// The part of the expected node-hours in which nodes work, from 0 to 1; of a node that works in
    /// part, that part.
    pub utilisation: f64,
}

/// All stages together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Node-hours that are expected to be used.
    pub node_hours: f64,
    /// Node-hours when every allocation lasts its whole walltime.
    pub node_hours_at_most: f64,
    /// From the first start to the last end, without waiting in the queue.
    #[serde(with = "millis")]
    pub makespan: Duration,
    /// Allocations.
    pub num_allocations: u32,
}

/// Jobs that are alike and can never run on the partitions there are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NeverJobs {
    /// The jobs, ascending.
    pub jobs: Vec<JobId>,
    /// The name of the first.
    pub example: Arc<str>,
    /// Why, with numbers.
    pub reason: NeverReason,
}

/// A workflow cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No account was named.
    #[error(
        "no account to charge: name one with --account, or write `slurm_defaults: {{account: NAME}}`"
    )]
    NoAccount,
    /// The cluster has no partition with nodes.
    #[error("no partition with nodes is known: check what sinfo shows")]
    NoPartitions,
    /// The named partition does not exist.
    #[error("there is no partition `{name}`; there is: {known}")]
    UnknownPartition {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
}
