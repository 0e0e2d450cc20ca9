//! Choices that are the same for the same seed, on every machine.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014). Nothing here is secret.

/// A source of choices.
pub(crate) struct Random(u64);

impl Random {
    /// The choices of this case of this seed.
    pub(crate) fn new(seed: u64, case: u32) -> Self {
        let mut random = Self(seed ^ (u64::from(case) << 32));
        // Seeds that are alike shall not give choices that are alike.
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit`, which is left out and at least 1.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let chosen = self.next() % u64::from(limit.max(1));
        u32::try_from(chosen).unwrap_or_default()
    }

    /// A number from `first` to `last`.
    pub(crate) fn between(&mut self, first: u32, last: u32) -> u32 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    /// One of several; `None` when there are none.
    pub(crate) fn pick<T>(&mut self, items: impl IntoIterator<Item = T>) -> Option<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        let count = u32::try_from(items.len()).ok().filter(|count| *count > 0)?;
        Some(items.swap_remove(self.below(count) as usize))
    }
}
