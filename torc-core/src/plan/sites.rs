//! Where allocations could come from: a kind of node of a partition, or a scheduler of the spec.
//!
//! Owns: which of them a class of jobs gets. Does not know: how many nodes, and when. Invariant: a
//! class is only given a site on which the placer calls its jobs feasible.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::classes::Classes;
use super::model::{PartitionShape, PlanError, PlanOptions};
use crate::ids::{AllocationId, NodeId};
use crate::placer::feasibility;
use crate::resources::{Allocation, MemoryRequest, Request};
use crate::spec::SlurmSettings;
use crate::time::Timestamp;
use crate::traits::{NeverReason, NodeShape};
use crate::workflow::Header;

/// Whose scheduler it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// One that the plan adds.
    Planned,
    /// The one of this index in the spec.
    Given(u32),
}

/// Nodes of one kind, or better ones, that can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) origin: Origin,
    /// Index into the partitions; `None`: nothing is known of it.
    pub(super) partition: Option<usize>,
    /// The least that each node has; the count is that of all nodes that have it.
    pub(super) node: NodeShape,
    /// The most nodes of one allocation.
    pub(super) at_once: u32,
    /// The longest walltime.
    pub(super) limit: Option<Duration>,
    /// Whether the cluster would choose it by itself.
    is_default: bool,
    /// An allocation of as many of its nodes as any job could need.
    probe: Allocation,
}

/// What becomes of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// It runs on this site.
    Runs(usize),
    /// It is pinned to a source of allocations that is not Slurm's.
    Foreign,
    /// It can run nowhere.
    Never(NeverReason),
}

/// All sites, and which of them each class gets.
pub(super) struct Sites {
    pub(super) all: Vec<Site>,
    /// By class.
    pub(super) fates: Vec<Fate>,
}

/// What sites are made of.
pub(super) struct Cluster<'c> {
    pub(super) partitions: &'c [PartitionShape],
    pub(super) options: &'c PlanOptions,
    pub(super) header: &'c Header,
}

impl Cluster<'_> {
    /// The sites, and a fate for each class.
    pub(super) fn assign(&self, classes: &Classes) -> Result<Sites, PlanError> {
        let widest = classes.requests.iter().map(|request| request.nodes).max().unwrap_or(1);
        let mut all: Vec<Site> = Vec::new();
        for (index, scheduler) in (0_u32..).zip(&self.header.schedulers) {
            if let Some(settings) = SlurmSettings::of(scheduler) {
                all.extend(self.given(index, &settings, classes, widest));
            }
        }
        all.extend(self.planned(widest)?);
        let fates = (0..classes.requests.len()).map(|class| self.fate(&all, classes, class));
        Ok(Sites { fates: fates.collect(), all })
    }

    fn planned(&self, widest: u32) -> Result<Vec<Site>, PlanError> {
        if self.partitions.iter().all(|partition| usable(partition).next().is_none()) {
            return Err(PlanError::NoPartitions);
        }
        let named = self.options.partition.as_deref();
        if let Some(name) = named
            && self.partitions.iter().all(|partition| partition.name != name)
        {
            let known: Vec<_> = self.partitions.iter().map(|known| &*known.name).collect();
            return Err(PlanError::UnknownPartition { name: name.into(), known: known.join(", ") });
        }
        let chosen = (0..)
            .zip(self.partitions)
            .filter(|(_, partition)| named.is_none_or(|name| partition.name == name));
        Ok(chosen.flat_map(|(index, partition)| self.kinds(index, partition, widest)).collect())
    }

    /// A site for each kind of node: all nodes that have at least as much.
    fn kinds(&self, index: usize, partition: &PartitionShape, widest: u32) -> Vec<Site> {
        let bound = partition.max_nodes.unwrap_or(u32::MAX);
        let bound = bound.min(self.options.max_nodes.unwrap_or(u32::MAX));
        let site = |shape: &NodeShape| {
            let count = usable(partition)
                .filter(|other| covers(other, shape))
                .fold(0_u32, |sum, other| sum.saturating_add(other.count));
            let node = NodeShape { count, ..shape.clone() };
            let at_once = count.min(bound);
            Site {
                origin: Origin::Planned,
                partition: Some(index),
                probe: probe(&node, at_once.min(widest), partition.max_walltime),
                node,
                at_once,
                limit: partition.max_walltime,
                is_default: partition.is_default,
            }
        };
        usable(partition).map(site).collect()
    }

    /// The kinds of node that a scheduler of the spec can get.
    fn given(
        &self,
        index: u32,
        settings: &SlurmSettings,
        classes: &Classes,
        widest: u32,
    ) -> Vec<Site> {
        let name = settings.partition.as_deref();
        let found = (0..).zip(self.partitions).find(|(_, partition)| match name {
            Some(name) => partition.name == name,
            None => partition.is_default,
        });
        let mut sites = match found {
            Some((index, partition)) => self.kinds(index, partition, widest),
            None => Vec::new(),
        };
        if sites.is_empty() {
            let node = large_enough(classes, settings.nodes);
            sites.push(Site {
                origin: Origin::Planned,
                partition: None,
                probe: probe(&node, 0, None),
                at_once: node.count,
                node,
                limit: None,
                is_default: true,
            });
        }
        for site in &mut sites {
            site.origin = Origin::Given(index);
            site.node.memory = site.node.memory.min(settings.memory.unwrap_or(u64::MAX));
            site.at_once = site.node.count.min(settings.nodes);
            site.limit = Some(settings.walltime);
            site.probe = probe(&site.node, site.at_once.min(widest), site.limit);
        }
        sites
    }

    fn fate(&self, sites: &[Site], classes: &Classes, class: usize) -> Fate {
        let request = &classes.requests[class];
        let pin = classes.pins[class];
        if let Some(pin) = pin
            && SlurmSettings::of(&self.header.schedulers[pin as usize]).is_none()
        {
            return Fate::Foreign;
        }
        let bare = bare(request);
        let may_take = |site: &Site| match site.origin {
            Origin::Planned => pin.is_none(),
            Origin::Given(index) => {
                let scheduler = &self.header.schedulers[index as usize];
                let labels = scheduler.labels();
                request.may_run_under(Some(&scheduler.name), &labels)
            }
        };
        let open: Vec<usize> = (0..sites.len()).filter(|index| may_take(&sites[*index])).collect();
        let best = open
            .iter()
            .copied()
            .filter(|index| sites[*index].fits(&bare))
            .min_by_key(|index| sites[*index].preference(request));
        match best {
            Some(site) => Fate::Runs(site),
            None => {
                let probes: Vec<Allocation> =
                    open.iter().map(|index| sites[*index].probe.clone()).collect();
                let verdict = feasibility(&bare, &probes, Timestamp::default());
                // One site alone fits nothing, but they are not judged together: each is one.
                Fate::Never(verdict.err().unwrap_or(NeverReason::Together))
            }
        }
    }
}

impl Site {
    /// Whether the jobs of a class could run there, were they alone.
    pub(super) fn fits(&self, bare: &Request) -> bool {
        feasibility(bare, std::slice::from_ref(&self.probe), Timestamp::default()).is_ok()
    }

    /// The least is taken: a scheduler of the spec, then the default partition; where the fewest GPUs
    /// would idle; where the most nodes are; the smallest.
    fn preference(&self, request: &Request) -> impl Ord + use<> {
        let idle_gpus = self.node.gpus.saturating_sub(request.gpus);
        (
            self.origin == Origin::Planned,
            !self.is_default,
            idle_gpus,
            Reverse(self.node.count),
            self.node.cpus,
            self.node.memory,
            self.node.threads_per_core,
        )
    }
}

/// A request that any allocation serves: planned allocations have the labels that their jobs need.
pub(super) fn bare(request: &Request) -> Request {
    Request { scheduler: None, labels: Arc::from([]), ..request.clone() }
}

fn usable(partition: &PartitionShape) -> impl Iterator<Item = &NodeShape> {
    partition.nodes.iter().filter(|shape| shape.count > 0 && shape.cpus > 0)
}

/// Whether a node has at least as much as another.
pub(super) fn covers(node: &NodeShape, least: &NodeShape) -> bool {
    let shares_cores_as_finely = least.threads_per_core.is_multiple_of(node.threads_per_core);
    let is_as_large =
        node.cpus >= least.cpus && node.memory >= least.memory && node.gpus >= least.gpus;
    is_as_large && shares_cores_as_finely
}

/// A node that holds every job, for a partition of which nothing is known.
fn large_enough(classes: &Classes, count: u32) -> NodeShape {
    let most = |amount: fn(&Request) -> u64| classes.requests.iter().map(amount).max();
    let small = |amount: Option<u64>| u32::try_from(amount.unwrap_or(0)).unwrap_or(u32::MAX);
    NodeShape {
        cpus: small(most(|request| request.cpus.into())).max(1),
        threads_per_core: 1,
        memory: most(|request| match request.memory {
            MemoryRequest::Bytes(bytes) => bytes,
            MemoryRequest::ShareOfCpus => 0,
        })
        .unwrap_or(0),
        gpus: small(most(|request| request.gpus.into())),
        count,
    }
}

fn probe(node: &NodeShape, nodes: u32, limit: Option<Duration>) -> Allocation {
    allocation(AllocationId(1), 0, node, nodes, limit)
}

/// An allocation of some nodes of a kind, numbered from `first`, that begins at the time zero.
pub(super) fn allocation(
    id: AllocationId,
    first: u32,
    node: &NodeShape,
    nodes: u32,
    limit: Option<Duration>,
) -> Allocation {
    Allocation {
        id,
        scheduler: Some(Arc::from("planned")),
        labels: Arc::from([]),
        ends_at: limit.map(|limit| Timestamp::default() + limit),
        nodes: (first..first.saturating_add(nodes))
            .map(|number| (NodeId(number), node.inventory(&format!("node{number}"))))
            .collect(),
        inherited: None,
    }
}
