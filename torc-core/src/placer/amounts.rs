//! Amounts of what a node has, and sets of core or GPU ids.
//!
//! Owns: the arithmetic, which never overflows, and the choice of ids: the lowest free run that is
//! long enough, else the lowest free ids. Does not know: jobs or nodes. Invariant: an id is handed
//! out only while it is free.

use crate::resources::{NodeInventory, Request};

/// GPUs, CPUs and bytes of memory. The derived order (GPUs, then CPUs, then memory) is the order in
/// which waste hurts, and so the order of best fit.
///
/// `grain` is of a node's total alone, and 0 everywhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Amounts {
    pub(super) gpus: u32,
    pub(super) cpus: u32,
    pub(super) memory: u64,
    /// CPUs that are given together.
    pub(super) grain: u32,
}

impl Amounts {
    pub(super) const MAX: Self =
        Self { gpus: u32::MAX, cpus: u32::MAX, memory: u64::MAX, grain: 0 };

    /// What a node has. Ids are 16 bits wide, so what lies beyond 65,536 cores is left unused.
    pub(super) fn of(inventory: &NodeInventory) -> Self {
        const IDS: u32 = 1 << 16;
        Self {
            gpus: inventory.gpu_count().min(IDS),
            cpus: inventory.cpus().min(IDS),
            memory: inventory.memory,
            grain: inventory.threads_per_core,
        }
    }

    /// What is free on a node that has this in all.
    pub(super) fn all_free(self) -> Self {
        Self { grain: 0, ..self }
    }

    /// What a job counts for on a node that has `total`.
    pub(super) fn needed(request: &Request, total: Self) -> Self {
        Self {
            gpus: request.gpus,
            cpus: request.cpus_on(total.grain),
            memory: request.memory_on(total.cpus, total.memory),
            grain: 0,
        }
    }

    pub(super) fn covers(self, need: Self) -> bool {
        self.cpus >= need.cpus && self.gpus >= need.gpus && self.memory >= need.memory
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.saturating_add(other.gpus),
            cpus: self.cpus.saturating_add(other.cpus),
            memory: self.memory.saturating_add(other.memory),
            grain: self.grain,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.saturating_sub(other.gpus),
            cpus: self.cpus.saturating_sub(other.cpus),
            memory: self.memory.saturating_sub(other.memory),
            grain: self.grain,
        }
    }

    pub(super) fn times(self, count: u32) -> Self {
        Self {
            gpus: self.gpus.saturating_mul(count),
            cpus: self.cpus.saturating_mul(count),
            memory: self.memory.saturating_mul(u64::from(count)),
            grain: self.grain,
        }
    }

    /// The smaller of each.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.min(other.gpus),
            cpus: self.cpus.min(other.cpus),
            memory: self.memory.min(other.memory),
            grain: self.grain,
        }
    }

    /// The larger of each.
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.max(other.gpus),
            cpus: self.cpus.max(other.cpus),
            memory: self.memory.max(other.memory),
            grain: self.grain,
        }
    }
}

/// The free ids of a node's cores or GPUs: a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids(Box<[u64]>);

const WORD: usize = 64;

fn bit(id: u16) -> u64 {
    1 << (usize::from(id) % WORD)
}

impl Ids {
    /// The ids from 0 to `count - 1`, all free.
    pub(super) fn all(count: u32) -> Self {
        let count = count as usize;
        let mut words = vec![u64::MAX; count.div_ceil(WORD)];
        if !count.is_multiple_of(WORD)
            && let Some(last) = words.last_mut()
        {
            *last = (1 << (count % WORD)) - 1;
        }
        Self(words.into())
    }

    /// Chooses `count` free ids, ascending: the lowest run that is long enough, else the lowest.
    /// Fewer only when fewer are free.
    pub(super) fn choose(&self, count: u32) -> Box<[u16]> {
        let count = count as usize;
        if count == 0 {
            return Box::default();
        }
        let start = self.first_run(count);
        let from = start.unwrap_or(0);
        let mut chosen = Vec::with_capacity(count);
        let mut next = self.next(from, true);
        while let Some(id) = next.filter(|_| chosen.len() < count) {
            chosen.push(u16::try_from(id).unwrap_or(u16::MAX));
            next = self.next(id + 1, true);
        }
        chosen.into()
    }

    /// Takes those of these ids that are free, and returns them.
    pub(super) fn take(&mut self, mut ids: Box<[u16]>) -> Box<[u16]> {
        if !ids.iter().all(|&id| self.is_free(id)) {
            ids = ids.iter().copied().filter(|&id| self.is_free(id)).collect();
        }
        for &id in &ids {
            self.0[usize::from(id) / WORD] &= !bit(id);
        }
        ids
    }

    fn is_free(&self, id: u16) -> bool {
        self.0.get(usize::from(id) / WORD).is_some_and(|word| word & bit(id) != 0)
    }

    /// Frees ids that were taken.
    pub(super) fn give_back(&mut self, ids: &[u16]) {
        for &id in ids {
            if let Some(free) = self.0.get_mut(usize::from(id) / WORD) {
                *free |= bit(id);
            }
        }
    }

    fn first_run(&self, count: usize) -> Option<usize> {
        let mut start = self.next(0, true)?;
        loop {
            let end = self.next(start, false).unwrap_or(self.0.len() * WORD);
            if end - start >= count {
                return Some(start);
            }
            start = self.next(end, true)?;
        }
    }

    /// The first id from `from` on that is free, or that is not.
    fn next(&self, from: usize, free: bool) -> Option<usize> {
        let mut index = from / WORD;
        let mut mask = u64::MAX << (from % WORD);
        while let Some(&word) = self.0.get(index) {
            let found = if free { word } else { !word } & mask;
            if found != 0 {
                return Some(index * WORD + found.trailing_zeros() as usize);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_preferred_to_the_lowest_ids() {
        let mut ids = Ids::all(130);
        assert_eq!(*ids.take([1, 4, 5].into()), [1, 4, 5]);
        assert_eq!(*ids.choose(1), [0]);
        assert_eq!(*ids.choose(2), [2, 3]);
        assert_eq!(*ids.choose(3), [6, 7, 8]);
        assert_eq!(ids.choose(124).first(), Some(&6));
        assert_eq!(ids.choose(126).first(), Some(&0), "no run is that long");
        assert_eq!(ids.choose(127).len(), 127);
        assert_eq!(ids.choose(128).len(), 127, "no more than there are");
        assert_eq!(*ids.take([1, 2, 200].into()), [2], "taken and unknown ids are left out");
        ids.give_back(&[1]);
        assert_eq!(*ids.choose(2), [0, 1]);
    }

    #[test]
    fn a_run_may_go_on_to_the_last_id() {
        let mut ids = Ids::all(64);
        ids.take([1].into());
        assert_eq!(ids.choose(62).first(), Some(&2));
        let chosen = ids.choose(63);
        assert_eq!((chosen.first(), chosen.len()), (Some(&0), 63), "no run is that long");
    }
}
