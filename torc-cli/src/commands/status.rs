//! `torc status`: where a workflow stands, once or until its run ends.

use std::io::IsTerminal;
use std::time::Duration;

use torc_core::traits::AllocationEnd;
use torc_core::wire::{AllocationReport, AllocationStage, RunState, WorkflowReport};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::state_dir::StateDir;

use crate::args::{Format, StatusArgs};
use crate::commands::allocations;
use crate::exit::{Exit, Failure};
use crate::out::{self, Output, outln};
use crate::render::{bytes, duration_ms, idle_part, in_use, json, local_time, summary, table};

/// How often a watched run is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Allocations said in full; the rest is counted.
const ALLOCATIONS_SHOWN: usize = 4;

pub(crate) async fn execute(
    args: &StatusArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let clears = args.watch && format == Format::Table && std::io::stdout().is_terminal();
    loop {
        let access = Access::open(dir).await?;
        let report = access.workflow(args.workflow.workflow).await?;
        if clears {
            out::pass_on(b"\x1b[H\x1b[2J");
        }
        match format {
            Format::Json => json(&report),
            Format::Table => {
                print(&report);
                print_allocations(&access.allocations(Some(report.id)).await?);
                print_nodes(&report);
            }
        }
        out::flush();
        let goes_on = matches!(report.state, RunState::Running | RunState::Stopping);
        if !args.watch || !goes_on || out::state() != Output::Open {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn print(report: &WorkflowReport) {
    let run = report.run.map_or_else(String::new, |run| format!(", run {run}"));
    outln!("workflow {} `{}`{run}: {}", report.id, report.name, report.state.word());
    outln!("  jobs:    {}; {} left", summary::counts(report), summary::left(report));
    if let Some(started_at) = report.started_at {
        outln!(
            "  started: {}, {} ago",
            local_time(started_at),
            duration_ms(now().0.saturating_sub(started_at.0))
        );
    }
    if let Some(ended_at) = report.ended_at {
        let took = duration_ms(report.wall_ms);
        outln!("  ended:   {}, after {took}", local_time(ended_at));
    } else if let Some(expected_end) = report.expected_end {
        outln!("  expected end: {}", local_time(expected_end));
    }
    if report.available_cpu_ms > 0 {
        outln!("  cores:   {}", summary::cores(report));
        outln!("           {}", idle_part(&report.idle_cpu_ms, report.available_cpu_ms));
    }
    if !report.running.is_empty() {
        outln!("  running: {}", report.running.join(" "));
    }
    // A single node in use says nothing that the next job waiting for it would not.
    for planned in report.planned.iter().filter(|planned| planned.nodes.len() > 1) {
        let by = planned.at.map_or_else(String::new, |at| format!(" by {}", local_time(at)));
        let nodes = planned.nodes.join(" ");
        outln!("  planned: {} starts{by}; held for it: {nodes}", planned.job);
    }
    if let Some(words) = &report.placer_replaced {
        outln!("  note: {words}");
    }
    if matches!(report.state, RunState::Interrupted | RunState::Incomplete) {
        outln!("  `torc restart {}` goes on from here", report.id);
    }
}

/// The allocations that were asked for, if any were, and how those ended that came to nothing.
fn print_allocations(all: &[AllocationReport]) {
    let asked = || all.iter().filter(|allocation| allocation.requested_at.is_some());
    let open = || asked().filter(|allocation| allocation.stage != AllocationStage::Ended);
    for allocation in open().take(ALLOCATIONS_SHOWN) {
        outln!("  {}", allocations::sentence(allocation));
    }
    if let Some(more) = open().count().checked_sub(ALLOCATIONS_SHOWN).filter(|more| *more > 0) {
        outln!("  and {more} more: `torc allocations` lists them");
    }
    let failed = |allocation: &&AllocationReport| {
        allocation.granted_at.is_none() && allocation.cause == Some(AllocationEnd::Failed)
    };
    if let Some(last) = asked().rfind(failed) {
        outln!("  {}", allocations::sentence(last));
    }
}

fn print_nodes(report: &WorkflowReport) {
    if matches!(report.state, RunState::Running | RunState::Stopping) && !report.nodes.is_empty() {
        let rows = report.nodes.iter().map(|node| {
            vec![
                node.name.clone(),
                in_use(node.cpus_used, node.cpus, node.slots),
                bytes(node.memory),
                node.gpus.to_string(),
                node.jobs.to_string(),
            ]
        });
        table(&["node", "cpus used", "memory", "gpus", "jobs"], rows);
    }
}
