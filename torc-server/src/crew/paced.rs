//! Something that is done again and again: one at a time, and not more often than so. Pure.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Paced {
    between: Duration,
    is_under_way: bool,
    began_at: Option<Instant>,
    due: Option<Instant>,
}

impl Paced {
    /// Begun at most once in this time.
    pub(super) fn every(between: Duration) -> Self {
        Self { between, is_under_way: false, began_at: None, due: None }
    }

    /// It is wanted: whether it begins now. It becomes due later otherwise.
    pub(super) fn want(&mut self, now: Instant) -> bool {
        let may_begin_at = self.began_at.map_or(now, |at| at + self.between);
        if self.is_under_way || may_begin_at > now {
            self.due = Some(may_begin_at);
            return false;
        }
        (self.is_under_way, self.began_at, self.due) = (true, Some(now), None);
        true
    }

    /// What was begun is over.
    pub(super) fn end(&mut self) {
        self.is_under_way = false;
    }

    /// When it is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_under_way)
    }

    /// Whether it begins now, since it is due.
    pub(super) fn begin_if_due(&mut self, now: Instant) -> bool {
        self.deadline().is_some_and(|due| due <= now) && self.want(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_begins_after_the_other_and_not_too_soon() {
        let (between, start) = (Duration::from_secs(5), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut paced = Paced::every(between);
        assert!(!paced.begin_if_due(start), "nobody wants it");
        assert!(paced.want(start));
        assert!(!paced.want(at(9)), "one is under way");
        assert_eq!(paced.deadline(), None);
        paced.end();
        assert_eq!(paced.deadline(), Some(at(5)));
        assert!(paced.begin_if_due(at(10)));
        paced.end();
        assert_eq!(paced.deadline(), None, "that was for both");
        assert!(!paced.want(at(14)), "too soon");
        assert!(!paced.begin_if_due(at(14)));
        assert!(paced.begin_if_due(at(15)));
    }
}
