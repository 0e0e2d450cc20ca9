//! Nodes by what they have free.
//!
//! Owns: the order of best fit (fewest free GPUs, then CPUs, then memory, then the lowest node id)
//! and the searches in it. Does not know: which jobs run, or which nodes may be used. Invariant: a
//! search costs a few look-ups, each logarithmic in the nodes, for each *amount* of free GPUs and
//! CPUs that it passes over; not for each node.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::amounts::Amounts;
use crate::ids::NodeId;

/// A node in the index: what is free there, its id, its slot in the fleet.
pub(super) type Entry = (Amounts, NodeId, u32);

/// What is looked for.
pub(super) struct Wanted<F> {
    /// Amounts that no fitting node has less than.
    pub(super) lowest: Amounts,
    /// Whether the node of an entry that covers `lowest` will really do.
    pub(super) will_do: F,
}

/// Nodes by what they have free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FreeIndex(BTreeSet<Entry>);

impl FreeIndex {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.0.insert(entry);
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.0.remove(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The node on which the least is left over.
    pub(super) fn tightest(&self, wanted: &Wanted<impl Fn(&Entry) -> bool>) -> Option<Entry> {
        let lowest = wanted.lowest;
        let mut from = (lowest, NodeId(0), 0);
        loop {
            let entry = self.0.range(from..).next()?;
            let free = entry.0;
            let next = if free.cpus < lowest.cpus {
                Amounts { gpus: free.gpus, ..lowest }
            } else if free.memory < lowest.memory {
                Amounts { memory: lowest.memory, ..free }
            } else if (wanted.will_do)(entry) {
                return Some(*entry);
            } else {
                from = (free, entry.1, entry.2.saturating_add(1));
                continue;
            };
            from = (next, NodeId(0), 0);
        }
    }

    /// The node that is emptiest: most free CPUs, then most free memory, then fewest free GPUs, then
    /// the lowest node id.
    pub(super) fn emptiest(&self, wanted: &Wanted<impl Fn(&Entry) -> bool>) -> Option<Entry> {
        let mut best: Option<Entry> = None;
        let mut gpus = wanted.lowest.gpus;
        while let Some(&(first, ..)) =
            self.0.range((Amounts { gpus, ..Amounts::default() }, NodeId(0), 0)..).next()
        {
            let found = self.emptiest_with(first.gpus, wanted);
            best = best.into_iter().chain(found).max_by_key(emptiness);
            let Some(next) = first.gpus.checked_add(1) else { break };
            gpus = next;
        }
        best
    }

    /// The emptiest node among those with exactly so many free GPUs.
    fn emptiest_with(&self, gpus: u32, wanted: &Wanted<impl Fn(&Entry) -> bool>) -> Option<Entry> {
        let mut below = Amounts { gpus, ..Amounts::MAX };
        while below.cpus >= wanted.lowest.cpus {
            let from = (Amounts { gpus, ..Amounts::default() }, NodeId(0), 0);
            let to = (below, NodeId(u32::MAX), u32::MAX);
            let &(free, ..) = self.0.range(from..=to).next_back()?;
            if free.memory >= wanted.lowest.memory {
                let alike = (free, NodeId(0), 0)..=(free, NodeId(u32::MAX), u32::MAX);
                if let Some(entry) = self.0.range(alike).find(|entry| (wanted.will_do)(entry)) {
                    return Some(*entry);
                }
            }
            below = match (free.memory.checked_sub(1), free.cpus.checked_sub(1)) {
                (Some(memory), _) if free.memory > wanted.lowest.memory => {
                    Amounts { memory, ..free }
                }
                (_, Some(cpus)) => Amounts { gpus, cpus, ..Amounts::MAX },
                (_, None) => return None,
            };
        }
        None
    }

    /// The node with the fewest GPUs missing, then CPUs, then memory, compared with `need`.
    pub(super) fn nearest(
        &self,
        need: Amounts,
        will_do: impl Fn(&Entry) -> bool,
    ) -> Option<(Amounts, Entry)> {
        let mut best: Option<(Amounts, Entry)> = None;
        let mut next = self.0.iter().next_back();
        while let Some(&(free, ..)) = next {
            let bucket = Amounts { gpus: free.gpus, cpus: free.cpus, memory: 0 };
            if best.is_none_or(|(missing, _)| need.minus(free) < missing) {
                let here = (bucket, NodeId(0), 0)..=(free, NodeId(u32::MAX), u32::MAX);
                let found = self.0.range(here).rev().find(|entry| will_do(entry));
                let found = found.map(|entry| (need.minus(entry.0), *entry));
                best = best.into_iter().chain(found).min_by_key(|(missing, _)| *missing);
            }
            next = self.0.range(..(bucket, NodeId(0), 0)).next_back();
        }
        best
    }
}

/// Comparable: the greater, the emptier.
pub(super) fn emptiness((free, node, _): &Entry) -> impl Ord + use<> {
    (free.cpus, free.memory, u32::MAX - free.gpus, Reverse(*node))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts() -> impl Strategy<Value = Amounts> {
        (0u32..3, 0u32..4, 0u64..4).prop_map(|(gpus, cpus, memory)| Amounts { gpus, cpus, memory })
    }

    proptest! {
        #[test]
        fn a_search_finds_what_looking_at_every_node_finds(
            nodes in prop::collection::vec((amounts(), any::<bool>()), 0..12),
            lowest in amounts(),
        ) {
            let (mut index, mut good) = (FreeIndex::default(), Vec::new());
            for ((free, will_do), number) in nodes.into_iter().zip(0..) {
                let entry = (free, NodeId(number), number);
                index.insert(entry);
                good.extend(will_do.then_some(entry));
            }
            let near = index.nearest(lowest, |entry| good.contains(entry));
            let lacks = |entry: &Entry| lowest.minus(entry.0);
            prop_assert_eq!(near.map(|(missing, _)| missing), good.iter().map(lacks).min());
            prop_assert!(near.is_none_or(|(missing, entry)| missing == lacks(&entry)));
            good.retain(|(free, ..)| free.covers(lowest));
            let wanted = Wanted { lowest, will_do: |entry: &Entry| good.contains(entry) };
            prop_assert_eq!(index.tightest(&wanted), good.iter().min().copied());
            let emptiest = good.iter().copied().max_by_key(|(free, node, _)| {
                (free.cpus, free.memory, Reverse(free.gpus), Reverse(*node))
            });
            prop_assert_eq!(index.emptiest(&wanted), emptiest);
        }
    }
}
