//! Steps for launchers and executors, as torc's engine makes them.
//!
//! Owns: what a step is like unless a check changes it. Does not know: what is done with it.

use std::collections::BTreeMap;
use std::time::Duration;

use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::traits::{RankLayout, StdioPaths, Step, StepLimits};

/// SIGTERM.
pub(crate) const TERM: i32 = 15;

/// Longer than any check takes.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Words that a shell, a template or an option parser would make something else of.
pub(crate) const ODD_WORDS: [&str; 20] = [
    "two words",
    "it's",
    "say \"yes\"",
    "two\nlines",
    "$HOME ${HOME} $(id) `id`",
    "",
    "back\\slash \\n",
    "*",
    "~",
    "a;b|c&d>e",
    "--",
    "-n",
    "--nodes=7",
    "NAME=value",
    "{nodes} {command}",
    "%j %t %%",
    "tab\there",
    " blanks around ",
    "äöü €",
    "",
];

/// The step of a job.
pub(crate) fn step_id(job: u32) -> StepId {
    StepId { workflow: WorkflowId(1), job: JobId(job), run: RunId(1), attempt: AttemptId::FIRST }
}

/// A step that has nodes yet to get.
pub(crate) fn step(job: u32, argv: &[&str]) -> Step {
    Step {
        id: step_id(job),
        job_name: "check".into(),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::new(),
        working_dir: "/".into(),
        stdio: StdioPaths::default(),
        allocation: AllocationId(1),
        nodes: Vec::new(),
        layout: RankLayout {
            ntasks_per_node: 1,
            cpus_per_node: 1,
            mpi: None,
            cpu_bind: Some("none".into()),
        },
        limits: StepLimits {
            memory: None,
            runtime: None,
            termination_signal: TERM,
            termination_lead: LONG,
        },
        expected_files: Vec::new(),
    }
}
