//! The seam between the engine and a source of allocations.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::os_text::OsText;
use crate::resources::NodeInventory;
use crate::time::Timestamp;

use super::executor::Usage;

/// A source of allocations: Slurm, this host, or a site's own.
///
/// # Order
///
/// The server calls it, for all of its workflows. [`shapes`](Self::shapes) is asked when a workflow is submitted, with a
/// request that has neither a command nor an environment, and has 10 s to answer. `submit` comes once for each
/// allocation, one at a time, with a pause between two. Where its answer was [`SchedulerError::Unavailable`], or the server
/// died before it was recorded, `find` comes before it is asked again: so nothing is asked for twice. `observe` asks for
/// all that are not over, in one batch, the more seldom the less changes, and again at once when something is known to
/// have happened. `cancel` may come at any time, also twice, or for one that has ended. Questions and requests may
/// overlap.
///
/// # What an allocation is
///
/// Once it is granted, [`AllocationRequest::command`] runs once, on its first node, with the environment, working
/// folder and output of the request, and with its own handle in the variable `TORC_ALLOCATION_HANDLE`; with
/// `TORC_ALLOCATION_CPUS` where it has fewer CPUs than the host. That is a worker, which connects out to the server. The
/// allocation ends with it; at its end, by whatever cause, no process of it may be left.
///
/// torc follows its workers rather than its scheduler: what a job came to, it learns from them. From `observe` it
/// learns what they cannot tell, that an allocation waits, or is over. Only [`AllocationState::Ended`], and
/// [`AllocationState::Unknown`] for two minutes, are taken for the end, after which what ran there and was not
/// reported is lost and runs again. An observation that fails says nothing about the allocations.
///
/// Where three allocations in a row of one of the spec's schedulers were refused, or ended before anything ran, no more
/// are asked of it.
///
/// ```
/// use torc_core::traits::*;
///
/// /// Never has anything to give.
/// struct Empty;
///
/// #[async_trait::async_trait]
/// impl Scheduler for Empty {
///     async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
///         Ok(Shapes::Unknown)
///     }
///     async fn submit(&self, _: &AllocationRequest, _: &str) -> Result<AllocationHandle, SchedulerError> {
///         Err(SchedulerError::NotNow("nothing is free".to_owned()))
///     }
///     async fn find(&self, _: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
///         Ok(None)
///     }
///     async fn observe(&self, all: &[AllocationHandle]) -> Result<Vec<AllocationState>, SchedulerError> {
///         Ok(vec![AllocationState::Unknown; all.len()])
///     }
///     async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// The kinds of node that could serve this request.
    ///
    /// # Errors
    /// When the source could not be asked; treat it as [`Shapes::Unknown`].
    async fn shapes(&self, request: &AllocationRequest) -> Result<Shapes, SchedulerError>;

    /// Asks for an allocation. `key` is unique and travels with it, so that [`Self::find`] can tell
    /// after a crash whether the request was made.
    ///
    /// # Errors
    /// When it was refused, or when that is not known.
    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError>;

    /// The allocation that was asked for with this key, if there is one.
    ///
    /// # Errors
    /// When the source could not be asked.
    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError>;

    /// Where these allocations stand, in the same order, asked in one batch.
    ///
    /// # Errors
    /// When the source could not be asked.
    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError>;

    /// Ends an allocation. One that has ended, or is unknown, is not an error.
    ///
    /// # Errors
    /// When the source could not be asked.
    async fn cancel(&self, allocation: &AllocationHandle) -> Result<(), SchedulerError>;
}

/// The source's own name for an allocation; in Slurm the job id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllocationHandle(pub String);

impl fmt::Display for AllocationHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is asked of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocationRequest {
    /// What people see in the source's queue.
    pub name: String,
    /// Nodes, at least 1.
    pub nodes: u32,
    /// How long; `None`: as long as the source gives.
    #[serde(with = "crate::time::millis::option")]
    pub walltime: Option<Duration>,
    /// The source's own settings, from the spec ([`crate::workflow::SchedulerSettings::settings`]).
    pub settings: serde_json::Value,
    /// The program, absolute, and its arguments, to be run once on the first node. The allocation
    /// ends with it.
    pub command: Vec<String>,
    /// Its working folder, absolute.
    pub working_dir: String,
    /// The file that its output goes to, absolute.
    pub output: String,
    /// The environment that it starts from: the submitter's.
    pub env: Vec<(OsText, OsText)>,
    /// The file mode creation mask that it starts with; `None`: the asking process's.
    pub umask: Option<u32>,
    /// It begins only after this allocation has ended, however that ended.
    pub after: Option<AllocationHandle>,
}

/// A kind of node that a source has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShape {
    /// CPUs.
    pub cpus: u32,
    /// How many of them share a core, which only one job gets.
    pub threads_per_core: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// Nodes of this kind.
    pub count: u32,
}

impl NodeShape {
    /// What a node of this kind would offer if all of it were granted.
    pub fn inventory(&self, name: &str) -> NodeInventory {
        // A placement names a core, or a GPU, with 16 bits.
        let named = |count: u32| 0..count.min(u32::from(u16::MAX));
        NodeInventory {
            name: name.into(),
            cores: named(self.cpus).collect(),
            threads_per_core: self.threads_per_core,
            slots: None,
            memory: self.memory,
            gpus: named(self.gpus).map(|gpu| gpu.to_string().into()).collect(),
        }
    }
}

/// What is known about the nodes of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shapes {
    /// These are all.
    Known(Vec<NodeShape>),
    /// Nothing: warn, never refuse.
    Unknown,
}

/// Where an allocation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AllocationState {
    /// It waits in the source's queue.
    Pending {
        /// The source's reason, in its words (Slurm: `Resources`, `Priority`, …).
        reason: String,
        /// When the source expects it to start, if it says so.
        expected_start: Option<Timestamp>,
    },
    /// It has nodes, which are being made ready (booting, prologs).
    Configuring,
    /// Its nodes can be used.
    Running {
        /// When it ends; `None`: it does not.
        ends_at: Option<Timestamp>,
    },
    /// It has nodes, but nothing on them is given time to run.
    Suspended,
    /// It has lost the node that its worker was on, and has others still. No worker can come back.
    Headless,
    /// It is ending; what ran there is gone or going.
    Completing,
    /// It is over.
    Ended {
        /// How, as far as the source tells.
        cause: AllocationEnd,
        /// The source's own words.
        reason: String,
    },
    /// The source has it, but says something about it that torc does not know, such as a state of a
    /// release to come. Nothing follows from that, least of all that it has ended.
    Unclear {
        /// The source's own words.
        words: String,
    },
    /// The source knows nothing of it: it never was, or has been forgotten since it ended.
    Unknown,
}

/// How an allocation ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AllocationEnd {
    /// Its command exited with 0.
    Completed,
    /// Its command failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was up.
    TimedOut,
    /// A node failed that it could not do without.
    NodeFailed,
    /// The source took its nodes away for something else.
    Preempted,
    /// Its command used too much memory.
    OutOfMemory,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// What a source's accounting says about a step that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepAccount {
    /// What it used.
    pub usage: Usage,
    /// How it ended, in the source's words: Slurm's are `COMPLETED`, `OUT_OF_MEMORY`. `None`: it does
    /// not say.
    pub state: Option<Box<str>>,
}

/// A source of allocations could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The request itself is wrong; asking again will not help. The allocation is given up; refused by
    /// [`Scheduler::shapes`], the workflow is not taken.
    #[error("the scheduler refused the request: {0}")]
    Refused(String),
    /// This request is not taken now, and may be later: a limit on jobs is reached, or its partition is
    /// down. That says nothing about other requests. It is asked for again, after pauses that grow.
    #[error("the scheduler does not take the request now: {0}")]
    NotNow(String),
    /// No answer, or none that could be understood. Whether a request was taken is in doubt: it is looked for by
    /// its key before it is made again.
    #[error("the scheduler cannot be asked now: {0}")]
    Unavailable(String),
}

/// What the operating system does not do now says nothing about the request.
impl From<std::io::Error> for SchedulerError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
