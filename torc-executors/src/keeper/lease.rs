//! How long the jobs may go on while torc says nothing: it may hang rather than end. Pure.

use std::time::{Duration, Instant};

use crate::clock::STOOD_STILL;

/// Without end, until torc has asked for one that ends.
#[derive(Debug, Default)]
pub(super) struct Lease {
    ends: Option<(Instant, Duration)>,
}

impl Lease {
    /// From now on it lasts so long.
    pub(super) fn renew(&mut self, length: Duration, now: Instant) {
        self.ends = Some((now + length, length));
    }

    /// When it ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ends.map(|(end, _)| end)
    }

    /// Whether it has ended. A keeper that was itself given no time to run when it did, as in an allocation that was
    /// suspended, cannot know whether torc was given any: the lease begins anew.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        let Some((end, length)) = self.ends.filter(|(end, _)| *end <= now) else { return false };
        let stood_still = now.duration_since(end) >= STOOD_STILL;
        if stood_still {
            self.renew(length, now);
        }
        !stood_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_unless_it_is_renewed_or_nobody_was_given_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lease = Lease::default();
        assert_eq!(lease.deadline(), None);
        assert!(!lease.has_ended(at(1_000)), "nobody asked for one");
        lease.renew(Duration::from_secs(45), start);
        lease.renew(Duration::from_secs(45), at(10));
        assert_eq!(lease.deadline(), Some(at(55)));
        assert!(!lease.has_ended(at(54)));
        assert!(lease.has_ended(at(55)) && lease.has_ended(at(57)));
        assert!(!lease.has_ended(at(58)), "it stood still");
        assert!(!lease.has_ended(at(102)));
        assert!(lease.has_ended(at(103)));
    }
}
