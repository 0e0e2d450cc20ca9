//! Why a job waits, with numbers.
//!
//! Owns: the choice of the one cause that is told. Does not know: how to change it. Invariant: it
//! asks the same searches as a decision, so that it never names a cause that a decision would not
//! have met.

use super::feasibility;
use super::fleet::{NEVER, Site};
use super::promise::{Promise, earliest_room, opens_at};
use super::search::{self, Ask};
use super::whole_node::{Class, WholeNodePlacer};
use crate::ids::JobId;
use crate::resources::Slots;
use crate::time::Timestamp;
use crate::traits::{NodeFree, NotNowReason, Waiting};

impl WholeNodePlacer {
    pub(super) fn why_waiting(&self, job: JobId, now: Timestamp) -> Option<Waiting> {
        let class = self.classes.get(self.queue.class_of(job)?.0 as usize)?;
        if self.fleet.allocations().next().is_none() {
            return Some(Waiting::NotNow(NotNowReason::NoAllocation));
        }
        if let Err(never) = feasibility::judge(&class.request, self.fleet.allocations(), now) {
            return Some(Waiting::Never(never));
        }
        Some(Waiting::NotNow(self.why_not_now(class, job, now)))
    }

    fn why_not_now(&self, class: &Class, job: JobId, now: Timestamp) -> NotNowReason {
        let ask = self.ask(class, now);
        let promised = self.promise.as_ref().filter(|promise| promise.job == job);
        if !self.fits(ask) {
            if let Some(opens_at) = self.closed_sites_with_room(ask) {
                let expected_at = promised.and_then(|promise| promise.forecast.at);
                return NotNowReason::TooManySteps {
                    most: self.fleet.most_steps(),
                    expected_at: expected_at.or(Some(opens_at).filter(|at| *at != NEVER)),
                };
            }
            return if class.request.is_gang() {
                self.lack_of_idle_nodes(ask, promised)
            } else {
                self.lack_of_room(ask, promised)
            };
        }
        if let Some(promise) = &self.promise
            && promise.job != job
            && promise.priority >= class.request.priority
        {
            let mut held_back = ask;
            self.hold_back(&mut held_back, promise);
            if !self.fits(held_back) {
                return NotNowReason::HeldForPlannedStart {
                    job: promise.job,
                    until: promise.forecast.until,
                };
            }
        }
        NotNowReason::Queued
    }

    fn fits(&self, ask: Ask<'_>) -> bool {
        if ask.request.is_gang() {
            search::gang(&self.fleet, ask).is_some()
        } else {
            search::single(&self.fleet, ask).is_some()
        }
    }

    /// When the first of the sites takes another step that would have room for the job; `None`: none
    /// would.
    fn closed_sites_with_room(&self, ask: Ask<'_>) -> Option<Timestamp> {
        let has_room = |site: &Site| {
            let nodes = site.slots().map(|slot| self.fleet.node(slot));
            let free = nodes.filter(|node| node.is_usable() && node.has_room(ask.request));
            free.count() >= ask.request.nodes.max(1) as usize
        };
        let closed = ask.sites(&self.fleet).filter(|(_, site)| site.is_closed && has_room(site));
        closed.map(|(_, site)| opens_at(&self.fleet, site, ask.now)).min()
    }

    fn lack_of_room(&self, ask: Ask<'_>, promised: Option<&Promise>) -> NotNowReason {
        let nearest = search::nearest(&self.fleet, ask);
        let totals = nearest.iter().map(|&slot| self.fleet.node(slot).total);
        let counted = totals.clone().find(|total| total.most_jobs.is_none());
        let needs = counted.unwrap_or_default().needed(ask.request);
        let expected_at = match promised {
            Some(promise) => promise.forecast.at,
            None => earliest_room(&self.fleet, ask, usize::MAX).map(|(at, _)| at),
        };
        NotNowReason::NotEnoughFree {
            needs_cpus: needs.cpus,
            needs_memory: needs.memory,
            needs_gpus: needs.gpus,
            free: nearest.into_iter().filter_map(|slot| self.node_free(slot)).collect(),
            unusable: ask.sites(&self.fleet).map(|(_, site)| self.unusable(ask, site)).sum(),
            expected_at,
        }
    }

    fn lack_of_idle_nodes(&self, ask: Ask<'_>, promised: Option<&Promise>) -> NotNowReason {
        let idle = |site: &Site| {
            let fitting = site.idle.iter().filter(|(total, _)| total.holds(ask.request));
            fitting.map(|(_, [open, held])| open.len() + held.len()).sum::<u32>()
        };
        // Of equals, the one that has the most nodes that could come back.
        let sites = ask.sites(&self.fleet).map(|(_, site)| (idle(site), self.unusable(ask, site)));
        let (idle, unusable) = sites.max().unwrap_or_default();
        NotNowReason::WaitsForIdleNodes {
            needs: ask.request.nodes,
            idle,
            unusable,
            planned_at: promised.and_then(|promise| promise.forecast.at),
        }
    }

    /// Nodes of an allocation that would have room if they were idle, and take nothing new.
    fn unusable(&self, ask: Ask<'_>, site: &Site) -> u32 {
        let nodes = site.slots().map(|slot| self.fleet.node(slot));
        let fitting = nodes.filter(|node| !node.is_usable() && node.total.holds(ask.request));
        u32::try_from(fitting.count()).unwrap_or(u32::MAX)
    }

    fn node_free(&self, slot: u32) -> Option<NodeFree> {
        let node = self.fleet.node(slot);
        let nodes = &self.fleet.site(node.site)?.allocation.nodes;
        let (_, inventory) = nodes.get(node.position as usize)?;
        let slots = node
            .total
            .most_jobs
            .map(|all| Slots { all: all.get(), used: all.get().saturating_sub(node.free.cpus) });
        // Where there are slots, nobody adds up CPUs and memory.
        let free = if slots.is_some() { node.total.amounts } else { node.free };
        Some(NodeFree {
            node: inventory.name.clone(),
            cpus: free.cpus,
            memory: free.memory,
            gpus: node.free.gpus,
            slots,
        })
    }
}
