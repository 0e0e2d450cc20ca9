//! The history of launches: one record an attempt, of every run, never forgotten.

use crate::ids::{AttemptId, JobId, NodeId, RunId};
use crate::resources::Placement;
use crate::time::Timestamp;
use crate::traits::{Outcome, Usage};

use super::status::JobStatus;

/// One launch of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: RunId,
    /// The launch within the run.
    pub attempt: AttemptId,
    /// The nodes it had, in node order; none when nobody knows whether it was launched.
    pub nodes: Box<[NodeId]>,
    /// CPUs it had over all its nodes. Where it held a slot, those that the slot stands for.
    pub cpus: u32,
    /// When it was given them.
    pub dispatched_at: Timestamp,
    /// When its first process ran, as far as that was reported.
    pub started_at: Option<Timestamp>,
    /// How it ended, if it has.
    pub end: Option<AttemptEnd>,
}

/// How a launch ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// When.
    pub at: Timestamp,
    /// The evidence.
    pub outcome: Outcome,
    /// What that means for the attempt; a job that is tried again has a failed attempt, too.
    pub status: JobStatus,
    /// What it used.
    pub usage: Usage,
    /// How it ended in the words of the scheduler's accounting; `None`: it has said nothing.
    pub scheduler_state: Option<Box<str>>,
}

impl Attempt {
    pub(super) fn new(
        (job, run, attempt): (JobId, RunId, AttemptId),
        at: Timestamp,
        placement: &Placement,
        cpus: u32,
    ) -> Self {
        Self {
            job,
            run,
            attempt,
            nodes: placement.shares.iter().map(|share| share.node).collect(),
            cpus,
            dispatched_at: at,
            started_at: None,
            end: None,
        }
    }

    /// A launch of which nobody knows whether it took place, nor where.
    pub(super) fn unplaced((job, run, attempt): (JobId, RunId, AttemptId), at: Timestamp) -> Self {
        Self {
            job,
            run,
            attempt,
            nodes: Box::new([]),
            cpus: 0,
            dispatched_at: at,
            started_at: None,
            end: None,
        }
    }
}
