//! `actions`: what happens at certain moments.

use super::{Text, each};
use crate::diagnostics::{Problem, Span};
use crate::spec::decode::{Fields, as_text};
use crate::spec::fields;
use crate::spec::problems::Problems;
use crate::spec::tree::{Node, Spanned};

/// The moment of an action, its jobs not yet known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    WorkflowStart,
    WorkflowComplete,
    WorkerStart,
    WorkerComplete,
    JobsReady,
    JobsComplete,
}

impl Moment {
    /// Whether it is about selected jobs.
    pub(crate) fn needs_jobs(self) -> bool {
        matches!(self, Self::JobsReady | Self::JobsComplete)
    }
}

/// What an action does, its scheduler not yet known.
#[derive(Debug)]
pub(crate) enum ActionWork {
    RunCommands(Vec<String>),
    ScheduleNodes {
        scheduler: Text,
        scheduler_type: Option<Text>,
        num_allocations: u32,
        /// Where it was asked for.
        start_one_worker_per_node: Option<Span>,
        max_parallel_jobs: Option<Spanned<u32>>,
    },
}

/// An action as written.
#[derive(Debug)]
pub(crate) struct ActionItem {
    pub(crate) moment: Spanned<Moment>,
    pub(crate) jobs: Vec<Text>,
    pub(crate) job_name_regexes: Vec<Text>,
    pub(crate) persistent: bool,
    pub(crate) work: ActionWork,
}

/// Reads one entry of `actions`.
pub(super) fn action(node: Node, problems: &Problems<'_>) -> Option<ActionItem> {
    let mut fields = Fields::open(node, &fields::ACTION, problems)?;
    let moment = moment(&mut fields);
    let jobs = fields.texts("jobs");
    let job_name_regexes = fields.texts("job_name_regexes");
    if let Some(moment) = &moment {
        check_selection(moment, !jobs.is_empty() || !job_name_regexes.is_empty(), problems);
    }
    let persistent = fields.flag("persistent").is_some_and(|flag| flag.value);
    let work = work(&mut fields);
    fields.finish();
    Some(ActionItem { moment: moment?, jobs, job_name_regexes, persistent, work: work? })
}

fn moment(fields: &mut Fields<'_, '_>) -> Option<Spanned<Moment>> {
    let moments = [
        ("on_workflow_start", Moment::WorkflowStart),
        ("on_workflow_complete", Moment::WorkflowComplete),
        ("on_worker_start", Moment::WorkerStart),
        ("on_worker_complete", Moment::WorkerComplete),
        ("on_jobs_ready", Moment::JobsReady),
        ("on_jobs_complete", Moment::JobsComplete),
    ];
    if !fields.has("trigger_type") {
        fields.missing("trigger_type", moments[0].0);
    }
    fields.choice("trigger_type", &moments)
}

fn check_selection(moment: &Spanned<Moment>, selects: bool, problems: &Problems<'_>) {
    let problem = match (moment.value.needs_jobs(), selects) {
        (true, false) => Problem::error("spec::missing-field", "this trigger needs jobs")
            .at(moment.span, "of which jobs?")
            .help("add `jobs: [name]` or `job_name_regexes: ['^prefix_']`"),
        (false, true) => Problem::error("spec::unknown-field", "this trigger is not about jobs")
            .at(moment.span, "has `jobs` or `job_name_regexes`")
            .help("remove them, or use `on_jobs_ready` or `on_jobs_complete`"),
        _ => return,
    };
    problems.push(problem);
}

fn work(fields: &mut Fields<'_, '_>) -> Option<ActionWork> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        RunCommands,
        ScheduleNodes,
    }
    let kinds = [("run_commands", Kind::RunCommands), ("schedule_nodes", Kind::ScheduleNodes)];
    if !fields.has("action_type") {
        fields.missing("action_type", kinds[0].0);
    }
    let kind = fields.choice("action_type", &kinds);
    let commands = commands(fields);
    let scheduler = fields.text("scheduler", "cpu_nodes");
    let scheduler_type = fields.text("scheduler_type", "slurm");
    let num_allocations = fields.whole("num_allocations");
    let num_allocations = num_allocations.and_then(|found| u32::try_from(found.value).ok());
    let num_allocations = num_allocations.unwrap_or(1);
    let per_node = fields.flag("start_one_worker_per_node").filter(|flag| flag.value);
    let limit_span = fields.node_span("max_parallel_jobs");
    let limit = fields.count("max_parallel_jobs");
    let max_parallel_jobs = limit.zip(limit_span).map(|(most, span)| Spanned::new(most, span));
    let kind = kind?;
    let problems = fields.problems();
    match kind.value {
        Kind::RunCommands => {
            if commands.is_empty() {
                fields.missing("commands", "[\"echo done\"]");
            }
            if let Some(extra) = scheduler.or(scheduler_type) {
                misplaced(problems, extra.span, "schedule_nodes");
            }
            if let Some(limit) = max_parallel_jobs {
                let instead = "is of use only with `action_type: schedule_nodes`";
                problems.not_run("`max_parallel_jobs` of an action", instead, limit.span);
            }
            Some(ActionWork::RunCommands(commands))
        }
        Kind::ScheduleNodes => {
            if !commands.is_empty() {
                misplaced(problems, kind.span, "run_commands");
            }
            if scheduler.is_none() {
                fields.missing("scheduler", "cpu_nodes");
            }
            Some(ActionWork::ScheduleNodes {
                scheduler: scheduler?,
                scheduler_type,
                num_allocations,
                start_one_worker_per_node: per_node.map(|flag| flag.span),
                max_parallel_jobs,
            })
        }
    }
}

fn misplaced(problems: &Problems<'_>, span: Span, of: &str) {
    let message = format!("this action has fields that belong to `action_type: {of}`");
    problems.push(
        Problem::error("spec::unknown-field", message)
            .at(span, format!("belongs to {of}"))
            .help("use one action for each"),
    );
}

fn commands(fields: &mut Fields<'_, '_>) -> Vec<String> {
    each(fields, "commands", |node, problems| {
        let message = "an item of `commands` must be a string";
        let text = as_text(problems, node, message, "-", "echo done")?;
        if text.value.contains('\0') {
            problems.push(crate::spec::lower::nul_byte(text.span));
        }
        Some(text.value.into())
    })
}
