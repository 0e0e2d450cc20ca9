//! Identifiers, each a newtype so that none can stand for another.
//!
//! A workflow number counts within one state directory, a job number is the job's place in
//! expansion order, a run number counts restarts and an attempt number counts launches of one job
//! within one run. All of them start at 1. Node, allocation and class numbers are the engine's own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A submitted workflow, counted from 1 within one state directory.
    WorkflowId
}
id! {
    /// A job: its place in the expansion order of its workflow, from 1.
    JobId
}
id! {
    /// One life of a workflow from submission or restart to its end, counted from 1.
    RunId
}
id! {
    /// One launch of a job within a run, counted from 1.
    AttemptId
}
id! {
    /// Nodes granted for a time; numbered by the engine in the order of the grants, from 1.
    AllocationId
}
id! {
    /// A node of an allocation; numbered by the engine over all allocations of a workflow, from 0.
    NodeId
}
id! {
    /// Jobs that are alike for placement; numbered by the engine, from 0.
    ClassId
}

/// A worker: the process that runs the steps of an allocation, or in mode direct of one node of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "WrittenWorker", into = "WrittenWorker")]
pub struct WorkerId {
    /// The allocation.
    pub allocation: AllocationId,
    /// The node, where it is that of one node only.
    pub node: Option<NodeId>,
}

/// As it is stored: the worker of an allocation is its number, as it was when there were no others.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenWorker {
    Allocation(AllocationId),
    Node(AllocationId, NodeId),
}

impl From<WrittenWorker> for WorkerId {
    fn from(written: WrittenWorker) -> Self {
        match written {
            WrittenWorker::Allocation(allocation) => Self { allocation, node: None },
            WrittenWorker::Node(allocation, node) => Self { allocation, node: Some(node) },
        }
    }
}

impl From<WorkerId> for WrittenWorker {
    fn from(WorkerId { allocation, node }: WorkerId) -> Self {
        match node {
            None => Self::Allocation(allocation),
            Some(node) => Self::Node(allocation, node),
        }
    }
}

impl JobId {
    /// The job's index into the workflow's list of jobs.
    pub fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The job at `index` of the workflow's list of jobs.
    ///
    /// # Panics
    /// When `index` does not fit 32 bits; a workflow holds fewer jobs than that.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index + 1).expect("a workflow has fewer than 2^32 jobs"))
    }
}

impl AttemptId {
    /// The first launch of a job within a run.
    pub const FIRST: Self = Self(1);
}

/// The name of one launched attempt. It is unique within a state directory for ever: it names
/// output files, and a report about it that comes twice is known to be the same report.
///
/// Written `wf<W>_j<J>_r<R>_a<A>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The job within the workflow.
    pub job: JobId,
    /// The run of the workflow.
    pub run: RunId,
    /// The launch of the job within the run.
    pub attempt: AttemptId,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wf{}_j{}_r{}_a{}", self.workflow, self.job, self.run, self.attempt)
    }
}

/// The text is not of the form `wf<W>_j<J>_r<R>_a<A>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step name; one looks like wf1_j2_r1_a1")]
pub struct StepIdError(String);

impl FromStr for StepId {
    type Err = StepIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('_');
        let mut number = |prefix: &str| {
            parts.next()?.strip_prefix(prefix)?.parse::<u32>().ok().filter(|number| *number > 0)
        };
        let numbers = (number("wf"), number("j"), number("r"), number("a"));
        match (numbers, parts.next()) {
            ((Some(workflow), Some(job), Some(run), Some(attempt)), None) => Ok(Self {
                workflow: WorkflowId(workflow),
                job: JobId(job),
                run: RunId(run),
                attempt: AttemptId(attempt),
            }),
            _ => Err(StepIdError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_name_reads_back() {
        let step = StepId {
            workflow: WorkflowId(3),
            job: JobId(17),
            run: RunId(2),
            attempt: AttemptId::FIRST,
        };
        assert_eq!(step.to_string(), "wf3_j17_r2_a1");
        assert_eq!("wf3_j17_r2_a1".parse(), Ok(step));
        for wrong in ["", "wf3_j17_r2", "wf3_j17_r2_a1_x", "wf0_j1_r1_a1", "wf3_j-1_r2_a1"] {
            assert!(wrong.parse::<StepId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_worker_of_an_allocation_is_stored_as_its_number() {
        let text = |worker: &WorkerId| serde_json::to_string(worker).unwrap();
        let worker = |node| WorkerId { allocation: AllocationId(3), node };
        for (worker, stored) in [(worker(None), "3"), (worker(Some(NodeId(5))), "[3,5]")] {
            assert_eq!(text(&worker), stored);
            assert_eq!(serde_json::from_str::<WorkerId>(stored).unwrap(), worker);
        }
    }
}
