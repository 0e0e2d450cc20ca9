//! A workflow as the engine runs it: parameters expanded, names resolved, everything checked.
//!
//! Made by [`crate::spec`], stored as it is, and changed only between two runs, by a
//! [`Revision`](crate::restart::Revision). It is compact, since a
//! workflow can have a hundred thousand jobs: what jobs share is shared, and what most jobs lack
//! costs a pointer.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::addition::{Extent, Growth};
use crate::ids::JobId;
use crate::launch_template::LaunchTemplate;
use crate::placer::Policy;
use crate::resources::{MOST_SLOTS, MemoryRequest, Request};
use crate::time::millis;

/// Environment variables, in the order of the spec.
pub type Env = IndexMap<Box<str>, Box<str>>;

/// A graph of jobs, ready to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// All but the jobs.
    pub header: Header,
    /// The jobs in expansion order: the job with number J is at index J - 1.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// All that the placement of a job depends on.
    pub fn request(&self, job: &Job) -> Request {
        let needs = &self.header.requirements[job.requirements as usize];
        let scheduler = |index: u32| self.header.schedulers[index as usize].name.clone();
        Request {
            priority: job.priority,
            scheduler: job.scheduler.map(scheduler),
            labels: job.labels.clone().unwrap_or_default(),
            cpus: needs.cpus,
            memory: needs.memory,
            gpus: needs.gpus,
            nodes: needs.nodes,
            ntasks_per_node: needs.ntasks_per_node,
            runtime: needs.runtime,
        }
    }
}

/// Something of a workflow refers to what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DanglingReference {
    /// An action does.
    #[error("an action refers to something that is not there")]
    OfAction,
    /// A job does.
    #[error("job `{0}` refers to something that is not there")]
    OfJob(Arc<str>),
    /// The numbers of jobs have a gap.
    #[error("there is no job before job {0}")]
    Gap(JobId),
}

impl Workflow {
    /// Whether every index and job number leads somewhere, so that an engine need not doubt them.
    ///
    /// # Errors
    /// With the first that does not.
    pub fn check_references(&self) -> Result<(), DanglingReference> {
        let header = &self.header;
        let extent = Extent::of(self);
        for action in &header.actions {
            let jobs = match &action.trigger {
                Trigger::OnJobsReady(jobs) | Trigger::OnJobsComplete(jobs) => &jobs[..],
                _ => &[],
            };
            let has_scheduler = match &action.kind {
                ActionKind::ScheduleNodes { scheduler, .. } => {
                    (*scheduler as usize) < header.schedulers.len()
                }
                ActionKind::RunCommands(_) => true,
            };
            if !has_scheduler || !jobs.iter().all(|job| extent.has_job(*job)) {
                return Err(DanglingReference::OfAction);
            }
        }
        match self.jobs.iter().find(|job| !extent.holds(job)) {
            Some(job) => Err(DanglingReference::OfJob(job.name.clone())),
            None => Ok(()),
        }
    }
}

/// All of a workflow but its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The workflow's name.
    pub name: String,
    /// Whose it is.
    pub user: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Free text.
    pub project: Option<String>,
    /// Kept, not read.
    pub metadata: Option<serde_json::Value>,
    /// Set for every job.
    pub env: Env,
    /// The order among jobs of the same priority.
    pub sort_method: SortMethod,
    /// Resource requirements; jobs refer to them by index. The first is `default`.
    pub requirements: Vec<Requirements>,
    /// Failure handlers; jobs refer to them by index.
    pub failure_handlers: Vec<FailureHandler>,
    /// Sources of allocations; jobs and actions refer to them by index.
    pub schedulers: Vec<SchedulerSettings>,
    /// What happens at certain moments.
    pub actions: Vec<Action>,
    /// Files; jobs refer to them by index.
    pub files: Vec<File>,
    /// User data; jobs refer to them by index.
    pub user_data: Vec<UserData>,
    /// How steps are executed.
    pub execution: ExecutionConfig,
    /// What is measured, as written in the spec.
    pub resource_monitor: Option<serde_json::Value>,
    /// Failed jobs without a matching rule become pending_failed.
    pub use_pending_failed: bool,
    /// Bound on jobs that add jobs.
    pub max_dynamic_iterations: Option<u32>,
    /// What is needed to add jobs, where that is allowed.
    #[serde(default, skip_serializing_if = "Growth::is_empty")]
    pub growth: Growth,
    /// Seconds after which an idle worker with nothing it could ever run exits.
    pub wait_for_new_jobs_seconds: u64,
    /// Workers stay although the workflow is complete.
    pub ignore_workflow_completion: bool,
    /// Minutes for which a worker without its server keeps trying.
    pub wait_for_server_minutes: u64,
    /// Plugins that this workflow needs, with their settings.
    pub plugins: Vec<serde_json::Value>,
    /// The jobs that parameters made, by the entry of the spec that they come from, in their order.
    #[serde(default)]
    pub families: Vec<Family>,
}

impl Header {
    /// What the spec sets of its launcher, where that is a plugin.
    pub fn settings_of_launcher(&self) -> serde_json::Map<String, serde_json::Value> {
        match &self.execution.launcher {
            Some(LauncherSetting::Plugin(name)) => self.settings_of(name),
            Some(LauncherSetting::Template { .. }) | None => serde_json::Map::new(),
        }
    }

    /// Whether steps are launched by srun, each on the nodes that it was given.
    pub fn is_slurm_mode(&self) -> bool {
        match self.execution.mode {
            ExecutionMode::Slurm => true,
            ExecutionMode::Auto => self.schedulers.iter().any(|found| found.kind == "slurm"),
            ExecutionMode::Direct | ExecutionMode::Plugin => false,
        }
    }

    /// Single-node jobs at once on each node that an action asks for, whatever they need of CPUs and
    /// memory; `None`: as many as fit, as it always is where srun starts each step.
    pub fn slots(&self, action: &Action) -> Option<NonZeroU32> {
        let ActionKind::ScheduleNodes { max_parallel_jobs: Some(most), .. } = action.kind else {
            return None;
        };
        NonZeroU32::new(most.min(MOST_SLOTS)).filter(|_| !self.is_slurm_mode())
    }

    /// The same of all actions that ask a scheduler, each answer once; of one that nobody asks: as many
    /// as fit.
    pub fn slots_under(&self, scheduler: &str) -> BTreeSet<Option<NonZeroU32>> {
        self.slots_where(|asked| &*asked.name == scheduler)
    }

    /// The same where an allocation stands for this scheduler, or, where none is named, for all of them.
    pub fn slots_in_place_of(&self, scheduler: Option<&str>) -> BTreeSet<Option<NonZeroU32>> {
        self.slots_where(|asked| scheduler.is_none_or(|name| &*asked.name == name))
    }

    fn slots_where(
        &self,
        is_meant: impl Fn(&SchedulerSettings) -> bool,
    ) -> BTreeSet<Option<NonZeroU32>> {
        let asks = |action: &&Action| match action.kind {
            ActionKind::ScheduleNodes { scheduler, .. } => {
                self.schedulers.get(scheduler as usize).is_some_and(&is_meant)
            }
            ActionKind::RunCommands(_) => false,
        };
        let mut slots: BTreeSet<_> =
            self.actions.iter().filter(asks).map(|action| self.slots(action)).collect();
        if slots.is_empty() {
            slots.insert(None);
        }
        slots
    }

    /// The settings of a plugin, as the spec has them.
    pub fn settings_of(&self, plugin: &str) -> serde_json::Map<String, serde_json::Value> {
        let of_it = self.plugins.iter().filter_map(serde_json::Value::as_object);
        let mut of_it = of_it.filter(|settings| settings.get("name").is_some_and(|n| n == plugin));
        let mut settings = of_it.next().cloned().unwrap_or_default();
        settings.shift_remove("name");
        settings
    }

    /// The family of a job, if parameters made it.
    pub fn family_of(&self, job: JobId) -> Option<&Family> {
        let after = self.families.partition_point(|family| family.first <= job);
        let family = &self.families[after.checked_sub(1)?];
        (job.index() < family.first.index() + family.jobs as usize).then_some(family)
    }

    /// Steps at once in one allocation, at most; `None`: as many as fit.
    pub fn most_steps(&self) -> Option<u32> {
        let usual = self.is_slurm_mode().then_some(USUAL_PARALLEL_STEPS);
        self.execution.max_parallel_steps.or(usual)
    }
}

/// Jobs that parameters made of one entry of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The entry's name, with the parameters' tokens in it.
    pub name: Box<str>,
    /// Its first job.
    pub first: JobId,
    /// How many there are; they follow one another.
    pub jobs: u32,
}

/// The order among jobs of the same priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortMethod {
    /// More GPUs first, then longer, then more memory.
    #[default]
    GpusRuntimeMemory,
    /// More GPUs first, then more memory, then longer.
    GpusMemoryRuntime,
    /// The order of the spec.
    None,
}

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Unique in the workflow.
    #[serde(rename = "n")]
    pub name: Arc<str>,
    /// Run by `bash -c`, after `${files…}` and `${user_data…}` were replaced.
    #[serde(rename = "c")]
    pub command: Box<str>,
    /// Precedes the command.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub invocation_script: Option<Box<str>>,
    /// Wins over the workflow's variables of the same name.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Arc<Env>>,
    /// Higher starts first.
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Index into the requirements.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub requirements: u32,
    /// Only workers with all of these take the job. Sorted, without repeats.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Arc<[Box<str>]>>,
    /// Index into the failure handlers.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub failure_handler: Option<u32>,
    /// Index into the schedulers: only allocations of this one run the job.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<u32>,
    /// The job is canceled when a job it depends on does not complete; otherwise it runs once all
    /// of them have ended.
    #[serde(rename = "x", default = "yes", skip_serializing_if = "is_yes")]
    pub cancel_on_blocking_job_failure: bool,
    /// All the jobs it depends on, explicit and implied by files and user data. Ascending, without
    /// repeats.
    #[serde(rename = "d", default, skip_serializing_if = "<[JobId]>::is_empty")]
    pub depends_on: Box<[JobId]>,
    /// Files and user data it reads and writes.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<JobData>>,
    /// Where its output goes, when that differs from the workflow's setting.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<Arc<Stdio>>,
}

/// What a job reads and writes: indices into the workflow's files and user data. Ascending, without
/// repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobData {
    /// Files it reads.
    pub input_files: Box<[u32]>,
    /// Files it writes.
    pub output_files: Box<[u32]>,
    /// User data it reads.
    pub input_user_data: Box<[u32]>,
    /// User data it writes.
    pub output_user_data: Box<[u32]>,
}

/// What a job needs on each of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Unique in the workflow.
    pub name: Arc<str>,
    /// CPUs on each node, at least 1.
    pub cpus: u32,
    /// GPUs on each node.
    pub gpus: u32,
    /// Nodes, at least 1.
    pub nodes: u32,
    /// Memory on each node.
    pub memory: MemoryRequest,
    /// Declared duration; `None`: unknown.
    #[serde(with = "millis::option")]
    pub runtime: Option<Duration>,
    /// Ranks on each node, at least 1.
    pub ntasks_per_node: u32,
    /// The value of `srun --mpi=`.
    pub mpi: Option<String>,
    /// The value of `srun --cpu-bind=`.
    pub cpu_bind: Option<String>,
}

impl Requirements {
    /// The reserved requirements named `default`, for jobs that name none.
    pub fn reserved_default() -> Self {
        Self {
            name: "default".into(),
            cpus: 1,
            gpus: 0,
            nodes: 1,
            memory: MemoryRequest::ShareOfCpus,
            runtime: None,
            ntasks_per_node: 1,
            mpi: None,
            cpu_bind: None,
        }
    }
}

/// What happens when a job fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureHandler {
    /// Unique in the workflow.
    pub name: Arc<str>,
    /// Asked in order: the first that lists the code, else the first that matches all.
    pub rules: Vec<FailureRule>,
}

/// One rule of a failure handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRule {
    /// The codes it is for.
    pub exit_codes: Vec<i32>,
    /// It is for every code other than 0.
    pub match_all_exit_codes: bool,
    /// Run to its end before the job is ready again.
    pub recovery_script: Option<String>,
    /// Retries after the first attempt.
    pub max_retries: u32,
}

/// What torc itself reads of the settings of every scheduler that is not Slurm's; all others are its plugin's.
pub const SCHEDULER_FIELDS: [&str; 4] = ["nodes", "walltime", "labels", "serialize_allocations"];

/// A source of allocations, as the spec describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulerSettings {
    /// Unique in the workflow.
    pub name: Arc<str>,
    /// `slurm`, `local`, or a plugin's type.
    pub kind: String,
    /// All that the spec says about it; for `slurm` the fields of SPEC with the workflow's
    /// `slurm_defaults` under the key `defaults`.
    pub settings: serde_json::Value,
}

/// Something that happens at a certain moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The moment.
    pub trigger: Trigger,
    /// Each worker may run it, once each.
    pub persistent: bool,
    /// What happens.
    pub kind: ActionKind,
}

/// The moment of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The workflow starts.
    OnWorkflowStart,
    /// The workflow is complete.
    OnWorkflowComplete,
    /// A worker starts.
    OnWorkerStart,
    /// A worker ends.
    OnWorkerComplete,
    /// All of these jobs are ready.
    OnJobsReady(Box<[JobId]>),
    /// All of these jobs have ended, however they ended.
    OnJobsComplete(Box<[JobId]>),
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Run these, each by `bash -c`, in order; stop at the first failure.
    RunCommands(Vec<String>),
    /// Ask for allocations.
    ScheduleNodes {
        /// Index into the schedulers.
        scheduler: u32,
        /// How many.
        num_allocations: u32,
        /// As written.
        start_one_worker_per_node: bool,
        /// Jobs at once per worker, without CPU and memory arithmetic.
        max_parallel_jobs: Option<u32>,
    },
}

/// A file that jobs read or write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Unique in the workflow.
    pub name: Arc<str>,
    /// Relative to where the workflow was submitted, or absolute.
    pub path: Arc<str>,
}

/// A value that jobs read or write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserData {
    /// Unique in the workflow.
    pub name: Arc<str>,
    /// The value at submission.
    pub data: Option<serde_json::Value>,
    /// It has its first value again when the jobs that write it run again.
    pub is_ephemeral: bool,
}

/// A launcher, as a spec names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LauncherSetting {
    /// A plugin's.
    Plugin(Box<str>),
    /// One without code.
    Template {
        /// Its words.
        argv: LaunchTemplate,
    },
}

/// How steps are executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionConfig {
    /// Which executor.
    pub mode: ExecutionMode,
    /// The plugin that is the executor, in [`ExecutionMode::Plugin`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Box<str>>,
    /// Seconds before the end of an allocation at which what still runs is killed.
    pub sigkill_headroom_seconds: u64,
    /// The code recorded for a job that was ended because its time was up.
    pub timeout_exit_code: i32,
    /// Spread the start of steps.
    pub staggered_start: bool,
    /// Where output goes.
    pub stdio: Stdio,
    /// Hold jobs to their memory.
    pub limit_resources: bool,
    /// The number of the signal that asks a job to end.
    pub termination_signal: i32,
    /// Seconds between that signal and SIGKILL.
    pub sigterm_lead_seconds: u64,
    /// The code recorded for a job that used too much memory.
    pub oom_exit_code: i32,
    /// `--mpi=` of the srun that starts workers.
    pub srun_mpi: Option<String>,
    /// Give nodes back on which nothing that waits could ever start.
    #[serde(default)]
    pub release_idle_nodes: bool,
    /// `srun --signal=`.
    pub srun_termination_signal: Option<String>,
    /// Bind tasks to CPUs.
    pub enable_cpu_bind: bool,
    /// What starts the command of each job; `None`: nothing does, it is started itself.
    pub launcher: Option<LauncherSetting>,
    /// A placer's name.
    pub placer: Option<String>,
    /// End a job that exceeds its declared runtime.
    pub enforce_runtime: bool,
    /// Steps at once in one allocation.
    pub max_parallel_steps: Option<u32>,
}

/// Steps at once in one allocation of Slurm's where the spec does not say: sites limit the rate of srun.
pub const USUAL_PARALLEL_STEPS: u32 = 100;

impl ExecutionConfig {
    /// The plugin that is to place jobs, where torc's own placers are not wanted.
    pub fn placer_plugin(&self) -> Option<&str> {
        self.placer.as_deref().filter(|name| !Policy::is_known(name))
    }

    /// The plugin that is to launch steps, where that is none of torc's own executors.
    pub fn executor_plugin(&self) -> Option<&str> {
        self.executor.as_deref().filter(|_| self.mode == ExecutionMode::Plugin)
    }

    /// The signal that asks a job to end, by number, and the time between it and SIGKILL; in an
    /// allocation of Slurm's in mode slurm as `srun_termination_signal` says.
    pub fn termination(&self, in_slurm: bool) -> (i32, Duration) {
        /// SPEC's default.
        const USUAL_SIGNAL: &str = "TERM@120";
        let mut chosen = (self.termination_signal, self.sigterm_lead_seconds);
        if in_slurm {
            let text = self.srun_termination_signal.as_deref().unwrap_or(USUAL_SIGNAL);
            // What is stored was checked when it was read.
            chosen = crate::spec::slurm_signal(text).unwrap_or(chosen);
        }
        (chosen.0, Duration::from_secs(chosen.1))
    }

    /// How long before the end of an allocation what still runs there is asked to end: so that it
    /// has its lead and is gone by the headroom.
    pub fn stop_margin(&self, in_slurm: bool) -> Duration {
        let (_, lead) = self.termination(in_slurm);
        lead.saturating_add(Duration::from_secs(self.sigkill_headroom_seconds))
    }
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        const SIGTERM: i32 = 15;
        Self {
            mode: ExecutionMode::Auto,
            executor: None,
            sigkill_headroom_seconds: 60,
            timeout_exit_code: 152,
            staggered_start: true,
            stdio: Stdio::default(),
            limit_resources: true,
            termination_signal: SIGTERM,
            sigterm_lead_seconds: 30,
            oom_exit_code: 137,
            srun_mpi: None,
            release_idle_nodes: false,
            srun_termination_signal: None,
            enable_cpu_bind: false,
            launcher: None,
            placer: None,
            enforce_runtime: false,
            max_parallel_steps: None,
        }
    }
}

/// Which executor runs the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// One worker per node starts plain processes.
    Direct,
    /// One srun per step.
    Slurm,
    /// Slurm inside a Slurm allocation or where the spec has slurm_schedulers, direct elsewhere.
    #[default]
    Auto,
    /// A plugin's executor, by one worker.
    Plugin,
}

impl ExecutionMode {
    /// Those that torc has itself, by the words that specs have for them.
    pub const NAMES: [(&str, Self); 3] =
        [("direct", Self::Direct), ("slurm", Self::Slurm), ("auto", Self::Auto)];

    /// Whether srun may start the steps, as far as that can be known before they are there.
    pub fn may_have_sruns(self) -> bool {
        matches!(self, Self::Slurm | Self::Auto)
    }
}

/// Where a job's output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stdio {
    /// Which files there are.
    pub mode: StdioMode,
    /// Remove the files of a job that completed.
    pub delete_on_success: bool,
}

/// Which output files a job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdioMode {
    /// `.o` and `.e`.
    #[default]
    Separate,
    /// `.log` has both.
    Combined,
    /// `.e` only.
    NoStdout,
    /// `.o` only.
    NoStderr,
    /// None.
    None,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
