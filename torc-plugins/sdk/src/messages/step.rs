//! A step: one launch of a job on its nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of a step, unique for ever in a state directory. Written `wf1_j2_r1_a1` in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepId {
    /// The workflow, from 1.
    pub workflow: u32,
    /// The job within the workflow, from 1.
    pub job: u32,
    /// The run of the workflow, from 1.
    pub run: u32,
    /// The launch of the job within the run, from 1.
    pub attempt: u32,
}

/// All that is needed to launch one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// The job's name, for messages.
    pub job_name: String,
    /// The program and its arguments; never a shell string, though the program may be a shell.
    pub argv: Vec<String>,
    /// Set on top of the environment that the executor starts from.
    pub env: BTreeMap<String, String>,
    /// The working folder, absolute.
    pub working_dir: String,
    /// Where output goes.
    pub stdio: Stdio,
    /// The number of the allocation that its nodes belong to.
    pub allocation: u32,
    /// The nodes it runs on, in node order; a command of a job on several starts on the first.
    pub nodes: Vec<StepNode>,
    /// How its ranks lie on its nodes.
    pub layout: Layout,
    /// What it is held to.
    pub limits: Limits,
    /// Files that must exist after an exit with code 0, relative to the working folder or absolute.
    pub expected_files: Vec<String>,
}

/// One node of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepNode {
    /// The host's name, as the scheduler knows it.
    pub name: String,
    /// The operating system's numbers of the CPUs it may use there.
    pub cores: Vec<u32>,
    /// The device ids of its GPUs there.
    pub gpus: Vec<String>,
    /// Bytes of memory that are held there.
    pub memory: u64,
}

/// Files that output goes to, absolute; `None` discards it. Equal paths share one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stdio {
    /// Standard output.
    pub stdout: Option<String>,
    /// Standard error.
    pub stderr: Option<String>,
    /// Whether the files are removed after an exit with code 0.
    pub delete_on_success: bool,
}

/// How the ranks of a step lie on its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Layout {
    /// Ranks on each node, at least 1.
    pub ntasks_per_node: u32,
    /// CPUs that the ranks on one node share, at least 1.
    pub cpus_per_node: u32,
    /// How ranks find each other, as `srun --mpi` has it.
    pub mpi: Option<String>,
    /// How ranks are bound to CPUs, as `srun --cpu-bind` has it.
    pub cpu_bind: Option<String>,
}

/// What a step is held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Bytes that its processes on one node may use.
    pub memory: Option<u64>,
    /// Milliseconds that it may run.
    pub runtime: Option<u64>,
    /// The number of the signal that asks it to end.
    pub termination_signal: i32,
    /// Milliseconds between that signal and SIGKILL.
    pub termination_lead: u64,
}
