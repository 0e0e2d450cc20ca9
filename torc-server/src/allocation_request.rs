//! What a scheduler is asked for when an allocation of a workflow is wished for: its name, its files, and
//! the worker that it starts.
//!
//! Pure. The server that asks and the command that only shows what would be asked both take it from here,
//! so that they cannot differ.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use torc_core::traits::{AllocationHandle, AllocationRequest};
use torc_core::workflow::{ExecutionMode, Header, LauncherSetting, SchedulerSettings, Workflow};

use crate::store::Submitter;

/// What starts the commands of jobs, as a worker is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerLauncher {
    /// As the spec names it.
    pub launcher: LauncherSetting,
    /// The settings of the plugin, where it is one.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// What launches steps where that is a plugin, as a worker is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerExecutor {
    /// The plugin's name.
    pub name: Box<str>,
    /// Its settings.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

impl WorkerExecutor {
    /// That of a workflow, if it is a plugin.
    pub fn of(header: &Header) -> Option<Self> {
        let name = header.execution.executor_plugin()?;
        Some(Self { name: name.into(), settings: header.settings_of(name) })
    }
}

/// A workflow and what its allocations have in common.
pub struct Asking<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The program that a worker is, absolute.
    pub program: &'a str,
    /// The state directory, absolute.
    pub output_dir: &'a str,
    /// The folder that it was submitted from, absolute.
    pub submission_dir: &'a str,
    /// Who submitted it.
    pub submitter: &'a Submitter,
}

/// The numbers by which one allocation goes. What has none yet may have a word in its place.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Of the workflow.
    pub workflow: &'a dyn Display,
    /// Of the allocation within it.
    pub allocation: &'a dyn Display,
}

impl Asking<'_> {
    /// The request for an allocation of this scheduler; it begins only `after` another has ended.
    pub fn request(
        &self,
        scheduler: &SchedulerSettings,
        names: Names<'_>,
        after: Option<AllocationHandle>,
    ) -> AllocationRequest {
        let Names { workflow, allocation } = names;
        let output_dir = self.output_dir;
        AllocationRequest {
            name: format!("torc_wf{workflow}_al{allocation}"),
            nodes: scheduler.nodes(),
            walltime: Some(scheduler.walltime()),
            settings: scheduler.settings.clone(),
            command: self.worker_command(scheduler, names),
            working_dir: self.submission_dir.to_owned(),
            output: format!("{output_dir}/job_stdio/allocation_wf{workflow}_al{allocation}.log"),
            env: self.submitter.env.clone(),
            umask: Some(self.submitter.umask),
            after,
        }
    }

    /// What starts the commands of jobs, for the worker.
    fn launcher(&self) -> Option<String> {
        let header = &self.workflow.header;
        let launcher = header.execution.launcher.as_ref()?;
        let settings = header.settings_of_launcher();
        let told = WorkerLauncher { launcher: launcher.clone(), settings };
        // It has no keys that are not text, so that it can be written.
        serde_json::to_string(&told).ok()
    }

    /// What launches steps, for the worker, where it is a plugin.
    fn executor(&self) -> Option<String> {
        let executor = WorkerExecutor::of(&self.workflow.header)?;
        // As above.
        serde_json::to_string(&executor).ok()
    }

    /// What the batch script runs.
    fn worker_command(&self, scheduler: &SchedulerSettings, names: Names<'_>) -> Vec<String> {
        let execution = &self.workflow.header.execution;
        let is_slurm = scheduler.kind == "slurm";
        let mode = match execution.mode {
            _ if !is_slurm => Some("host"),
            ExecutionMode::Direct => Some("direct"),
            ExecutionMode::Plugin => Some("plugin"),
            ExecutionMode::Slurm | ExecutionMode::Auto => None,
        };
        // But for mode slurm it is the worker, not Slurm, that ends what nobody has ended before.
        let headroom = match mode.is_some() {
            true => execution.stop_margin(false).as_secs(),
            false => execution.sigkill_headroom_seconds,
        };
        let patience = self.workflow.header.wait_for_server_minutes;
        let always = [
            ("--output-dir", self.output_dir.to_owned()),
            ("--workflow", names.workflow.to_string()),
            ("--allocation", names.allocation.to_string()),
            ("--headroom", headroom.to_string()),
            ("--patience", patience.to_string()),
        ];
        let steps = execution.max_parallel_steps;
        let others = [
            steps.map(|steps| ("--max-parallel-steps", steps.to_string())),
            mode.map(|mode| ("--mode", mode.to_owned())),
            (!is_slurm).then(|| ("--walltime", scheduler.walltime().as_secs().to_string())),
            (!is_slurm).then(|| ("--hosts", scheduler.nodes().to_string())),
            execution.srun_mpi.clone().filter(|_| is_slurm).map(|kind| ("--srun-mpi", kind)),
            self.launcher().map(|launcher| ("--launcher", launcher)),
            self.executor().map(|executor| ("--executor", executor)),
        ];
        let options = always.into_iter().chain(others.into_iter().flatten());
        [self.program.to_owned(), "worker".to_owned()]
            .into_iter()
            .chain(options.flat_map(|(name, value)| [name.to_owned(), value]))
            .chain(
                (mode == Some("direct") && execution.staggered_start)
                    .then(|| "--staggered".to_owned()),
            )
            .collect()
    }
}

/// The mark by which the request is found again in the scheduler's queue. `store` is the name that no
/// other state directory has.
pub fn key(store: &str, names: Names<'_>) -> String {
    format!("torc-{store}-wf{}-al{}", names.workflow, names.allocation)
}
