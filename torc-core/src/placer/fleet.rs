//! The books: allocations, their nodes, what runs where and until when.
//!
//! Owns: who holds which cores, GPUs and memory; the indexes over nodes that may be given work; the
//! expected ends. Does not know: who waits, or what is promised to whom (a node that is *held* is
//! only filed apart). Invariant (P1): on every node, what is free and what its steps hold add up to
//! what it has, id by id.
//!
//! An allocation in which as many steps run as may is *closed*: its nodes are in no index until one of them
//! ends.
//!
//! Allocations that jobs cannot tell apart are filed together: a *pool* is all allocations of one
//! scheduler and one set of labels, a *group* those of a pool that end at the same time. A slot is a
//! node's place in these books; slots are not used again, so that the late end of a step on a node
//! that is gone touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::amounts::Total;
use super::filing::Filing;
use super::idtable::IdTable;
use super::index::FreeIndex;
use super::node::Node;
use super::runs::Runs;
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{Allocation, NodeShare};
use crate::time::Timestamp;
use crate::traits::NodeState;

/// The expected end of a step whose end is not known.
pub(super) const NEVER: Timestamp = Timestamp(u64::MAX);

/// An allocation and its idle nodes.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) allocation: Allocation,
    pub(super) pool: u32,
    /// The slot of its first node; the others follow in node order.
    pub(super) first: u32,
    /// Usable nodes by what they have.
    pub(super) shapes: BTreeMap<Total, u32>,
    /// Positions of usable idle nodes by what they have: open ones, and held ones.
    pub(super) idle: BTreeMap<Total, [Runs; 2]>,
    /// How many they are.
    pub(super) idle_count: [u32; 2],
    /// Steps that run in it.
    steps: u32,
    /// As many run as may.
    pub(super) is_closed: bool,
}

impl Site {
    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        self.first..self.first + u32::try_from(self.allocation.nodes.len()).unwrap_or(0)
    }

    /// The key of its group.
    pub(super) fn group_key(&self) -> Timestamp {
        self.allocation.ends_at.unwrap_or(NEVER)
    }
}

/// Allocations of a pool that end at the same time.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Usable nodes: open ones, and held ones.
    pub(super) free: [FreeIndex; 2],
    pub(super) sites: BTreeSet<(AllocationId, u32)>,
    /// Usable nodes by what they have.
    pub(super) shapes: BTreeMap<Total, u32>,
    /// Usable nodes on which jobs are counted, not CPUs.
    pub(super) counting_jobs: u32,
}

/// Allocations of one scheduler and one set of labels.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) scheduler: Option<Arc<str>>,
    pub(super) labels: Arc<[Box<str>]>,
    /// By their end; [`NEVER`] for those that do not end.
    pub(super) groups: BTreeMap<Timestamp, Group>,
}

/// Where a started job is: most are on one node.
#[derive(Clone, Debug, PartialEq)]
enum Slots {
    One(u32),
    Many(Box<[u32]>),
}

impl Slots {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }
}

/// The books.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The most steps at once in an allocation of a scheduler.
    most_steps: u32,
    pub(super) nodes: Vec<Node>,
    pub(super) sites: Vec<Option<Site>>,
    pub(super) pools: Vec<Pool>,
    site_of: BTreeMap<AllocationId, u32>,
    slot_of: IdTable<u32>,
    runs: IdTable<Slots>,
    /// Nodes by the first known expected end of a step there.
    pub(super) next_ends: BTreeSet<(Timestamp, u32)>,
}

impl Fleet {
    pub(super) fn new(most_steps: u32) -> Self {
        Self {
            most_steps,
            nodes: Vec::new(),
            sites: Vec::new(),
            pools: Vec::new(),
            site_of: BTreeMap::new(),
            slot_of: IdTable::default(),
            runs: IdTable::default(),
            next_ends: BTreeSet::new(),
        }
    }

    pub(super) fn most_steps(&self) -> u32 {
        self.most_steps
    }

    pub(super) fn node(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }

    pub(super) fn slot_of(&self, node: NodeId) -> Option<u32> {
        self.slot_of.get(node.0).copied()
    }

    pub(super) fn site(&self, site: u32) -> Option<&Site> {
        self.sites.get(site as usize)?.as_ref()
    }

    /// The live allocations' sites.
    pub(super) fn live_sites(&self) -> impl Iterator<Item = &Site> {
        self.site_of.values().filter_map(|&site| self.site(site))
    }

    pub(super) fn site_of(&self, allocation: AllocationId) -> Option<u32> {
        self.site_of.get(&allocation).copied()
    }

    /// The live allocations, by their numbers.
    pub(super) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.site_of.values().filter_map(|&site| Some(&self.site(site)?.allocation))
    }

    pub(super) fn is_running(&self, job: JobId) -> bool {
        self.runs.contains(job.0)
    }

    /// The nodes with steps whose end is known, by the first of these ends, earliest first.
    pub(super) fn next_ends(&self) -> &BTreeSet<(Timestamp, u32)> {
        &self.next_ends
    }

    /// Adds an allocation, and returns its site. A number that is taken, of an allocation or of a
    /// node, is not given a second time: what has it is ignored.
    pub(super) fn add(&mut self, mut allocation: Allocation) -> Option<u32> {
        if self.site_of.contains_key(&allocation.id) {
            return None;
        }
        let site = count(self.sites.len());
        let first = count(self.nodes.len());
        let mut next = first;
        allocation.nodes.retain(|(node, _)| {
            let is_new = !self.slot_of.contains(node.0);
            if is_new {
                self.slot_of.insert(node.0, next);
                next += 1;
            }
            is_new
        });
        for (position, (id, inventory)) in allocation.nodes.iter().enumerate() {
            self.nodes.push(Node::idle(*id, Total::of(inventory), site, count(position)));
        }
        self.site_of.insert(allocation.id, site);
        let pool = self.pool_for(&allocation);
        self.sites.push(Some(Site {
            allocation,
            pool,
            first,
            shapes: BTreeMap::new(),
            idle: BTreeMap::new(),
            idle_count: [0; 2],
            steps: 0,
            is_closed: false,
        }));
        self.link_site(site);
        Some(site)
    }

    fn pool_for(&mut self, allocation: &Allocation) -> u32 {
        let found = self.pools.iter().position(|pool| {
            pool.scheduler == allocation.scheduler && pool.labels == allocation.labels
        });
        count(found.unwrap_or_else(|| {
            self.pools.push(Pool {
                scheduler: allocation.scheduler.clone(),
                labels: Arc::clone(&allocation.labels),
                groups: BTreeMap::new(),
            });
            self.pools.len() - 1
        }))
    }

    /// Removes an allocation with its nodes. The steps there stay known until they end.
    pub(super) fn remove(&mut self, site: u32) {
        self.unlink_site(site);
        let Some(gone) = self.sites.get_mut(site as usize).and_then(Option::take) else { return };
        self.site_of.remove(&gone.allocation.id);
        for slot in gone.slots() {
            self.change(slot, Node::go);
            self.slot_of.remove(self.nodes[slot as usize].id.0);
        }
    }

    pub(super) fn move_end(&mut self, site: u32, ends_at: Option<Timestamp>) {
        self.unlink_site(site);
        if let Some(Some(site)) = self.sites.get_mut(site as usize) {
            site.allocation.ends_at = ends_at;
        }
        self.link_site(site);
    }

    pub(super) fn set_state(&mut self, slot: u32, state: NodeState) {
        self.file_shape(slot, Filing::Out);
        self.change(slot, |node| node.state = state);
        self.file_shape(slot, Filing::In);
    }

    pub(super) fn set_held(&mut self, slot: u32, held: bool) {
        if self.node(slot).held != held {
            self.change(slot, |node| node.held = held);
        }
    }

    /// Books a start. Ids and memory that are not free there are left out of the books; a job that
    /// is booked already is ignored, and nodes that are not there are passed over.
    pub(super) fn book(&mut self, job: JobId, ends: Timestamp, shares: &[NodeShare]) {
        if self.is_running(job) {
            return;
        }
        let known = || shares.iter().filter_map(|share| Some((self.slot_of(share.node)?, share)));
        let slots = match known().next() {
            Some((slot, _)) if shares.len() == 1 => Slots::One(slot),
            _ => Slots::Many(known().map(|(slot, _)| slot).collect()),
        };
        for share in shares {
            let Some(slot) = self.slot_of(share.node) else { continue };
            self.change(slot, |node| node.take(job, ends, share));
        }
        if let Some(site) = self.site_of_run(slots.as_slice()) {
            self.count_step(site, 1);
        }
        self.runs.insert(job.0, slots);
    }

    fn site_of_run(&self, slots: &[u32]) -> Option<u32> {
        slots.first().map(|&slot| self.node(slot).site)
    }

    /// Counts a step that began or ended, and closes or opens its site; whether it is open only now.
    fn count_step(&mut self, index: u32, change: i32) -> bool {
        let most = self.most_steps;
        let Some(Some(site)) = self.sites.get_mut(index as usize) else { return false };
        site.steps = site.steps.saturating_add_signed(change);
        let is_full = site.steps >= most && site.allocation.scheduler.is_some();
        if is_full == site.is_closed {
            return false;
        }
        self.set_closed(index, is_full);
        !is_full
    }

    /// Frees what the job holds, and calls `freed` with each of its nodes that is still there. The
    /// site that is open only now.
    pub(super) fn release(&mut self, job: JobId, mut freed: impl FnMut(&Self, u32)) -> Option<u32> {
        let slots = self.runs.remove(job.0)?;
        for &slot in slots.as_slice() {
            if self.node(slot).is_gone {
                continue;
            }
            self.change(slot, |node| node.give_back(job));
            freed(self, slot);
        }
        let site = self.site_of_run(slots.as_slice())?;
        self.count_step(site, -1).then_some(site)
    }

    /// The ends before `now` did not happen: those steps overran, and their ends are unknown from
    /// now on. Calls `overrun` with their nodes.
    pub(super) fn note_time(&mut self, now: Timestamp, mut overrun: impl FnMut(u32)) {
        while let Some(&(ends, slot)) = self.next_ends.first()
            && ends < now
        {
            self.change(slot, |node| node.note_overrun(now));
            overrun(slot);
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
