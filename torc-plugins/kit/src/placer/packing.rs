//! Small jobs keep nodes whole (P7).
//!
//! Owns: what packed and best means, in the plainest cases: nodes without GPUs or slots, jobs that ask for CPUs alone.
//! Does not know: other cases, in which reasonable placers may differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use torc_core::ids::{AllocationId, JobId, NodeId};
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::traits::Placer;

use super::PlacerSite;
use super::world::World;
use crate::finding::{Finding, Verdict, ensure};
use crate::random::Random;

fn request(cpus: u32) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: Arc::from([]),
        cpus,
        memory: MemoryRequest::ShareOfCpus,
        gpus: 0,
        nodes: 1,
        ntasks_per_node: 1,
        runtime: None,
    }
}

/// A placer of so many nodes that are alike.
struct Scene {
    placer: Box<dyn Placer>,
    world: World,
}

impl Scene {
    fn new(site: &PlacerSite<'_>, nodes: u32, cpus: u32) -> Result<Self, Finding> {
        let inventory = NodeInventory {
            name: "".into(),
            cores: (0..cpus).collect(),
            threads_per_core: 1,
            memory: u64::from(cpus) << 30,
            gpus: Box::default(),
            slots: None,
        };
        let mut world = World::new();
        let deltas = world.allocate(Allocation {
            id: AllocationId(0),
            scheduler: None,
            labels: Arc::from([]),
            ends_at: None,
            nodes: (0..nodes).map(|_| (NodeId(0), inventory.clone())).collect(),
            inherited: None,
        });
        let mut placer = site.placer()?;
        placer.apply(&deltas);
        Ok(Self { placer, world })
    }

    /// Starts a job; `None`: a rule was broken that has a check of its own.
    fn start(&mut self, cpus: u32) -> Option<(JobId, NodeId)> {
        let (job, deltas) = self.world.submit(&request(cpus));
        self.placer.apply(&deltas);
        let plan = self.placer.plan(self.world.now, usize::MAX);
        self.world.take(&plan, usize::MAX).ok()?;
        let step = self.world.running.get(&job)?;
        Some((job, step.placement.shares.first()?.node))
    }

    fn end(&mut self, job: JobId) {
        let deltas = self.world.end(job);
        self.placer.apply(&deltas);
    }
}

pub(super) fn check(site: &PlacerSite<'_>) -> Verdict {
    if !site.keeps_nodes_whole {
        return Err(Finding::NotShown("this placer is meant to spread jobs".to_owned()));
    }
    site.all_cases(|case| {
        let mut random = Random::new(site.seed, case);
        small_jobs_share_a_node(site, &mut random)?;
        the_tightest_node_is_taken(site, &mut random)
    })
}

/// As many jobs as one node holds are on one node.
fn small_jobs_share_a_node(site: &PlacerSite<'_>, random: &mut Random) -> Verdict {
    let (nodes, cpus) = (random.between(2, 6), random.between(2, 16));
    let mut scene = Scene::new(site, nodes, cpus)?;
    let mut used = BTreeSet::new();
    for _ in 0..random.between(2, cpus) {
        let Some((_, node)) = scene.start(1) else { return Ok(()) };
        used.insert(node);
    }
    ensure(used.len() == 1, "jobs of one CPU that fit one node together to share it", || {
        format!("nodes {used:?} used")
    })
}

/// Of two nodes that are begun, a job gets the one with less left, if that is enough.
fn the_tightest_node_is_taken(site: &PlacerSite<'_>, random: &mut Random) -> Verdict {
    let cpus = random.between(6, 16);
    let (nodes, wanted) = (random.between(3, 6), random.between(1, 2));
    let mut scene = Scene::new(site, nodes, cpus)?;
    // Three nodes, each with one that fills it; two of them then end.
    let full: Option<Vec<_>> = (0..3).map(|_| scene.start(cpus)).collect();
    let Some([(first, roomy), (second, tight), _]) = full.as_deref() else { return Ok(()) };
    let (roomy, tight) = (*roomy, *tight);
    for (job, node, left) in [(*first, roomy, wanted + 2), (*second, tight, wanted)] {
        scene.end(job);
        let Some((_, begun)) = scene.start(cpus - left) else { return Ok(()) };
        if begun != node {
            // It is put elsewhere, so this is another scene; the other part of the check says whether it packs.
            return Ok(());
        }
    }
    let Some((_, taken)) = scene.start(wanted) else { return Ok(()) };
    ensure(taken == tight, "a job to go where the least is left over", || {
        format!("node {taken}, not {tight}, for a job of {wanted} CPUs")
    })
}
