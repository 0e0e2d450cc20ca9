//! A workflow in virtual time: one large allocation against many small ones.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::forecast::{
    Assumptions, Comparison, Forecast, Lead, Measured, QueueWait, Size, Way, WayKind,
    asks_for_nodes, compare, measured, nodes_asked_for,
};
use torc_core::idle::IdleCause;
use torc_core::plan::ASSUMED_RUNTIME;
use torc_core::time::millis;
use torc_core::workflow::Workflow;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, Packing, SimulateArgs};
use crate::assumed::{self, Node};
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::{clock, counted, hours, json, percent, table};
use crate::spec_file;

#[derive(Serialize)]
struct Report<'r> {
    name: &'r str,
    node: Node,
    /// Nodes at once, at most.
    nodes: u32,
    /// How long each allocation lasts; `None`: as long as it takes.
    #[serde(rename = "walltime_ms", with = "millis::option")]
    walltime: Option<Duration>,
    queue_wait: QueueWait,
    /// Jobs whose runtime was measured.
    measured_jobs: usize,
    /// Jobs that run as others of the same requirements were measured to.
    alike_jobs: usize,
    #[serde(flatten)]
    comparison: &'r Comparison,
    makespan: Option<Lead>,
    node_time: Option<Lead>,
}

pub(super) async fn execute(
    args: &SimulateArgs,
    spec: &Path,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let spec = spec_file::read(spec)?;
    let workflow = spec_file::valid(&spec, format)?;
    let size = size(args, workflow)?;
    let node = assumed::node(&args.node)?;
    let known = known_runtimes(args, workflow, dir).await?;
    let assumptions = Assumptions {
        known_runtimes: known.runtimes,
        queue_wait: args.queue_wait.clone().unwrap_or_default(),
        policy: args.policy.map(Packing::policy),
        ..Assumptions::of(node, args.default_runtime.unwrap_or(ASSUMED_RUNTIME))
    };
    let found = compare(workflow, &assumptions, size).map_err(assumed::no_forecast)?;
    let report = Report {
        name: &workflow.header.name,
        node: Node::of(&assumptions.node),
        nodes: size.nodes,
        walltime: size.walltime,
        queue_wait: assumptions.queue_wait,
        measured_jobs: known.themselves,
        alike_jobs: known.by_likeness,
        makespan: found.makespan(),
        node_time: found.node_time(),
        comparison: &found,
    };
    match format {
        Format::Json => json(&report),
        Format::Table => print(&report, args),
    }
    let incomplete = found.ways.iter().find(|way| !way.forecast.never.is_empty());
    match (incomplete, format) {
        (None, _) => Ok(Exit::Success),
        (Some(_), Format::Json) => Err(Failure::silent(Exit::NeverRuns)),
        (Some(way), Format::Table) => Err(assumed::never_runs(&way.forecast, &args.node)),
    }
}

/// What is asked for, as the options or the schedulers of the spec say.
fn size(args: &SimulateArgs, workflow: &Workflow) -> Result<Size, Failure> {
    let nodes = match args.nodes {
        Some(nodes) => nodes,
        None if asks_for_nodes(workflow) => {
            u32::try_from(nodes_asked_for(workflow)).unwrap_or(u32::MAX)
        }
        None => {
            let what = "how many nodes? The spec has no action `schedule_nodes` that asks for any; name \
                        them with --nodes";
            return Err(Failure::new(Exit::Usage, what));
        }
    };
    let longest = workflow.header.schedulers.iter().map(|scheduler| scheduler.walltime()).max();
    Ok(Size { nodes, walltime: args.walltime.or(longest) })
}

/// How long the jobs with the same names ran in the workflow that the options name.
async fn known_runtimes(
    args: &SimulateArgs,
    workflow: &Arc<Workflow>,
    dir: &StateDir,
) -> Result<Measured, Failure> {
    let Some(number) = args.measured else { return Ok(Measured::default()) };
    let attempts = Access::open(dir).await?.attempts(Some(number)).await?;
    // In the order of their beginning, so the last one stays.
    let by_name: HashMap<&str, Duration> = attempts
        .iter()
        .filter(|attempt| attempt.status == JobStatus::Completed)
        .map(|attempt| (attempt.job.as_str(), Duration::from_millis(attempt.wall_ms)))
        .collect();
    let found = measured(workflow, |name| by_name.get(name).copied());
    if found.themselves == 0 {
        let what = format!(
            "nothing was measured: workflow {number} has no completed job with the name of one of the spec"
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(found)
}

fn print(report: &Report<'_>, args: &SimulateArgs) {
    let Report { name, node, nodes, walltime, queue_wait, comparison, .. } = report;
    let Some(first) = comparison.ways.first() else { return };
    let jobs = first.forecast.jobs;
    outln!("{name}: {}", counted(jobs, "job"));
    if args.measured.is_some() {
        let (measured, alike) = (report.measured_jobs, report.alike_jobs);
        let rest = jobs - measured - alike;
        outln!(
            "runtimes: {measured} measured, {alike} as others with the same requirements, {rest} as declared"
        );
    }
    let lasts = match walltime {
        Some(walltime) => format!("{} at most", clock(*walltime)),
        None => "as long as it takes".to_owned(),
    };
    let nodes = counted(*nodes as usize, "node");
    outln!("on {nodes}, each with {}; an allocation lasts {lasts}", node.words());
    outln!("queue: {}", queue(queue_wait));
    print_ways(&comparison.ways);
    print_verdict(report);
    assumed::note_unknown_runtimes(&first.forecast);
    for way in &comparison.ways {
        let overrunning = way.forecast.overrunning;
        if overrunning > 0 {
            errln!(
                "note: {}: too near to the end of an allocation for all of the runtime, and taken to \
                 complete there: {}",
                words(way.kind),
                counted(overrunning, "job")
            );
        }
    }
}

fn queue(wait: &QueueWait) -> String {
    if wait.is_none() {
        return "nobody waits (--queue-wait says how long)".to_owned();
    }
    match wait.points() {
        [point] => format!("each allocation waits {}", clock(point.wait)),
        points => {
            let words = points.iter().map(|point| {
                format!("{} {}", counted(point.nodes as usize, "node"), clock(point.wait))
            });
            format!("an allocation waits by its nodes: {}", words.collect::<Vec<_>>().join(", "))
        }
    }
}

fn words(kind: WayKind) -> &'static str {
    match kind {
        WayKind::OneLarge => "one large",
        WayKind::ManySmall => "many small",
        WayKind::AsWritten => "as written",
    }
}

/// A row a figure, a column a way.
fn print_ways(ways: &[Way]) {
    let header: Vec<&str> =
        std::iter::once("").chain(ways.iter().map(|way| words(way.kind))).collect();
    let row = |name: &str, figure: &dyn Fn(&Way) -> String| {
        std::iter::once(name.to_owned()).chain(ways.iter().map(figure)).collect()
    };
    let mut rows: Vec<Vec<String>> = vec![
        row("asked for", &asked_for),
        row("had nodes", &|way| had_nodes(&way.forecast)),
        row("first nodes after", &|way| first_nodes(&way.forecast)),
        row("makespan", &|way| clock(way.forecast.makespan)),
        row("node-hours", &|way| hours(way.forecast.node_ms)),
        row("CPU time given to jobs", &|way| {
            percent(way.forecast.held_cpu_ms, way.forecast.available_cpu_ms)
        }),
    ];
    for cause in IdleCause::ALL {
        if ways.iter().any(|way| way.forecast.idle_cpu_ms.of(cause) > 0) {
            let name = format!("  idle: {}", cause.words());
            rows.push(row(&name, &|way| {
                percent(way.forecast.idle_cpu_ms.of(cause), way.forecast.available_cpu_ms)
            }));
        }
    }
    if ways.iter().any(|way| way.forecast.completed < way.forecast.jobs) {
        rows.push(row("jobs that do not run", &|way| {
            (way.forecast.jobs - way.forecast.completed).to_string()
        }));
    }
    table(&header, rows.into_iter());
}

fn asked_for(way: &Way) -> String {
    match (way.num_allocations, way.num_nodes) {
        (Some(count), Some(nodes)) => format!("{count} × {}", counted(nodes as usize, "node")),
        _ => "as its actions say".to_owned(),
    }
}

fn had_nodes(forecast: &Forecast) -> String {
    let granted = counted(forecast.allocations.len(), "allocation");
    match forecast.canceled {
        0 => granted,
        canceled => format!("{granted}, {canceled} canceled"),
    }
}

fn first_nodes(forecast: &Forecast) -> String {
    let first = forecast.allocations.iter().map(|span| span.begins_ms).min();
    first.map_or_else(|| "never".to_owned(), |ms| clock(Duration::from_millis(ms)))
}

/// Which of the two is better, and by how much.
fn print_verdict(report: &Report<'_>) {
    let widest = report
        .comparison
        .ways
        .first()
        .and_then(|way| way.forecast.stages.iter().map(|level| level.widest).max());
    let (Some(time), Some(nodes)) = (report.makespan, report.node_time) else {
        match (report.comparison.pair(), widest) {
            (None, Some(widest)) => outln!(
                "nothing to split: two allocations of {}, which the widest job needs, are more than {}",
                counted(widest as usize, "node"),
                report.nodes
            ),
            _ => outln!("no comparison: one way runs fewer jobs than the other"),
        }
        return;
    };
    let sooner = format!("{} ({})", clock(Duration::from_millis(time.by_ms)), part(time));
    let less = format!("{} node-hours less ({})", hours(nodes.by_ms), part(nodes));
    match (time.better, nodes.better) {
        (Some(sooner_is), Some(less_is)) if sooner_is == less_is => {
            outln!("{} is better: done {sooner} sooner, with {less}", words(sooner_is));
        }
        (Some(sooner_is), Some(less_is)) => {
            outln!("{} is done {sooner} sooner; {} needs {less}", words(sooner_is), words(less_is));
        }
        (Some(is), None) => {
            outln!("{} is done {sooner} sooner, with the same node-hours", words(is))
        }
        (None, Some(is)) => outln!("{} needs {less}; both are done at the same time", words(is)),
        (None, None) => outln!("both are done at the same time, with the same node-hours"),
    }
}

fn part(lead: Lead) -> String {
    percent(lead.by_ms, lead.of_ms)
}
