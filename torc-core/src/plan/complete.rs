//! A workflow with what its plan adds.

use super::model::Plan;
use crate::workflow::{Action, ActionKind, ExecutionConfig, ExecutionMode, Workflow};

/// The workflow with the schedulers and actions of the plan, and with its jobs pinned to them where
/// there are several schedulers.
///
/// A workflow of mode auto counts as one of mode slurm once it has Slurm schedulers; one whose
/// settings are for mode direct only gets that mode.
pub fn complete(workflow: &Workflow, plan: &Plan) -> Workflow {
    let mut completed = workflow.clone();
    if plan.stages.is_empty() {
        return completed;
    }
    let header = &mut completed.header;
    let mut index_of_stage: Vec<u32> = Vec::with_capacity(plan.stages.len());
    for stage in &plan.stages {
        let known = header.schedulers.iter().position(|known| known.name == stage.scheduler.name);
        let index = known.unwrap_or_else(|| {
            header.schedulers.push(stage.scheduler.clone());
            header.schedulers.len() - 1
        });
        let scheduler = u32::try_from(index).unwrap_or(u32::MAX);
        index_of_stage.push(scheduler);
        header.actions.push(Action {
            trigger: stage.trigger.clone(),
            persistent: false,
            kind: ActionKind::ScheduleNodes {
                scheduler,
                num_allocations: stage.chosen.num_allocations,
                start_one_worker_per_node: false,
                max_parallel_jobs: None,
            },
        });
    }
    if header.execution.mode == ExecutionMode::Auto && is_for_direct(&header.execution) {
        header.execution.mode = ExecutionMode::Direct;
    }
    if header.schedulers.len() > 1 {
        for (stage, scheduler) in plan.stages.iter().zip(index_of_stage) {
            for job in &stage.jobs {
                completed.jobs[job.index()].scheduler = Some(scheduler);
            }
        }
    }
    completed
}

/// Whether settings are in use that only mode direct has.
pub(crate) fn is_for_direct(execution: &ExecutionConfig) -> bool {
    let usual = ExecutionConfig::default();
    execution.limit_resources != usual.limit_resources
        || execution.termination_signal != usual.termination_signal
        || execution.sigterm_lead_seconds != usual.sigterm_lead_seconds
        || execution.oom_exit_code != usual.oom_exit_code
        || execution.srun_mpi != usual.srun_mpi
        || execution.release_idle_nodes != usual.release_idle_nodes
}
