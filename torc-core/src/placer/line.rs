//! The waiting jobs of a class, lowest first.
//!
//! Most come in the order of their numbers, and the lowest leaves first: those lie next to each other, however
//! many wait, so that a long line costs no more to work on than a short one. Invariants: `in_order` is sorted, its
//! first job waits, and no job is in both it and `late`.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::JobId;

#[derive(Debug, Default)]
pub(super) struct Line {
    in_order: VecDeque<JobId>,
    /// Those of them that have left, although one before them waits.
    gone: BTreeSet<JobId>,
    /// Those that came when a higher one had come already.
    late: BTreeSet<JobId>,
}

impl Line {
    /// The lowest.
    pub(super) fn first(&self) -> Option<JobId> {
        let (in_order, late) = (self.in_order.front(), self.late.first());
        in_order.into_iter().chain(late).min().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.late.is_empty()
    }

    /// Adds a job that is not there.
    pub(super) fn insert(&mut self, job: JobId) {
        if self.gone.remove(&job) {
            return;
        }
        if self.in_order.back().is_none_or(|last| *last < job) {
            self.in_order.push_back(job);
        } else {
            self.late.insert(job);
        }
    }

    /// Removes a job that is there.
    pub(super) fn remove(&mut self, job: JobId) {
        if self.in_order.front() == Some(&job) {
            self.in_order.pop_front();
            while self.in_order.front().is_some_and(|first| self.gone.remove(first)) {
                self.in_order.pop_front();
            }
        } else if !self.late.remove(&job) {
            self.gone.insert(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_in_order_lies_in_order() {
        let mut line = Line::default();
        (0..100).map(JobId).for_each(|job| line.insert(job));
        assert_eq!((line.in_order.len(), line.late.len()), (100, 0));
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(jobs in proptest::collection::vec(0..12_u32, 0..80)) {
            let (mut line, mut set) = (Line::default(), BTreeSet::new());
            for job in jobs.into_iter().map(JobId) {
                match set.insert(job) {
                    true => line.insert(job),
                    false => {
                        set.remove(&job);
                        line.remove(job);
                    }
                }
                prop_assert_eq!(line.first(), set.first().copied());
                prop_assert_eq!(line.is_empty(), set.is_empty());
                let kept = line.in_order.len() + line.late.len();
                prop_assert_eq!(kept, set.len() + line.gone.len(), "nothing is kept that is not needed");
            }
        }
    }
}
