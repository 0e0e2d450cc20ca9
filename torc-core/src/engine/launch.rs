//! From a dispatched job to the step that an executor launches: command, environment, output files,
//! limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{AttemptId, JobId, RunId, StepId};
use crate::resources::{MemoryRequest, NodeInventory, NodeShare, Placement};
use crate::traits::{RankLayout, StdioPaths, Step, StepLimits, StepNode};
use crate::workflow::{Job, Stdio, StdioMode};

use super::Engine;

/// The folder under the output directory that jobs' output files lie in.
const STDIO_FOLDER: &str = "job_stdio";

/// What a launch needs to know of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchContext {
    /// Where torc keeps its files, absolute.
    pub output_dir: Arc<str>,
    /// Where the workflow was submitted, absolute: the jobs' working folder.
    pub submission_dir: Arc<str>,
}

impl Engine {
    /// The name of a launch in the current run.
    pub fn step_id(&self, job: JobId, attempt: AttemptId) -> StepId {
        StepId { workflow: self.id, job, run: self.run.unwrap_or(RunId(1)), attempt }
    }

    /// The step that a dispatched job becomes. `None` when its nodes are gone.
    pub fn step(
        &self,
        job: JobId,
        attempt: AttemptId,
        placement: &Placement,
        context: &LaunchContext,
    ) -> Option<Step> {
        let definition = &self.workflow.jobs[job.index()];
        let header = &self.workflow.header;
        let needs = &header.requirements[definition.requirements as usize];
        let execution = &header.execution;
        let id = self.step_id(job, attempt);
        let termination = execution.termination(self.is_in_slurm(placement.allocation));
        let memory = match needs.memory {
            MemoryRequest::Bytes(bytes) if execution.limit_resources => Some(bytes),
            _ => None,
        };
        Some(Step {
            id,
            job_name: definition.name.clone(),
            argv: vec!["bash".to_owned(), "-c".to_owned(), self.script(definition)],
            env: self.step_env(id, definition, context),
            working_dir: context.submission_dir.clone(),
            stdio: stdio_paths(id, self.stdio(definition), &context.output_dir),
            allocation: placement.allocation,
            nodes: self.step_nodes(placement)?,
            layout: RankLayout {
                ntasks_per_node: if needs.nodes > 1 { needs.ntasks_per_node } else { 1 },
                cpus_per_node: needs.cpus,
                mpi: needs.mpi.as_deref().map(Box::from),
                cpu_bind: needs
                    .cpu_bind
                    .as_deref()
                    .map(Box::from)
                    .or_else(|| (!execution.enable_cpu_bind).then(|| Box::from("none"))),
            },
            limits: StepLimits {
                memory,
                runtime: needs.runtime.filter(|_| execution.enforce_runtime),
                termination_signal: termination.0,
                termination_lead: termination.1,
            },
            expected_files: definition.data.as_ref().map_or_else(Vec::new, |data| {
                let path = |file: &u32| header.files[*file as usize].path.clone();
                data.output_files.iter().map(path).collect()
            }),
        })
    }

    /// Where a job's output goes.
    pub fn stdio(&self, job: &Job) -> Stdio {
        job.stdio.as_deref().copied().unwrap_or(self.workflow.header.execution.stdio)
    }

    /// The text for `bash -c`: the script precedes the command, on a line of its own when it has several. User data
    /// has the values that it has now.
    fn script(&self, job: &Job) -> String {
        let command = self.with_user_data(job, &job.command);
        let Some(script) = &job.invocation_script else { return command.into_owned() };
        let script = self.with_user_data(job, script.trim_end());
        let between = if script.contains('\n') { '\n' } else { ' ' };
        format!("{script}{between}{command}")
    }

    fn step_nodes(&self, placement: &Placement) -> Option<Vec<StepNode>> {
        let share = |share: &NodeShare| Some(step_node(self.ledger.inventory(share.node)?, share));
        placement.shares.iter().map(share).collect()
    }

    /// The workflow's variables, then the job's, then torc's own, which win.
    pub(super) fn step_env(
        &self,
        id: StepId,
        job: &Job,
        context: &LaunchContext,
    ) -> BTreeMap<String, String> {
        let own = job.env.as_deref().into_iter().flatten();
        let mut env: BTreeMap<String, String> = self
            .workflow
            .header
            .env
            .iter()
            .chain(own)
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let torc = [
            ("TORC_WORKFLOW_ID", id.workflow.to_string()),
            ("TORC_JOB_ID", id.job.to_string()),
            ("TORC_JOB_NAME", job.name.to_string()),
            ("TORC_RUN_ID", id.run.to_string()),
            ("TORC_ATTEMPT_ID", id.attempt.to_string()),
            ("TORC_OUTPUT_DIR", context.output_dir.to_string()),
            ("TORC_WORKFLOW_SUBMISSION_DIR", context.submission_dir.to_string()),
        ];
        env.extend(torc.map(|(name, value)| (name.to_owned(), value)));
        env
    }
}

/// A share of a node in the ids that the node knows its devices by. Jobs that hold slots share all of its
/// CPUs and memory.
fn step_node(has: &NodeInventory, share: &NodeShare) -> StepNode {
    let gpus = share.gpus.iter().map(|gpu| has.gpus[usize::from(*gpu)].clone());
    let (cores, memory) = if has.slots.is_some() {
        (has.cores.clone(), has.memory)
    } else {
        let cores = share.cores.iter().map(|core| has.cores[usize::from(*core)]);
        (cores.collect(), share.memory)
    };
    StepNode { name: has.name.clone(), cores, gpus: gpus.collect(), memory }
}

/// A file of a launch beside those that its output goes to.
pub(super) fn beside_stdio(id: StepId, suffix: &str, output_dir: &str) -> String {
    format!("{output_dir}/{STDIO_FOLDER}/job_{id}.{suffix}")
}

/// The files that a step's output goes to. Their names are made of numbers, so that no job name can
/// lead out of the output directory.
pub fn stdio_paths(id: StepId, stdio: Stdio, output_dir: &str) -> StdioPaths {
    let file = |suffix: &str| Some(beside_stdio(id, suffix, output_dir).into_boxed_str());
    let (stdout, stderr) = match stdio.mode {
        StdioMode::Separate => (file("o"), file("e")),
        StdioMode::Combined => (file("log"), file("log")),
        StdioMode::NoStdout => (None, file("e")),
        StdioMode::NoStderr => (file("o"), None),
        StdioMode::None => (None, None),
    };
    StdioPaths { stdout, stderr, delete_on_success: stdio.delete_on_success }
}
