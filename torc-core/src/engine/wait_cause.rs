//! Why a job that is ready has not started, or did not before its run ended: what is told.
//!
//! Owns: the shape of an answer. Does not know: how it is found, or how it is said in words.

use serde::{Deserialize, Serialize};

use crate::ids::AttemptId;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, NeverReason, NotNowReason};
use crate::workflow::Trigger;

/// Why a job that waits for no other has not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "waiting", rename_all = "snake_case")]
pub enum WaitCause {
    /// It can start later, on what there is or is asked for.
    NotNow(NotNowReason),
    /// It can never start on the nodes there are, or could not on those there were.
    Never(NeverReason),
    /// Its nodes are asked for by an action whose moment has not come.
    NotAsked(NotAsked),
    /// What it could have run on is over, or never came, and nothing more comes in this run.
    LeftOver(LeftOver),
    /// It is tried again once its recovery script has ended.
    Recovering {
        /// The launch that failed.
        attempt: AttemptId,
        /// When it became the script's turn.
        since: Timestamp,
    },
}

/// An action that would ask for nodes, and has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAsked {
    /// The scheduler that it would ask.
    pub scheduler: String,
    /// Its moment.
    #[serde(rename = "cause")]
    pub moment: Moment,
    /// The jobs whose moment it is. None where it is not one of jobs.
    pub jobs: Named,
    /// Those of them that have not come so far.
    pub missing: Named,
}

/// A [`Trigger`] without its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The workflow starts.
    OnWorkflowStart,
    /// The workflow is complete.
    OnWorkflowComplete,
    /// A worker starts.
    OnWorkerStart,
    /// A worker ends.
    OnWorkerComplete,
    /// All of some jobs are ready.
    OnJobsReady,
    /// All of some jobs have ended.
    OnJobsComplete,
}

impl From<&Trigger> for Moment {
    fn from(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::OnWorkflowStart => Self::OnWorkflowStart,
            Trigger::OnWorkflowComplete => Self::OnWorkflowComplete,
            Trigger::OnWorkerStart => Self::OnWorkerStart,
            Trigger::OnWorkerComplete => Self::OnWorkerComplete,
            Trigger::OnJobsReady(_) => Self::OnJobsReady,
            Trigger::OnJobsComplete(_) => Self::OnJobsComplete,
        }
    }
}

/// Jobs, of which the first few are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// How many there are.
    pub count: u32,
    /// The names of the first few.
    pub first: Vec<String>,
}

/// Why nothing is left to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum LeftOver {
    /// A scheduler did not take the requests for its nodes.
    Refused {
        /// The scheduler of the spec.
        scheduler: String,
        /// Requests of it that came to nothing.
        times: u32,
        /// Why the last did, in the scheduler's words.
        reason: String,
    },
    /// A scheduler took the requests for its nodes, and they ended before any worker had connected.
    CameToNothing {
        /// The scheduler of the spec.
        scheduler: String,
        /// Requests of it that came to nothing.
        times: u32,
        /// Why the last did, as far as that is known.
        reason: String,
    },
    /// It fits allocations that there were, which were over before its turn.
    Ended {
        /// The scheduler of the last of them; `None`: the nodes were simply there.
        scheduler: Option<String>,
        /// How many there were.
        allocations: u32,
        /// How the last of them ended, if it has.
        last: Option<AllocationEnd>,
    },
    /// No allocation was granted that it could have used.
    NoNodes,
}

/// Jobs that did not start for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstarted {
    /// The name of the first.
    pub job: String,
    /// How many there are.
    pub count: u32,
    /// Why.
    pub why: WaitCause,
}

impl Unstarted {
    /// Jobs, by name, with those together that have the same cause. In the order in which causes occur.
    pub fn group(jobs: impl IntoIterator<Item = (String, WaitCause)>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (job, why) in jobs {
            match groups.iter_mut().find(|group| group.why == why) {
                Some(group) => group.count += 1,
                None => groups.push(Self { job, count: 1, why }),
            }
        }
        groups
    }
}
