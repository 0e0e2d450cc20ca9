//! Random walks over everything that can happen to a placer.
//!
//! Owns: the choice of what happens next. Does not know: the rules. Invariant: the same seed, case and decisions give
//! the same walk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use torc_core::ids::{AllocationId, NodeId};
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::traits::{Delta, NodeState, Placer};

use super::PlacerSite;
use super::rules::{Breach, Rule};
use super::world::World;
use crate::finding::{Verdict, broken};
use crate::random::Random;

const GIB: u64 = 1 << 30;

/// Things that happen in one walk.
const LENGTH: u32 = 40;

/// How the walks with a placer ended, by their cases: all rules look at the same ones.
#[derive(Debug, Default)]
pub struct Walks(RefCell<BTreeMap<u32, Option<Breach>>>);

/// Looks for breaches of one rule.
pub(super) fn check(site: &PlacerSite<'_>, rule: Rule) -> Verdict {
    site.all_cases(|case| {
        let known = site.walks.0.borrow().get(&case).cloned();
        let breach = match known {
            Some(breach) => breach,
            None => {
                let mut placer = site.placer()?;
                let breach = walk(&mut *placer, &mut Random::new(site.seed, case)).err();
                site.walks.0.borrow_mut().insert(case, breach.clone());
                breach
            }
        };
        match breach {
            Some(breach) if breach.rule == rule => Err(broken(rule.words(), breach.seen)),
            // Another rule has a check of its own.
            Some(_) | None => Ok(()),
        }
    })
}

fn walk(placer: &mut dyn Placer, random: &mut Random) -> Result<(), Breach> {
    let mut world = World::new();
    placer.apply(&begin(&mut world, random));
    for _ in 0..LENGTH {
        placer.apply(&happen(&mut world, random));
        if random.once_in(5) {
            let limit = random.below(3) as usize;
            let plan = placer.plan(world.now, limit);
            world.take(&plan, limit)?;
            continue;
        }
        let plan = placer.plan(world.now, usize::MAX);
        world.take(&plan, usize::MAX)?;
        world.check_nobody_waits_in_vain()?;
        world.check_explanations(placer)?;
    }
    Ok(())
}

/// The first nodes, and sometimes jobs before them.
pub(super) fn begin(world: &mut World, random: &mut Random) -> Vec<Delta> {
    let mut deltas = if random.once_in(3) { happen(world, random) } else { Vec::new() };
    deltas.extend(allocate(world, random));
    deltas
}

/// Something happens.
pub(super) fn happen(world: &mut World, random: &mut Random) -> Vec<Delta> {
    let seconds = |random: &mut Random| Duration::from_secs(random.between(1, 240).into());
    match random.below(24) {
        0..=8 => {
            let request = request(random);
            (0..random.between(1, 4)).flat_map(|_| world.submit(&request).1).collect()
        }
        9..=14 => {
            world.now = world.now + seconds(random);
            let job = random.pick(world.running.keys().copied());
            job.map_or_else(Vec::new, |job| world.end(job))
        }
        15 => {
            // Its attempt failed, and there is another.
            let step = random.pick(world.running.values().cloned());
            let request = step.as_ref().and_then(|step| world.request(step.class)).cloned();
            let (Some(step), Some(request)) = (step, request) else { return Vec::new() };
            let mut deltas = world.end(step.job);
            deltas.extend(world.submit_again(step.job, &request));
            deltas
        }
        16 => {
            let job = random.pick(world.waiting.keys().copied());
            job.map_or_else(Vec::new, |job| world.withdraw(job))
        }
        17 => {
            world.now = world.now + seconds(random);
            Vec::new()
        }
        18 | 19 => allocate(world, random),
        20 => deallocate(world, random),
        21 => {
            let Some(id) = any_allocation(world, random) else { return Vec::new() };
            let ends_at = (!random.once_in(4)).then(|| world.now + seconds(random) * 4);
            world.move_end(id, ends_at)
        }
        _ => {
            let Some(node) = any_node(world, random) else { return Vec::new() };
            let states = [NodeState::Up, NodeState::Up, NodeState::Draining, NodeState::Down];
            let state = random.pick(states).unwrap_or(NodeState::Up);
            world.set_state(node, state)
        }
    }
}

fn any_allocation(world: &World, random: &mut Random) -> Option<AllocationId> {
    random.pick(world.allocations.keys().copied())
}

fn any_node(world: &World, random: &mut Random) -> Option<NodeId> {
    random.pick(world.nodes().map(|(node, ..)| node))
}

/// The nodes go first, and then the steps that were there, one by one.
fn deallocate(world: &mut World, random: &mut Random) -> Vec<Delta> {
    let Some(id) = any_allocation(world, random) else { return Vec::new() };
    let steps = world.running.values().filter(|step| step.placement.allocation == id);
    let jobs: Vec<_> = steps.map(|step| step.job).collect();
    let mut deltas = world.deallocate(id);
    for job in jobs {
        deltas.extend(world.end(job));
    }
    deltas
}

/// Something that jobs ask for.
fn request(random: &mut Random) -> Request {
    let kind = random.below(8);
    let runtime = Duration::from_secs(random.between(1, 8).into()) * 60;
    let memory = MemoryRequest::Bytes(u64::from(random.below(10)) * GIB);
    Request {
        priority: i32::try_from(random.below(4) / 3).unwrap_or_default(),
        scheduler: (kind == 1).then(|| Arc::from("a")),
        labels: if kind == 2 { Arc::from([Box::from("x")]) } else { Arc::from([]) },
        cpus: random.between(1, 8),
        memory: if random.once_in(3) { memory } else { MemoryRequest::ShareOfCpus },
        gpus: random.below(3).saturating_sub(1),
        nodes: if random.once_in(4) { random.between(2, 3) } else { 1 },
        ntasks_per_node: 1,
        runtime: (!random.once_in(4)).then_some(runtime),
    }
}

fn allocate(world: &mut World, random: &mut Random) -> Vec<Delta> {
    let kind = random.below(6);
    let threads_per_core = random.between(1, 2);
    let has_slots = random.once_in(4);
    let nodes = (0..random.between(1, 5)).map(|_| {
        let slots = if has_slots { NonZeroU32::new(random.between(1, 3)) } else { None };
        let cpus = if random.once_in(2) { 4 } else { 8 };
        let inventory = NodeInventory {
            name: "".into(),
            cores: (0..cpus).collect(),
            threads_per_core,
            memory: if random.once_in(2) { 8 * GIB } else { 16 * GIB },
            gpus: (0..random.below(3)).map(|gpu| gpu.to_string().into()).collect(),
            slots,
        };
        (NodeId(0), inventory)
    });
    let nodes = nodes.collect();
    let walltime = Duration::from_secs(random.between(1, 20).into()) * 60;
    let ends_at = (!random.once_in(3)).then(|| world.now + walltime);
    world.allocate(Allocation {
        id: AllocationId(0),
        scheduler: [None, Some("a"), Some("b")][kind as usize % 3].map(Arc::from),
        labels: if kind == 5 { Arc::from(["w", "x"].map(Box::from)) } else { Arc::from([]) },
        ends_at,
        nodes,
        inherited: None,
    })
}
