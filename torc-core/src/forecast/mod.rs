//! Forecast: how a workflow would go on declared nodes, before anything is started.
//!
//! Owns: virtual time, and what comes of it in figures. Does not know: how anything is decided; the
//! engine and the placer that decide for real are driven, and their own accounts are read.
//! Invariant: the same workflow on the same nodes gives the same forecast, to the millisecond.
//!
//! # What is assumed
//!
//! Every job takes the runtime that is known of it, else the one that it declares, else one that is
//! assumed, and completes. The placer is told what is declared, as in a run. Commands of actions take
//! no time. Allocations are asked for as in a run: when the action has fired, a job that is ready could
//! use them, and, where a scheduler's allocations come one after another, the one before has ended.
//! Then they wait in the queue, and their nodes are ready at once. Those that wait already are ahead: an
//! allocation waits as long as one of its nodes and of all nodes ahead of it would, since they come out of
//! the same hands. What still waits when all jobs have ended is canceled.
//!
//! An allocation is kept as torc would keep it: until its time is up, or nothing that waits could ever
//! start there and it has been idle for `wait_for_new_jobs`, or nothing is left to run at all. A job
//! that would still run at the end of its allocation is taken to complete there, and is counted: torc
//! would ask it to end some time before.

mod compare;
mod course;
mod graph;
mod model;
mod never;
mod offers;
mod queue;
mod runtimes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use compare::{Comparison, Lead, Size, Way, WayKind, compare};
pub use model::{
    Assumptions, CriticalPath, Forecast, ForecastError, Level, NeverRan, Span, WhyNever,
};
pub use offers::nodes_asked_for;
pub use queue::{QueueWait, QueueWaitError, WaitPoint};
pub use runtimes::{Measured, measured};

use self::course::{Course, Finish};
use self::offers::Offers;
use crate::engine::AllocationBook;
use crate::ids::JobId;
use crate::time::Timestamp;
use crate::workflow::{ActionKind, Job, Workflow};

/// CPUs of all declared nodes together, at most: more than the largest machines have.
const MOST_CPUS: u64 = 1 << 22;

/// Whether an action of the workflow asks for nodes.
pub fn asks_for_nodes(workflow: &Workflow) -> bool {
    let mut actions = workflow.header.actions.iter();
    actions.any(|action| matches!(action.kind, ActionKind::ScheduleNodes { .. }))
}

/// How the workflow would go.
///
/// # Errors
/// When too many nodes are declared, or for an error in torc.
pub fn forecast(
    workflow: &Arc<Workflow>,
    assumed: &Assumptions,
) -> Result<Forecast, ForecastError> {
    let offers = Offers::of(workflow, assumed);
    let cpus = offers.cpus();
    if cpus > MOST_CPUS {
        return Err(ForecastError::TooLarge { cpus, most: MOST_CPUS });
    }
    let finish = Course::new(workflow, &offers, assumed).run()?;
    let never = never::never_ran(&finish.engine, &offers.probes());
    let declared = |job: &Job| workflow.header.requirements[job.requirements as usize].runtime;
    let known: Vec<Option<Duration>> = (0..)
        .map(JobId::from_index)
        .zip(&workflow.jobs)
        .map(|(id, job)| assumed.known_runtime(id).or(declared(job)))
        .collect();
    let runtimes: Vec<Duration> =
        known.iter().map(|known| known.unwrap_or(assumed.default_runtime)).collect();
    let (stages, critical_path) = graph::shape(workflow, &runtimes);
    let report = finish.engine.workflow_report(finish.ended_at, false, &[]);
    let allocations = spans(&finish);
    Ok(Forecast {
        jobs: workflow.jobs.len(),
        completed: workflow.jobs.len() - never.iter().map(|group| group.jobs).sum::<usize>(),
        never,
        unknown_runtimes: known.iter().filter(|known| known.is_none()).count(),
        default_runtime: assumed.default_runtime,
        overrunning: finish.overrunning,
        makespan: finish.last_end.since(Timestamp::default()),
        critical_path,
        stages,
        node_ms: allocations.iter().map(Span::node_ms).fold(0, u64::saturating_add),
        allocations,
        ungranted: finish.ungranted,
        canceled: finish.canceled,
        held_cpu_ms: report.held_cpu_ms,
        idle_cpu_ms: report.idle_cpu_ms,
        available_cpu_ms: report.available_cpu_ms,
    })
}

/// The allocations that had nodes.
fn spans(finish: &Finish) -> Vec<Span> {
    let of = |book: &AllocationBook| {
        let id = book.allocation.id;
        Some(Span {
            allocation: id,
            scheduler: book.allocation.scheduler.clone(),
            num_nodes: u32::try_from(book.allocation.nodes.len()).unwrap_or(u32::MAX),
            begins_ms: book.granted_at?.0,
            ends_ms: book.end.as_ref().map_or(finish.ended_at, |end| end.at).0,
            jobs: finish.jobs_in.get(&id).copied().unwrap_or(0),
        })
    };
    finish.engine.allocation_books().filter_map(of).collect()
}
