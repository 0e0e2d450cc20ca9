//! How long allocations wait in the queue of the cluster.
//!
//! Owns: the model, and its limits. Does not know: who asks for what. Invariant: the wait depends on
//! the number of nodes alone, so that the same questions have the same answers.

use std::time::Duration;

use serde::Serialize;

use crate::time::millis;

/// How long an allocation waits, by its nodes: through points that somebody has seen, with straight
/// lines between them.
///
/// What has fewer nodes than the first point waits as long as that; beyond the last the last line goes on, but
/// does not fall. One point alone stands for all numbers of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct QueueWait {
    /// By nodes, ascending. Empty: nobody waits.
    points: Vec<WaitPoint>,
}

/// How long an allocation of so many nodes was seen to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WaitPoint {
    /// Nodes; at least 1.
    pub nodes: u32,
    /// From the submission to the nodes.
    #[serde(rename = "wait_ms", with = "millis")]
    pub wait: Duration,
}

/// These points are no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueWaitError {
    /// An allocation has nodes.
    #[error("an allocation has at least one node")]
    NoNodes,
    /// A number of nodes comes twice, or after a larger one.
    #[error(
        "{after} nodes come after {before}: name the numbers of nodes in ascending order, once each"
    )]
    NotAscending {
        /// The number before.
        before: u32,
        /// The one that is not larger.
        after: u32,
    },
}

impl QueueWait {
    /// Every allocation waits so long.
    pub fn always(wait: Duration) -> Self {
        Self { points: vec![WaitPoint { nodes: 1, wait }] }
    }

    /// The model through these points.
    ///
    /// # Errors
    /// When the numbers of nodes are not ascending from 1.
    pub fn through(points: Vec<WaitPoint>) -> Result<Self, QueueWaitError> {
        if points.iter().any(|point| point.nodes == 0) {
            return Err(QueueWaitError::NoNodes);
        }
        if let Some(pair) = points.windows(2).find(|pair| pair[0].nodes >= pair[1].nodes) {
            let (before, after) = (pair[0].nodes, pair[1].nodes);
            return Err(QueueWaitError::NotAscending { before, after });
        }
        Ok(Self { points })
    }

    /// Whether nobody waits.
    pub fn is_none(&self) -> bool {
        self.points.iter().all(|point| point.wait.is_zero())
    }

    /// The points, ascending.
    pub fn points(&self) -> &[WaitPoint] {
        &self.points
    }

    /// How long one of so many nodes waits.
    pub fn of(&self, nodes: u32) -> Duration {
        let Some((first, last)) = self.points.first().zip(self.points.last()) else {
            return Duration::ZERO;
        };
        let above = self.points.iter().position(|point| nodes <= point.nodes);
        match (above, &*self.points) {
            (Some(0), _) => first.wait,
            (Some(above), points) => between(points[above - 1], points[above], nodes),
            (None, [.., before, last]) => between(*before, *last, nodes).max(last.wait),
            (None, _) => last.wait,
        }
    }
}

/// On the line through two points.
fn between(before: WaitPoint, after: WaitPoint, nodes: u32) -> Duration {
    let ms = |wait: Duration| i128::try_from(wait.as_millis()).unwrap_or(i128::MAX);
    let (from, to) = (ms(before.wait), ms(after.wait));
    let run = i128::from(after.nodes - before.nodes);
    let rise = (to - from).saturating_mul((nodes - before.nodes).into()) / run;
    Duration::from_millis(u64::try_from((from + rise).max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(points: &[(u32, u64)]) -> Result<QueueWait, QueueWaitError> {
        let point =
            |&(nodes, wait): &(u32, u64)| WaitPoint { nodes, wait: Duration::from_secs(wait * 60) };
        QueueWait::through(points.iter().map(point).collect())
    }

    fn check(points: &[(u32, u64)], nodes: u32, expected: u64) {
        let wait = minutes(points).expect("a model").of(nodes);
        assert_eq!(wait, Duration::from_secs(expected * 60), "{nodes} nodes, {points:?}");
    }

    #[test]
    fn waits_lie_on_the_lines_between_the_points() {
        let points = [(2, 10), (4, 30), (8, 50)];
        for (nodes, expected) in [(1, 10), (2, 10), (3, 20), (4, 30), (6, 40), (8, 50), (12, 70)] {
            check(&points, nodes, expected);
        }
        check(&[(4, 10)], 1, 10);
        check(&[(4, 10)], 400, 10);
        check(&[], 7, 0);
        // A large one that waited less is believed, but nobody waits less than nothing.
        check(&[(1, 30), (3, 10)], 2, 20);
        check(&[(1, 30), (3, 10)], 5, 10);
    }

    #[test]
    fn huge_waits_do_not_overflow() {
        let far = u64::MAX / 60_000;
        let wait = minutes(&[(1, 0), (2, far)]).expect("a model").of(u32::MAX);
        assert_eq!(wait, Duration::from_millis(u64::MAX));
    }

    #[test]
    fn points_out_of_order_are_refused() {
        assert_eq!(minutes(&[(0, 1)]), Err(QueueWaitError::NoNodes));
        let twice = QueueWaitError::NotAscending { before: 2, after: 2 };
        assert_eq!(minutes(&[(1, 1), (2, 1), (2, 3)]), Err(twice));
        assert!(QueueWait::default().is_none());
        assert!(QueueWait::always(Duration::ZERO).is_none());
        assert!(!QueueWait::always(Duration::from_secs(1)).is_none());
    }
}
