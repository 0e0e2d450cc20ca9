//! What allocations are still good for, those that are there and those that a scheduler would give.
//!
//! Owns: whether anything that waits could start there. Does not know: what follows from that; the decision to
//! give nodes back is the driver's. Invariant: what is said of nodes is said of them as they are, and apart from
//! that of them as they would be if those came back that take nothing new now.

use std::borrow::Cow;

use crate::ids::{AllocationId, NodeId};
use crate::resources::{Allocation, NodeInventory, Request};
use crate::time::Timestamp;
use crate::traits::NodeState;

use super::Engine;

/// What an allocation may still be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Future {
    /// Jobs that wait could start there.
    Open,
    /// They could if nodes came back that failed or take nothing new.
    IfNodesRecover,
    /// No job that waits could ever start there.
    Never,
}

impl Engine {
    /// Whether a job that is ready could run in an allocation that this scheduler would give,
    /// as far as the spec tells. `fits`: what is known beyond that, of its nodes for instance.
    pub fn has_ready_job_for(&self, scheduler: u32, fits: impl Fn(&Request) -> bool) -> bool {
        let settings = &self.workflow.header.schedulers[scheduler as usize];
        let waiting = self.classes.requests().iter().zip(&self.waiting);
        waiting
            .filter(|(_, waiting)| waiting.ready > 0)
            .any(|(request, _)| settings.may_serve(request) && fits(request))
    }

    /// The same of any job that has not ended. One that runs now counts: it may have to run again.
    pub fn has_open_job_for(&self, scheduler: u32, fits: impl Fn(&Request) -> bool) -> bool {
        let settings = &self.workflow.header.schedulers[scheduler as usize];
        let mut is_open = vec![false; self.classes.requests().len()];
        for job in self.jobs_with(|status| !status.has_ended()) {
            is_open[self.classes.of_job(job).0 as usize] = true;
        }
        let classes = self.classes.requests().iter().zip(is_open);
        let mut open = classes.filter(|(_, is_open)| *is_open).map(|(request, _)| request);
        open.any(|request| settings.may_serve(request) && fits(request))
    }

    /// Whether a job that waits, for nodes or for other jobs, could ever start in an allocation.
    pub fn future_in(&self, allocation: AllocationId, now: Timestamp) -> Future {
        let Some(book) = self.allocations.get(&allocation).filter(|book| book.is_live()) else {
            return Future::Never;
        };
        // Asked of every idle allocation whenever something happens, so nothing is copied unless it
        // has to be.
        let whole = match book.closed_at {
            None => Cow::Borrowed(&book.allocation),
            Some(_) => Cow::Owned(book.effective()),
        };
        let is_good = |(node, _): &(NodeId, NodeInventory)| self.ledger.is_good(*node);
        let mut good = Cow::Borrowed(&*whole);
        if !whole.nodes.iter().all(is_good) {
            good.to_mut().nodes.retain(is_good);
        }
        let may_start = |allocation: &Allocation| {
            let allocations = std::slice::from_ref(allocation);
            let waiting = self.classes.requests().iter().zip(&self.waiting);
            waiting
                .filter(|(_, waiting)| waiting.ready + waiting.blocked > 0)
                .any(|(request, _)| crate::placer::feasibility(request, allocations, now).is_ok())
        };
        if may_start(&good) {
            Future::Open
        } else if may_start(&whole) {
            Future::IfNodesRecover
        } else {
            Future::Never
        }
    }

    /// The nodes of an allocation on which nothing runs, and nothing that waits could start as things are, alone or
    /// with others of its nodes; each with whether something could if others recovered. The first is not among
    /// them: the allocation ends with it. A job that runs now does not count, although it may have to run again.
    pub fn useless_nodes(&self, allocation: AllocationId, now: Timestamp) -> Vec<(NodeId, Future)> {
        let Some(book) = self.allocations.get(&allocation).filter(|book| book.is_live()) else {
            return Vec::new();
        };
        let mut whole = book.effective();
        whole.nodes.retain(|(node, _)| {
            !self.ledger.is_leaving(*node) && self.ledger.state(*node) != Some(NodeState::Down)
        });
        let is_up =
            |(node, _): &(NodeId, NodeInventory)| self.ledger.state(*node) == Some(NodeState::Up);
        let mut good = whole.clone();
        good.nodes.retain(is_up);
        let (wanted, wanted_later) = (self.wanted_in(&good, now), self.wanted_in(&whole, now));
        let nodes = std::mem::take(&mut good.nodes);
        let candidates = nodes.into_iter().filter(|(node, _)| {
            *node != book.allocation.nodes[0].0 && self.ledger.steps_on(*node) == 0
        });
        let useless = candidates.filter_map(|(node, inventory)| {
            let alone = [Allocation { nodes: vec![(node, inventory)], ..good.clone() }];
            let is_of_use = |wanted: &[Request]| {
                wanted
                    .iter()
                    .any(|request| crate::placer::feasibility(request, &alone, now).is_ok())
            };
            let future =
                if is_of_use(&wanted_later) { Future::IfNodesRecover } else { Future::Never };
            (!is_of_use(&wanted)).then_some((node, future))
        });
        useless.collect()
    }

    /// What jobs that wait, and could start in an allocation, would need of each of its nodes.
    fn wanted_in(&self, allocation: &Allocation, now: Timestamp) -> Vec<Request> {
        let allocation = std::slice::from_ref(allocation);
        let waiting = self.classes.requests().iter().zip(&self.waiting);
        waiting
            .filter(|(_, waiting)| waiting.ready + waiting.blocked > 0)
            .map(|(request, _)| request)
            .filter(|request| crate::placer::feasibility(request, allocation, now).is_ok())
            // Each node of several has to have what that of a job on one has.
            .map(|request| Request { nodes: 1, ..request.clone() })
            .collect()
    }
}
