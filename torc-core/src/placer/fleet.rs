//! The books: allocations, their nodes, what runs where and until when.
//!
//! Owns: who holds which cores, GPUs and memory; the indexes over nodes that may be given work; the
//! expected ends. Does not know: who waits, or what is promised to whom (a node that is *held* is
//! only filed apart). Invariant (P1): on every node, what is free and what its steps hold add up to
//! what it has, id by id.
//!
//! Allocations that jobs cannot tell apart are filed together: a *pool* is all allocations of one
//! scheduler and one set of labels, a *group* those of a pool that end at the same time. A slot is a
//! node's place in these books; slots are not used again, so that the late end of a step on a node
//! that is gone touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::amounts::{Amounts, Ids};
use super::idmap::IdMap;
use super::index::{Entry, FreeIndex};
use super::runs::Runs;
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{Allocation, NodeShare};
use crate::time::Timestamp;
use crate::traits::NodeState;

/// The expected end of a step whose end is not known.
pub(super) const NEVER: Timestamp = Timestamp(u64::MAX);

/// What a step holds on one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepHere {
    pub(super) job: JobId,
    /// [`NEVER`] when unknown: without a declared runtime, or past it.
    pub(super) ends: Timestamp,
    pub(super) share: NodeShare,
}

impl StepHere {
    pub(super) fn takes(&self) -> Amounts {
        let count = |ids: &[u16]| u32::try_from(ids.len()).unwrap_or(u32::MAX);
        Amounts {
            gpus: count(&self.share.gpus),
            cpus: count(&self.share.cores),
            memory: self.share.memory,
        }
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) site: u32,
    /// Its place in the allocation's node order.
    pub(super) position: u32,
    pub(super) total: Amounts,
    pub(super) free: Amounts,
    pub(super) steps: Vec<StepHere>,
    /// When the last of its steps is expected to end: [`NEVER`] when one of them has no known end.
    pub(super) idle_at: Timestamp,
    /// Steps without a known end.
    pub(super) unknown_ends: u32,
    /// Filed apart, for the planned start of a gang.
    pub(super) held: bool,
    pub(super) cores: Ids,
    pub(super) gpus: Ids,
    state: NodeState,
    is_gone: bool,
}

impl Node {
    /// Whether it may be given new work.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_gone && self.state == NodeState::Up
    }

    pub(super) fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    fn note_ends(&mut self) {
        self.idle_at = self.steps.iter().map(|step| step.ends).max().unwrap_or_default();
        let unknown = self.steps.iter().filter(|step| step.ends == NEVER).count();
        self.unknown_ends = u32::try_from(unknown).unwrap_or(u32::MAX);
    }
}

/// An allocation and its idle nodes.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) allocation: Allocation,
    pub(super) pool: u32,
    /// The slot of its first node; the others follow in node order.
    pub(super) first: u32,
    /// Usable nodes by what they have.
    pub(super) shapes: BTreeMap<Amounts, u32>,
    /// Positions of usable idle nodes by what they have: open ones, and held ones.
    pub(super) idle: BTreeMap<Amounts, [Runs; 2]>,
    /// How many they are.
    pub(super) idle_count: [u32; 2],
}

impl Site {
    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        self.first..self.first + u32::try_from(self.allocation.nodes.len()).unwrap_or(0)
    }

    fn group_key(&self) -> Timestamp {
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
    pub(super) shapes: BTreeMap<Amounts, u32>,
}

/// Allocations of one scheduler and one set of labels.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) scheduler: Option<Arc<str>>,
    pub(super) labels: Arc<[Box<str>]>,
    /// By their end; [`NEVER`] for those that do not end.
    pub(super) groups: BTreeMap<Timestamp, Group>,
}

/// Whether a node is put into an index or taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filing {
    In,
    Out,
}

/// Where a started job is.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    ends: Timestamp,
    slots: Slots,
}

/// Most jobs are on one node.
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
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) nodes: Vec<Node>,
    pub(super) sites: Vec<Option<Site>>,
    pub(super) pools: Vec<Pool>,
    site_of: BTreeMap<AllocationId, u32>,
    slot_of: IdMap<NodeId, u32>,
    runs: IdMap<JobId, Run>,
    /// The known expected ends.
    ends: BTreeSet<(Timestamp, JobId)>,
}

impl Fleet {
    pub(super) fn node(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }

    pub(super) fn slot_of(&self, node: NodeId) -> Option<u32> {
        self.slot_of.get(&node).copied()
    }

    pub(super) fn site(&self, site: u32) -> Option<&Site> {
        self.sites.get(site as usize)?.as_ref()
    }

    pub(super) fn site_of(&self, allocation: AllocationId) -> Option<u32> {
        self.site_of.get(&allocation).copied()
    }

    /// The live allocations, by their numbers.
    pub(super) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.site_of.values().filter_map(|&site| Some(&self.site(site)?.allocation))
    }

    pub(super) fn is_running(&self, job: JobId) -> bool {
        self.runs.contains_key(&job)
    }

    /// The nodes of a started job.
    pub(super) fn slots_of(&self, job: JobId) -> &[u32] {
        self.runs.get(&job).map_or(&[], |run| run.slots.as_slice())
    }

    /// The known expected ends from `now` on, earliest first.
    pub(super) fn ends_from(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, JobId)> {
        self.ends.range((now, JobId(0))..).copied()
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
            let is_new = !self.slot_of.contains_key(node);
            if is_new {
                self.slot_of.insert(*node, next);
                next += 1;
            }
            is_new
        });
        for (position, (id, inventory)) in allocation.nodes.iter().enumerate() {
            let total = Amounts::of(inventory);
            self.nodes.push(Node {
                id: *id,
                site,
                position: count(position),
                total,
                free: total,
                steps: Vec::new(),
                idle_at: Timestamp::default(),
                unknown_ends: 0,
                held: false,
                cores: Ids::all(total.cpus),
                gpus: Ids::all(total.gpus),
                state: NodeState::Up,
                is_gone: false,
            });
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
            let node = &mut self.nodes[slot as usize];
            node.is_gone = true;
            node.steps = Vec::new();
            node.held = false;
            (node.cores, node.gpus) = (Ids::all(0), Ids::all(0));
            self.slot_of.remove(&node.id);
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
        let mut slots = Vec::new();
        for share in shares {
            let Some(slot) = self.slot_of(share.node) else { continue };
            slots.push(slot);
            self.change(slot, |node| {
                let cores = node.cores.take(share.cores.clone());
                let gpus = node.gpus.take(share.gpus.clone());
                let memory = share.memory.min(node.free.memory);
                let share = NodeShare { node: share.node, cores, gpus, memory };
                let step = StepHere { job, ends, share };
                node.free = node.free.minus(step.takes());
                node.steps.push(step);
                node.idle_at = node.idle_at.max(ends);
                node.unknown_ends += u32::from(ends == NEVER);
            });
        }
        let slots = match *slots.as_slice() {
            [slot] => Slots::One(slot),
            _ => Slots::Many(slots.into()),
        };
        self.runs.insert(job, Run { ends, slots });
        if ends != NEVER {
            self.ends.insert((ends, job));
        }
    }

    /// Frees what the job holds, and calls `freed` with each of its nodes that is still there.
    pub(super) fn release(&mut self, job: JobId, mut freed: impl FnMut(&Self, u32)) {
        let Some(run) = self.runs.remove(&job) else { return };
        self.ends.remove(&(run.ends, job));
        for &slot in run.slots.as_slice() {
            if self.node(slot).is_gone {
                continue;
            }
            self.change(slot, |node| {
                let Some(index) = node.steps.iter().position(|step| step.job == job) else {
                    return;
                };
                let step = node.steps.swap_remove(index);
                node.cores.give_back(&step.share.cores);
                node.gpus.give_back(&step.share.gpus);
                node.free = node.free.plus(step.takes());
                if step.ends == node.idle_at {
                    node.note_ends();
                }
            });
            freed(self, slot);
        }
    }

    /// The ends before `now` did not happen: those steps overran, and their ends are unknown from
    /// now on. Calls `overrun` with their nodes.
    pub(super) fn note_time(&mut self, now: Timestamp, mut overrun: impl FnMut(u32)) {
        while let Some(&(ends, job)) = self.ends.first().filter(|(ends, _)| *ends < now) {
            self.ends.remove(&(ends, job));
            let Some(run) = self.runs.get_mut(&job) else { continue };
            run.ends = NEVER;
            for &slot in run.slots.as_slice() {
                let node = &mut self.nodes[slot as usize];
                if let Some(step) = node.steps.iter_mut().find(|step| step.job == job) {
                    step.ends = NEVER;
                }
                node.note_ends();
                overrun(slot);
            }
        }
    }

    /// Changes a node, filing it anew.
    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Node)) {
        let node = &self.nodes[slot as usize];
        let before = (node.is_usable(), node.is_idle(), node.held);
        if before.0 {
            self.file_free(slot, Filing::Out);
        }
        change(&mut self.nodes[slot as usize]);
        let node = &self.nodes[slot as usize];
        let after = (node.is_usable(), node.is_idle(), node.held);
        if after.0 {
            self.file_free(slot, Filing::In);
        }
        if before != after {
            let node = &self.nodes[slot as usize];
            let (position, total, site) = (node.position, node.total, node.site);
            if let Some(Some(site)) = self.sites.get_mut(site as usize) {
                file_idle(site, (position, total), before, Filing::Out);
                file_idle(site, (position, total), after, Filing::In);
            }
        }
    }

    /// Files a usable node under what it has free, or takes it out.
    fn file_free(&mut self, slot: u32, filing: Filing) {
        let node = &self.nodes[slot as usize];
        let Some(Some(site)) = self.sites.get(node.site as usize) else { return };
        let pool = &mut self.pools[site.pool as usize];
        let Some(group) = pool.groups.get_mut(&site.group_key()) else { return };
        let entry: Entry = (node.free, node.id, slot);
        let index = &mut group.free[usize::from(node.held)];
        if filing == Filing::In {
            index.insert(entry);
        } else {
            index.remove(&entry);
        }
    }

    /// Counts a usable node under what it has, or takes it out of the count.
    fn file_shape(&mut self, slot: u32, filing: Filing) {
        let node = &self.nodes[slot as usize];
        let Some(Some(site)) = self.sites.get_mut(node.site as usize) else { return };
        if !node.is_usable() {
            return;
        }
        let pool = &mut self.pools[site.pool as usize];
        let Some(group) = pool.groups.get_mut(&site.group_key()) else { return };
        for shapes in [&mut site.shapes, &mut group.shapes] {
            let nodes = shapes.entry(node.total).or_default();
            *nodes = if filing == Filing::In { *nodes + 1 } else { nodes.saturating_sub(1) };
            if *nodes == 0 {
                shapes.remove(&node.total);
            }
        }
    }

    fn link_site(&mut self, index: u32) {
        let Some(Some(site)) = self.sites.get(index as usize) else { return };
        let (pool, key, id, slots) =
            (site.pool, site.group_key(), site.allocation.id, site.slots());
        self.pools[pool as usize].groups.entry(key).or_default().sites.insert((id, index));
        for slot in slots {
            self.file_node(slot, Filing::In);
        }
    }

    fn unlink_site(&mut self, index: u32) {
        let Some(Some(site)) = self.sites.get(index as usize) else { return };
        let (pool, key, id, slots) =
            (site.pool, site.group_key(), site.allocation.id, site.slots());
        for slot in slots {
            self.file_node(slot, Filing::Out);
        }
        let groups = &mut self.pools[pool as usize].groups;
        if let Some(group) = groups.get_mut(&key) {
            group.sites.remove(&(id, index));
            if group.sites.is_empty() {
                groups.remove(&key);
            }
        }
    }

    /// Files a node everywhere, or takes it out everywhere.
    fn file_node(&mut self, slot: u32, filing: Filing) {
        if !self.node(slot).is_usable() {
            return;
        }
        self.file_free(slot, filing);
        self.file_shape(slot, filing);
        let node = &self.nodes[slot as usize];
        let standing = (true, node.is_idle(), node.held);
        if let Some(Some(site)) = self.sites.get_mut(node.site as usize) {
            file_idle(site, (node.position, node.total), standing, filing);
        }
    }
}

/// Files a node as idle, or takes it out, if by (usable, idle, held) it belongs there.
fn file_idle(
    site: &mut Site,
    (position, total): (u32, Amounts),
    (usable, idle, held): (bool, bool, bool),
    filing: Filing,
) {
    if !(usable && idle) {
        return;
    }
    let side = usize::from(held);
    let runs = &mut site.idle.entry(total).or_default()[side];
    if filing == Filing::In {
        runs.insert(position);
        site.idle_count[side] += 1;
    } else {
        runs.remove(position);
        site.idle_count[side] = site.idle_count[side].saturating_sub(1);
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
