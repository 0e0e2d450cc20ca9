//! The engine's own account of who holds what on each node.
//!
//! It is kept apart from the placer's books on purpose: every start is checked against it, so that
//! a faulty placer, ours or a plugin's, can never oversubscribe a node, nor give it more jobs than it has
//! slots.

use std::collections::HashMap;

use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{Allocation, NodeInventory, NodeShare, Placement, Request, Slots};
use crate::traits::NodeState;

/// Why a start that a placer chose is refused. Always an error in the placer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementFault {
    /// The job is not waiting for nodes.
    #[error("it is not ready")]
    NotReady,
    /// The allocation does not exist, has ended, or is not for this job.
    #[error("allocation {0} is not there for it")]
    WrongAllocation(AllocationId),
    /// The number of nodes is not what the job asked for.
    #[error("it asked for {wanted} nodes and was given {given}")]
    NodeCount {
        /// Asked for.
        wanted: u32,
        /// Given.
        given: usize,
    },
    /// A node is unknown, not of this allocation, named twice, or not to be used.
    #[error("node {0} cannot be used")]
    UnusableNode(NodeId),
    /// A node does not have free what the job was given there.
    #[error("node {0} does not have that free")]
    Oversubscribed(NodeId),
    /// The job was given less than it asked for, or less than a whole node as part of a gang.
    #[error("it was given too little on node {0}")]
    TooLittle(NodeId),
    /// As many jobs were chosen before it as may start.
    #[error("no more jobs may start now")]
    OverLimit,
}

#[derive(Debug)]
struct NodeAccount {
    allocation: AllocationId,
    inventory: NodeInventory,
    state: NodeState,
    /// Why, in words; empty where nobody said.
    reason: Box<str>,
    /// The worker that starts steps there can be talked to.
    is_reachable: bool,
    /// Nothing there is given time to run.
    is_suspended: bool,
    /// It is to be given back.
    is_leaving: bool,
    /// Of its slots, where it has any.
    core_owner: Vec<Option<JobId>>,
    gpu_owner: Vec<Option<JobId>>,
    memory_free: u64,
    steps: u32,
}

impl NodeAccount {
    fn used_places(&self) -> impl Iterator<Item = u16> {
        (0..).zip(&self.core_owner).filter(|(_, owner)| owner.is_some()).map(|(place, _)| place)
    }

    /// Where nobody can start anything, what runs goes on.
    fn effective_state(&self) -> NodeState {
        match self.state {
            NodeState::Up if !self.is_reachable || self.is_suspended || self.is_leaving => {
                NodeState::Draining
            }
            state => state,
        }
    }
}

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    nodes: HashMap<NodeId, NodeAccount>,
}

impl Ledger {
    pub(super) fn add(&mut self, allocation: &Allocation) {
        for (node, inventory) in &allocation.nodes {
            let account = NodeAccount {
                allocation: allocation.id,
                inventory: inventory.clone(),
                state: NodeState::Up,
                reason: Box::default(),
                is_reachable: true,
                is_suspended: false,
                is_leaving: false,
                core_owner: vec![None; inventory.places() as usize],
                gpu_owner: vec![None; inventory.gpus.len()],
                memory_free: inventory.memory,
                steps: 0,
            };
            self.nodes.insert(*node, account);
        }
    }

    pub(super) fn remove(&mut self, allocation: AllocationId) {
        self.nodes.retain(|_, account| account.allocation != allocation);
    }

    /// What the node is good for from now on.
    pub(super) fn set_state(&mut self, node: NodeId, state: NodeState, reason: &str) -> NodeState {
        let Some(account) = self.nodes.get_mut(&node) else { return state };
        account.state = state;
        account.reason = reason.into();
        account.effective_state()
    }

    /// What the node is good for from now on.
    pub(super) fn set_reachable(&mut self, node: NodeId, is_reachable: bool) -> NodeState {
        let Some(account) = self.nodes.get_mut(&node) else { return NodeState::Down };
        account.is_reachable = is_reachable;
        account.effective_state()
    }

    /// What the node is good for from now on.
    pub(super) fn set_suspended(&mut self, node: NodeId, is_suspended: bool) -> NodeState {
        let Some(account) = self.nodes.get_mut(&node) else { return NodeState::Down };
        account.is_suspended = is_suspended;
        account.effective_state()
    }

    /// The node is to be given back; what it is good for from now on.
    pub(super) fn set_leaving(&mut self, node: NodeId) -> NodeState {
        let Some(account) = self.nodes.get_mut(&node) else { return NodeState::Down };
        account.is_leaving = true;
        account.effective_state()
    }

    /// Whether the node is to be given back.
    pub(super) fn is_leaving(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|account| account.is_leaving)
    }

    pub(super) fn states(&self) -> Vec<(NodeId, NodeState)> {
        let mut states: Vec<_> = self
            .nodes
            .iter()
            .map(|(node, account)| (*node, account.effective_state()))
            .filter(|(_, state)| *state != NodeState::Up)
            .collect();
        states.sort_unstable_by_key(|(node, _)| *node);
        states
    }

    pub(super) fn inventory(&self, node: NodeId) -> Option<&NodeInventory> {
        self.nodes.get(&node).map(|account| &account.inventory)
    }

    /// What a node is good for.
    pub(super) fn state(&self, node: NodeId) -> Option<NodeState> {
        self.nodes.get(&node).map(NodeAccount::effective_state)
    }

    /// Why a node takes nothing new, where anybody said.
    pub(super) fn reason(&self, node: NodeId) -> Option<&str> {
        let account = self.nodes.get(&node)?;
        match account.state {
            NodeState::Up if account.is_suspended => Some("its allocation is suspended"),
            NodeState::Up if !account.is_reachable => Some("its worker cannot be reached"),
            NodeState::Up => None,
            _ => Some(&*account.reason).filter(|reason| !reason.is_empty()),
        }
    }

    /// Whether a node takes new work, or would if its worker could be reached.
    pub(super) fn is_good(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|account| account.state == NodeState::Up)
    }

    /// CPUs in use on a node.
    pub(super) fn cpus_used(&self, node: NodeId) -> u32 {
        let Some(account) = self.nodes.get(&node) else { return 0 };
        let used: Vec<u16> = account.used_places().collect();
        account.inventory.cpus_of(&used)
    }

    /// The slots of a node, if it has any.
    pub(super) fn slots(&self, node: NodeId) -> Option<Slots> {
        let account = self.nodes.get(&node).filter(|account| account.inventory.slots.is_some())?;
        let used = u32::try_from(account.used_places().count()).unwrap_or(u32::MAX);
        Some(Slots { all: account.inventory.places(), used })
    }

    /// CPUs that a share of a node stands for.
    pub(super) fn cpus_of(&self, share: &NodeShare) -> u32 {
        self.nodes.get(&share.node).map_or(0, |account| account.inventory.cpus_of(&share.cores))
    }

    /// Memory in use on a node.
    pub(super) fn memory_used(&self, node: NodeId) -> u64 {
        self.nodes
            .get(&node)
            .map_or(0, |account| account.inventory.memory.saturating_sub(account.memory_free))
    }

    /// GPUs in use on a node.
    pub(super) fn gpus_used(&self, node: NodeId) -> usize {
        self.nodes
            .get(&node)
            .map_or(0, |account| account.gpu_owner.iter().filter(|owner| owner.is_some()).count())
    }

    /// Steps that hold a share of a node.
    pub(super) fn steps_on(&self, node: NodeId) -> u32 {
        self.nodes.get(&node).map_or(0, |account| account.steps)
    }

    /// Whether a job with this request may be given this placement.
    pub(super) fn check(
        &self,
        request: &Request,
        placement: &Placement,
    ) -> Result<(), PlacementFault> {
        if placement.shares.len() != request.nodes as usize {
            let given = placement.shares.len();
            return Err(PlacementFault::NodeCount { wanted: request.nodes, given });
        }
        for (index, share) in placement.shares.iter().enumerate() {
            if placement.shares[..index].iter().any(|other| other.node == share.node) {
                return Err(PlacementFault::UnusableNode(share.node));
            }
            self.check_share(request, placement.allocation, share)?;
        }
        Ok(())
    }

    fn check_share(
        &self,
        request: &Request,
        allocation: AllocationId,
        share: &NodeShare,
    ) -> Result<(), PlacementFault> {
        let node = share.node;
        let account = self
            .nodes
            .get(&node)
            .filter(|account| account.allocation == allocation)
            .filter(|account| account.effective_state() == NodeState::Up)
            .ok_or(PlacementFault::UnusableNode(node))?;
        if !are_free(&account.core_owner, &share.cores)
            || !are_free(&account.gpu_owner, &share.gpus)
            || share.memory > account.memory_free
        {
            return Err(PlacementFault::Oversubscribed(node));
        }
        if is_enough(request, &account.inventory, share) {
            Ok(())
        } else {
            Err(PlacementFault::TooLittle(node))
        }
    }

    /// Books a placement that [`Self::check`] found good.
    pub(super) fn take(&mut self, job: JobId, placement: &Placement) {
        self.set_owner(placement, Some(job));
    }

    /// Gives back what a placement held. Nodes that are gone are passed over.
    pub(super) fn release(&mut self, placement: &Placement) {
        self.set_owner(placement, None);
    }

    fn set_owner(&mut self, placement: &Placement, owner: Option<JobId>) {
        for share in &placement.shares {
            let Some(account) = self.nodes.get_mut(&share.node) else { continue };
            for core in &share.cores {
                account.core_owner[usize::from(*core)] = owner;
            }
            for gpu in &share.gpus {
                account.gpu_owner[usize::from(*gpu)] = owner;
            }
            if owner.is_some() {
                account.memory_free -= share.memory;
                account.steps += 1;
            } else {
                account.memory_free += share.memory;
                account.steps -= 1;
            }
        }
    }
}

/// Whether a share is what a job with this request is to be given on a node.
fn is_enough(request: &Request, inventory: &NodeInventory, share: &NodeShare) -> bool {
    let (places, gpus) = (share.cores.len(), share.gpus.len());
    if inventory.slots.is_some() && !request.is_gang() {
        return places == 1 && gpus == request.gpus as usize;
    }
    let cpus = request.cpus_on(inventory.threads_per_core);
    let has_cpus = if request.is_gang() {
        let is_whole = places == inventory.places() as usize && gpus == inventory.gpus.len();
        is_whole && inventory.cpus() >= cpus && gpus >= request.gpus as usize
    } else {
        places == cpus as usize && gpus == request.gpus as usize
    };
    has_cpus && share.memory >= request.memory_on(inventory.cpus(), inventory.memory)
}

/// Whether each index exists, is named once, in ascending order, and has no owner.
fn are_free(owners: &[Option<JobId>], indices: &[u16]) -> bool {
    indices.is_sorted_by(|left, right| left < right)
        && indices.iter().all(|index| owners.get(usize::from(*index)) == Some(&None))
}
