//! `torc explain`: why a job waits, with what stands in its way, or how it ended.

use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::ids::JobId;
use torc_core::traits::{AllocationHandle, NotNowReason, Waiting};
use torc_core::wire::{AllocationReport, AllocationStage, JobReport, PlannedReport, RunState};
use torc_executors::slurm::SlurmScheduler;
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::state_dir::StateDir;

use crate::args::{ExplainArgs, Format};
use crate::commands::allocations;
use crate::commands::serve::programs;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{cause, duration_ms, json, local_time, waiting};
use crate::settings::Settings;

/// Waiting allocations whose place in the queue is asked for: each takes a call.
const ALLOCATIONS_ASKED: usize = 3;

/// All that an explanation rests on.
#[derive(Serialize)]
struct Explanation {
    /// Where the workflow's run stands.
    state: RunState,
    job: JobReport,
    /// The jobs that it depends on and that have not ended.
    waits_for: Vec<String>,
    /// The promise that it has.
    planned: Option<PlannedReport>,
    /// The allocations that are not over.
    allocations: Vec<AllocationReport>,
}

pub(crate) async fn execute(
    args: &ExplainArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let access = Access::open(dir).await?;
    let jobs = access.jobs(args.workflow).await?;
    super::check_names(std::slice::from_ref(&args.job), jobs.iter().map(|job| job.name.as_str()))?;
    let workflow = access.workflow(args.workflow).await?;
    let mut allocations = access.allocations(args.workflow).await?;
    allocations.retain(|allocation| allocation.stage != AllocationStage::Ended);
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let has_ended: Vec<bool> = jobs.iter().map(|job| job.status.has_ended()).collect();
    let Some(job) = jobs.into_iter().find(|job| job.name == args.job) else {
        return Err(Failure::internal(&"a job that is there was not found"));
    };
    let open = |other: &&JobId| !has_ended.get(other.index()).copied().unwrap_or(true);
    let waits_for = job.depends_on.iter().filter(open);
    let explanation = Explanation {
        state: workflow.state,
        waits_for: waits_for.filter_map(|other| names.get(other.index()).cloned()).collect(),
        planned: workflow.planned.into_iter().find(|planned| planned.job_id == job.id),
        job,
        allocations,
    };
    match format {
        Format::Json => json(&explanation),
        Format::Table => {
            print(&explanation, &names);
            print_queue(&explanation).await?;
        }
    }
    Ok(Exit::Success)
}

fn print(explanation: &Explanation, names: &[String]) {
    let job = &explanation.job;
    outln!("job `{}` is {}", job.name, job.status);
    match job.status {
        JobStatus::Blocked | JobStatus::Uninitialized => {
            outln!("  it waits for {}", list(&explanation.waits_for));
        }
        JobStatus::Ready => print_ready(explanation, names),
        _ => print_attempt(job),
    }
}

fn print_ready(explanation: &Explanation, names: &[String]) {
    let name = |job: JobId| names.get(job.index()).cloned().unwrap_or_else(|| job.to_string());
    match &explanation.job.waiting {
        Some(Waiting::NotNow(NotNowReason::WaitsForIdleNodes { needs, idle, .. })) => {
            outln!(
                "  it waits for {} more idle nodes: it needs {needs} at once, {idle} of the best \
                 allocation are idle",
                needs.saturating_sub(*idle)
            );
        }
        Some(why) => outln!("  it waits for {}", waiting(why, name)),
        None => {}
    }
    if let Some(planned) = &explanation.planned {
        let at = planned.at.map_or_else(
            || "once the jobs there have ended, whose runtimes are not known".to_owned(),
            |at| {
                let left = duration_ms(at.0.saturating_sub(now().0));
                format!("in {left}, at {}", local_time(at))
            },
        );
        outln!("  planned start {at}; {} held for it", list(&planned.nodes));
    }
    if explanation.state == RunState::Incomplete {
        outln!("  the run has ended without it; `torc restart` asks for nodes again");
    } else if explanation.allocations.is_empty() {
        outln!("  there is no allocation, and none is asked for");
    }
    for allocation in &explanation.allocations {
        outln!("  {}", allocations::sentence(allocation));
    }
}

/// What waits in Slurm's queue before the allocations that a ready job may be waiting for.
async fn print_queue(explanation: &Explanation) -> Result<(), Failure> {
    let waiting = explanation.allocations.iter().filter(|allocation| {
        allocation.granted_at.is_none() && allocation.stage == AllocationStage::Submitted
    });
    let handles: Vec<&String> = waiting.filter_map(|one| one.handle.as_ref()).collect();
    if explanation.job.status != JobStatus::Ready || handles.is_empty() {
        return Ok(());
    }
    let scheduler = SlurmScheduler::new(programs(&Settings::load()?));
    for handle in handles.into_iter().take(ALLOCATIONS_ASKED) {
        // Without an answer there is nothing to add.
        let asked = scheduler.ahead_of(&AllocationHandle(handle.clone())).await;
        if let Ok(Some(position)) = asked {
            outln!(
                "  {handle} waits in {}: {} of the {} others there may start before it",
                position.partition,
                position.ahead,
                position.others
            );
        }
    }
    Ok(())
}

fn print_attempt(job: &JobReport) {
    let Some(latest) = &job.latest else {
        outln!("  it was never started");
        return;
    };
    let code = latest.return_code.map_or_else(String::new, |code| format!(", code {code}"));
    let why = latest.outcome.as_ref().map(cause).filter(|why| !why.is_empty());
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let since = latest.started_at.unwrap_or(latest.dispatched_at);
    outln!(
        "  attempt {} on {}, from {} for {}{code}{why}",
        latest.attempt,
        list(&latest.nodes),
        local_time(since),
        duration_ms(latest.wall_ms),
    );
    if let Some(log) = latest.stderr.as_ref().or(latest.stdout.as_ref()) {
        outln!("  output: {log}");
    }
}

fn list(words: &[String]) -> String {
    const SHOWN: usize = 8;
    if words.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown = words[..words.len().min(SHOWN)].join(", ");
    if let Some(more) = words.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown += &format!(" and {more} more");
    }
    shown
}
