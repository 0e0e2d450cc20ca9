//! Amounts of what a node has, and sets of core or GPU ids.
//!
//! Owns: the arithmetic, which never overflows, what a job counts for, and the choice of ids: the lowest
//! free run that is long enough, else the lowest free ids. Does not know: who waits, or what runs where.
//! Invariant: an id is handed out only while it is free.
//!
//! Where a node takes so many jobs (`slots` of its inventory), one of these is what a CPU is elsewhere, and
//! of memory there is no end: a single-node job counts for one, no memory, and its GPUs. A gang is held
//! against what the node really has, and takes all of it.

use std::num::NonZeroU32;

use crate::resources::{NodeInventory, Request};

/// GPUs, CPUs and bytes of memory. The derived order (GPUs, then CPUs, then memory) is the order in
/// which waste hurts, and so the order of best fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Amounts {
    pub(super) gpus: u32,
    pub(super) cpus: u32,
    pub(super) memory: u64,
}

/// What a node has in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Total {
    pub(super) amounts: Amounts,
    /// CPUs that are given together.
    pub(super) grain: u32,
    /// Single-node jobs at once; `None`: as many as fit.
    pub(super) most_jobs: Option<NonZeroU32>,
}

impl Total {
    /// What a node has. Ids are 16 bits wide, so what lies beyond 65,536 cores is left unused.
    pub(super) fn of(inventory: &NodeInventory) -> Self {
        const IDS: u32 = 1 << 16;
        let amounts = Amounts {
            gpus: inventory.gpu_count().min(IDS),
            cpus: inventory.cpus().min(IDS),
            memory: inventory.memory,
        };
        let most_jobs = inventory.slots.and_then(|_| NonZeroU32::new(inventory.places()));
        Self { amounts, grain: inventory.threads_per_core, most_jobs }
    }

    /// What is free while nothing runs there, and what a gang takes.
    pub(super) fn idle(self) -> Amounts {
        match self.most_jobs {
            Some(most) => Amounts { cpus: most.get(), ..self.amounts },
            None => self.amounts,
        }
    }

    /// Bounds of what single-node jobs may ask for that have room where this is free.
    pub(super) fn bounds(self, free: Amounts) -> Amounts {
        match self.most_jobs {
            None => free,
            Some(_) if free.cpus == 0 => Amounts::default(),
            Some(_) => Amounts { gpus: free.gpus, ..Amounts::MAX },
        }
    }

    /// What a single-node job counts for on a node that has this in all.
    pub(super) fn needed(self, request: &Request) -> Amounts {
        if self.most_jobs.is_some() { Amounts::one_job(request) } else { self.asked(request) }
    }

    /// What a job asks for of a node of this size.
    fn asked(self, request: &Request) -> Amounts {
        Amounts {
            gpus: request.gpus,
            cpus: request.cpus_on(self.grain),
            memory: request.memory_on(self.amounts.cpus, self.amounts.memory),
        }
    }

    /// Whether a job has room on an idle node that has this in all.
    pub(super) fn holds(self, request: &Request) -> bool {
        if request.is_gang() {
            self.amounts.covers(self.asked(request))
        } else {
            self.idle().covers(self.needed(request))
        }
    }
}

impl Amounts {
    pub(super) const MAX: Self = Self { gpus: u32::MAX, cpus: u32::MAX, memory: u64::MAX };

    /// What a single-node job counts for where jobs are counted, not CPUs.
    pub(super) fn one_job(request: &Request) -> Self {
        Self { gpus: request.gpus, cpus: 1, memory: 0 }
    }

    pub(super) fn covers(self, need: Self) -> bool {
        self.cpus >= need.cpus && self.gpus >= need.gpus && self.memory >= need.memory
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.saturating_add(other.gpus),
            cpus: self.cpus.saturating_add(other.cpus),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.saturating_sub(other.gpus),
            cpus: self.cpus.saturating_sub(other.cpus),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    pub(super) fn times(self, count: u32) -> Self {
        Self {
            gpus: self.gpus.saturating_mul(count),
            cpus: self.cpus.saturating_mul(count),
            memory: self.memory.saturating_mul(u64::from(count)),
        }
    }

    /// The smaller of each.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.min(other.gpus),
            cpus: self.cpus.min(other.cpus),
            memory: self.memory.min(other.memory),
        }
    }

    /// The larger of each.
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            gpus: self.gpus.max(other.gpus),
            cpus: self.cpus.max(other.cpus),
            memory: self.memory.max(other.memory),
        }
    }
}

/// A set of ids of a node's cores or GPUs: a bit each. Most nodes have few, and what is looked at for every start
/// and end lies in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// Up to 64 ids.
    Few(u64),
    Many(Box<[u64]>),
}

const WORD: usize = 64;

fn bit(id: u16) -> u64 {
    1 << (usize::from(id) % WORD)
}

impl Ids {
    /// The ids from 0 to `count - 1`.
    pub(super) fn all(count: u32) -> Self {
        let count = count as usize;
        let mut words = vec![u64::MAX; count.div_ceil(WORD)];
        if !count.is_multiple_of(WORD)
            && let Some(last) = words.last_mut()
        {
            *last = (1 << (count % WORD)) - 1;
        }
        match *words {
            [word] => Self::Few(word),
            _ => Self::Many(words.into()),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.words().iter().map(|word| word.count_ones()).sum()
    }

    /// Chooses `count` ids of the set, ascending: the lowest run that is long enough, else the lowest.
    /// Fewer only when there are fewer.
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

    /// Takes out those of these ids that are in the set, and returns them.
    pub(super) fn take(&mut self, ids: &[u16]) -> Self {
        let mut taken = self.clone();
        taken.words_mut().fill(0);
        for &id in ids {
            let index = usize::from(id) / WORD;
            let Some(word) = self.words_mut().get_mut(index) else { continue };
            taken.words_mut()[index] |= *word & bit(id);
            *word &= !bit(id);
        }
        taken
    }

    /// Adds ids that were taken.
    pub(super) fn give_back(&mut self, taken: &Self) {
        for (word, taken) in self.words_mut().iter_mut().zip(taken.words()) {
            *word |= taken;
        }
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(word) => std::slice::from_mut(word),
            Self::Many(words) => words,
        }
    }

    fn first_run(&self, count: usize) -> Option<usize> {
        let mut start = self.next(0, true)?;
        loop {
            let end = self.next(start, false).unwrap_or(self.words().len() * WORD);
            if end - start >= count {
                return Some(start);
            }
            start = self.next(end, true)?;
        }
    }

    /// The first id from `from` on that is in the set, or that is not.
    fn next(&self, from: usize, is_in: bool) -> Option<usize> {
        let mut index = from / WORD;
        let mut mask = u64::MAX << (from % WORD);
        while let Some(&word) = self.words().get(index) {
            let found = if is_in { word } else { !word } & mask;
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
        let taken = ids.take(&[1, 4, 5]);
        assert_eq!(*taken.choose(9), [1, 4, 5]);
        assert_eq!(*ids.choose(1), [0]);
        assert_eq!(*ids.choose(2), [2, 3]);
        assert_eq!(*ids.choose(3), [6, 7, 8]);
        assert_eq!(ids.choose(124).first(), Some(&6));
        assert_eq!(ids.choose(126).first(), Some(&0), "no run is that long");
        assert_eq!(ids.choose(127).len(), 127);
        assert_eq!(ids.choose(128).len(), 127, "no more than there are");
        let second = ids.take(&[1, 2, 129, 200]);
        assert_eq!(*second.choose(9), [2, 129], "taken and unknown ids are left out");
        assert_eq!((second.len(), ids.len()), (2, 125));
        ids.give_back(&taken);
        assert_eq!(*ids.choose(2), [0, 1]);
        ids.give_back(&second);
        assert_eq!(ids, Ids::all(130));
    }

    #[test]
    fn a_run_may_go_on_to_the_last_id() {
        let mut ids = Ids::all(64);
        ids.take(&[1]);
        assert_eq!(ids.choose(62).first(), Some(&2));
        let chosen = ids.choose(63);
        assert_eq!((chosen.first(), chosen.len()), (Some(&0), 63), "no run is that long");
    }
}
