//! `torc allocations`: which allocations a workflow has, where they stand, how long they have left, and
//! what each of their nodes is doing.

use torc_core::time::Timestamp;
use torc_core::traits::{AllocationState, NodeState};
use torc_core::wire::{AllocatedNodeReport, AllocationReport, AllocationStage};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::state_dir::StateDir;

use crate::args::{AllocationsArgs, Format};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::causes::ended;
use crate::render::{duration_ms, in_use, json, local_time, table};

pub(crate) async fn execute(
    args: &AllocationsArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let mut found = Access::open(dir).await?.allocations(args.workflow.workflow).await?;
    if !args.all && format == Format::Table {
        found.retain(|allocation| allocation.stage != AllocationStage::Ended);
    }
    match format {
        Format::Json => json(&found),
        Format::Table if found.is_empty() => outln!("{}", nothing(args.all)),
        Format::Table => print(&found),
    }
    Ok(Exit::Success)
}

fn nothing(all: bool) -> &'static str {
    if all {
        "there has been no allocation"
    } else {
        "there is no allocation now; --all lists those that are over"
    }
}

fn print(allocations: &[AllocationReport]) {
    let rows = allocations.iter().map(|allocation| {
        vec![
            allocation.id.to_string(),
            allocation.handle.clone().unwrap_or_default(),
            allocation.scheduler.clone().unwrap_or_else(|| "-".to_owned()),
            allocation.num_nodes.to_string(),
            state(allocation),
            left(allocation),
            nodes(&allocation.nodes),
            reason(allocation),
        ]
    });
    table(&["id", "job id", "scheduler", "nodes", "state", "left", "now", "reason"], rows);
}

fn state(allocation: &AllocationReport) -> String {
    match (allocation.stage, &allocation.observed) {
        (AllocationStage::Submitted, Some(AllocationState::Pending { .. })) => "pending".to_owned(),
        (AllocationStage::Submitted, Some(AllocationState::Configuring)) => {
            "configuring".to_owned()
        }
        (AllocationStage::Submitted, Some(AllocationState::Running { .. })) => {
            "starting".to_owned()
        }
        (
            AllocationStage::Active | AllocationStage::Unreachable,
            Some(AllocationState::Suspended),
        ) => "suspended".to_owned(),
        (AllocationStage::Ended, _) => match allocation.cause {
            Some(cause) => ended(cause).to_owned(),
            None => "ended".to_owned(),
        },
        (stage, _) => stage.word().to_owned(),
    }
}

fn left(allocation: &AllocationReport) -> String {
    let is_over = allocation.stage == AllocationStage::Ended;
    match allocation.ends_at.filter(|_| !is_over) {
        Some(ends_at) => duration_ms(ends_at.0.saturating_sub(now().0)),
        None => String::new(),
    }
}

/// What each node is doing, in a few words.
fn nodes(nodes: &[AllocatedNodeReport]) -> String {
    const SHOWN: usize = 4;
    let words = nodes.iter().take(SHOWN).map(|node| match node.state {
        NodeState::Down => format!("{} down", node.name),
        _ => format!("{} {}", node.name, in_use(node.cpus_used, node.cpus, node.slots)),
    });
    let mut words: Vec<String> = words.collect();
    if let Some(more) = nodes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        words.push(format!("and {more} more (`torc nodes`)"));
    }
    words.join(", ")
}

fn reason(allocation: &AllocationReport) -> String {
    match &allocation.observed {
        Some(AllocationState::Pending { expected_start: Some(at), .. })
            if allocation.granted_at.is_none() =>
        {
            format!("{}; expected at {}", allocation.reason, local_time(*at))
        }
        _ => allocation.reason.clone(),
    }
}

/// A sentence about an allocation, for explanations.
pub(crate) fn sentence(allocation: &AllocationReport) -> String {
    let handle = allocation.handle.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    let since = |at: Option<Timestamp>| {
        at.map_or_else(String::new, |at| format!(" since {}", local_time(at)))
    };
    let reason = reason(allocation);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let of = match (&allocation.scheduler, &allocation.handle) {
        (Some(scheduler), _) => format!(" of {scheduler}"),
        (None, Some(_)) => ", which the run was started in,".to_owned(),
        (None, None) => " of this machine".to_owned(),
    };
    format!(
        "allocation {}{handle}{of} is {}{}{why}",
        allocation.id,
        state(allocation),
        match allocation.stage {
            AllocationStage::Requested | AllocationStage::Submitted => {
                since(allocation.requested_at)
            }
            AllocationStage::Ended => since(allocation.ended_at),
            _ => since(allocation.granted_at),
        },
    )
}
