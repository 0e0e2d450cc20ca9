//! What a forecast assumes, and what it says.
//!
//! Times count from the beginning of the run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::queue::QueueWait;
use crate::engine::Refused;
use crate::idle::IdleTime;
use crate::ids::{AllocationId, JobId};
use crate::placer::Policy;
use crate::time::millis;
use crate::traits::{NeverReason, NodeShape};

/// What is assumed about nodes and jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// What each node has; its `count` is not looked at.
    pub node: NodeShape,
    /// So many nodes are there from the beginning to the end, for jobs of any scheduler and without
    /// labels, and nothing is asked for. `None`: nodes come as the actions ask for them.
    pub nodes: Option<u32>,
    /// The runtime of a job that declares none, and of which none is known.
    pub default_runtime: Duration,
    /// By job, how long it is known to run. Nobody but the clock is told: the placer knows what is
    /// declared, as in a run. Shorter than the jobs, or empty: nothing is known of the rest.
    pub known_runtimes: Vec<Option<Duration>>,
    /// How long allocations wait for their nodes.
    pub queue_wait: QueueWait,
    /// How single-node jobs are put onto nodes; `None`: as the workflow says.
    pub policy: Option<Policy>,
}

impl Assumptions {
    /// Nodes like this, as the actions ask for them, that nobody waits for; jobs run as long as they
    /// declare, or as this.
    pub fn of(node: NodeShape, default_runtime: Duration) -> Self {
        Self {
            node,
            nodes: None,
            default_runtime,
            known_runtimes: Vec::new(),
            queue_wait: QueueWait::default(),
            policy: None,
        }
    }

    /// How long a job runs that declares this.
    pub(super) fn runtime(&self, job: JobId, declared: Option<Duration>) -> Duration {
        self.known_runtime(job).or(declared).unwrap_or(self.default_runtime)
    }

    pub(super) fn known_runtime(&self, job: JobId) -> Option<Duration> {
        self.known_runtimes.get(job.index()).copied().flatten()
    }
}

/// How a workflow would go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Jobs.
    pub jobs: usize,
    /// Jobs that ran.
    pub completed: usize,
    /// Jobs that did not, those together that did not for the same reason; in the order of their
    /// first jobs.
    pub never: Vec<NeverRan>,
    /// Jobs that declare no runtime, and of which none is known.
    pub unknown_runtimes: usize,
    /// What was assumed for them.
    #[serde(rename = "default_runtime_ms", with = "millis")]
    pub default_runtime: Duration,
    /// Jobs that, at their runtime, would still run when torc asks what runs in their allocation to
    /// end.
    pub overrunning: usize,
    /// From the beginning to the end of the last job.
    #[serde(rename = "makespan_ms", with = "millis")]
    pub makespan: Duration,
    /// The longest chain of jobs that depend on each other.
    pub critical_path: CriticalPath,
    /// The levels of the graph: a job is one level after the latest one that it depends on.
    pub stages: Vec<Level>,
    /// The allocations that had nodes, in the order of their numbers.
    pub allocations: Vec<Span>,
    /// Allocations that were asked for, and that no job could have used when there still was one.
    pub ungranted: usize,
    /// Allocations that were still in the queue when nothing was left to run.
    pub canceled: usize,
    /// Milliseconds for which allocations had their nodes, summed over the nodes.
    pub node_ms: u64,
    /// Milliseconds for which jobs held CPUs, summed over the CPUs.
    pub held_cpu_ms: u64,
    /// Milliseconds for which nobody did, by cause.
    pub idle_cpu_ms: IdleTime,
    /// Both together: all that allocations had.
    pub available_cpu_ms: u64,
}

/// The longest chain of jobs that depend on each other, by runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CriticalPath {
    /// How long its jobs take, one after another. No run is shorter.
    #[serde(rename = "length_ms", with = "millis")]
    pub length: Duration,
    /// Their names, in the order of their dependencies.
    pub jobs: Vec<Arc<str>>,
}

/// A level of the graph of jobs: no two of its jobs depend on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Level {
    /// Its jobs.
    pub jobs: usize,
    /// Nodes of the widest.
    pub widest: u32,
    /// The runtime of the longest.
    #[serde(rename = "longest_ms", with = "millis")]
    pub longest: Duration,
    /// CPUs asked for times runtime, in milliseconds, over all of them.
    pub cpu_ms: u64,
}

/// When an allocation had its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its number.
    pub allocation: AllocationId,
    /// The scheduler that it is of; `None`: the nodes were simply there.
    pub scheduler: Option<Arc<str>>,
    /// Its nodes.
    pub num_nodes: u32,
    /// When it was granted, in milliseconds from the beginning.
    pub begins_ms: u64,
    /// When it ended.
    pub ends_ms: u64,
    /// Jobs that ran in it.
    pub jobs: u32,
}

impl Span {
    /// Milliseconds for which it had its nodes, summed over them.
    pub fn node_ms(&self) -> u64 {
        self.ends_ms.saturating_sub(self.begins_ms).saturating_mul(self.num_nodes.into())
    }
}

/// Jobs that did not run for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeverRan {
    /// How many.
    pub jobs: usize,
    /// The name of the first.
    pub example: Arc<str>,
    /// Why the first did not.
    pub reason: WhyNever,
}

/// Why a job did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum WhyNever {
    /// It fits nodes that were declared, but the allocations that it could have run in were over
    /// before its turn, or were not asked for while it was ready.
    LeftOver,
    /// It depends on one that did not run.
    WaitsFor {
        /// The name of that.
        job: Arc<str>,
    },
    /// It could not run on the declared nodes if they were all its own.
    #[serde(untagged)]
    Never(NeverReason),
}

impl fmt::Display for WhyNever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOver => f.write_str(
                "every allocation that it could run in is over before its turn, or is not asked for \
                 once it is ready: ask for more, or for longer",
            ),
            Self::WaitsFor { job } => write!(f, "depends on `{job}`, which does not run"),
            Self::Never(reason) => reason.fmt(f),
        }
    }
}

/// There is no forecast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// Too many nodes are declared.
    #[error("the declared nodes have {cpus} CPUs together; a forecast takes {most} at most")]
    TooLarge {
        /// CPUs of all nodes that are asked for.
        cpus: u64,
        /// How many there may be.
        most: u64,
    },
    /// The engine and its placer do not agree. Always an error in torc.
    #[error(transparent)]
    Refused(#[from] Refused),
}
