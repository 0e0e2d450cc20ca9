//! Maps from the engine's numbers. They are looked up for every start and end, and never iterated,
//! so that the order of a map cannot reach a plan.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from a number that the engine gave out.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Leaves the low bits alone and scatters the high ones. The engine numbers things one after the
/// other, so neighbours in time stay neighbours in memory and do not collide; nobody chooses the
/// numbers with ill intent.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        const HIGH: u64 = 0xffff_0000_0000_0000;
        let number = self.0 ^ u64::from(number);
        self.0 = number ^ (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & HIGH);
    }
}
