//! What the nodes of a crew have.
//!
//! Owns: what is known of it, and who waits for it. Does not know: where a worker stands. Invariant: whoever asks is
//! told once, and, where only the workers know, when none is awaited any more.

use tokio::sync::oneshot;
use torc_core::resources::NodeInventory;

use super::books::Place;

pub(super) struct Survey {
    nodes: Vec<NodeInventory>,
    is_complete: bool,
    asked: Vec<oneshot::Sender<Vec<NodeInventory>>>,
}

impl Survey {
    /// What is known of the nodes. `are_unseen`: their workers know better.
    pub(super) fn new(nodes: Vec<NodeInventory>, are_unseen: bool) -> Self {
        Self { nodes, is_complete: !are_unseen, asked: Vec::new() }
    }

    /// The worker of a node has told what there is.
    pub(super) fn see(&mut self, place: Place, has: NodeInventory) {
        // What was told of it once holds.
        if !self.is_complete {
            self.nodes[place] = has;
        }
    }

    /// Somebody asks.
    pub(super) fn ask(&mut self, answer: oneshot::Sender<Vec<NodeInventory>>) {
        self.asked.push(answer);
    }

    /// Tells whoever asked, once no worker is awaited any more.
    pub(super) fn tell(&mut self, awaits_any: bool) {
        self.is_complete |= !awaits_any;
        if self.is_complete {
            for answer in self.asked.drain(..) {
                // Whoever asked need not be there any more.
                let _ = answer.send(self.nodes.clone());
            }
        }
    }
}
