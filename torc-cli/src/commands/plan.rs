//! `torc plan`: how a workflow would go on the nodes that it declares, before anything is started.

use std::time::Duration;

use serde::Serialize;
use torc_core::forecast::{Assumptions, Forecast, asks_for_nodes, forecast};
use torc_core::plan::ASSUMED_RUNTIME;
use torc_core::workflow::Workflow;

use crate::args::{ForecastArgs, Format};
use crate::assumed::{self, Node};
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::{clock, counted, hours, idle_part, json, percent, table};
use crate::spec_file;

/// Lines of a table; the rest is counted.
const SHOWN: usize = 20;
/// Jobs of the critical path that are named at each of its ends.
const NAMED: usize = 3;

#[derive(Serialize)]
struct Report<'r> {
    name: &'r str,
    node: Node,
    /// Nodes that are there from the beginning.
    nodes: Option<u32>,
    #[serde(flatten)]
    forecast: &'r Forecast,
}

pub(crate) fn execute(args: &ForecastArgs, format: Format) -> Result<Exit, Failure> {
    let spec = spec_file::read(&args.spec)?;
    let workflow = spec_file::valid(&spec, format)?;
    let assumptions = assumptions(args, workflow)?;
    let found = forecast(workflow, &assumptions).map_err(assumed::no_forecast)?;
    let report = Report {
        name: &workflow.header.name,
        node: Node::of(&assumptions.node),
        nodes: assumptions.nodes,
        forecast: &found,
    };
    match format {
        Format::Json => json(&report),
        Format::Table => print(&report, workflow),
    }
    match (found.never.is_empty(), format) {
        (true, _) => Ok(Exit::Success),
        (false, Format::Json) => Err(Failure::silent(Exit::NeverRuns)),
        (false, Format::Table) => Err(assumed::never_runs(&found, &args.node)),
    }
}

fn assumptions(args: &ForecastArgs, workflow: &Workflow) -> Result<Assumptions, Failure> {
    let nodes = args.nodes.or((!asks_for_nodes(workflow)).then_some(1));
    let default_runtime = args.default_runtime.unwrap_or(ASSUMED_RUNTIME);
    Ok(Assumptions { nodes, ..Assumptions::of(assumed::node(&args.node)?, default_runtime) })
}

fn print(report: &Report<'_>, workflow: &Workflow) {
    let Report { name, node, nodes, forecast } = report;
    outln!("{name}: {}", counted(forecast.jobs, "job"));
    print_graph(forecast);
    let nodes = match nodes {
        Some(1) => "one node that is there from the beginning, with ".to_owned(),
        Some(nodes) => format!("{nodes} nodes that are there from the beginning, each with "),
        None => "nodes as its actions ask for them, each with ".to_owned(),
    };
    outln!("on {nodes}{}", node.words());
    print_allocations(forecast);
    print_figures(forecast);
    print_notes(forecast, workflow);
}

fn print_graph(forecast: &Forecast) {
    let stages = forecast.stages.iter().zip(1..).map(|(level, number)| {
        vec![
            number.to_string(),
            level.jobs.to_string(),
            level.widest.to_string(),
            clock(level.longest),
            hours(level.cpu_ms),
        ]
    });
    table(&["stage", "jobs", "widest", "longest", "cpu-hours"], stages.take(SHOWN));
    print_rest(forecast.stages.len(), "stage");
    let path = &forecast.critical_path;
    let names: Vec<&str> = path.jobs.iter().map(|name| &**name).collect();
    let chain = if names.len() <= 2 * NAMED + 1 {
        names.join(" > ")
    } else {
        let (first, last) = (&names[..NAMED], &names[names.len() - NAMED..]);
        let between = counted(names.len() - 2 * NAMED, "job");
        format!("{} > … {between} … > {}", first.join(" > "), last.join(" > "))
    };
    outln!("critical path: {}: {chain}", clock(path.length));
}

fn print_allocations(forecast: &Forecast) {
    let spans = forecast.allocations.iter().filter(|span| span.scheduler.is_some());
    let count = spans.clone().count();
    if count == 0 {
        return;
    }
    let at = |ms: u64| clock(Duration::from_millis(ms));
    let rows = spans.map(|span| {
        vec![
            span.allocation.to_string(),
            span.scheduler.as_deref().unwrap_or_default().to_owned(),
            span.num_nodes.to_string(),
            at(span.begins_ms),
            at(span.ends_ms),
            span.jobs.to_string(),
        ]
    });
    table(&["allocation", "scheduler", "nodes", "begins", "ends", "jobs"], rows.take(SHOWN));
    print_rest(count, "allocation");
}

fn print_rest(count: usize, noun: &str) {
    if count > SHOWN {
        outln!("and {} more", counted(count - SHOWN, noun));
    }
}

fn print_figures(forecast: &Forecast) {
    outln!("makespan:      {}", clock(forecast.makespan));
    outln!("node-hours:    {}", hours(forecast.node_ms));
    let (held, all) = (forecast.held_cpu_ms, forecast.available_cpu_ms);
    outln!("cpu time:      {} given to jobs", percent(held, all));
    outln!("               {}", idle_part(&forecast.idle_cpu_ms, all));
}

/// What is to be known about the figures.
fn print_notes(forecast: &Forecast, workflow: &Workflow) {
    assumed::note_unknown_runtimes(forecast);
    if forecast.overrunning > 0 {
        errln!(
            "note: too near to the end of an allocation for all of the runtime: {}. Torc asks what runs \
             there to end shortly before the walltime is over; here it counts as completed",
            counted(forecast.overrunning, "job")
        );
    }
    if forecast.ungranted > 0 {
        errln!(
            "note: asked for while no job that is ready could use it: {}. Torc does not submit that",
            counted(forecast.ungranted, "allocation")
        );
    }
    if !workflow.header.schedulers.is_empty() && !asks_for_nodes(workflow) {
        errln!(
            "note: the spec has schedulers, and no action `schedule_nodes` that asks for their nodes; \
             `torc slurm generate` plans allocations"
        );
    }
}
