//! The words of the warnings about Slurm: what is wrong, with numbers, and what to write instead.

use std::time::Duration;

use super::{Group, Lacks};
use crate::diagnostics::Problem;
use crate::resources::MemoryRequest;
use crate::spec::problems::excerpt;
use crate::spec::{SharedCpus, SlurmSettings, units};
use crate::workflow::Requirements;

/// A scheduler's name and settings.
type Named<'s> = (&'s str, &'s SlurmSettings);

/// The jobs of a group as the subject of a sentence.
fn jobs(group: &Group<'_>) -> String {
    let name = excerpt(group.first_name);
    match group.count {
        1 => format!("`{name}`"),
        2 => format!("`{name}` and 1 more job like it"),
        count => format!("`{name}` and {} more jobs like it", count - 1),
    }
}

fn verb(group: &Group<'_>, one: &'static str, several: &'static str) -> &'static str {
    if group.count == 1 { one } else { several }
}

/// No scheduler has the right labels, or the right absence of them.
pub(super) fn unserved(group: &Group<'_>) -> Problem {
    let who = jobs(group);
    if group.labels.is_empty() {
        let has = verb(group, "has", "have");
        let message = format!("{who} {has} no labels, but every scheduler for it has some");
        return Problem::warning("spec::no-scheduler", message).help(
            "jobs without labels run only where there are none: add a scheduler without labels, or \
             labels to the jobs",
        );
    }
    let labels: Vec<_> = group.labels.iter().map(|label| excerpt(label)).collect();
    let labels = labels.join(", ");
    let needs = verb(group, "needs", "need");
    let message = format!("{who} {needs} the labels {labels}, which no scheduler for it has");
    Problem::warning("spec::no-scheduler", message)
        .help(format!("give the scheduler `labels: [{labels}]`"))
}

/// Every scheduler that may serve the jobs has too little of something, of `common` all of them.
pub(super) fn unfit(
    group: &Group<'_>,
    needs: &Requirements,
    known: &[Named<'_>],
    common: Lacks,
) -> Problem {
    let who = format!("{} {}", jobs(group), verb(group, "needs", "need"));
    if common.nodes {
        too_few_nodes(&who, needs, known)
    } else if common.walltime {
        too_short(&who, needs, known)
    } else if common.memory {
        too_little_memory(&who, needs, known)
    } else if common.gpus {
        too_few_gpus(&who, needs, known)
    } else if common.cpus {
        too_few_cpus(&who, needs, known)
    } else if common.perhaps_cpus {
        unstated_cpus(&who, needs, known)
    } else {
        let message = format!(
            "{who} nodes, walltime, memory, GPUs and CPUs that no one scheduler has together"
        );
        Problem::warning("spec::no-scheduler", message)
            .help("let one scheduler have all of it: several allocations do not add up")
    }
}

/// The schedulers, a few of them by name.
fn names(known: &[Named<'_>]) -> String {
    const FEW: usize = 3;
    let names: Vec<_> =
        known.iter().take(FEW).map(|(name, _)| format!("`{}`", excerpt(name))).collect();
    format!("{}{}", names.join(", "), if known.len() > FEW { " and others" } else { "" })
}

/// `` `a` has 1``, or `` `a`, `b` have at most 2``.
fn at_most(known: &[Named<'_>], most: &str) -> String {
    let verb = if known.len() == 1 { "has" } else { "have at most" };
    format!("{} {verb} {most}", names(known))
}

fn too_few_nodes(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let most = known.iter().map(|(_, slurm)| slurm.nodes).max().unwrap_or(1);
    let wanted = needs.nodes;
    let has = at_most(known, &most.to_string());
    Problem::warning("spec::too-few-nodes", format!("{who} {wanted} nodes at once, but {has}"))
        .help(format!("set `nodes: {wanted}` of the scheduler: several allocations do not add up"))
}

fn too_short(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let longest = known.iter().map(|(_, slurm)| slurm.walltime).max().unwrap_or_default();
    let runtime = needs.runtime.unwrap_or_default();
    let (wanted, has) = (units::clock(runtime), at_most(known, &units::clock(longest)));
    const USUAL: Duration = Duration::from_secs(3600);
    let unless = if runtime == USUAL { " (PT1H where none is written)" } else { "" };
    let message = format!("{who} the runtime {wanted}{unless}, but {has} of walltime");
    Problem::warning("spec::runtime-exceeds-walltime", message).help(format!(
        "raise the scheduler's `walltime` to \"{wanted}\" or more, or lower the `runtime` of `{}`",
        excerpt(&needs.name)
    ))
}

fn too_little_memory(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let most = known.iter().filter_map(|(_, slurm)| slurm.memory).max().unwrap_or_default();
    let MemoryRequest::Bytes(wanted) = needs.memory else {
        return Problem::warning("spec::memory-exceeds-scheduler", who);
    };
    let has = at_most(known, &units::written_memory(most));
    let shown = units::written_memory(wanted);
    let message = format!("{who} {shown} of memory on each node, but {has} (`mem`)");
    let share = wanted.div_ceil(u64::from(needs.nodes));
    let help = if needs.nodes > 1 && share <= most {
        format!(
            "memory is per node: if {shown} is meant for all {} nodes together, write `memory: {}`; \
             else raise `mem`",
            needs.nodes,
            units::written_memory(share)
        )
    } else {
        format!(
            "raise `mem`, or leave it out to get all the memory of the nodes; or lower the \
                 `memory` of `{}`",
            excerpt(&needs.name)
        )
    };
    Problem::warning("spec::memory-exceeds-scheduler", message).help(help)
}

/// On one node the ranks are not started that these requirements ask for.
pub(super) fn ranks_on_one_node(needs: &Requirements) -> Problem {
    let (name, ranks) = (excerpt(&needs.name), needs.ntasks_per_node);
    let message = format!(
        "`{name}` asks for {ranks} ranks on a node, but with one node a command is started once"
    );
    Problem::warning("spec::ranks-on-one-node", message).help(
        "`ntasks_per_node` counts where `num_nodes` is 2 or more: remove it, and let the command start \
         its processes itself",
    )
}

fn too_few_cpus(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let stated = known.iter().filter_map(|(_, slurm)| match slurm.cpus {
        Some(SharedCpus::Stated(cpus)) => Some(cpus),
        _ => None,
    });
    let has = at_most(known, &stated.max().unwrap_or(1).to_string());
    let wanted = needs.cpus;
    let message = format!("{who} {wanted} CPUs on each node, but {has} of nodes that are shared");
    Problem::warning("spec::cpus-exceed-scheduler", message).help(format!(
        "raise what the scheduler asks for, such as `extra: --cpus-per-task={wanted}`, or let it have \
         whole nodes: `exclusive: true`"
    ))
}

fn too_few_gpus(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let most = known.iter().filter_map(|(_, slurm)| slurm.gpus).max().unwrap_or_default();
    let wanted = needs.gpus;
    let has = match most {
        0 if known.len() == 1 => format!("{} asks for none", names(known)),
        0 => format!("{} ask for none", names(known)),
        most => at_most(known, &most.to_string()),
    };
    let plural = if wanted == 1 { "" } else { "s" };
    let message =
        format!("{who} {wanted} GPU{plural} on each node, but {has} of nodes that are shared");
    Problem::warning("spec::gpus-exceed-scheduler", message).help(format!(
        "ask for them: `gres: \"gpu:{wanted}\"`; or let the scheduler have whole nodes: `exclusive: true`"
    ))
}

fn unstated_cpus(who: &str, needs: &Requirements, known: &[Named<'_>]) -> Problem {
    let wanted = needs.cpus;
    let says = if known.len() == 1 { "shares nodes and says" } else { "share nodes and say" };
    let message = format!(
        "{who} {wanted} CPUs on each node, but {} {says} no number of CPUs: Slurm gives one core of each",
        names(known)
    );
    Problem::warning("spec::shared-without-cpus", message).help(format!(
        "say how many: `extra: --cpus-per-task={wanted}` or more; or let the scheduler have whole \
         nodes: `exclusive: true`"
    ))
}

/// Allocations of this one are no longer than the time before their end in which jobs are asked to end.
pub(super) fn no_time_left(scheduler: &str, margin: Duration) -> Problem {
    let seconds = margin.as_secs();
    let message = format!(
        "jobs are asked to end {seconds} s before their allocation does, and those of `{}` last no longer",
        excerpt(scheduler)
    );
    Problem::warning("spec::walltime-too-short", message).help(
        "raise `walltime`, or in `execution_config` lower `sigkill_headroom_seconds` (60) and the \
         lead of `srun_termination_signal` (TERM@120)",
    )
}

/// No action asks for any allocation.
pub(super) fn nothing_scheduled(scheduler: &str) -> Problem {
    Problem::warning("spec::nothing-scheduled", "no action asks for allocations")
        .help(format!("{}; without any, `torc submit` plans when to ask", action_to_add(scheduler)))
}

/// No action asks for allocations of this one.
pub(super) fn never_started(scheduler: &str) -> Problem {
    let message = format!("no action asks for allocations of `{}`", excerpt(scheduler));
    Problem::warning("spec::scheduler-never-started", message)
        .help(format!("{}, or remove the scheduler", action_to_add(scheduler)))
}

fn action_to_add(scheduler: &str) -> String {
    format!(
        "add to `actions`: `{{trigger_type: on_workflow_start, action_type: schedule_nodes, \
         scheduler: {}}}`",
        excerpt(scheduler)
    )
}

/// An action asks for allocations in which no job may run.
pub(super) fn serves_nobody(scheduler: &str) -> Problem {
    let message = format!("no job may run in the allocations of `{}`", excerpt(scheduler));
    Problem::warning("spec::scheduler-without-jobs", message)
        .help("remove this action, or correct the `scheduler` and `labels` of the jobs")
}
