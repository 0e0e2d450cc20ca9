//! Actions with their jobs and schedulers resolved.

use super::names::Names;
use super::pattern::Patterns;
use crate::diagnostics::{Problem, Span};
use crate::ids::JobId;
use crate::spec::model::{ActionItem, ActionWork, Moment};
use crate::spec::problems::{Problems, excerpt};
use crate::spec::tree::Text;
use crate::workflow::{Action, ActionKind, SchedulerSettings, Trigger};

/// What actions can refer to.
pub(crate) struct Targets<'t> {
    pub(crate) jobs: &'t Names,
    pub(crate) scheduler_names: &'t Names,
    pub(crate) schedulers: &'t [SchedulerSettings],
    /// Whether steps are executed in Slurm mode.
    pub(crate) is_slurm_mode: bool,
}

/// Resolves what the actions refer to.
pub(crate) fn lower(
    items: Vec<ActionItem>,
    targets: &Targets<'_>,
    problems: &Problems<'_>,
) -> Vec<Action> {
    let mut patterns = Patterns::new(targets.jobs);
    items
        .into_iter()
        .filter_map(|item| {
            let trigger = trigger(&item, targets.jobs, &mut patterns, problems);
            let kind = kind(item.work, targets, problems)?;
            Some(Action { trigger, persistent: item.persistent, kind })
        })
        .collect()
}

fn trigger(
    item: &ActionItem,
    names: &Names,
    patterns: &mut Patterns<'_>,
    problems: &Problems<'_>,
) -> Trigger {
    let mut jobs = || selected(item, names, patterns, problems);
    match item.moment.value {
        Moment::WorkflowStart => Trigger::OnWorkflowStart,
        Moment::WorkflowComplete => Trigger::OnWorkflowComplete,
        Moment::WorkerStart => Trigger::OnWorkerStart,
        Moment::WorkerComplete => Trigger::OnWorkerComplete,
        Moment::JobsReady => Trigger::OnJobsReady(jobs()),
        Moment::JobsComplete => Trigger::OnJobsComplete(jobs()),
    }
}

fn selected(
    item: &ActionItem,
    names: &Names,
    patterns: &mut Patterns<'_>,
    problems: &Problems<'_>,
) -> Box<[JobId]> {
    let mut found: Vec<u32> = item
        .jobs
        .iter()
        .filter_map(|name| names.resolve(&name.value, name.span, problems))
        .collect();
    for regex in &item.job_name_regexes {
        found.extend(patterns.select(&regex.value, regex.span, problems).iter());
    }
    let selects = !item.jobs.is_empty() || !item.job_name_regexes.is_empty();
    if found.is_empty() && selects {
        let help = match names.some() {
            Some(some) => format!("correct `jobs` or `job_name_regexes`; the jobs are {some}"),
            None => "remove it: the workflow has no jobs".to_owned(),
        };
        problems.push(
            Problem::error("spec::action-without-jobs", "this action selects no job")
                .at(item.moment.span, "it could never happen")
                .help(help),
        );
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|job| JobId::from_index(job as usize)).collect()
}

fn kind(work: ActionWork, targets: &Targets<'_>, problems: &Problems<'_>) -> Option<ActionKind> {
    match work {
        ActionWork::RunCommands(commands) => Some(ActionKind::RunCommands(commands)),
        ActionWork::ScheduleNodes {
            scheduler,
            scheduler_type,
            num_allocations,
            start_one_worker_per_node,
            max_parallel_jobs,
        } => {
            if let Some(span) = start_one_worker_per_node.filter(|_| targets.is_slurm_mode) {
                problems.push(worker_per_node(span));
            }
            if let Some(limit) = max_parallel_jobs.as_ref().filter(|_| targets.is_slurm_mode) {
                let instead = "is for mode direct, but this workflow has mode slurm: jobs are placed by \
                               what they need";
                problems.not_run("`max_parallel_jobs` of an action", instead, limit.span);
            }
            let names = targets.scheduler_names;
            let index = names.resolve(&scheduler.value, scheduler.span, problems)?;
            let kind = &targets.schedulers[index as usize].kind;
            if let Some(written) = scheduler_type.filter(|written| *written.value != **kind) {
                problems.push(other_type(&scheduler, kind, &written));
            }
            Some(ActionKind::ScheduleNodes {
                scheduler: index,
                num_allocations,
                start_one_worker_per_node: start_one_worker_per_node.is_some(),
                max_parallel_jobs: max_parallel_jobs.map(|limit| limit.value),
            })
        }
    }
}

fn worker_per_node(span: Span) -> Problem {
    let message =
        "`start_one_worker_per_node` is for mode direct, but this workflow has mode slurm";
    Problem::error("spec::other-mode", message)
        .at(span, "only in mode direct")
        .help("remove it, or say `execution_config: {mode: direct}`, where it is always so")
}

fn other_type(scheduler: &Text, kind: &str, written: &Text) -> Problem {
    let message =
        format!("the scheduler `{}` has the type `{}`", excerpt(&scheduler.value), excerpt(kind));
    Problem::error("spec::scheduler-type", message)
        .at(written.span, "another type")
        .help(format!("write `scheduler_type: {kind}`, or name another scheduler"))
}
