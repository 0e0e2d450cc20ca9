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
use crate::spec::SlurmSettings;
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
            Some(nodes) => offers.there = Some(inventories(&assumed.node, nodes)),
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
            Some(nodes) => vec![allocation(None, Arc::from([]), nodes.clone())],
            None => {
                let asked = self.schedulers.iter().filter(|offer| offer.is_asked_for);
                asked.map(|offer| offer.probe.clone()).collect()
            }
        }
    }
}

impl Offer {
    fn of(workflow: &Workflow, settings: &SchedulerSettings, node: &NodeShape, asked: u64) -> Self {
        let header = &workflow.header;
        let walltime = settings.walltime();
        let in_slurm = settings.kind == "slurm" && header.is_slurm_mode();
        let lasts = walltime > header.execution.stop_margin(in_slurm);
        let memory = SlurmSettings::of(settings).and_then(|settings| settings.memory);
        let memory = memory.unwrap_or(u64::MAX).min(node.memory);
        let node = NodeShape { memory, ..node.clone() };
        let nodes = if asked > 0 { settings.nodes() } else { 0 };
        let nodes = inventories(&node, nodes);
        let mut probe = allocation(Some(settings.name.clone()), settings.labels(), nodes);
        let ends_at = Timestamp::default() + if lasts { walltime } else { Duration::ZERO };
        probe.ends_at = Some(ends_at);
        Self { walltime, is_serialized: settings.is_serialized(), is_asked_for: asked > 0, probe }
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

fn inventories(node: &NodeShape, count: u32) -> Vec<NodeInventory> {
    (1..=count).map(|number| node.inventory(&format!("node{number}"))).collect()
}

fn allocation(
    scheduler: Option<Arc<str>>,
    labels: Arc<[Box<str>]>,
    nodes: Vec<NodeInventory>,
) -> Allocation {
    let nodes = (0..).map(NodeId).zip(nodes).collect();
    Allocation { id: AllocationId(1), scheduler, labels, ends_at: None, nodes }
}
