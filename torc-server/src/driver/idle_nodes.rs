//! Nodes on which nothing could run any more, in allocations that go on: where each has a worker of its own,
//! it leaves before the others.
//!
//! Decides synchronously; a worker is told once its last commands have ended, and what led to it is durable.
//! Does not know what becomes of the node: its crew does that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use torc_core::engine::{Event, Future, Phase};
use torc_core::ids::{AllocationId, NodeId};
use torc_core::time::Timestamp;
use torc_core::wire::link::{Parting, ToWorker};
use torc_core::workflow::ExecutionMode;

use super::Driver;
use super::upkeep::{MIND_EVERY, NODES_RECOVER_WITHIN};
use crate::worker::Release;

/// What is known of them.
#[derive(Default)]
pub(super) struct IdleNodes {
    /// Since when nothing could run there.
    useless_since: BTreeMap<NodeId, Timestamp>,
    /// Those whose workers were told to end.
    released: BTreeSet<NodeId>,
    /// When to look again.
    look_at: Timestamp,
    /// How the worker of a node is told, where this process leads them itself.
    release: Option<Release>,
}

impl IdleNodes {
    pub(super) fn new(release: Option<Release>) -> Self {
        Self { release, ..Self::default() }
    }
}

impl Driver {
    /// When the nodes are to be looked at again although nothing happened.
    pub(super) fn mind_nodes_at(&self) -> Option<Timestamp> {
        let has_others = || self.engine.live_allocations().any(|one| one.nodes.len() > 1);
        (self.nodes_have_workers() && has_others()).then_some(self.idle_nodes.look_at)
    }

    /// Each node is looked at, so not whenever something happens.
    pub(super) fn mind_nodes(&mut self, now: Timestamp) {
        if !self.nodes_have_workers() || now < self.idle_nodes.look_at {
            return;
        }
        self.idle_nodes.look_at = now + MIND_EVERY;
        let live = self.engine.live_allocations().map(|allocation| allocation.id);
        let allocations: Vec<AllocationId> = live.collect();
        let mut due = Vec::new();
        for &allocation in &allocations {
            due.extend(self.due_in(allocation, now));
        }
        if !due.is_empty() {
            for node in due {
                self.apply(Event::NodeLeaving { at: now, node });
            }
            // They may have last commands, and must not be told to go before these have run.
            self.act(now);
        }
        self.see_off_nodes(&allocations);
    }

    fn nodes_have_workers(&self) -> bool {
        self.engine.workflow().header.execution.mode == ExecutionMode::Direct
            && (self.served.is_some() || self.idle_nodes.release.is_some())
            && self.engine.phase() == Phase::Running
    }

    /// The nodes of an allocation on which nothing could run for as long as is waited for new jobs.
    fn due_in(&mut self, allocation: AllocationId, now: Timestamp) -> Vec<NodeId> {
        let is_leaving = self.engine.allocation_book(allocation).is_none_or(|book| book.is_leaving);
        if is_leaving || self.engine.keeps_workers() {
            return Vec::new();
        }
        let wait = Duration::from_secs(self.engine.workflow().header.wait_for_new_jobs_seconds);
        let useless: BTreeMap<NodeId, Future> =
            self.engine.useless_nodes(allocation, now).into_iter().collect();
        let useless_since = &mut self.idle_nodes.useless_since;
        let mut due = Vec::new();
        for (node, ..) in self.engine.nodes_in(allocation) {
            let wait = match useless.get(&node) {
                None => {
                    useless_since.remove(&node);
                    continue;
                }
                Some(Future::IfNodesRecover) => wait.max(NODES_RECOVER_WITHIN),
                Some(_) => wait,
            };
            if now.since(*useless_since.entry(node).or_insert(now)) >= wait {
                due.push(node);
            }
        }
        due
    }

    /// The workers of nodes that take nothing new leave, once their last commands have ended.
    fn see_off_nodes(&mut self, allocations: &[AllocationId]) {
        let commands = self.engine.commands_under_way();
        let busy: BTreeSet<NodeId> = commands.filter_map(|command| command.worker?.node).collect();
        for &allocation in allocations {
            for (node, ..) in self.engine.nodes_in(allocation) {
                let may_go = self.engine.is_leaving(node) && !busy.contains(&node);
                if may_go && self.idle_nodes.released.insert(node) {
                    self.held.releases.push((allocation, node));
                }
            }
        }
    }

    /// A worker has come back that may not have heard which nodes' workers are to leave; to be told twice does
    /// no harm.
    pub(super) fn tell_again_of_nodes_in(&mut self, allocation: AllocationId) {
        for (node, ..) in self.engine.nodes_in(allocation) {
            self.idle_nodes.released.remove(&node);
        }
    }

    /// Tells the worker of a node that it is to leave.
    pub(super) fn release_node(&self, allocation: AllocationId, node: NodeId) {
        let node = self.engine.node_name(node);
        let parting = match self.engine.workflow().header.execution.release_idle_nodes {
            true => Parting::GoesBack,
            false => Parting::Stays,
        };
        if let Some(release) = &self.idle_nodes.release {
            release(node, parting);
        }
        let workers = self.served.as_ref().map(|served| &served.around.workers);
        if let Some(link) = workers.and_then(|workers| workers.get(allocation)) {
            link.send(ToWorker::ReleaseNode { node: node.into(), parting });
        }
    }
}
