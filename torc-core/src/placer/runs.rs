//! Sets of node positions that answer "which k of you lie next to each other?".
//!
//! Owns: the maximal runs of neighbouring positions. Does not know: what a position stands for.
//! Invariant: `by_start` and `by_length` hold the same runs, which neither touch nor overlap.

use std::collections::{BTreeMap, BTreeSet};

/// Positions, kept as maximal runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    by_start: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
    count: u32,
}

impl Runs {
    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// Adds a position that is not in the set.
    pub(super) fn insert(&mut self, position: u32) {
        let (mut start, mut end) = (position, position + 1);
        if let Some((&before, &length)) = self.by_start.range(..position).next_back()
            && before + length == position
        {
            self.unlink(before, length);
            start = before;
        }
        if let Some(&length) = self.by_start.get(&end) {
            self.unlink(end, length);
            end += length;
        }
        self.link(start, end - start);
        self.count += 1;
    }

    /// Removes a position that is in the set.
    pub(super) fn remove(&mut self, position: u32) {
        let Some((&start, &length)) = self.by_start.range(..=position).next_back() else {
            return;
        };
        if start + length <= position {
            return;
        }
        self.unlink(start, length);
        self.link(start, position - start);
        self.link(position + 1, start + length - position - 1);
        self.count -= 1;
    }

    /// Chooses `count` positions: the shortest run that is long enough, else the longest runs.
    /// Fewer only when there are fewer.
    pub(super) fn choose(&self, count: u32) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        if let Some(&(_, start)) = self.by_length.range((count, 0)..).next() {
            return (start..start + count).collect();
        }
        let longest_first = self.by_length.iter().rev();
        longest_first
            .flat_map(|&(length, start)| start..start + length)
            .take(count as usize)
            .collect()
    }

    fn link(&mut self, start: u32, length: u32) {
        if length > 0 {
            self.by_start.insert(start, length);
            self.by_length.insert((length, start));
        }
    }

    fn unlink(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_run_that_is_long_enough_is_chosen() {
        let mut runs = Runs::default();
        for position in [0, 1, 2, 3, 5, 6, 9] {
            runs.insert(position);
        }
        assert_eq!(runs.choose(1), [9]);
        assert_eq!(runs.choose(2), [5, 6]);
        assert_eq!(runs.choose(3), [0, 1, 2]);
        assert_eq!(runs.choose(5), [0, 1, 2, 3, 5], "longest runs when none is long enough");
    }

    proptest! {
        #[test]
        fn runs_hold_what_a_plain_set_holds(
            toggles in prop::collection::vec(0u32..24, 0..80),
            count in 1u32..8,
        ) {
            let (mut runs, mut plain) = (Runs::default(), BTreeSet::new());
            for position in toggles {
                if plain.remove(&position) {
                    runs.remove(position);
                } else {
                    plain.insert(position);
                    runs.insert(position);
                }
            }
            prop_assert_eq!(runs.len() as usize, plain.len());
            let chosen = runs.choose(count);
            prop_assert_eq!(chosen.len(), plain.len().min(count as usize));
            prop_assert!(chosen.iter().all(|position| plain.contains(position)));
            let neighbours =
                plain.iter().any(|&start| (start..start + count).all(|p| plain.contains(&p)));
            if neighbours {
                prop_assert!(chosen.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            }
        }
    }
}
