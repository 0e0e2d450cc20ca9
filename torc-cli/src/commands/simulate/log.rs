//! A log of a real machine, replayed on nodes that need not exist.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use torc_core::simulation::swf::{self, Trace};
use torc_core::simulation::{Figures, Machine, Replay, Spread, figures, replay};
use torc_core::workflow::SortMethod;

use crate::args::{Format, Packing, SimulateArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{clock, idle_causes, json, table};

#[derive(Serialize)]
struct Report {
    nodes: u32,
    cores: u32,
    /// Jobs of the log that did not run then, or of which too little is known.
    left_out: usize,
    #[serde(flatten)]
    figures: Figures,
}

pub(super) fn execute(args: &SimulateArgs, path: &Path, format: Format) -> Result<Exit, Failure> {
    let trace = read(path)?;
    let machine = machine(args, &trace)?;
    let workload = machine.workload(&trace, args.perfect_estimates);
    let allocation = machine.allocation();
    let replay = replay(
        &workload,
        &allocation,
        SortMethod::None,
        args.policy.map(Packing::policy).unwrap_or_default(),
    );
    let processors = trace.jobs.iter().map(|job| u64::from(job.processors));
    let figures = figures(&replay, &workload, &allocation, processors);
    if let Some(path) = &args.csv {
        write(path, &csv(&trace, &replay))?;
    }
    let Machine { nodes, cores, .. } = machine;
    let report = Report { nodes, cores, left_out: trace.left_out, figures };
    match format {
        Format::Json => json(&report),
        Format::Table => print(&report),
    }
    Ok(Exit::Success)
}

fn read(path: &Path) -> Result<Trace, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(Exit::SpecInvalid, format!("cannot read {}: {error}", path.display()))
    })?;
    // Comments name people in all kinds of encodings.
    swf::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|error| Failure::new(Exit::SpecInvalid, format!("{}: {error}", path.display())))
}

/// The machine as asked for. What the log says of its own helps where the options are silent.
fn machine(args: &SimulateArgs, trace: &Trace) -> Result<Machine, Failure> {
    let usage = |what: &str| Failure::new(Exit::Usage, what.to_owned());
    let nodes = args.nodes.or(trace.max_nodes).ok_or_else(|| {
        usage(
            "how many nodes? The log does not say (no comment `MaxNodes`); name them with --nodes",
        )
    })?;
    let cores_of_log = match (trace.max_procs, trace.max_nodes) {
        (Some(processors), Some(nodes)) if processors % nodes == 0 => Some(processors / nodes),
        _ => None,
    };
    let cores = args.node.cpus_per_node.or(cores_of_log).ok_or_else(|| {
        usage(
            "how many cores has a node? The log does not say (no comments `MaxNodes` and `MaxProcs`); \
             name them with --cpus-per-node",
        )
    })?;
    Ok(Machine { nodes, cores, memory: args.node.memory_per_node })
}

/// A line a job, in the order of submission. Times are seconds from the beginning of the log.
fn csv(trace: &Trace, replay: &Replay) -> String {
    let mut text = "job,processors,submitted,started,ended,wait,nodes,first_node\n".to_owned();
    for (job, at) in trace.jobs.iter().zip(&replay.jobs) {
        let submitted = job.submitted.as_secs();
        // Writing to a string cannot fail.
        let _ = match at {
            None => writeln!(text, "{},{},{submitted},,,,,", job.number, job.processors),
            Some(at) => {
                let (started, ended) = (at.started.0 / 1000, at.ended.0 / 1000);
                let first = at.shares.first().map_or(0, |share| share.node.0 + 1);
                let wait = started.saturating_sub(submitted);
                let count = at.shares.len();
                writeln!(
                    text,
                    "{},{},{submitted},{started},{ended},{wait},{count},{first}",
                    job.number, job.processors
                )
            }
        };
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::new(Exit::Environment, format!("cannot write {}: {error}", path.display()))
    })
}

fn print(report: &Report) {
    let Report { nodes, cores, left_out, figures } = report;
    outln!("{} jobs on {nodes} nodes of {cores} cores", figures.jobs);
    if figures.never > 0 {
        outln!("  {} more could never run there", figures.never);
    }
    if *left_out > 0 {
        outln!("  {left_out} more of the log never ran, or too little is known of them");
    }
    outln!("makespan:    {}", seconds(figures.makespan_s));
    outln!(
        "utilisation: {:.1} % of the cores' time was asked for by jobs, {:.1} % was held by them",
        figures.asked * 100.0,
        figures.held * 100.0
    );
    outln!("idle:        {}", idle_causes(&figures.idle, figures.idle.sum()));
    outln!(
        "promises:    {} jobs were promised a start, {} of them started later",
        figures.promised,
        figures.late
    );
    let row = |name: &str, spread: &Spread, show: fn(f64) -> String| {
        let values = [spread.mean, spread.median, spread.p90, spread.p99, spread.max];
        std::iter::once(name.to_owned()).chain(values.map(show)).collect()
    };
    let plain = |value: f64| format!("{value:.2}");
    let mut rows: Vec<Vec<String>> = vec![
        row("wait", &figures.wait_s, seconds),
        row("bounded slowdown", &figures.slowdown, plain),
    ];
    if figures.late > 0 {
        rows.push(row("late by", &figures.lateness_s, seconds));
    }
    table(&["", "mean", "median", "90 %", "99 %", "most"], rows.into_iter());
}

fn seconds(seconds: f64) -> String {
    clock(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
