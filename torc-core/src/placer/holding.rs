//! Which nodes a promise keeps from others.
//!
//! Owns: the answer, for those who account for idle time. Does not know: how a promise is made or
//! respected. Invariant: it follows from what the placer knows now, not from how it came to know it.

use super::fleet::NEVER;
use super::promise::Promise;
use super::queue::Least;
use super::search::earliest_end;
use super::whole_node::WholeNodePlacer;
use crate::ids::{ClassId, JobId, NodeId};
use crate::time::Timestamp;

/// Classes looked at, to find one that is kept from a node. With more that would have room but may not
/// run there, nobody is said to be.
const LOOKED_AT: usize = 16;

impl WholeNodePlacer {
    /// The nodes of a promised gang; the node of a promised single-node job if another job that could
    /// start there is kept from it. To be asked after a decision.
    pub(super) fn held(&self, now: Timestamp) -> Option<(JobId, Vec<NodeId>)> {
        let promise = self.promise.as_ref()?;
        if !promise.is_gang && !self.keeps_somebody_out(promise, now) {
            return None;
        }
        let nodes = promise.forecast.slots.iter().map(|&slot| self.fleet.node(slot).id).collect();
        Some((promise.job, nodes))
    }

    fn keeps_somebody_out(&self, promise: &Promise, now: Timestamp) -> bool {
        let Some(&slot) = promise.forecast.slots.first() else { return false };
        let bounds = self.fleet.node(slot).bounds();
        let may_fit = |least: &Least| bounds.covers(least.single);
        let mut last = None;
        for _ in 0..LOOKED_AT {
            let Some(key) = self.queue.next(last, &may_fit) else { return false };
            if key.class != promise.class && self.would_start(key.class, slot, now) {
                return true;
            }
            last = Some(key);
        }
        false
    }

    /// Whether a single-node job of a class would start on a node if nothing were promised.
    fn would_start(&self, class: ClassId, slot: u32, now: Timestamp) -> bool {
        let class = &self.classes[class.0 as usize];
        let node = self.fleet.node(slot);
        let Some(site) = self.fleet.site(node.site) else { return false };
        let ends_at = site.allocation.ends_at.unwrap_or(NEVER);
        !class.request.is_gang()
            && !site.is_closed
            && class.pools.contains(&site.pool)
            && earliest_end(&class.request, now) <= ends_at
            && node.has_room(&class.request)
    }
}
