//! Endless streams of small jobs in virtual time, and one wide job among them.
//!
//! Owns: who ends when. Does not know: the rules of a single decision beyond what the account checks. Invariant: every
//! job keeps the runtime that it declared, so that a promise can be kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use torc_core::ids::{AllocationId, JobId, NodeId};
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::time::Timestamp;
use torc_core::traits::{Placer, Plan};

use super::PlacerSite;
use super::world::World;
use crate::finding::{Verdict, broken, ensure};
use crate::random::Random;

const CPUS: u32 = 4;

fn request(cpus: u32, seconds: u32) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: Arc::from([]),
        cpus,
        memory: MemoryRequest::ShareOfCpus,
        gpus: 0,
        nodes: 1,
        ntasks_per_node: 1,
        runtime: Some(Duration::from_secs(seconds.into())),
    }
}

/// Whenever a job ends, another is there.
struct Stream {
    placer: Box<dyn Placer>,
    world: World,
    due: BTreeSet<(Timestamp, JobId)>,
    small: Vec<Request>,
    /// Of what it declared a job uses one part in up to so many.
    haste: u32,
    submitted: usize,
}

/// The account does not hold: another check says how.
struct Spoilt;

impl Stream {
    fn new(placer: Box<dyn Placer>, nodes: u32, random: &mut Random) -> Self {
        let kinds = 0..random.between(1, 4);
        let small = kinds.map(|_| request(random.between(1, CPUS), random.between(10, 900)));
        let small = small.collect();
        let (world, due, haste) = (World::new(), BTreeSet::new(), random.between(1, 3));
        let mut stream = Self { placer, world, due, small, haste, submitted: 0 };
        let inventory = NodeInventory {
            name: "".into(),
            cores: (0..CPUS).collect(),
            threads_per_core: 1,
            memory: 8 << 30,
            gpus: Box::default(),
            slots: None,
        };
        let deltas = stream.world.allocate(Allocation {
            id: AllocationId(0),
            scheduler: None,
            labels: Arc::from([]),
            ends_at: None,
            nodes: (0..nodes).map(|_| (NodeId(0), inventory.clone())).collect(),
            inherited: None,
        });
        stream.placer.apply(&deltas);
        stream
    }

    fn submit(&mut self, request: &Request) -> JobId {
        let (job, deltas) = self.world.submit(request);
        self.placer.apply(&deltas);
        job
    }

    fn submit_small(&mut self) {
        if let Some(request) = self.small.get(self.submitted % self.small.len().max(1)).cloned() {
            self.submit(&request);
        }
        self.submitted += 1;
    }

    fn plan(&mut self) -> Result<Plan, Spoilt> {
        let plan = self.placer.plan(self.world.now, usize::MAX);
        self.world.take(&plan, usize::MAX).map_err(|_| Spoilt)?;
        for start in &plan.starts {
            let class = self.world.running.get(&start.job).map(|step| step.class);
            let request = class.and_then(|class| self.world.request(class));
            let declared = request.and_then(|request| request.runtime).unwrap_or_default();
            self.due
                .insert((self.world.now + declared / (1 + start.job.0 % self.haste), start.job));
        }
        Ok(plan)
    }

    /// The next job ends, and another comes.
    fn turn(&mut self) -> Result<Plan, Spoilt> {
        if let Some((at, job)) = self.due.pop_first() {
            self.world.now = at;
            let deltas = self.world.end(job);
            self.placer.apply(&deltas);
        }
        self.submit_small();
        self.plan()
    }

    /// When the last of those that run has ended by what it declared.
    fn last_end(&self) -> Timestamp {
        let ends = self.world.running.values().map(|step| {
            let runtime = self.world.request(step.class).and_then(|request| request.runtime);
            step.started_at + runtime.unwrap_or_default()
        });
        ends.max().unwrap_or(self.world.now)
    }
}

pub(super) fn check(site: &PlacerSite<'_>) -> Verdict {
    site.all_cases(|case| {
        let mut random = Random::new(site.seed, case);
        let nodes = random.between(2, 5);
        let stream = Stream::new(site.placer()?, nodes, &mut random);
        // Every other wide job is wide by its CPUs alone.
        let width = if random.once_in(2) { 1 } else { random.between(2, nodes) };
        let wide = Request { nodes: width, ..request(CPUS, random.between(10, 900)) };
        play(stream, nodes, &wide, random.below(30)).unwrap_or(Ok(()))
    })
}

fn play(mut stream: Stream, nodes: u32, wide: &Request, warm_up: u32) -> Result<Verdict, Spoilt> {
    for _ in 0..nodes * CPUS {
        stream.submit_small();
        stream.plan()?;
    }
    for _ in 0..warm_up {
        stream.turn()?;
    }
    // Who waits already has the older claim; the stream itself goes on.
    for job in stream.world.waiting.keys().copied().collect::<Vec<_>>() {
        let deltas = stream.world.withdraw(job);
        stream.placer.apply(&deltas);
    }
    let job = stream.submit(wide);
    let latest = stream.last_end();
    let mut plan = stream.plan()?;
    let mut promised: Option<Timestamp> = None;
    while plan.starts.iter().all(|start| start.job != job) {
        let expected =
            format!("a job of {} nodes and {CPUS} CPUs on each to start by {latest}", wide.nodes);
        if stream.due.is_empty() || stream.world.now > latest {
            return Ok(Err(broken(expected, format!("it waits at {}", stream.world.now))));
        }
        let own = plan.planned.iter().find(|planned| planned.job == job).map(|planned| planned.at);
        if let (Some(before), Some(after)) = (promised, own)
            && let Err(finding) =
                ensure(after <= before, "a planned start that is not put off", || {
                    format!("first {before}, then {after}")
                })
        {
            return Ok(Err(finding));
        }
        promised = own.or(promised);
        stream.submit_small();
        plan = stream.turn()?;
    }
    let now = stream.world.now;
    Ok(ensure(now <= latest, &format!("a wide job to start by {latest}"), || now.to_string()))
}
