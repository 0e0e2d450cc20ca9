//! The nodes that are declared: those that are there, or those that schedulers give when asked.
//!
//! Does not know: who asks, and when. Invariant: what fits a scheduler's offer could run in an
//! allocation of it by the placer's own rules.

use std::sync::Arc;
use std::time::Duration;

use super::model::Assumptions;
use crate::ids::{AllocationId, NodeId};
use crate::placer::feasibility;
use crate::resources::{Allocation, NodeInventory, Request};
use crate::time::Timestamp;
use crate::traits::NodeShape;
use crate::workflow::{ActionKind, SchedulerSettings, Trigger, Workflow};

/// All of them.
pub(super) struct Offers {
    /// Nodes that are there from the beginning; then nothing is asked for.
    pub(super) there: Option<Vec<NodeInventory>>,
    /// At the index of the scheduler.
    pub(super) schedulers: Vec<Offer>,
    cpus_per_node: u32,
    /// Nodes that all actions ask for, firing once.
    nodes: u64,
}

/// What an allocation of a scheduler is.
pub(super) struct Offer {
    /// How long it lasts.
    pub(super) walltime: Duration,
    /// Its allocations run one after another.
    pub(super) is_serialized: bool,
    /// Some action asks for it.
    is_asked_for: bool,
    /// One that begins at the time zero. It has ended by then if torc would ask what runs there to end
    /// before it began.
    probe: Allocation,
}

/// By scheduler: the allocations that its actions ask for, if each fires once.
fn allocations_asked_for(workflow: &Workflow) -> Vec<u64> {
    let mut asked = vec![0_u64; workflow.header.schedulers.len()];
    for action in &workflow.header.actions {
        if let ActionKind::ScheduleNodes { scheduler, num_allocations, .. } = action.kind {
            let asked = &mut asked[scheduler as usize];
            *asked = match action.trigger {
                // One that takes the place of another.
                Trigger::OnWorkerComplete => (*asked).max(1),
                _ => asked.saturating_add(num_allocations.into()),
            };
        }
    }
    asked
}

/// The nodes that the actions of a workflow ask for, if each fires once; those that take the place of
/// others do not count.
pub fn nodes_asked_for(workflow: &Workflow) -> u64 {
    let schedulers = workflow.header.schedulers.iter().zip(allocations_asked_for(workflow));
    schedulers.fold(0, |sum, (settings, asked)| {
        sum.saturating_add(asked.saturating_mul(settings.nodes().into()))
    })
}

impl Offers {
    pub(super) fn of(workflow: &Workflow, assumed: &Assumptions) -> Self {
        let header = &workflow.header;
        let asked = allocations_asked_for(workflow);
        let nodes = assumed.nodes.map_or_else(|| nodes_asked_for(workflow), u64::from);
        let mut offers =
            Self { there: None, schedulers: Vec::new(), cpus_per_node: assumed.node.cpus, nodes };
        // What is too large is not made.
        if offers.cpus() > super::MOST_CPUS {
            return offers;
        }
        match assumed.nodes {
            Some(nodes) => {
                let named = (1..=nodes).map(|number| format!("node{number}"));
                offers.there = Some(named.map(|name| assumed.node.inventory(&name)).collect());
            }
            None => {
                let schedulers = header.schedulers.iter().zip(asked);
                let offer = |(settings, asked)| Offer::of(workflow, settings, &assumed.node, asked);
                offers.schedulers = schedulers.map(offer).collect();
            }
        }
        offers
    }

    /// CPUs of all nodes that could be there at once, if each action fires once.
    pub(super) fn cpus(&self) -> u64 {
        self.nodes.saturating_mul(self.cpus_per_node.max(1).into())
    }

    /// The allocations that there could be, one of each kind, at the time zero.
    pub(super) fn probes(&self) -> Vec<Allocation> {
        match &self.there {
            Some(nodes) => {
                let nodes = (0..).map(NodeId).zip(nodes.iter().cloned()).collect();
                let (id, labels) = (AllocationId(1), Arc::from([]));
                vec![Allocation {
                    id,
                    scheduler: None,
                    labels,
                    ends_at: None,
                    nodes,
                    inherited: None,
                }]
            }
            None => {
                let asked = self.schedulers.iter().filter(|offer| offer.is_asked_for);
                asked.map(|offer| offer.probe.clone()).collect()
            }
        }
    }
}

impl Offer {
    fn of(workflow: &Workflow, settings: &SchedulerSettings, node: &NodeShape, asked: u64) -> Self {
        let nodes = if asked > 0 { settings.nodes() } else { 0 };
        // Of the ways in which actions ask for it, the one that lets most jobs run. What is granted is
        // what the action says that has asked.
        let slots = workflow.header.slots_under(&settings.name).last().copied().flatten();
        Self {
            walltime: settings.walltime(),
            is_serialized: settings.is_serialized(),
            is_asked_for: asked > 0,
            probe: crate::offer::allocation(&workflow.header, settings, (node, slots), nodes),
        }
    }

    /// Whether a job with this request could run in an allocation of it.
    pub(super) fn fits(&self, request: &Request) -> bool {
        feasibility(request, std::slice::from_ref(&self.probe), Timestamp::default()).is_ok()
    }

    /// How many nodes an allocation of it has.
    pub(super) fn num_nodes(&self) -> u32 {
        u32::try_from(self.probe.nodes.len()).unwrap_or(u32::MAX)
    }

    /// The nodes of an allocation of it.
    pub(super) fn nodes(&self) -> Vec<NodeInventory> {
        self.probe.nodes.iter().map(|(_, node)| node.clone()).collect()
    }
}
