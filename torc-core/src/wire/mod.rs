//! What the server tells and is asked: the shapes of its answers, and of `--format json`.
//!
//! These shapes are a contract with users' scripts: fields are added, never renamed or removed.
//! Times are milliseconds since 1970-01-01T00:00:00Z, sizes are bytes, durations say their unit.

pub mod crew;
pub mod link;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::diagnostics::{Problem, Severity, Span};
use crate::engine::{JobStatus, WaitCause};
use crate::idle::{IdleCause, IdleTime};
use crate::ids::{AllocationId, AttemptId, JobId, RunId, WorkflowId};
use crate::os_text::OsText;
use crate::resources::{Slots, may_run_under};
use crate::restart::Reason;
use crate::spec::Format;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationState, NodeState, Outcome};
use crate::workflow::Workflow;

/// The major version of these shapes. Both sides of a connection must have the same.
pub const PROTOCOL: u32 = 1;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// [`PROTOCOL`] of the answering side.
    pub protocol: u32,
    /// Its version of torc.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// A name that no other run has, as it stands in the state directory that it owns.
    pub instance: String,
    /// The workflow that it runs now.
    pub workflow: Option<WorkflowId>,
}

/// Where a workflow's current run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// No run has begun.
    New,
    /// It runs.
    Running,
    /// It is ending gently, to go on later.
    Stopping,
    /// It was stopped, or torc died: it can go on with `torc restart`.
    Interrupted,
    /// Jobs are left that could not be started on the nodes there were.
    Incomplete,
    /// Every job has ended.
    Ended,
}

impl RunState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Interrupted => "interrupted",
            Self::Incomplete => "incomplete",
            Self::Ended => "ended",
        }
    }
}

/// A workflow as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowReport {
    /// Its number.
    pub id: WorkflowId,
    /// Its name.
    pub name: String,
    /// The current or last run.
    pub run: Option<RunId>,
    /// Where that stands.
    pub state: RunState,
    /// Jobs in all.
    pub jobs: u32,
    /// Jobs by status; every status is there.
    pub counts: BTreeMap<JobStatus, u32>,
    /// When the current or last run began.
    pub started_at: Option<Timestamp>,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// How long it took until its end, or until now.
    pub wall_ms: u64,
    /// CPU time that jobs of this run held, in CPU-milliseconds.
    pub held_cpu_ms: u64,
    /// CPU time that nobody held during this run, by cause.
    #[serde(default)]
    pub idle_cpu_ms: IdleTime,
    /// CPU time that there was for this run, in CPU-milliseconds: what was held and what was idle.
    pub available_cpu_ms: u64,
    /// Processor time that jobs of this run really used.
    pub used_cpu_ms: u64,
    /// When this run is expected to end, as far as that can be told.
    pub expected_end: Option<Timestamp>,
    /// Names of jobs that run now, the longest running first; not more than ten.
    pub running: Vec<String>,
    /// The nodes there are now.
    pub nodes: Vec<NodeReport>,
    /// The promises that hold.
    pub planned: Vec<PlannedReport>,
    /// That the placer of the spec, a plugin, does not decide any more, and why. Known to the process that
    /// runs the workflow only.
    #[serde(default)]
    pub placer_replaced: Option<String>,
}

/// A node now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its CPUs.
    pub cpus: u32,
    /// CPUs that jobs hold; a slot stands for its part of the node's.
    pub cpus_used: u32,
    /// Its slots, if it has any (`max_parallel_jobs` of an action).
    #[serde(default)]
    pub slots: Option<Slots>,
    /// Its memory.
    pub memory: u64,
    /// Its GPUs.
    pub gpus: u32,
    /// Jobs on it.
    pub jobs: u32,
}

/// An allocation, from the wish for it to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocationReport {
    /// The workflow that it serves.
    pub workflow: WorkflowId,
    /// Its number within the workflow.
    pub id: AllocationId,
    /// The scheduler of the spec that it comes from; `None`: the nodes were simply there.
    pub scheduler: Option<String>,
    /// The type of that: `slurm`, or the name of a plugin.
    #[serde(default)]
    pub scheduler_type: Option<String>,
    /// The labels of its workers.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The scheduler's name for it: a Slurm job id.
    pub handle: Option<String>,
    /// Where it stands.
    pub stage: AllocationStage,
    /// What the scheduler said last.
    pub observed: Option<AllocationState>,
    /// Why it has not been submitted, why it waits, or how it ended.
    pub reason: String,
    /// Nodes that it has, or asks for.
    pub num_nodes: u32,
    /// When it was wished for.
    pub requested_at: Option<Timestamp>,
    /// When its nodes were granted.
    pub granted_at: Option<Timestamp>,
    /// When its time is up.
    pub ends_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended, if it has.
    pub cause: Option<AllocationEnd>,
    /// Its nodes, in node order, while it has them.
    pub nodes: Vec<AllocatedNodeReport>,
}

/// Where an allocation stands, as torc sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationStage {
    /// It is wished for, and nobody has been asked yet.
    Requested,
    /// It waits in the scheduler's queue, or its nodes are being made ready.
    Submitted,
    /// Its worker runs steps.
    Active,
    /// It has nodes, but its worker cannot be talked to; what runs there goes on.
    Unreachable,
    /// Nothing more starts there: it is to be given back, or its time is up.
    Closing,
    /// It is over.
    Ended,
}

impl AllocationStage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Submitted => "submitted",
            Self::Active => "active",
            Self::Unreachable => "unreachable",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

/// A node of an allocation, and what is on it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocatedNodeReport {
    /// Its name.
    pub name: String,
    /// Whether it may be given new work.
    pub state: NodeState,
    /// Why not, where that is known.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its CPUs.
    pub cpus: u32,
    /// CPUs that jobs hold; a slot stands for its part of the node's.
    pub cpus_used: u32,
    /// Its slots, if it has any (`max_parallel_jobs` of an action).
    #[serde(default)]
    pub slots: Option<Slots>,
    /// Its memory.
    pub memory: u64,
    /// Memory that jobs hold.
    pub memory_used: u64,
    /// Its GPUs.
    pub gpus: u32,
    /// GPUs that jobs hold.
    pub gpus_used: u32,
    /// The jobs on it.
    pub jobs: Vec<JobOnNode>,
    /// The job that it is held for.
    pub held_for: Option<String>,
    /// Since when.
    pub held_since: Option<Timestamp>,
    /// Until when, if that is known.
    pub held_until: Option<Timestamp>,
    /// Why CPUs of it are idle; `None`: none is.
    pub idle: Option<IdleCause>,
}

/// What one job holds on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOnNode {
    /// Its name.
    pub job: String,
    /// CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// Since when.
    pub since: Timestamp,
    /// When it ends if it keeps its declared runtime; `None`: it has declared none. A moment that has
    /// passed says that it runs over.
    #[serde(default)]
    pub expected_end: Option<Timestamp>,
}

/// A workflow to be stored and run by the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmitRequest {
    /// The workflow.
    pub workflow: Workflow,
    /// The folder it was submitted in, absolute: its jobs' working folder.
    pub submission_dir: String,
    /// The spec's file, absolute; `None`: standard input.
    pub spec_path: Option<String>,
    /// The environment that its allocations, jobs and commands start from.
    pub env: Vec<(OsText, OsText)>,
    /// The file mode creation mask of its files.
    pub umask: u32,
}

/// The number that a submitted workflow has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitReport {
    /// The workflow.
    pub workflow: WorkflowId,
}

/// The promised start of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReport {
    /// The job's number.
    pub job_id: JobId,
    /// The job's name.
    pub job: String,
    /// When it starts at the latest, if running jobs keep their declared runtimes; `None`: one of
    /// them has not declared any.
    pub at: Option<Timestamp>,
    /// The names of the nodes that it is to start on, in node order.
    pub nodes: Vec<String>,
    /// Those of them that are held for it: all of a job on several nodes; that of a job on one node if
    /// another that could start there is kept from it.
    #[serde(default)]
    pub held: Vec<HeldNode>,
}

/// A node that is held for a planned start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldNode {
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
}

/// One job now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// The name of the spec's entry that it comes from, where parameters made it.
    #[serde(default)]
    pub family: Option<String>,
    /// Its status.
    pub status: JobStatus,
    /// Its priority.
    pub priority: i32,
    /// CPUs on each node.
    pub cpus: u32,
    /// GPUs on each node.
    pub gpus: u32,
    /// Nodes.
    pub nodes: u32,
    /// Jobs that it depends on.
    pub depends_on: Vec<JobId>,
    /// The scheduler of the spec that it is pinned to.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// The labels that its worker must have.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Its latest attempt, over all runs.
    pub latest: Option<AttemptReport>,
    /// Why it has not started, when it waits for no other job.
    pub waiting: Option<WaitCause>,
}

impl JobReport {
    /// Whether it may run in this allocation, as far as its spec tells.
    pub fn may_run_in(&self, allocation: &AllocationReport) -> bool {
        let wanted = (self.scheduler.as_deref(), &self.labels[..]);
        let offered = (allocation.scheduler.as_deref(), &allocation.labels[..]);
        may_run_under(wanted, offered) && self.nodes <= allocation.num_nodes
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Its name, `wf<W>_j<J>_r<R>_a<A>`.
    pub step: String,
    /// The job's number.
    pub job_id: JobId,
    /// The job's name.
    pub job: String,
    /// The run.
    pub run: RunId,
    /// The launch within the run.
    pub attempt: AttemptId,
    /// `pending` or `running`, or what the attempt amounted to.
    pub status: JobStatus,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// The number that failure handlers know the outcome by.
    pub return_code: Option<i32>,
    /// The nodes it has or had, in node order.
    pub nodes: Vec<String>,
    /// CPUs it has or had over all its nodes.
    pub cpus: u32,
    /// When it was given its nodes.
    pub dispatched_at: Timestamp,
    /// When its first process ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it ran, until its end or until now.
    pub wall_ms: u64,
    /// Processor time used, once it has ended.
    pub cpu_ms: Option<u64>,
    /// The largest memory seen.
    pub peak_memory: Option<u64>,
    /// How it ended in the words of the scheduler's accounting, once that has told.
    pub scheduler_state: Option<String>,
    /// Its standard output, absolute; `None` when it was discarded.
    pub stdout: Option<String>,
    /// Its standard error, absolute; `None` when it was discarded.
    pub stderr: Option<String>,
}

/// A file that jobs read or write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its name in the spec.
    pub name: String,
    /// Its path in the spec.
    pub path: String,
    /// Its path, absolute.
    pub location: String,
    /// The jobs that write it, in the order of the spec.
    pub producers: Vec<String>,
    /// The jobs that read it, likewise.
    pub consumers: Vec<String>,
    /// Whether it is there now.
    pub exists: bool,
    /// Its bytes, if it is there and not a folder.
    pub size: Option<u64>,
    /// When it was last changed, if it is there.
    pub modified_at: Option<Timestamp>,
}

/// User data with its present value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserDataReport {
    /// Its name in the spec.
    pub name: String,
    /// What it is now; null, too, where it has no value.
    pub value: serde_json::Value,
    /// Whether the spec gives it a value, or it was set.
    pub has_value: bool,
    /// It has the spec's value again when the jobs that write it begin anew.
    pub is_ephemeral: bool,
    /// The jobs that write it, in the order of the spec.
    pub producers: Vec<String>,
    /// The jobs that read it, likewise.
    pub consumers: Vec<String>,
    /// When it was set, if it was.
    pub set_at: Option<Timestamp>,
    /// The job that set it, if a job did.
    pub set_by: Option<String>,
}

/// A wish to add jobs to a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddJobsRequest {
    /// A fragment of a spec.
    pub text: String,
    /// How it is written; `None`: each way is tried.
    #[serde(default)]
    pub format: Option<Format>,
    /// The files that it names, by their paths: each with its content, or why it cannot be read.
    #[serde(default)]
    pub sources: BTreeMap<String, Result<Vec<u8>, String>>,
    /// The job that adds them, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<JobId>,
}

/// What became of such a wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum AddJobsAnswer {
    /// The jobs are there.
    Added {
        /// Which.
        report: AddedJobsReport,
        /// What is legal in the text, but probably not meant or not done.
        warnings: Vec<ProblemInText>,
    },
    /// The text has these problems.
    Rejected {
        /// Errors and warnings.
        problems: Vec<ProblemInText>,
    },
    /// They would be added in an iteration beyond the bound.
    TooLate {
        /// In words.
        error: String,
    },
    /// One of them can never run on the nodes that are there.
    Never {
        /// In words.
        error: String,
    },
}

/// Jobs that were added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedJobsReport {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The names of the jobs that were added, in the order of the text.
    pub added: Vec<String>,
    /// The names of those that were there already, and are the same.
    pub present: Vec<String>,
    /// How many additions led to this one, itself included.
    pub iteration: u32,
}

/// A problem of a text that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemInText {
    /// See [`Problem::code`].
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
    /// A few words to put beside the place.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

impl From<Problem> for ProblemInText {
    fn from(problem: Problem) -> Self {
        let Problem { code, severity, message, span, label, help } = problem;
        Self { code: code.to_owned(), severity, message, span, label, help }
    }
}

/// A wish to set user data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserDataRequest {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: serde_json::Value,
    /// The job that wishes so, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<JobId>,
}

/// A wish to end jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The jobs by name; `None`: all of them.
    pub jobs: Option<Vec<String>>,
}

/// What became of a wish to end jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelReport {
    /// Jobs that were waiting and will not start, those included that depended on them.
    pub canceled: u32,
    /// Jobs that were running and were asked to end.
    pub signaled: u32,
}

/// A wish to leave jobs out, or to take them in again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedJobs {
    /// The jobs by name.
    pub jobs: Vec<String>,
}

/// What became of a wish to leave jobs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisableReport {
    /// Jobs that are left out now and were not before.
    pub disabled: u32,
    /// Jobs that depend on them and are canceled for it, at every depth: now, or when a run begins.
    pub canceled: u32,
    /// Jobs that depend on them and run without them.
    pub run_without: u32,
}

/// What became of a wish to take jobs in again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnableReport {
    /// Jobs that are not left out any more and were before.
    pub enabled: u32,
    /// Jobs that depend on them and begin to wait anew.
    pub put_back: u32,
    /// Their run is over: they wait for the next one. Else they wait in the run that is not over.
    pub waits_for_restart: bool,
}

/// What became of a wish to run again what did not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartReport {
    /// Jobs that run again.
    pub put_back: u32,
    /// They do so in a new run; else in the one under way.
    #[serde(default)]
    pub is_new_run: bool,
}

/// A wish to run a workflow again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartRequest {
    /// What its spec says now; `None`: it stays as it is stored.
    pub spec: Option<Workflow>,
    /// All jobs run again, not only those that have a reason to.
    pub all: bool,
}

impl RestartRequest {
    /// Whether it asks for no more than what did not complete, and what that leads to.
    pub fn is_plain(&self) -> bool {
        self.spec.is_none() && !self.all
    }
}

/// What a restart would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPlanReport {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The run in which the jobs would run.
    pub run: RunId,
    /// It goes on with that run, which is under way or was interrupted; else it begins it.
    pub goes_on: bool,
    /// The jobs that would run, in the order of their numbers.
    pub jobs: Vec<RestartedJob>,
    /// Jobs that have completed and stay so.
    pub kept: u32,
    /// Names of the jobs that would be canceled at once, since they depend on what is left out.
    pub barred: Vec<String>,
    /// Names of the jobs that would be left out since the spec does not have them any more.
    pub removed: Vec<String>,
}

/// A job that would run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartedJob {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// How it stands now.
    pub status: JobStatus,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
}

/// Why the server did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// What happened and what to do.
    pub error: String,
}
