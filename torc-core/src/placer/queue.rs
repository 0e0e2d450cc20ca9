//! The waiting jobs, in queue order.
//!
//! Owns: which jobs wait, the order of their classes (priority, sort method, lowest waiting job), and
//! a search for the next class that might start. Does not know: nodes, times, promises. Invariant: a
//! class is in the tree exactly when jobs of it wait, under the key of its lowest waiting job, and
//! every subtree carries the least of what its classes need.
//!
//! The tree is a treap whose nodes are the classes themselves: each has one entry, found by its
//! number. The least needs of a subtree let a search pass over thousands of blocked classes that
//! cannot use the little that was freed (P10).

use std::cmp::Reverse;

use super::amounts::Amounts;
use super::idtable::IdTable;
use super::line::Line;
use crate::ids::{ClassId, JobId};
use crate::resources::{MemoryRequest, Request};
use crate::workflow::SortMethod;

/// The place of a class in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) priority: Reverse<i32>,
    sort: [Reverse<u64>; 3],
    /// The lowest waiting job of the class.
    pub(super) job: JobId,
    pub(super) class: ClassId,
}

/// The least that any class of a subtree needs. Runtimes are milliseconds, `u64::MAX` when unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    /// Some class has not been looked at since its first job came, or since it last started one.
    pub(super) fresh: bool,
    /// Some class may be given a planned start.
    pub(super) promisable: bool,
    /// Of the single-node classes. Memory that is a share of the CPUs counts as none.
    pub(super) single: Amounts,
    pub(super) single_runtime: u64,
    /// Of the gangs.
    pub(super) gang_nodes: u32,
    pub(super) gang_runtime: u64,
    /// Of all, for the rule of walltime: an unknown runtime counts as zero.
    pub(super) walltime: u64,
}

impl Least {
    const NOTHING: Self = Self {
        fresh: false,
        promisable: false,
        single: Amounts::MAX,
        single_runtime: u64::MAX,
        gang_nodes: u32::MAX,
        gang_runtime: u64::MAX,
        walltime: u64::MAX,
    };

    fn of(request: &Request) -> Self {
        let runtime = millis(request);
        let common = Self { walltime: runtime.unwrap_or(0), ..Self::NOTHING };
        let runtime = runtime.unwrap_or(u64::MAX);
        if request.is_gang() {
            return Self { gang_nodes: request.nodes, gang_runtime: runtime, ..common };
        }
        let memory = match request.memory {
            MemoryRequest::Bytes(bytes) => bytes,
            MemoryRequest::ShareOfCpus => 0,
        };
        let single = Amounts { gpus: request.gpus, cpus: request.cpus, memory };
        Self { single, single_runtime: runtime, ..common }
    }

    fn and(self, other: &Self) -> Self {
        Self {
            fresh: self.fresh || other.fresh,
            promisable: self.promisable || other.promisable,
            single: self.single.least(other.single),
            single_runtime: self.single_runtime.min(other.single_runtime),
            gang_nodes: self.gang_nodes.min(other.gang_nodes),
            gang_runtime: self.gang_runtime.min(other.gang_runtime),
            walltime: self.walltime.min(other.walltime),
        }
    }
}

fn millis(request: &Request) -> Option<u64> {
    request.runtime.map(|runtime| u64::try_from(runtime.as_millis()).unwrap_or(u64::MAX))
}

/// The part of a key that the request decides.
fn sort_key(sort: SortMethod, request: &Request) -> [Reverse<u64>; 3] {
    let gpus = u64::from(request.gpus);
    let runtime = millis(request).unwrap_or(u64::MAX);
    let memory = match request.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => 0,
    };
    match sort {
        SortMethod::GpusRuntimeMemory => [gpus, runtime, memory],
        SortMethod::GpusMemoryRuntime => [gpus, memory, runtime],
        SortMethod::None => [0; 3],
    }
    .map(Reverse)
}

/// No entry.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    key: Key,
    jobs: Line,
    own: Least,
    least: Least,
    weight: u64,
    left: u32,
    right: u32,
}

/// The waiting jobs.
#[derive(Debug)]
pub(super) struct Queue {
    sort: SortMethod,
    entries: Vec<Entry>,
    root: u32,
    waiting: IdTable<ClassId>,
}

impl Queue {
    pub(super) fn new(sort: SortMethod) -> Self {
        Self { sort, entries: Vec::new(), root: NIL, waiting: IdTable::default() }
    }

    pub(super) fn sort(&self) -> SortMethod {
        self.sort
    }

    /// Adds the class with the next number.
    pub(super) fn add_class(&mut self, request: &Request) {
        let class = u32::try_from(self.entries.len()).unwrap_or(NIL);
        let key = Key {
            priority: Reverse(request.priority),
            sort: sort_key(self.sort, request),
            job: JobId(u32::MAX),
            class: ClassId(class),
        };
        let own = Least { promisable: true, ..Least::of(request) };
        self.entries.push(Entry {
            key,
            jobs: Line::default(),
            own,
            least: own,
            weight: scatter(class),
            left: NIL,
            right: NIL,
        });
    }

    /// The class of a waiting job.
    pub(super) fn class_of(&self, job: JobId) -> Option<ClassId> {
        self.waiting.get(job.0).copied()
    }

    /// The place of a class of which jobs wait.
    pub(super) fn key(&self, class: ClassId) -> Option<Key> {
        let entry = self.entries.get(class.0 as usize)?;
        (!entry.jobs.is_empty()).then_some(entry.key)
    }

    /// Adds a job. One that waits already changes its class; an unknown class is ignored.
    pub(super) fn insert(&mut self, job: JobId, class: ClassId) {
        if self.class_of(job) == Some(class) || class.0 as usize >= self.entries.len() {
            return;
        }
        self.remove(job);
        self.waiting.insert(job.0, class);
        let entry = &mut self.entries[class.0 as usize];
        let is_first = entry.jobs.is_empty();
        entry.jobs.insert(job);
        if is_first {
            entry.own.fresh = true;
            self.link(class.0);
        } else if job < entry.key.job {
            self.unlink(class.0);
            self.link(class.0);
        }
    }

    /// Removes a job, if it waits.
    pub(super) fn remove(&mut self, job: JobId) -> Option<ClassId> {
        let class = self.waiting.remove(job.0)?;
        let entry = &mut self.entries[class.0 as usize];
        entry.jobs.remove(job);
        if job == entry.key.job {
            self.unlink(class.0);
            if !self.entries[class.0 as usize].jobs.is_empty() {
                self.link(class.0);
            }
        }
        Some(class)
    }

    /// Notes that the class cannot start now, or that it is worth a look again.
    pub(super) fn set_fresh(&mut self, class: ClassId, fresh: bool) {
        if self.entries[class.0 as usize].own.fresh != fresh {
            self.entries[class.0 as usize].own.fresh = fresh;
            self.refresh(class.0);
        }
    }

    /// Notes that no planned start can be had for the class on the nodes there are.
    pub(super) fn set_unpromisable(&mut self, class: ClassId) {
        self.entries[class.0 as usize].own.promisable = false;
        self.refresh(class.0);
    }

    /// The nodes there are have changed: any class may be given a planned start again.
    pub(super) fn forget_unpromisable(&mut self) {
        for class in 0..self.entries.len() {
            let class = u32::try_from(class).unwrap_or(NIL);
            if !self.entries[class as usize].own.promisable {
                self.entries[class as usize].own.promisable = true;
                self.refresh(class);
            }
        }
    }

    /// The first class after `after` (or of all) that `may` be wanted. `may` is asked about single
    /// classes and about whole subtrees, and must hold for a subtree whenever it holds for a class
    /// in it.
    pub(super) fn next(&self, after: Option<Key>, may: &impl Fn(&Least) -> bool) -> Option<Key> {
        self.search(self.root, after, may)
    }

    fn search(&self, at: u32, after: Option<Key>, may: &impl Fn(&Least) -> bool) -> Option<Key> {
        let entry = self.entries.get(at as usize).filter(|entry| may(&entry.least))?;
        if after.is_none_or(|after| entry.key > after) {
            if let Some(found) = self.search(entry.left, after, may) {
                return Some(found);
            }
            if may(&entry.own) {
                return Some(entry.key);
            }
        }
        self.search(entry.right, after, may)
    }

    /// Puts a class of which jobs wait into the tree, under its lowest job.
    fn link(&mut self, class: u32) {
        let entry = &mut self.entries[class as usize];
        entry.key.job = entry.jobs.first().unwrap_or(JobId(u32::MAX));
        (entry.left, entry.right) = (NIL, NIL);
        let key = entry.key;
        self.update(class);
        let (before, after) = self.split(self.root, key);
        let before = self.merge(before, class);
        self.root = self.merge(before, after);
    }

    /// Takes a class out of the tree. Its key must be the one that it was linked under.
    fn unlink(&mut self, class: u32) {
        self.root = self.unlink_below(self.root, class);
    }

    fn unlink_below(&mut self, at: u32, class: u32) -> u32 {
        if at == NIL {
            return NIL;
        }
        let (left, right) = (self.entries[at as usize].left, self.entries[at as usize].right);
        if at == class {
            return self.merge(left, right);
        }
        if self.entries[class as usize].key < self.entries[at as usize].key {
            self.entries[at as usize].left = self.unlink_below(left, class);
        } else {
            self.entries[at as usize].right = self.unlink_below(right, class);
        }
        self.update(at);
        at
    }

    /// Brings the least needs up to date from a class up to the root.
    fn refresh(&mut self, class: u32) {
        if !self.entries[class as usize].jobs.is_empty() {
            self.refresh_below(self.root, class);
        }
    }

    fn refresh_below(&mut self, at: u32, class: u32) {
        if at == NIL {
            return;
        }
        if at != class {
            let entry = &self.entries[at as usize];
            let before = self.entries[class as usize].key < entry.key;
            self.refresh_below(if before { entry.left } else { entry.right }, class);
        }
        self.update(at);
    }

    fn update(&mut self, at: u32) {
        let entry = &self.entries[at as usize];
        let mut least = entry.own;
        for child in [entry.left, entry.right] {
            if let Some(child) = self.entries.get(child as usize) {
                least = least.and(&child.least);
            }
        }
        self.entries[at as usize].least = least;
    }

    /// Parts a subtree into what is before `key` and what is after it.
    fn split(&mut self, at: u32, key: Key) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let entry = &self.entries[at as usize];
        let (left, right) = (entry.left, entry.right);
        let parts = if entry.key < key {
            let (middle, after) = self.split(right, key);
            self.entries[at as usize].right = middle;
            (at, after)
        } else {
            let (before, middle) = self.split(left, key);
            self.entries[at as usize].left = middle;
            (before, at)
        };
        self.update(at);
        parts
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn merge(&mut self, first: u32, second: u32) -> u32 {
        if first == NIL {
            return second;
        }
        if second == NIL {
            return first;
        }
        if self.entries[first as usize].weight > self.entries[second as usize].weight {
            let right = self.entries[first as usize].right;
            self.entries[first as usize].right = self.merge(right, second);
            self.update(first);
            first
        } else {
            let left = self.entries[second as usize].left;
            self.entries[second as usize].left = self.merge(first, left);
            self.update(second);
            second
        }
    }
}

/// A weight that looks random but is always the same: the finaliser of SplitMix64 (Steele, Lea and
/// Flood, 2014).
fn scatter(class: u32) -> u64 {
    let mut bits = u64::from(class).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
