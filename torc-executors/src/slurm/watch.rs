//! What Slurm says of an allocation and its nodes, as time goes by.
//!
//! Asks now and then, and once more just before the end of the allocation matters, since it may have moved
//! away; tells each change once. Does not know what is done about it. Invariant: an answer that fails says
//! nothing.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use torc_core::time::Timestamp;
use torc_core::traits::NodeState;

use super::allocation::{self, AllocationError, SlurmAllocation};
use super::nodes::{Change, Nodes};
use super::outcome::Standing;
use crate::clock::now;

/// Time between two looks.
const SELDOM: Duration = Duration::from_secs(30);

/// The last look before somebody acts on the end of the allocation comes so long before that: longer than Slurm
/// usually takes to answer.
pub(super) const LOOK_AHEAD: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The allocation.
    pub allocation: SlurmAllocation,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// When it was to end, as far as is known; `None`: it does not.
    pub ends_at: Option<Timestamp>,
    /// So long before its end somebody acts on that, unless it has moved away.
    pub headroom: Duration,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A node was found good or bad for new work; one that has left the allocation is down for ever.
    Node {
        /// Its name.
        node: String,
        /// Its state.
        state: NodeState,
        /// Why, in Slurm's words.
        words: String,
    },
    /// The allocation ends then; `None`: it does not end.
    EndsAt(Option<Timestamp>),
}

/// Looks at an allocation and its nodes until nobody listens any more.
pub async fn watch(watched: Watched, tell: UnboundedSender<Sight>) {
    let Watched { allocation, nodes, mut ends_at, headroom } = watched;
    let mut nodes = Nodes::new(nodes);
    loop {
        tokio::select! {
            () = tokio::time::sleep(until_next_look(now(), ends_at, headroom)) => {}
            () = tell.closed() => return,
        }
        match look(&allocation, &mut nodes).await {
            Ok((changes, end)) => {
                let moved = (end != ends_at).then_some(Sight::EndsAt(end));
                ends_at = end;
                let told = changes.into_iter().map(|Change { node, state, reason }| Sight::Node {
                    node,
                    state,
                    words: reason,
                });
                for sight in told.chain(moved) {
                    // Noticed above.
                    let _ = tell.send(sight);
                }
            }
            Err(error) => tracing::debug!(%error, "Slurm does not tell how the allocation is"),
        }
    }
}

/// How long after `now` to look again.
fn until_next_look(now: Timestamp, ends_at: Option<Timestamp>, headroom: Duration) -> Duration {
    let before_it_matters = ends_at.map(|end| end.since(now + headroom + LOOK_AHEAD));
    before_it_matters.filter(|wait| !wait.is_zero()).map_or(SELDOM, |wait| wait.min(SELDOM))
}

async fn look(
    allocation: &SlurmAllocation,
    nodes: &mut Nodes,
) -> Result<(Vec<Change>, Option<Timestamp>), AllocationError> {
    let job = allocation.observe().await?;
    // One that is over has no nodes, and from one that ends they go one after the other; that is the
    // scheduler's to tell.
    if job.nodes.is_empty() || allocation::standing(&job, now()) != Standing::Lives {
        return Ok((Vec::new(), job.ends_at));
    }
    let facts = allocation.observe_nodes(&nodes.names()).await?;
    Ok((nodes.observe(&job.nodes, &facts, Instant::now()), job.ends_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_now_and_then_and_just_before_the_end_matters() {
        #[track_caller]
        fn check(now: u64, ends_at: Option<u64>, headroom: u64, expected: Duration) {
            let at = |seconds: u64| Timestamp(1_000 * seconds);
            let headroom = seconds(headroom);
            assert_eq!(until_next_look(at(now), ends_at.map(at), headroom), expected);
        }
        check(100, None, 15, SELDOM);
        check(100, Some(1_000), 15, SELDOM);
        check(100, Some(100 + 30 + 15 + 5), 15, SELDOM);
        check(100, Some(100 + 29 + 15 + 5), 15, seconds(29));
        check(100, Some(100 + 1 + 15 + 5), 15, seconds(1));
        check(100, Some(100 + 1 + 5), 0, seconds(1));
        // It has just looked, and the end is where it was.
        check(100, Some(100 + 15 + 5), 15, SELDOM);
        check(100, Some(100 + 15), 15, SELDOM);
        check(100, Some(90), 15, SELDOM);
        check(100, Some(1_000), u64::MAX, SELDOM);
    }

    #[test]
    fn it_looks_before_the_end_matters_whenever_it_began() {
        let (ends_at, headroom) = (Timestamp(300_000), seconds(90));
        let matters_at = Timestamp(210_000);
        for began in (0..180_000).step_by(7_001) {
            let mut looked_at = Timestamp(began);
            let mut looks = 0;
            loop {
                let next = looked_at + until_next_look(looked_at, Some(ends_at), headroom);
                if next >= matters_at {
                    break;
                }
                (looked_at, looks) = (next, looks + 1);
            }
            assert_eq!(matters_at.since(looked_at), LOOK_AHEAD, "from {began}");
            assert!(looks <= 8, "{looks} looks from {began}");
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
