//! `torc explain`: why a job or an allocation waits, with what stands in its way, or how it ended.

use std::collections::BTreeMap;

use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::ids::{AllocationId, JobId};
use torc_core::time::Timestamp;
use torc_core::traits::{NotNowReason, Waiting};
use torc_core::wire::{
    AllocationReport, AllocationStage, HeldNode, JobReport, PlannedReport, RunState,
};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::state_dir::StateDir;

use crate::args::{ExplainArgs, Format};
use crate::commands::allocations;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::queue::{self, Place};
use crate::render::{cause, duration_ms, json, local_time, waiting};

/// All that an explanation of a job rests on.
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
    /// Where those of them stand in the queue that a ready job may be waiting for.
    queue: Vec<Place>,
}

/// The same of an allocation.
#[derive(Serialize)]
struct AllocationExplanation {
    /// Where the workflow's run stands.
    state: RunState,
    allocation: AllocationReport,
    /// Where it stands in the queue, while it waits there.
    queue: Option<Place>,
}

pub(crate) async fn execute(
    args: &ExplainArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let access = Access::open(dir).await?;
    match (&args.job, args.allocation) {
        (Some(job), _) => explain_job(&access, args, job, format).await,
        (None, number) => {
            explain_allocation(&access, args, number.unwrap_or_default(), format).await
        }
    }
}

async fn explain_job(
    access: &Access,
    args: &ExplainArgs,
    name: &String,
    format: Format,
) -> Result<Exit, Failure> {
    let jobs = access.jobs(args.workflow).await?;
    super::check_names(std::slice::from_ref(name), jobs.iter().map(|job| job.name.as_str()))?;
    let workflow = access.workflow(args.workflow).await?;
    let mut allocations = access.allocations(args.workflow).await?;
    allocations.retain(|allocation| allocation.stage != AllocationStage::Ended);
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let has_ended: Vec<bool> = jobs.iter().map(|job| job.status.has_ended()).collect();
    let Some(job) = jobs.into_iter().find(|job| job.name == *name) else {
        return Err(Failure::internal(&"a job that is there was not found"));
    };
    let open = |other: &&JobId| !has_ended.get(other.index()).copied().unwrap_or(true);
    let waits_for = job.depends_on.iter().filter(open);
    let queue = match job.status {
        JobStatus::Ready => queue::places(&allocations).await?,
        _ => Vec::new(),
    };
    let explanation = Explanation {
        state: workflow.state,
        waits_for: waits_for.filter_map(|other| names.get(other.index()).cloned()).collect(),
        planned: workflow.planned.into_iter().find(|planned| planned.job_id == job.id),
        job,
        allocations,
        queue,
    };
    match format {
        Format::Json => json(&explanation),
        Format::Table => print(&explanation, &names),
    }
    Ok(Exit::Success)
}

async fn explain_allocation(
    access: &Access,
    args: &ExplainArgs,
    number: u32,
    format: Format,
) -> Result<Exit, Failure> {
    let state = access.workflow(args.workflow).await?.state;
    let allocations = access.allocations(args.workflow).await?;
    let wanted = |one: &AllocationReport| one.id == AllocationId(number);
    let Some(allocation) = allocations.into_iter().find(wanted) else {
        let message = format!(
            "there is no allocation {number}; `torc allocations --all` lists those that there are"
        );
        return Err(Failure::new(Exit::Usage, message));
    };
    let queue = queue::places(std::slice::from_ref(&allocation)).await?.pop();
    let explanation = AllocationExplanation { state, allocation, queue };
    match format {
        Format::Json => json(&explanation),
        Format::Table => print_allocation(&explanation),
    }
    Ok(Exit::Success)
}

fn print_allocation(explanation: &AllocationExplanation) {
    let allocation = &explanation.allocation;
    outln!("{}", allocations::sentence(allocation));
    if let Some(place) = &explanation.queue {
        outln!("  {}", place.sentence());
    }
    if allocation.stage == AllocationStage::Ended {
        return;
    }
    if let Some(ends_at) = allocation.ends_at {
        let left = duration_ms(ends_at.0.saturating_sub(now().0));
        outln!("  it has {left} left, until {}", local_time(ends_at));
    }
    for node in &allocation.nodes {
        let jobs: Vec<String> = node.jobs.iter().map(|held| held.job.clone()).collect();
        outln!(
            "  {}: {} of {} CPUs used; {}",
            node.name,
            node.cpus_used,
            node.cpus,
            running(&jobs)
        );
    }
}

fn running(jobs: &[String]) -> String {
    if jobs.is_empty() { "nothing runs there".to_owned() } else { format!("runs {}", list(jobs)) }
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
        outln!("  planned start {at} on {}", list(&planned.nodes));
        for (since, nodes) in by_moment(&planned.held) {
            outln!("  {} held for it since {}", list(&nodes), local_time(since));
        }
    }
    if explanation.state == RunState::Incomplete {
        outln!("  the run has ended without it; `torc restart` asks for nodes again");
    } else if explanation.allocations.is_empty() {
        outln!("  there is no allocation, and none is asked for");
    }
    for allocation in &explanation.allocations {
        outln!("  {}", allocations::sentence(allocation));
    }
    for place in &explanation.queue {
        outln!("  {}", place.sentence());
    }
}

/// The nodes that are held, by the moment since when.
fn by_moment(held: &[HeldNode]) -> BTreeMap<Timestamp, Vec<String>> {
    let mut moments: BTreeMap<Timestamp, Vec<String>> = BTreeMap::new();
    for node in held {
        moments.entry(node.since).or_default().push(node.name.clone());
    }
    moments
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
