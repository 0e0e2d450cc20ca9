//! When allocations' times are up, in order, so that no decision has to go through all allocations.
//!
//! Knows only what it is told of each. Invariant: an allocation has at most one moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::AllocationId;
use crate::time::Timestamp;

/// The moments that are still to come, or were not acted on.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    of: BTreeMap<AllocationId, Timestamp>,
    in_order: BTreeSet<(Timestamp, AllocationId)>,
}

impl Expiries {
    /// Sets an allocation's moment, or that it has none.
    pub(super) fn set(&mut self, allocation: AllocationId, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.of.insert(allocation, at),
            None => self.of.remove(&allocation),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, allocation));
        }
        if let Some(at) = at {
            self.in_order.insert((at, allocation));
        }
    }

    /// The first of all moments.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// The allocations whose moment has come.
    pub(super) fn until(&self, now: Timestamp) -> impl Iterator<Item = AllocationId> {
        let due = self.in_order.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, allocation)| *allocation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_allocation_has_its_last_moment_only() {
        #[track_caller]
        fn check(expiries: &Expiries, now: u64, due: &[u32], first: Option<u64>) {
            let found: Vec<u32> = expiries.until(Timestamp(now)).map(|one| one.0).collect();
            assert_eq!((found.as_slice(), expiries.first()), (due, first.map(Timestamp)));
        }
        let mut expiries = Expiries::default();
        let mut set = |allocation: u32, at: Option<u64>| {
            expiries.set(AllocationId(allocation), at.map(Timestamp));
        };
        set(1, Some(30));
        set(2, Some(10));
        set(3, Some(20));
        set(1, Some(5));
        set(3, None);
        set(4, None);
        check(&expiries, 4, &[], Some(5));
        check(&expiries, 9, &[1], Some(5));
        check(&expiries, 40, &[1, 2], Some(5));
        expiries.set(AllocationId(1), None);
        check(&expiries, 40, &[2], Some(10));
        expiries.set(AllocationId(2), None);
        check(&expiries, 40, &[], None);
    }
}
