//! Whether a job could ever start on given allocations, if they were all its own.
//!
//! Owns: the rules of matching (scheduler, labels), of fitting a node, and of walltime (P6), and the
//! numbers of a refusal. Does not know: what is free now. Invariant: whatever the placer starts, this
//! module calls feasible.

use std::time::Duration;

use super::amounts::{Amounts, Total};
use crate::resources::{Allocation, MemoryRequest, Request, START_UP_GRACE};
use crate::time::Timestamp;
use crate::traits::NeverReason;

/// Whether the job could start at `now` or later on these allocations, if nothing else ran there.
///
/// Nodes count whatever their state is: one that is down may come back. A job without a declared
/// runtime asks only that an allocation has not ended; when all have, the refusal is
/// [`NeverReason::Walltime`] with a runtime of zero.
///
/// # Errors
/// The first rule that no allocation meets, with numbers: matching, each resource alone, all
/// resources on one node, enough such nodes in one allocation, walltime.
pub fn feasibility(
    request: &Request,
    allocations: &[Allocation],
    now: Timestamp,
) -> Result<(), NeverReason> {
    judge(request, allocations.iter(), now)
}

/// [`feasibility`] over allocations that lie anywhere.
pub(super) fn judge<'a>(
    request: &Request,
    allocations: impl Iterator<Item = &'a Allocation>,
    now: Timestamp,
) -> Result<(), NeverReason> {
    let matching: Vec<_> = allocations.filter(|allocation| allocation.serves(request)).collect();
    if matching.is_empty() {
        return Err(NeverReason::NoMatchingAllocation);
    }
    let fitting =
        |allocation: &Allocation| totals(allocation).filter(|total| total.holds(request)).count();
    let counts: Vec<_> = matching.iter().map(|allocation| fitting(allocation)).collect();
    let largest = counts.iter().copied().max().unwrap_or(0);
    if largest == 0 {
        let all = || matching.iter().flat_map(|allocation| totals(allocation));
        let bounds = |total: Total| {
            if request.is_gang() { total.amounts } else { total.bounds(total.idle()) }
        };
        let most = all().map(bounds).fold(Amounts::default(), Amounts::most);
        let least_grain = all().map(|total| total.grain).min().unwrap_or(1);
        return Err(lacking(request, most, least_grain));
    }
    if largest < request.nodes as usize {
        let largest = u32::try_from(largest).unwrap_or(u32::MAX);
        return Err(NeverReason::Nodes { needs: request.nodes, largest });
    }
    let wide_enough = matching
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count >= request.nodes.max(1) as usize)
        .map(|(allocation, _)| allocation.ends_at);
    walltime(request.runtime, wide_enough, now)
}

fn totals(allocation: &Allocation) -> impl Iterator<Item = Total> {
    allocation.nodes.iter().map(|(_, inventory)| Total::of(inventory))
}

/// The first resource of which no node has enough.
fn lacking(request: &Request, most: Amounts, least_grain: u32) -> NeverReason {
    if request.cpus > most.cpus {
        return NeverReason::Cpus { needs: request.cpus, largest: most.cpus };
    }
    if let MemoryRequest::Bytes(needs) = request.memory
        && needs > most.memory
    {
        return NeverReason::Memory { needs, largest: most.memory };
    }
    if request.gpus > most.gpus {
        return NeverReason::Gpus { needs: request.gpus, largest: most.gpus };
    }
    let needs = request.cpus_on(least_grain);
    if needs > most.cpus {
        let ranks = request.ntasks_per_node.max(1);
        return NeverReason::Ranks { ranks, each: needs / ranks, needs, largest: most.cpus };
    }
    NeverReason::Together
}

fn walltime(
    runtime: Option<Duration>,
    ends: impl Iterator<Item = Option<Timestamp>>,
    now: Timestamp,
) -> Result<(), NeverReason> {
    let mut longest = Duration::ZERO;
    for ends_at in ends {
        if admits(runtime, ends_at, now) {
            return Ok(());
        }
        longest = longest.max(ends_at.map_or(Duration::MAX, |ends_at| ends_at.since(now)));
    }
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Err(NeverReason::Walltime {
        runtime_ms: millis(runtime.unwrap_or_default()),
        longest_ms: millis(longest),
    })
}

/// P6: whether a job of this runtime may start at `start` in an allocation that ends at `ends_at`.
pub(super) fn admits(
    runtime: Option<Duration>,
    ends_at: Option<Timestamp>,
    start: Timestamp,
) -> bool {
    match (ends_at, runtime) {
        (None, _) => true,
        (Some(ends_at), runtime) => {
            start < ends_at && start + runtime.unwrap_or_default() <= ends_at + START_UP_GRACE
        }
    }
}
