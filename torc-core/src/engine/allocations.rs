//! Allocations from the wish for them to their end: asked for, submitted, granted, moved, out of
//! reach, leaving, gone.
//!
//! Owns the book of each allocation. Does not know how a scheduler is asked, or who connects from a
//! granted one. An allocation's number is given once, with the wish or with the grant, and never
//! again.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::ids::{AllocationId, AttemptId, JobId, NodeId};
use crate::resources::{Allocation, NodeInventory};
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, Delta, NodeState, StepSignal};

use super::ledger::Ledger;
use super::{Effect, Engine, Event, Refused};

/// All that is known of one allocation.
#[derive(Clone, Debug)]
pub struct AllocationBook {
    /// Its number, scheduler and labels; its nodes and its end once they are granted.
    pub allocation: Allocation,
    /// How it was asked for; `None`: the nodes were simply there.
    pub request: Option<RequestBook>,
    /// When its nodes were granted.
    pub granted_at: Option<Timestamp>,
    /// Whether its worker can be talked to.
    pub is_reachable: bool,
    /// Nothing there is given time to run.
    pub is_suspended: bool,
    /// Since when nothing more starts there, because its time is up or it is to be given back.
    pub closed_at: Option<Timestamp>,
    /// It is to be given back.
    pub is_leaving: bool,
    /// How it ended, if it has.
    pub end: Option<EndBook>,
}

/// How an allocation was asked for.
#[derive(Clone, Debug)]
pub struct RequestBook {
    /// When.
    pub at: Timestamp,
    /// Index into the workflow's schedulers.
    pub scheduler: u32,
    /// Index of the action that wanted it.
    pub action: Option<u32>,
    /// The scheduler's name for it, once it has taken the request.
    pub handle: Option<AllocationHandle>,
}

/// How an allocation ended.
#[derive(Clone, Debug)]
pub struct EndBook {
    /// When.
    pub at: Timestamp,
    /// How, as far as the scheduler tells.
    pub cause: AllocationEnd,
    /// In the scheduler's words, or torc's own.
    pub reason: String,
}

impl AllocationBook {
    /// Its nodes can hold steps.
    pub fn is_live(&self) -> bool {
        self.granted_at.is_some() && self.end.is_none()
    }

    /// It has been asked for and has not ended.
    pub fn is_open_request(&self) -> bool {
        self.request.is_some() && self.end.is_none()
    }

    /// It waits to be submitted.
    pub fn is_unsubmitted(&self) -> bool {
        self.end.is_none() && self.request.as_ref().is_some_and(|request| request.handle.is_none())
    }

    /// The scheduler's name for it.
    pub fn handle(&self) -> Option<&AllocationHandle> {
        let inherited = self.allocation.inherited.as_ref().map(|inherited| &inherited.handle);
        inherited.or_else(|| self.request.as_ref()?.handle.as_ref())
    }

    /// A scheduler gave its nodes, and takes them back at its end.
    fn is_of_scheduler(&self) -> bool {
        self.request.is_some() || self.allocation.inherited.is_some()
    }

    /// The end that the placer reckons with.
    pub(super) fn effective(&self) -> Allocation {
        let ends_at = self.closed_at.or(self.allocation.ends_at);
        Allocation { ends_at, ..self.allocation.clone() }
    }
}

impl Engine {
    /// The allocations there ever were, with all that is known of them, by their number.
    pub fn allocation_books(&self) -> impl DoubleEndedIterator<Item = &AllocationBook> {
        self.allocations.values()
    }

    /// One of them.
    pub fn allocation_book(&self, allocation: AllocationId) -> Option<&AllocationBook> {
        self.allocations.get(&allocation)
    }

    /// The allocations that have nodes and have not ended.
    pub fn live_allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.values().filter(|book| book.is_live()).map(|book| &book.allocation)
    }

    /// The same as the placer reckons with them.
    pub(super) fn effective_allocations(&self) -> Vec<Allocation> {
        let live = self.allocations.values().filter(|book| book.is_live());
        live.map(AllocationBook::effective).collect()
    }

    /// Whether nodes may still come without anybody wishing for more. `may_come`: whether a wish will be
    /// submitted.
    pub(super) fn may_get_nodes(&self, may_come: impl Fn(&AllocationBook) -> bool) -> bool {
        let mut open = self.allocations.values().filter(|book| book.is_open_request());
        open.any(|book| !book.is_unsubmitted() || may_come(book))
    }

    /// When what runs in an allocation is asked to end. That is its end where nodes are simply
    /// there; a scheduler kills at the end, so jobs are asked some time before.
    pub fn stop_at(&self, book: &AllocationBook) -> Option<Timestamp> {
        // The time that is taken from it is added to its end.
        let ends_at = book.allocation.ends_at.filter(|_| !book.is_suspended)?;
        if !book.is_of_scheduler() {
            return Some(ends_at);
        }
        let execution = &self.workflow.header.execution;
        let margin = execution.stop_margin(self.is_in_slurm(book.allocation.id));
        let margin = u64::try_from(margin.as_millis()).unwrap_or(u64::MAX);
        Some(Timestamp(ends_at.0.saturating_sub(margin)))
    }

    /// Whether the steps of an allocation are Slurm's.
    pub(super) fn is_in_slurm(&self, allocation: AllocationId) -> bool {
        let header = &self.workflow.header;
        let Some(book) = self.allocations.get(&allocation) else { return false };
        if let Some(inherited) = &book.allocation.inherited {
            return inherited.has_slurm_steps;
        }
        let request = book.request.as_ref();
        let scheduler = request.and_then(|found| header.schedulers.get(found.scheduler as usize));
        scheduler.is_some_and(|found| found.kind == "slurm") && header.is_slurm_mode()
    }

    /// The allocations in which what runs is to be asked to end by then, and has not been.
    pub fn expiring(&self, until: Timestamp) -> impl Iterator<Item = AllocationId> {
        self.expiries.until(until)
    }

    /// When the next allocation's time is up.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first()
    }

    /// To be called when anything about an allocation has changed that its expiry follows from.
    fn note_expiry(&mut self, allocation: AllocationId) {
        let open = |book: &&AllocationBook| book.is_live() && !book.has_expired();
        let book = self.allocations.get(&allocation).filter(open);
        self.expiries.set(allocation, book.and_then(|book| self.stop_at(book)));
    }

    /// The launches that hold nodes of an allocation now.
    pub fn running_in(&self, allocation: AllocationId) -> impl Iterator<Item = (JobId, AttemptId)> {
        let inside = self.running.iter().filter(move |(_, held)| held.allocation == allocation);
        inside.map(|(job, _)| (*job, AttemptId(self.jobs[job.index()].launches)))
    }

    /// Whether nothing runs on the nodes of an allocation.
    pub fn is_idle(&self, allocation: AllocationId) -> bool {
        let nodes = self.allocations.get(&allocation).map(|book| &book.allocation.nodes);
        nodes.is_none_or(|nodes| nodes.iter().all(|(node, _)| self.ledger.steps_on(*node) == 0))
    }

    /// The dispatch of a launch that holds nodes now.
    pub fn dispatch_of(&self, job: JobId) -> Option<Event> {
        let placement = self.running.get(&job)?.clone();
        let attempt = self.latest_attempt(job)?;
        Some(Event::Dispatched {
            job,
            attempt: attempt.attempt,
            at: attempt.dispatched_at,
            placement,
        })
    }

    /// The allocation that a launch holds nodes of now.
    pub fn allocation_of(&self, job: JobId) -> Option<AllocationId> {
        self.running.get(&job).map(|placement| placement.allocation)
    }

    /// The signals that the steps of an allocation were to get, for a worker that may have missed
    /// them.
    pub fn signals_for(&self, allocation: AllocationId) -> Vec<Effect> {
        let has_expired =
            self.allocations.get(&allocation).is_some_and(AllocationBook::has_expired);
        let inside = self.running_in(allocation).filter_map(|(job, _)| {
            if self.jobs[job.index()].cancel_requested {
                Some(self.signal(job, StepSignal::Cancel))
            } else {
                has_expired.then(|| self.signal(job, StepSignal::TimeUp))
            }
        });
        inside.collect()
    }

    /// An allocation of these nodes with the numbers that it and its nodes will have, where nobody
    /// has to be asked for nodes.
    pub fn number_allocation(
        &self,
        nodes: Vec<NodeInventory>,
        labels: Arc<[Box<str>]>,
        ends_at: Option<Timestamp>,
    ) -> Allocation {
        let id = self.next_allocation();
        let nodes = self.number_nodes(nodes);
        Allocation { id, scheduler: None, labels, ends_at, nodes, inherited: None }
    }

    /// The same for an allocation that was asked for, with the slots that its action gives each node.
    /// `None`: it was not asked for, or has nodes, or is over.
    pub fn grant(
        &self,
        allocation: AllocationId,
        nodes: Vec<NodeInventory>,
        ends_at: Option<Timestamp>,
    ) -> Option<Allocation> {
        let book = self.allocations.get(&allocation)?;
        if !book.is_open_request() || book.is_live() {
            return None;
        }
        let slots = self.slots_of(book);
        let nodes = nodes.into_iter().map(|node| NodeInventory { slots, ..node });
        let nodes = self.number_nodes(nodes.collect());
        Some(Allocation { ends_at, nodes, ..book.allocation.clone() })
    }

    /// Single-node jobs at once on each node of an allocation, as the action says that wanted it.
    fn slots_of(&self, book: &AllocationBook) -> Option<NonZeroU32> {
        let header = &self.workflow.header;
        let action = book.request.as_ref()?.action?;
        header.slots(header.actions.get(action as usize)?)
    }

    pub(super) fn next_allocation(&self) -> AllocationId {
        AllocationId(self.allocations.last_key_value().map_or(0, |(id, _)| id.0) + 1)
    }

    fn number_nodes(&self, nodes: Vec<NodeInventory>) -> Vec<(NodeId, NodeInventory)> {
        let first = u32::try_from(self.node_names.len()).unwrap_or(u32::MAX);
        (first..).map(NodeId).zip(nodes).collect()
    }

    /// Whether a node is to be given back.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.ledger.is_leaving(node)
    }

    pub(super) fn request_allocation(
        &mut self,
        allocation: AllocationId,
        request: RequestBook,
    ) -> Result<(), Refused> {
        let Some(settings) = self.workflow.header.schedulers.get(request.scheduler as usize) else {
            return Err(Refused::WrongAllocation(allocation));
        };
        if allocation != self.next_allocation() {
            return Err(Refused::WrongAllocation(allocation));
        }
        let allocation = Allocation {
            id: allocation,
            scheduler: Some(settings.name.clone()),
            labels: settings.labels(),
            ends_at: None,
            nodes: Vec::new(),
            inherited: None,
        };
        let book = AllocationBook::new(allocation, Some(request));
        self.allocations.insert(book.allocation.id, book);
        Ok(())
    }

    pub(super) fn submit_allocation(
        &mut self,
        allocation: AllocationId,
        handle: &AllocationHandle,
    ) -> Result<(), Refused> {
        let book = self.open_book(allocation)?;
        match &mut book.request {
            Some(request) if request.handle.is_none() => request.handle = Some(handle.clone()),
            _ => return Err(Refused::WrongAllocation(allocation)),
        }
        Ok(())
    }

    pub(super) fn add_allocation(
        &mut self,
        at: Timestamp,
        allocation: &Allocation,
    ) -> Result<(), Refused> {
        let id = allocation.id;
        let first_node = self.node_names.len();
        let numbered = allocation
            .nodes
            .iter()
            .zip(first_node..)
            .all(|((id, _), index)| id.0 as usize == index);
        let expected = match self.allocations.get(&id) {
            Some(book) => book.is_open_request() && !book.is_live(),
            None => id == self.next_allocation(),
        };
        if !expected || !numbered {
            return Err(Refused::WrongAllocation(id));
        }
        self.node_names.extend(allocation.nodes.iter().map(|(_, node)| node.name.clone()));
        self.ledger.add(allocation);
        let book = self
            .allocations
            .entry(id)
            .or_insert_with(|| AllocationBook::new(allocation.clone(), None));
        book.allocation = allocation.clone();
        book.granted_at = Some(at);
        book.is_reachable = true;
        let is_leaving = book.is_leaving;
        self.deltas.push(Delta::AllocationAdded(book.effective()));
        self.idleness.add(self.moment(at), allocation, self.classes.requests());
        self.note_expiry(id);
        // Its nodes came before the word that they are not wanted any more.
        if is_leaving { self.close(at, id) } else { Ok(()) }
    }

    pub(super) fn move_end(
        &mut self,
        allocation: AllocationId,
        ends_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.live_book(allocation)?.allocation.ends_at = ends_at;
        let book = &self.allocations[&allocation];
        let is_early = self.stop_at(book).is_none_or(|stop_at| stop_at > now);
        let book = self.live_book(allocation)?;
        if book.closed_at.is_some() && !book.is_leaving && is_early {
            // Its walltime was extended after what runs there had been told that time is up.
            book.closed_at = None;
        }
        if book.closed_at.is_none() {
            self.deltas.push(Delta::AllocationEndMoved { allocation, ends_at });
            self.idleness.move_end(self.moment(now), allocation, ends_at);
        }
        self.note_expiry(allocation);
        Ok(())
    }

    pub(super) fn set_reachable(
        &mut self,
        at: Timestamp,
        allocation: AllocationId,
        reachable: bool,
    ) -> Result<(), Refused> {
        self.live_book(allocation)?.is_reachable = reachable;
        self.change_nodes(at, allocation, |ledger, node| ledger.set_reachable(node, reachable));
        Ok(())
    }

    pub(super) fn set_suspended(
        &mut self,
        at: Timestamp,
        allocation: AllocationId,
        suspended: bool,
    ) -> Result<(), Refused> {
        self.live_book(allocation)?.is_suspended = suspended;
        self.change_nodes(at, allocation, |ledger, node| ledger.set_suspended(node, suspended));
        self.note_expiry(allocation);
        Ok(())
    }

    /// Changes what all nodes of an allocation are good for.
    fn change_nodes(
        &mut self,
        at: Timestamp,
        allocation: AllocationId,
        change: impl Fn(&mut Ledger, NodeId) -> NodeState,
    ) {
        let Some(book) = self.allocations.get(&allocation) else { return };
        let nodes: Vec<NodeId> = book.allocation.nodes.iter().map(|(node, _)| *node).collect();
        for node in nodes {
            let state = change(&mut self.ledger, node);
            self.note_node_state(at, node, state);
        }
    }

    pub(super) fn set_node_state(
        &mut self,
        at: Timestamp,
        node: NodeId,
        state: NodeState,
        reason: &str,
    ) {
        let state = self.ledger.set_state(node, state, reason);
        self.note_node_state(at, node, state);
    }

    /// A node is to be given back.
    pub(super) fn leave_node(&mut self, at: Timestamp, node: NodeId) {
        let state = self.ledger.set_leaving(node);
        self.note_node_state(at, node, state);
    }

    fn note_node_state(&mut self, at: Timestamp, node: NodeId, state: NodeState) {
        self.deltas.push(Delta::NodeStateChanged { node, state });
        self.idleness.set_good(self.moment(at), node, state == NodeState::Up);
    }

    pub(super) fn expire_allocation(
        &mut self,
        at: Timestamp,
        allocation: AllocationId,
    ) -> Result<Vec<Effect>, Refused> {
        self.close(at, allocation)?;
        // Once only, also in one that is leaving.
        self.expiries.set(allocation, None);
        let inside: Vec<JobId> = self.running_in(allocation).map(|(job, _)| job).collect();
        Ok(inside.into_iter().map(|job| self.signal(job, StepSignal::TimeUp)).collect())
    }

    /// Nothing more starts there. One without nodes is only marked.
    pub(super) fn leave_allocation(
        &mut self,
        at: Timestamp,
        allocation: AllocationId,
    ) -> Result<(), Refused> {
        let book = self.open_book(allocation)?;
        book.is_leaving = true;
        if book.is_live() { self.close(at, allocation) } else { Ok(()) }
    }

    fn close(&mut self, at: Timestamp, allocation: AllocationId) -> Result<(), Refused> {
        let book = self.live_book(allocation)?;
        if book.closed_at.is_none() {
            book.closed_at = Some(at);
            self.deltas.push(Delta::AllocationEndMoved { allocation, ends_at: Some(at) });
            self.idleness.move_end(self.moment(at), allocation, Some(at));
        }
        self.note_expiry(allocation);
        Ok(())
    }

    pub(super) fn end_allocation(
        &mut self,
        allocation: AllocationId,
        end: EndBook,
    ) -> Result<(), Refused> {
        if self.running_in(allocation).next().is_some() {
            return Err(Refused::WrongAllocation(allocation));
        }
        let at = end.at;
        let book = self.open_book(allocation)?;
        book.end = Some(end);
        if book.granted_at.is_some() {
            self.ledger.remove(allocation);
            self.idleness.remove(self.moment(at), allocation);
            self.deltas.push(Delta::AllocationRemoved(allocation));
        }
        self.note_expiry(allocation);
        Ok(())
    }

    fn open_book(&mut self, allocation: AllocationId) -> Result<&mut AllocationBook, Refused> {
        self.allocations
            .get_mut(&allocation)
            .filter(|book| book.end.is_none())
            .ok_or(Refused::WrongAllocation(allocation))
    }

    fn live_book(&mut self, allocation: AllocationId) -> Result<&mut AllocationBook, Refused> {
        let book = self.open_book(allocation)?;
        if book.is_live() { Ok(book) } else { Err(Refused::WrongAllocation(allocation)) }
    }
}

impl AllocationBook {
    fn new(allocation: Allocation, request: Option<RequestBook>) -> Self {
        Self {
            allocation,
            request,
            granted_at: None,
            is_reachable: false,
            is_suspended: false,
            closed_at: None,
            is_leaving: false,
            end: None,
        }
    }

    /// What runs there was told that time is up.
    fn has_expired(&self) -> bool {
        self.closed_at.is_some() && !self.is_leaving
    }
}
