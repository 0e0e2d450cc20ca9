//! Planned starts: when and where a job that is blocked now can start, if running jobs keep their
//! declared runtimes.
//!
//! Owns: the forecast. Does not know: who is blocked, or in which order jobs are served. Invariant:
//! at the time of a forecast, all of its steps that have a known end having ended, the job fits on
//! the nodes of the forecast and its allocation still admits it.

use super::amounts::{Amounts, Total};
use super::fleet::{Fleet, NEVER, Site};
use super::node::Node;
use super::search::{Ask, earliest_end};
use crate::ids::{ClassId, JobId};
use crate::resources::Request;
use crate::time::Timestamp;

/// The one planned start that holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Promise {
    pub(super) job: JobId,
    pub(super) class: ClassId,
    pub(super) priority: i32,
    pub(super) is_gang: bool,
    pub(super) forecast: Forecast,
    /// Something happened that may change the forecast.
    pub(super) is_stale: bool,
}

/// When and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forecast {
    pub(super) site: u32,
    /// In node order.
    pub(super) slots: Vec<u32>,
    /// `None` when it depends on steps whose end is not known.
    pub(super) at: Option<Timestamp>,
    /// The latest bound that is known: `at`, else the end of the allocation, else [`NEVER`].
    pub(super) until: Timestamp,
}

/// What can be foreseen for a blocked job.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prospect {
    /// It starts here.
    Start(Forecast),
    /// Each allocation ends too early for the time at which there would be room.
    TooLate,
    /// The usable nodes would have no room for it if they were empty.
    Unplaceable,
}

/// Foresees the start of a job that is blocked now.
pub(super) fn prospect(fleet: &Fleet, ask: Ask<'_>) -> Prospect {
    let has_room = |site: &Site| {
        let fitting = site.shapes.iter().filter(|(total, _)| total.holds(ask.request));
        fitting.map(|(_, nodes)| nodes).sum::<u32>() >= ask.request.nodes.max(1)
    };
    if !ask.sites(fleet).any(|(_, site)| has_room(site)) {
        return Prospect::Unplaceable;
    }
    let forecast = if ask.request.is_gang() { gang(fleet, ask) } else { single(fleet, ask) };
    forecast.map_or(Prospect::TooLate, Prospect::Start)
}

/// Up to so many nodes with known ends, all of them are gone through for a single-node job.
const ALL_NODES: usize = 2_000;
/// Where there are more, so many are.
const FIRST_NODES: usize = 10;

/// When and where a single-node job first has room.
///
/// In a fleet with very many nodes, those with the earliest ends may not suffice; then a node that lacks little
/// is promised, for when it has room. That may be later than the earliest time, but the cost of a
/// decision stays bounded, and the job starts earlier anyway if there is room elsewhere before.
fn single(fleet: &Fleet, ask: Ask<'_>) -> Option<Forecast> {
    let is_small = fleet.next_ends().len() <= ALL_NODES;
    let room = if is_small {
        earliest_room(fleet, ask, ALL_NODES)
    } else {
        earliest_room(fleet, ask, FIRST_NODES).or_else(|| room_nearby(fleet, ask))
    };
    let Some((at, slot)) = room else { return room_some_day(fleet, ask) };
    Some(Forecast { site: fleet.node(slot).site, slots: vec![slot], at: Some(at), until: at })
}

/// When a single-node job has room on the node that lacks the least now.
fn room_nearby(fleet: &Fleet, ask: Ask<'_>) -> Option<(Timestamp, u32)> {
    let slot = nearest(fleet, ask, |node| node.unknown_ends == 0)?;
    let node = fleet.node(slot);
    let at = node.room_at(node.total.needed(ask.request), ask.now)?;
    is_open(fleet, ask, node, earliest_end(ask.request, at)).then_some((at, slot))
}

/// When and where a single-node job first has room, going through so many nodes in the order of their next
/// ends: a node whose next end is later than the best time found has no better one.
pub(super) fn earliest_room(fleet: &Fleet, ask: Ask<'_>, most: usize) -> Option<(Timestamp, u32)> {
    let pools = ask.pools.iter().filter_map(|&pool| fleet.pools.get(pool as usize));
    let last = pools.filter_map(|pool| pool.groups.keys().next_back()).max().copied()?;
    let mut best = room_in_closed_sites(fleet, ask);
    for &(end, slot) in fleet.next_ends().iter().take(most) {
        let before = best.map_or(last, |(at, _)| at);
        if end > before || earliest_end(ask.request, end) > last {
            break;
        }
        let node = fleet.node(slot);
        let need = node.total.needed(ask.request);
        if node.free_at(before).covers(need)
            && let Some(at) = node.room_at(need, ask.now)
            && is_open(fleet, ask, node, earliest_end(ask.request, at))
        {
            best = best.into_iter().chain([(at, slot)]).min();
        }
    }
    best
}

/// When and where a single-node job first has room that is there now, but in a site that takes no more steps.
fn room_in_closed_sites(fleet: &Fleet, ask: Ask<'_>) -> Option<(Timestamp, u32)> {
    let closed = ask.sites(fleet).filter(|(_, site)| site.is_closed);
    let rooms = closed.filter_map(|(_, site)| {
        let at = opens_at(fleet, site, ask.now);
        let enough = earliest_end(ask.request, at);
        let has_room = |&slot: &u32| {
            let node = fleet.node(slot);
            node.free.covers(node.total.needed(ask.request)) && is_open(fleet, ask, node, enough)
        };
        Some((at, site.slots().find(has_room)?))
    });
    rooms.filter(|(at, _)| *at != NEVER).min()
}

/// Whether the node may be given the job, in an allocation that ends late enough.
fn is_open(fleet: &Fleet, ask: Ask<'_>, node: &Node, enough: Timestamp) -> bool {
    node.is_usable()
        && fleet.site(node.site).is_some_and(|site| {
            site.allocation.ends_at.unwrap_or(NEVER) >= enough && ask.pools.contains(&site.pool)
        })
}

/// Where a single-node job lacks the least, among nodes on which the end of some step is unknown.
fn room_some_day(fleet: &Fleet, ask: Ask<'_>) -> Option<Forecast> {
    let slot = nearest(fleet, ask, |node| node.unknown_ends > 0)?;
    let site = fleet.node(slot).site;
    let until = fleet.site(site)?.allocation.ends_at.unwrap_or(NEVER);
    Some(Forecast { site, slots: vec![slot], at: None, until })
}

/// The node that lacks the least for a single-node job, of those that `will_do`.
fn nearest(fleet: &Fleet, ask: Ask<'_>, will_do: impl Fn(&Node) -> bool) -> Option<u32> {
    let bare = Total::default().needed(ask.request);
    let of = |counts_jobs| if counts_jobs { Amounts::one_job(ask.request) } else { bare };
    let is_good = |slot: u32| {
        let node = fleet.node(slot);
        will_do(node) && node.total.holds(ask.request)
    };
    // Where jobs and CPUs are counted side by side, all is measured in the smaller need.
    let open = ask.groups(fleet).flat_map(|group| {
        let need = of(group.counting_jobs > 0);
        let free = group.free.iter();
        free.filter_map(move |index| index.nearest(need, |(_, _, slot)| is_good(*slot)))
    });
    let closed = ask.sites(fleet).filter(|(_, site)| site.is_closed);
    let closed = closed
        .flat_map(|(_, site)| site.slots())
        .filter(|&slot| fleet.node(slot).is_usable() && is_good(slot));
    let closed = closed.map(|slot| {
        let node = fleet.node(slot);
        let need = of(node.total.most_jobs.is_some());
        (need.minus(node.free), (node.free, node.id, slot))
    });
    open.chain(closed)
        .min_by_key(|(missing, (_, id, _))| (*missing, *id))
        .map(|(_, (_, _, slot))| slot)
}

/// When and where a gang first has its nodes.
fn gang(fleet: &Fleet, ask: Ask<'_>) -> Option<Forecast> {
    ask.sites(fleet)
        .filter_map(|(index, site)| {
            let forecast = gang_at(fleet, ask, index, site)?;
            let rank = (forecast.at.unwrap_or(NEVER), site.allocation.id);
            Some((rank, forecast))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, forecast)| forecast)
}

fn gang_at(fleet: &Fleet, ask: Ask<'_>, index: u32, site: &Site) -> Option<Forecast> {
    let count = ask.request.nodes as usize;
    let mut nodes: Vec<_> = site
        .slots()
        .map(|slot| (fleet.node(slot), slot))
        .filter(|(node, _)| node.is_usable() && node.total.holds(ask.request))
        .map(|(node, slot)| {
            // A step without a known end weighs more than any known end.
            (node.idle_at.max(ask.now), node.unknown_ends, node.total, slot)
        })
        .collect();
    if nodes.len() < count || count == 0 {
        return None;
    }
    let (_, &mut (at, ..), _) = nodes.select_nth_unstable(count - 1);
    let at = at.max(opens_at(fleet, site, ask.now));
    let ends = site.allocation.ends_at.unwrap_or(NEVER);
    if at == NEVER {
        nodes.truncate(count);
        return Some(Forecast { site: index, slots: in_order(nodes), at: None, until: ends });
    }
    if ends < earliest_end(ask.request, at) {
        return None;
    }
    nodes.retain(|(idle_at, ..)| *idle_at <= at);
    nodes.sort_unstable_by_key(|(_, _, total, slot)| (*total, *slot));
    nodes.truncate(count);
    Some(Forecast { site: index, slots: in_order(nodes), at: Some(at), until: at })
}

/// When one step fewer runs in a site: `now` unless it is closed.
pub(super) fn opens_at(fleet: &Fleet, site: &Site, now: Timestamp) -> Timestamp {
    if !site.is_closed {
        return now;
    }
    let steps = site.slots().flat_map(|slot| &fleet.node(slot).steps);
    steps.map(|step| step.ends).min().unwrap_or(NEVER)
}

fn in_order(nodes: Vec<(Timestamp, u32, Total, u32)>) -> Vec<u32> {
    let mut slots: Vec<_> = nodes.into_iter().map(|(.., slot)| slot).collect();
    slots.sort_unstable();
    slots
}

impl Promise {
    /// Whether a job that starts now and runs so long is gone before the planned start.
    pub(super) fn leaves_in_time(&self, request: &Request, now: Timestamp) -> bool {
        request.runtime.is_some_and(|runtime| now + runtime <= self.forecast.until)
    }

    /// What jobs that may outlast the planned start may use on the node held for a single-node job.
    ///
    /// With a known time: what is left at that time beside the promised request. Without one: all
    /// but what the promised job needs, and nothing of what it still lacks.
    pub(super) fn beside(&self, fleet: &Fleet, request: &Request) -> Amounts {
        let [slot] = *self.forecast.slots else { return Amounts::default() };
        let node = fleet.node(slot);
        let need = node.total.needed(request);
        let Some(at) = self.forecast.at else {
            return node.free.minus(need);
        };
        node.free.least(node.free_at(at).minus(need))
    }

    /// Whether the end of a step on this node may change the forecast.
    pub(super) fn is_upset_by(&self, fleet: &Fleet, slot: u32, ask: Ask<'_>) -> bool {
        let node = fleet.node(slot);
        let concerns = node.is_usable()
            && fleet.site(node.site).is_some_and(|site| ask.pools.contains(&site.pool));
        if !concerns {
            return false;
        }
        match (self.forecast.at, self.is_gang) {
            (None, true) => node.unknown_ends == 0 || self.forecast.slots.contains(&slot),
            (None, false) => true,
            (Some(at), true) => node.idle_at <= at,
            (Some(at), false) => node.free_at(at).covers(node.total.needed(ask.request)),
        }
    }
}
