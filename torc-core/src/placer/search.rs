//! Where a job would start now.
//!
//! Owns: the choice among nodes that fit: best fit or the emptiest for single nodes, the least waste
//! and then neighbours for gangs. Does not know: queues, or why nodes are held. Invariant: an answer
//! is usable, matches, fits, and admits the job by walltime (P6); no answer means that there is none.
//!
//! The cost grows with the number of different ends among matching allocations and, for gangs, with
//! the number of matching allocations; with the nodes only logarithmically.

use std::cmp::Reverse;

use super::Policy;
use super::amounts::{Amounts, Total};
use super::fleet::{Fleet, Group, NEVER, Site};
use super::index::{Entry, Wanted, emptiness};
use super::runs::Runs;
use crate::resources::{MemoryRequest, Request, START_UP_GRACE};
use crate::time::Timestamp;

/// A question about one class of jobs.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) request: &'a Request,
    /// The pools that the class may use.
    pub(super) pools: &'a [u32],
    pub(super) now: Timestamp,
    pub(super) policy: Policy,
    /// Whether nodes that are held may be used.
    pub(super) may_use_held: bool,
    /// One node that may not be used: that of a promised single-node job. It is never idle, or the
    /// job would have started there, so that only the search for single nodes asks.
    pub(super) barred: Option<u32>,
}

impl<'a> Ask<'a> {
    /// The groups that the class may start in now.
    pub(super) fn groups(self, fleet: &'a Fleet) -> impl Iterator<Item = &'a Group> {
        let earliest = earliest_end(self.request, self.now);
        self.pools
            .iter()
            .filter_map(|&pool| fleet.pools.get(pool as usize))
            .flat_map(move |pool| pool.groups.range(earliest..).map(|(_, group)| group))
    }

    /// The sites that the class may start in now, with their numbers.
    pub(super) fn sites(self, fleet: &'a Fleet) -> impl Iterator<Item = (u32, &'a Site)> {
        self.groups(fleet)
            .flat_map(|group| &group.sites)
            .filter_map(|&(_, site)| Some((site, fleet.site(site)?)))
    }

    fn sides(self) -> &'static [usize] {
        if self.may_use_held { &[0, 1] } else { &[0] }
    }
}

/// The earliest end of an allocation that the job may start in at `start` (P6). It is always after
/// the start: the grace lets a job run over an end, not start after it.
pub(super) fn earliest_end(request: &Request, start: Timestamp) -> Timestamp {
    let grace = u64::try_from(START_UP_GRACE.as_millis()).unwrap_or(0);
    let runtime = request.runtime.unwrap_or_default();
    let fits = (start + runtime).0.saturating_sub(grace);
    Timestamp(fits.max(start.0.saturating_add(1)))
}

/// The node on which a single-node job would start now.
pub(super) fn single(fleet: &Fleet, ask: Ask<'_>) -> Option<u32> {
    let mut best: Option<Entry> = None;
    for group in ask.groups(fleet) {
        for &side in ask.sides() {
            let index = &group.free[side];
            if index.is_empty() {
                continue;
            }
            let wanted = Wanted {
                lowest: lowest(ask.request, group),
                will_do: |(free, _, slot): &Entry| {
                    ask.barred != Some(*slot)
                        && free.covers(fleet.node(*slot).total.needed(ask.request))
                },
            };
            best = match ask.policy {
                Policy::Pack => {
                    let found = index.tightest(&wanted);
                    if best.is_none() { found } else { best.min(found.or(best)) }
                }
                Policy::Spread => {
                    let found = index.emptiest(&wanted);
                    best.into_iter().chain(found).max_by_key(emptiness)
                }
            };
        }
    }
    best.map(|(_, _, slot)| slot)
}

/// The least that the job counts for on any node of the group.
fn lowest(request: &Request, group: &Group) -> Amounts {
    if group.counting_jobs > 0 {
        return Amounts::one_job(request);
    }
    let memory = match request.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => group
            .shapes
            .keys()
            .filter(|total| total.amounts.cpus >= request.cpus)
            .map(|total| total.needed(request).memory)
            .min()
            .unwrap_or(0),
    };
    Amounts { gpus: request.gpus, cpus: request.cpus, memory }
}

/// The nodes on which a gang would start now, in node order: of one allocation, where they waste
/// the least; among allocations that waste the same, the one that ends first, then the lowest.
pub(super) fn gang(fleet: &Fleet, ask: Ask<'_>) -> Option<Vec<u32>> {
    let count = ask.request.nodes;
    let best = ask
        .sites(fleet)
        .filter(|(_, site)| {
            let idle: u32 = ask.sides().iter().map(|&side| site.idle_count[side]).sum();
            idle >= count
        })
        .filter_map(|(_, site)| {
            let end = site.allocation.ends_at.unwrap_or(NEVER);
            Some(((waste(ask, site)?, end, site.allocation.id), site))
        })
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, site)| choose(ask, site))
}

/// The shapes of idle nodes that fit, those that waste least first, with the nodes on each side.
fn fitting<'a>(ask: Ask<'a>, site: &'a Site) -> impl Iterator<Item = (Total, &'a Runs)> {
    site.idle
        .iter()
        .filter(move |(total, _)| total.holds(ask.request))
        .flat_map(move |(total, sides)| ask.sides().iter().map(|&side| (*total, &sides[side])))
}

/// What the chosen nodes would have in all; `None` when too few fit.
fn waste(ask: Ask<'_>, site: &Site) -> Option<Amounts> {
    let mut missing = ask.request.nodes;
    let mut waste = Amounts::default();
    for (total, runs) in fitting(ask, site) {
        let taken = runs.len().min(missing);
        waste = waste.plus(total.amounts.times(taken));
        missing -= taken;
    }
    (missing == 0).then_some(waste)
}

fn choose(ask: Ask<'_>, site: &Site) -> Vec<u32> {
    let mut missing = ask.request.nodes;
    let mut slots = Vec::with_capacity(missing as usize);
    for (_, runs) in fitting(ask, site) {
        let taken = runs.len().min(missing);
        slots.extend(runs.choose(taken).into_iter().map(|position| site.first + position));
        missing -= taken;
    }
    slots.sort_unstable();
    slots
}

/// Nodes in the order of how near they are to having room for `request`, nearest first; a few.
pub(super) fn nearest(fleet: &Fleet, ask: Ask<'_>) -> Vec<u32> {
    const A_FEW: usize = 3;
    let mut nodes: Vec<_> = ask
        .sites(fleet)
        .flat_map(|(_, site)| site.slots())
        .filter(|&slot| fleet.node(slot).is_usable())
        .map(|slot| {
            let node = fleet.node(slot);
            let missing = node.total.needed(ask.request).minus(node.free);
            ((missing, Reverse(node.free.cpus), node.id), slot)
        })
        .collect();
    nodes.sort_unstable();
    nodes.into_iter().take(A_FEW).map(|(_, slot)| slot).collect()
}
