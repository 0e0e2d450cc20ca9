//! What Slurm says of an allocation and its nodes, as time goes by.
//!
//! Asks now and then, and tells each change once. Decides nothing; an answer that fails says nothing.

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

/// Looks at an allocation with these nodes, which was to end at `ends_at`, until nobody listens any more.
pub async fn watch(
    allocation: SlurmAllocation,
    names: Vec<String>,
    mut ends_at: Option<Timestamp>,
    tell: UnboundedSender<Sight>,
) {
    let mut nodes = Nodes::new(names);
    loop {
        tokio::select! {
            () = tokio::time::sleep(SELDOM) => {}
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
