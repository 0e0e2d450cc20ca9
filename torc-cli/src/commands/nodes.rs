//! `torc nodes`: what runs on each node with how many CPUs, memory and GPUs, and what is held for which
//! job until when.

use std::collections::BTreeMap;

use serde::Serialize;
use torc_core::traits::NodeState;
use torc_core::wire::{AllocatedNodeReport, AllocationReport};
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, NodesArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{bytes, in_use, json, local_time, table};

/// Jobs named in one row; the rest is counted.
const JOBS_SHOWN: usize = 4;

#[derive(Serialize)]
struct NodeOfAllocation<'a> {
    allocation: u32,
    #[serde(flatten)]
    node: &'a AllocatedNodeReport,
}

pub(crate) async fn execute(
    args: &NodesArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let allocations = Access::open(dir).await?.allocations(args.workflow.workflow).await?;
    let nodes: Vec<NodeOfAllocation<'_>> = allocations.iter().flat_map(of).collect();
    match format {
        Format::Json => json(&nodes),
        Format::Table if nodes.is_empty() => {
            outln!("the workflow has no nodes now; `torc allocations` says why");
        }
        Format::Table => print(&nodes),
    }
    Ok(Exit::Success)
}

fn of(allocation: &AllocationReport) -> impl Iterator<Item = NodeOfAllocation<'_>> {
    let id = allocation.id.0;
    allocation.nodes.iter().map(move |node| NodeOfAllocation { allocation: id, node })
}

fn print(nodes: &[NodeOfAllocation<'_>]) {
    let rows = nodes.iter().map(|NodeOfAllocation { allocation, node }| {
        vec![
            node.name.clone(),
            allocation.to_string(),
            state(node.state).to_owned(),
            in_use(node.cpus_used, node.cpus, node.slots),
            format!("{}/{}", bytes(node.memory_used), bytes(node.memory)),
            format!("{}/{}", node.gpus_used, node.gpus),
            jobs(node),
            node.idle.map_or_else(String::new, |cause| cause.words().to_owned()),
            held(node),
        ]
    });
    let header =
        ["node", "allocation", "state", "cpus", "memory", "gpus", "jobs", "idle", "held for"];
    table(&header, rows);
    for ((state, reason), names) in reasons(nodes) {
        outln!("{state}: {}: {reason}", names.join(" "));
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Down => "down",
    }
}

/// Why nodes take nothing new, and which.
fn reasons<'n>(
    nodes: &'n [NodeOfAllocation<'_>],
) -> BTreeMap<(&'static str, &'n str), Vec<&'n str>> {
    let mut found: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for NodeOfAllocation { node, .. } in nodes {
        if let Some(reason) = &node.reason {
            found.entry((state(node.state), reason.as_str())).or_default().push(&node.name);
        }
    }
    found
}

fn jobs(node: &AllocatedNodeReport) -> String {
    let mut words: Vec<String> = node
        .jobs
        .iter()
        .take(JOBS_SHOWN)
        .map(|job| match node.slots {
            Some(_) => job.job.clone(),
            None => format!("{} ({} cpu)", job.job, job.cpus),
        })
        .collect();
    if let Some(more) = node.jobs.len().checked_sub(JOBS_SHOWN).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

fn held(node: &AllocatedNodeReport) -> String {
    let Some(job) = &node.held_for else { return String::new() };
    let since = node.held_since.map(|since| format!(" since {}", local_time(since)));
    let until = node.held_until.map(|until| format!(" until {}", local_time(until)));
    format!("{job}{}{}", since.unwrap_or_default(), until.unwrap_or_default())
}
