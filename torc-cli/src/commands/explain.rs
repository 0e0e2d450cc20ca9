//! `torc explain`: why a job or an allocation waits, with what stands in its way, or how it ended.

use std::collections::BTreeMap;

use serde::Serialize;
use torc_core::engine::{JobStatus, LeftOver, WaitCause};
use torc_core::ids::{AllocationId, JobId};
use torc_core::time::Timestamp;
use torc_core::wire::{
    AllocationReport, AllocationStage, AttemptReport, HeldNode, JobOnNode, JobReport,
    PlannedReport, RunState,
};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::state_dir::StateDir;

use crate::args::{ExplainArgs, Format};
use crate::commands::allocations;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::queue::{self, Place};
use crate::render::{bytes, cause, causes, duration_ms, json, local_time};

/// Jobs named that run on the nodes of a planned start.
const IN_THE_WAY_SHOWN: usize = 8;

/// All that an explanation of a job rests on.
#[derive(Serialize)]
struct Explanation {
    /// Where the workflow's run stands.
    state: RunState,
    job: JobReport,
    /// The jobs that it depends on and that have not ended.
    waits_for: Vec<String>,
    /// Of a job that was canceled: those that it depends on and that did not complete.
    canceled_for: Vec<String>,
    /// The promise that it has.
    planned: Option<PlannedReport>,
    /// The allocations that are not over and that it may run in.
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
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let statuses: Vec<JobStatus> = jobs.iter().map(|job| job.status).collect();
    let Some(job) = jobs.into_iter().find(|job| job.name == *name) else {
        return Err(Failure::internal(&"a job that is there was not found"));
    };
    allocations.retain(|one| one.stage != AllocationStage::Ended && job.may_run_in(one));
    let dependencies = |wanted: &dyn Fn(JobStatus) -> bool| -> Vec<String> {
        let status = |other: &&JobId| statuses.get(other.index()).copied().is_some_and(wanted);
        let found = job.depends_on.iter().filter(status);
        found.filter_map(|other| names.get(other.index()).cloned()).collect()
    };
    let failed = |status: JobStatus| status.has_ended() && status != JobStatus::Completed;
    let queue = match job.status {
        JobStatus::Ready => queue::places(&allocations).await?,
        _ => Vec::new(),
    };
    let explanation = Explanation {
        state: workflow.state,
        waits_for: dependencies(&|status| !status.has_ended()),
        canceled_for: match job.status {
            JobStatus::Canceled => dependencies(&failed),
            _ => Vec::new(),
        },
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
        let (used, all, what) = match node.slots {
            Some(slots) => (slots.used, slots.all, "slots"),
            None => (node.cpus_used, node.cpus, "CPUs"),
        };
        outln!("  {}: {used} of {all} {what} used; {}", node.name, running(&jobs));
    }
}

fn running(jobs: &[String]) -> String {
    if jobs.is_empty() { "nothing runs there".to_owned() } else { format!("runs {}", list(jobs)) }
}

fn print(explanation: &Explanation, names: &[String]) {
    let job = &explanation.job;
    outln!("job `{}` is {}", job.name, job.status);
    match job.status {
        JobStatus::Uninitialized if explanation.waits_for.is_empty() => {
            outln!("  it waits for the next run; `torc restart` begins it");
        }
        JobStatus::Disabled => {
            outln!("  it is left out until `torc enable --job {}`", job.name);
        }
        JobStatus::Blocked if job.waiting.is_some() => print_ready(explanation, names),
        JobStatus::Blocked | JobStatus::Uninitialized => {
            outln!("  it waits for {}", list(&explanation.waits_for));
        }
        JobStatus::Ready => print_ready(explanation, names),
        JobStatus::Canceled if !explanation.canceled_for.is_empty() => {
            outln!("  it depends on {}, and did not run", list(&explanation.canceled_for));
        }
        _ => print_attempt(job),
    }
}

fn print_ready(explanation: &Explanation, names: &[String]) {
    let name = |job: JobId| names.get(job.index()).cloned().unwrap_or_else(|| job.to_string());
    let is_over = explanation.state == RunState::Incomplete;
    if let Some(why) = &explanation.job.waiting {
        outln!("  {}", causes::sentence(why, name, is_over));
    }
    if let Some(planned) = &explanation.planned {
        let nodes = list(&planned.nodes);
        match planned.at {
            Some(at) => {
                let left = duration_ms(at.0.saturating_sub(now().0));
                outln!("  planned start in {left}, at {}, on {nodes}", local_time(at));
            }
            None => outln!("  planned start on {nodes} once what runs there has ended"),
        }
        for (since, nodes) in by_moment(&planned.held) {
            outln!("  {} held for it since {}", list(&nodes), local_time(since));
        }
        for line in in_the_way(planned, &explanation.allocations).take(IN_THE_WAY_SHOWN) {
            outln!("  {line}");
        }
    }
    if is_over {
        let had_no_scheduler = matches!(
            explanation.job.waiting,
            Some(WaitCause::LeftOver(LeftOver::Ended { scheduler: None, .. }))
        );
        let again = if had_no_scheduler { "goes on with it" } else { "asks for nodes again" };
        outln!("  the run has ended without it; `torc restart` {again}");
    }
    for allocation in &explanation.allocations {
        outln!("  {}", allocations::sentence(allocation));
    }
    for place in &explanation.queue {
        outln!("  {}", place.sentence());
    }
}

/// What runs on the nodes of a planned start, and how long it is expected to.
fn in_the_way<'r>(
    planned: &'r PlannedReport,
    allocations: &'r [AllocationReport],
) -> impl Iterator<Item = String> + 'r {
    let nodes = allocations.iter().flat_map(|allocation| &allocation.nodes);
    let promised = nodes.filter(|node| planned.nodes.contains(&node.name));
    promised.flat_map(|node| {
        node.jobs.iter().map(|held| format!("{} runs {}, {}", node.name, held.job, expected(held)))
    })
}

/// When a job that runs is expected to end, by what it declared.
fn expected(held: &JobOnNode) -> String {
    match held.expected_end {
        None => "which declares no runtime".to_owned(),
        Some(end) if end < now() => {
            let over = duration_ms(now().0 - end.0);
            format!("which is {over} over its declared runtime: nobody knows when it ends")
        }
        Some(end) => format!("expected to end at {}", local_time(end)),
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
    if let Some(figures) = figures(latest) {
        outln!("  it used {figures}");
    }
    if let Some(state) = &latest.scheduler_state {
        outln!("  the scheduler's accounting calls it {state}");
    }
    if let Some(log) = latest.stderr.as_ref().or(latest.stdout.as_ref()) {
        outln!("  output: {log}");
    }
}

/// What an attempt used, as far as that is known.
fn figures(attempt: &AttemptReport) -> Option<String> {
    let cpu = attempt.cpu_ms.map(|used| format!("{} of CPU time", duration_ms(used)));
    let memory = attempt.peak_memory.map(|peak| format!("{} of memory at most", bytes(peak)));
    let parts: Vec<String> = cpu.into_iter().chain(memory).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
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
