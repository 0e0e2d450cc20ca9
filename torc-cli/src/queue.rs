//! Where waiting allocations stand in Slurm's queue: what a person who waits wants to know.
//!
//! Owns how it is said. Slurm is asked when a person asks, never in a loop.

use serde::Serialize;
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::traits::AllocationHandle;
use torc_core::wire::{AllocationReport, AllocationStage};
use torc_executors::slurm::{QueuePosition, SlurmScheduler};

use crate::commands::serve::programs;
use crate::exit::Failure;
use crate::render::local_time;
use crate::settings::Settings;

/// Waiting allocations whose place in the queue is asked for: each takes a call.
const ALLOCATIONS_ASKED: usize = 3;

/// Where one stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    /// The allocation.
    allocation: AllocationId,
    /// Slurm's job id.
    handle: String,
    /// Its partitions, separated by commas.
    partition: String,
    /// Higher starts first.
    priority: u64,
    /// Slurm's reason why it waits; may be empty.
    reason: String,
    /// When Slurm expects it to start.
    expected_start: Option<Timestamp>,
    /// Others in its partitions that may start before it.
    ahead: u64,
    /// All others that wait there.
    others: u64,
}

/// Where those of these allocations stand that wait in the queue. What Slurm does not tell is left out.
///
/// # Errors
/// When the settings cannot be read.
pub(crate) async fn places(allocations: &[AllocationReport]) -> Result<Vec<Place>, Failure> {
    let waiting = allocations.iter().filter(|allocation| {
        allocation.scheduler_type.as_deref() == Some("slurm")
            && allocation.granted_at.is_none()
            && allocation.stage == AllocationStage::Submitted
    });
    let waiting = waiting.filter_map(|one| Some((one.id, one.handle.clone()?)));
    let waiting: Vec<(AllocationId, String)> = waiting.take(ALLOCATIONS_ASKED).collect();
    let mut places = Vec::new();
    if waiting.is_empty() {
        return Ok(places);
    }
    let scheduler = SlurmScheduler::new(programs(&Settings::load()?));
    for (allocation, handle) in waiting {
        let asked = scheduler.ahead_of(&AllocationHandle(handle.clone())).await;
        if let Ok(Some(position)) = asked {
            let QueuePosition { partition, priority, reason, expected_start, ahead, others } =
                position;
            places.push(Place {
                allocation,
                handle,
                partition,
                priority,
                reason,
                expected_start,
                ahead,
                others,
            });
        }
    }
    Ok(places)
}

impl Place {
    /// A sentence about it.
    pub(crate) fn sentence(&self) -> String {
        let start = self.expected_start.map_or_else(String::new, |at| {
            format!("; Slurm expects it to start at {}", local_time(at))
        });
        let reason = if self.reason.is_empty() { "no reason told" } else { &self.reason };
        format!(
            "{} waits in {}: {reason}, {}{start}",
            self.handle,
            self.partition,
            before(self.ahead, self.others)
        )
    }
}

/// How many may start before one that waits.
pub(crate) fn before(ahead: u64, others: u64) -> String {
    match others {
        0 => "nothing else waits there".to_owned(),
        others => format!("{ahead} of {others} others there may start before it"),
    }
}
