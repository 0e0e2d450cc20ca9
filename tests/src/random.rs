//! Moments and choices that a test takes by chance.

/// A small generator, so that a failing test can be run again with its seed.
pub struct Random(pub u64);

impl Random {
    /// A number from 0 to `limit`, which is left out.
    pub fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX constants; the high bits are the random ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
