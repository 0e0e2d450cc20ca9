//! The nodes of a simulation, and what the jobs of a log ask of them.
//!
//! A log knows processors, torc knows nodes: a job of P processors on nodes of C is a gang of as many
//! whole nodes as hold P, or a job on one node when it fits there.

use std::sync::Arc;
use std::time::Duration;

use super::replay::WorkloadJob;
use super::swf::{Trace, TraceJob};
use crate::ids::{AllocationId, NodeId};
use crate::resources::{Allocation, MemoryRequest, Request};
use crate::time::Timestamp;
use crate::traits::NodeShape;

/// Nodes, all alike, in one allocation that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many; at least 1.
    pub nodes: u32,
    /// CPUs of each; at least 1.
    pub cores: u32,
    /// Bytes of memory of each; `None`: memory is not looked at.
    pub memory: Option<u64>,
}

impl Machine {
    /// All of it.
    pub fn allocation(&self) -> Allocation {
        let shape = NodeShape {
            cpus: self.cores,
            threads_per_core: 1,
            memory: self.memory.unwrap_or(u64::MAX >> 1),
            gpus: 0,
            count: self.nodes,
        };
        Allocation {
            id: AllocationId(1),
            scheduler: None,
            labels: Arc::from([]),
            ends_at: None,
            nodes: (0..self.nodes)
                .map(|node| (NodeId(node), shape.inventory(&format!("node{}", node + 1))))
                .collect(),
            inherited: None,
        }
    }

    /// The jobs of a log as they would be submitted here. A job declares what it asked for in the log;
    /// where the log does not say, or `perfect` is asked for, what it took.
    pub fn workload(&self, trace: &Trace, perfect: bool) -> Vec<WorkloadJob> {
        let declared = |job: &TraceJob| job.requested.filter(|_| !perfect).unwrap_or(job.runtime);
        let jobs = trace.jobs.iter().map(|job| WorkloadJob {
            submitted: Timestamp::default() + job.submitted,
            request: self.request(job, declared(job)),
            runtime: job.runtime,
        });
        jobs.collect()
    }

    fn request(&self, job: &TraceJob, declared: Duration) -> Request {
        let nodes = job.processors.div_ceil(self.cores);
        let is_gang = nodes > 1;
        let memory = match (job.memory, self.memory) {
            (Some(each), Some(_)) => {
                let on_node = if is_gang { job.processors.div_ceil(nodes) } else { job.processors };
                MemoryRequest::Bytes(each.saturating_mul(on_node.into()))
            }
            // A gang takes all there is, and nothing is known of the others.
            _ => MemoryRequest::Bytes(0),
        };
        Request {
            priority: 0,
            scheduler: None,
            labels: Arc::from([]),
            cpus: if is_gang { self.cores } else { job.processors },
            memory,
            gpus: 0,
            nodes,
            ntasks_per_node: 1,
            runtime: Some(declared),
        }
    }
}
