//! What allocations are still good for, those that are there and those that a scheduler would give.
//!
//! Owns: whether anything that waits could start there. Does not know: what follows from that; the decision to
//! give nodes back is the driver's. Invariant: what is said of nodes is said of them as they are, and apart from
//! that of them as they would be if those came back that take nothing new now.

use std::borrow::Cow;
use std::collections::BTreeSet;

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
            self.waiting_requests().any(|request| may_run(request, allocation, now))
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
    /// them: the allocation ends with it. A job that runs now may have to run again, on another node where its own
    /// is lost: so many nodes are kept as it needs then, unless idle nodes are to be given back.
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
        let is_free = |(node, _): &&(NodeId, NodeInventory)| {
            *node != book.allocation.nodes[0].0 && self.ledger.steps_on(*node) == 0
        };
        // Most of the time there is none, and then nobody has to be asked what it would be good for.
        if !good.nodes.iter().any(|node| is_free(&node)) {
            return Vec::new();
        }
        let (wanted, wanted_later) = (self.wanted_in(&good, now), self.wanted_in(&whole, now));
        let nodes = std::mem::take(&mut good.nodes);
        let alone = |node: &(NodeId, NodeInventory)| Allocation {
            nodes: vec![node.clone()],
            ..good.clone()
        };
        let is_of_use = |node: &Allocation, wanted: &[Request]| {
            wanted.iter().any(|request| may_run(request, node, now))
        };
        let mut useless = Vec::new();
        for node in nodes.iter().filter(is_free) {
            let (id, node) = (node.0, alone(node));
            if !is_of_use(&node, &wanted) {
                let future = match is_of_use(&node, &wanted_later) {
                    true => Future::IfNodesRecover,
                    false => Future::Never,
                };
                useless.push((id, future));
            }
        }
        if !useless.is_empty() && !self.workflow.header.execution.release_idle_nodes {
            let nodes: Vec<Allocation> = nodes.iter().map(alone).collect();
            for request in self.running_classes(allocation) {
                keep_spares(&mut useless, &request, &nodes, now);
            }
        }
        useless
    }

    /// What the jobs that run in an allocation need, each once.
    fn running_classes(&self, allocation: AllocationId) -> Vec<Request> {
        let classes: BTreeSet<_> =
            self.running_in(allocation).map(|(job, _)| self.classes.of_job(job).0).collect();
        let requests = self.classes.requests();
        classes.into_iter().map(|class| requests[class as usize].clone()).collect()
    }

    /// What jobs that wait, and could start in an allocation, would need of each of its nodes.
    fn wanted_in(&self, allocation: &Allocation, now: Timestamp) -> Vec<Request> {
        self.waiting_requests()
            .filter(|request| may_run(request, allocation, now))
            .map(of_one_node)
            .collect()
    }

    /// What jobs need that wait, for nodes or for other jobs, each once.
    fn waiting_requests(&self) -> impl Iterator<Item = &Request> {
        let waiting = self.classes.requests().iter().zip(&self.waiting);
        let waiting = waiting.filter(|(_, waiting)| waiting.ready + waiting.blocked > 0);
        waiting.map(|(request, _)| request)
    }
}

fn may_run(request: &Request, allocation: &Allocation, now: Timestamp) -> bool {
    crate::placer::feasibility(request, std::slice::from_ref(allocation), now).is_ok()
}

/// What each node of a job on several has to have is what that of a job on one has.
fn of_one_node(request: &Request) -> Request {
    Request { nodes: 1, ..request.clone() }
}

/// Takes the first nodes off the useless ones that a job which runs could need if it lost one of its own. `nodes`:
/// all that are good, each as an allocation.
fn keep_spares(
    useless: &mut Vec<(NodeId, Future)>,
    request: &Request,
    nodes: &[Allocation],
    now: Timestamp,
) {
    let on_one = of_one_node(request);
    let fits = nodes.iter().filter(|node| may_run(&on_one, node, now));
    let fits: BTreeSet<NodeId> = fits.map(|node| node.nodes[0].0).collect();
    let may_go = fits.len().saturating_sub(request.nodes as usize + 1);
    let candidates = useless.iter().filter(|(node, _)| fits.contains(node)).count();
    let mut kept = candidates.saturating_sub(may_go);
    useless.retain(|(node, _)| {
        let is_spare = kept > 0 && fits.contains(node);
        kept -= usize::from(is_spare);
        !is_spare
    });
}
