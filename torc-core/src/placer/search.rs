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
use super::amounts::Amounts;
use super::fleet::{Fleet, Group, NEVER, Site};
use super::index::{Entry, Wanted, emptiness};
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
    /// One node that may not be used.
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

/// The earliest end of an allocation that the job may start in at `start` (P6).
pub(super) fn earliest_end(request: &Request, start: Timestamp) -> Timestamp {
    let grace = u64::try_from(START_UP_GRACE.as_millis()).unwrap_or(0);
    match request.runtime {
        Some(runtime) => Timestamp((start + runtime).0.saturating_sub(grace)),
        None => Timestamp(start.0.saturating_add(1)),
    }
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
                        && free.covers(Amounts::needed(ask.request, fleet.node(*slot).total))
                },
            };
            best = match ask.policy {
                Policy::Pack => {
                    let found = index.tightest(&wanted);
                    if best.is_none() { found } else { best.min(found.or(best)) }
                }
                Policy::Spread => {
                    let found = index.emptiest(&wanted);
                    if emptiness(found) > emptiness(best) { found } else { best }
                }
            };
        }
    }
    best.map(|(_, _, slot)| slot)
}

/// The least that the job counts for on any node of the group.
fn lowest(request: &Request, group: &Group) -> Amounts {
    let memory = match request.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => group
            .shapes
            .keys()
            .filter(|total| total.cpus >= request.cpus)
            .map(|total| Amounts::needed(request, *total).memory)
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
            Some(((waste(fleet, ask, site)?, end, site.allocation.id), site))
        })
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, site)| choose(fleet, ask, site))
}

/// The shapes of idle nodes that fit, those that waste least first, with how many of each are on
/// each side and which node of that shape is barred.
fn fitting<'a>(
    fleet: &'a Fleet,
    ask: Ask<'a>,
    site: &'a Site,
) -> impl Iterator<Item = (Amounts, [(&'a super::runs::Runs, Option<u32>); 2])> {
    let barred = ask.barred.map(|slot| fleet.node(slot)).filter(|node| {
        let is_here = fleet.site(node.site).is_some_and(|there| std::ptr::eq(there, site));
        is_here && node.is_usable() && node.is_idle()
    });
    site.idle
        .iter()
        .filter(move |(total, _)| total.covers(Amounts::needed(ask.request, **total)))
        .map(move |(total, sides)| {
            let barred = barred.filter(|node| node.total == *total);
            let on = |held| barred.filter(|node| node.held == held).map(|node| node.position);
            (*total, [(&sides[0], on(false)), (&sides[1], on(true))])
        })
}

/// What the chosen nodes would have in all; `None` when too few fit.
fn waste(fleet: &Fleet, ask: Ask<'_>, site: &Site) -> Option<Amounts> {
    let mut missing = ask.request.nodes;
    let mut waste = Amounts::default();
    for (total, sides) in fitting(fleet, ask, site) {
        for &side in ask.sides() {
            let (runs, barred) = sides[side];
            let taken = (runs.len() - u32::from(barred.is_some())).min(missing);
            waste = waste.plus(total.times(taken));
            missing -= taken;
        }
    }
    (missing == 0).then_some(waste)
}

fn choose(fleet: &Fleet, ask: Ask<'_>, site: &Site) -> Vec<u32> {
    let wanted = ask.request.nodes as usize;
    let mut slots = Vec::with_capacity(wanted);
    for (_, sides) in fitting(fleet, ask, site) {
        for &side in ask.sides() {
            let (runs, barred) = sides[side];
            let missing = u32::try_from(wanted - slots.len()).unwrap_or(0);
            if missing == 0 {
                break;
            }
            let chosen = runs.choose(missing + u32::from(barred.is_some()));
            let allowed = chosen.into_iter().filter(|position| Some(*position) != barred);
            slots.extend(allowed.take(missing as usize).map(|position| site.first + position));
        }
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
            let missing = Amounts::needed(ask.request, node.total).minus(node.free);
            ((missing, Reverse(node.free.cpus), node.id), slot)
        })
        .collect();
    nodes.sort_unstable();
    nodes.into_iter().take(A_FEW).map(|(_, slot)| slot).collect()
}
