//! Whole workloads from a seed: a stream that never lets up with gangs among it, runtimes of two kinds,
//! jobs that all want GPUs, a thousand nodes.
//!
//! Each has its figures for the first seed, and bounds that hold for any: who is first does not wait
//! longer than the longest job, promises that declared runtimes keep are kept to the millisecond, and
//! nodes do not idle while somebody waits who could use them. `PROPTEST_CASES` says how many seeds are
//! tried: one for each 256.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::ProptestConfig;

use super::super::{Figures, Replay, WorkloadJob, figures, replay};
use crate::ids::{AllocationId, NodeId};
use crate::placer::Policy;
use crate::resources::{Allocation, MemoryRequest, Request};
use crate::time::Timestamp;
use crate::traits::NodeShape;
use crate::workflow::SortMethod;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    /// One of these numbers, each as likely.
    fn of(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let (least, most) = range.into_inner();
        let above = (bits ^ (bits >> 31)) % u64::from(most - least + 1);
        least + u32::try_from(above).expect("of 32 bits")
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.of(1..=100) <= percent
    }
}

/// What jobs declare.
#[derive(Clone, Copy)]
enum Declared {
    /// What they take.
    Exactly,
    /// Up to five times as much.
    Generously,
    /// One in ten takes up to twice what it declared.
    Carelessly,
}

/// Nodes, all alike.
struct Nodes {
    count: u32,
    cpus: u32,
    gpus: u32,
}

impl Nodes {
    fn allocation(&self) -> Allocation {
        let shape = NodeShape {
            cpus: self.cpus,
            threads_per_core: 1,
            memory: 64 << 30,
            gpus: self.gpus,
            count: self.count,
        };
        Allocation {
            id: AllocationId(1),
            scheduler: None,
            labels: Arc::from([]),
            ends_at: None,
            nodes: (0..self.count)
                .map(|node| (NodeId(node), shape.inventory(&format!("node{node}"))))
                .collect(),
            inherited: None,
        }
    }
}

/// What a job is like.
struct Shape {
    nodes: u32,
    cpus: u32,
    gpus: u32,
    seconds: u32,
}

/// Jobs of these shapes, each so many seconds after the one before.
fn jobs(
    seed: u64,
    count: usize,
    gap: RangeInclusive<u32>,
    shape: impl Fn(&mut Dice) -> Shape,
) -> Vec<WorkloadJob> {
    let mut dice = Dice(seed);
    let mut now = Timestamp::default();
    let job = |_| {
        now = now + Duration::from_secs(dice.of(gap.clone()).into());
        let shape = shape(&mut dice);
        let runtime = Duration::from_secs(shape.seconds.into());
        let request = Request {
            priority: 0,
            scheduler: None,
            labels: Arc::from([]),
            cpus: shape.cpus,
            memory: MemoryRequest::ShareOfCpus,
            gpus: shape.gpus,
            nodes: shape.nodes,
            ntasks_per_node: 1,
            runtime: Some(runtime),
        };
        WorkloadJob { submitted: now, request, runtime }
    };
    (0..count).map(job).collect()
}

/// Changes what jobs declare, and leaves what they take.
fn declare(mut jobs: Vec<WorkloadJob>, declared: Declared) -> Vec<WorkloadJob> {
    let mut dice = Dice(7);
    for job in &mut jobs {
        let percent = match declared {
            Declared::Exactly => 100,
            Declared::Generously => dice.of(100..=500),
            Declared::Carelessly if dice.percent(10) => dice.of(50..=99),
            Declared::Carelessly => dice.of(100..=200),
        };
        job.request.runtime = Some(job.runtime * percent / 100);
    }
    jobs
}

/// How a workload went.
struct Outcome {
    jobs: Vec<WorkloadJob>,
    replay: Replay,
    figures: Figures,
    gpus: u32,
}

fn play(nodes: &Nodes, jobs: Vec<WorkloadJob>, sort: SortMethod) -> Outcome {
    let allocation = nodes.allocation();
    let replay = replay(&jobs, &allocation, sort, Policy::Pack);
    let asked = jobs.iter().map(|job| u64::from(job.request.cpus * job.request.nodes));
    let figures = figures(&replay, &jobs, &allocation, asked);
    assert_eq!(figures.never, 0);
    Outcome { jobs, replay, figures, gpus: nodes.count * nodes.gpus }
}

impl Outcome {
    fn longest(&self) -> Duration {
        let declared = self.jobs.iter().filter_map(|job| job.request.runtime);
        declared.max().expect("jobs")
    }

    /// P5: from when all before it have started, nobody waits longer than the longest job takes.
    fn check_turns(&self) {
        let mut turn = Timestamp::default();
        for (job, at) in self.jobs.iter().zip(self.replay.jobs.iter().flatten()) {
            turn = turn.max(job.submitted);
            assert!(at.started <= turn + self.longest(), "{:?} waited for its turn", job.request);
            turn = turn.max(at.started);
        }
    }

    /// The part of the CPU time that jobs held while jobs waited. What idles besides is held for a
    /// promised job, or too little for any that waits.
    #[expect(clippy::cast_precision_loss, reason = "a part of the whole")]
    fn busy(&self) -> f64 {
        let held = self.replay.jobs.iter().flatten();
        let held = held.map(|at| u128::from(at.cpus()) * at.ended.since(at.started).as_millis());
        let (held, idle) = (held.sum::<u128>() as f64, &self.replay.idle);
        held / (held + (idle.held + idle.nothing_fits) as f64)
    }

    fn check_busy(&self, least: f64) {
        assert!(self.busy() > least, "{}", self.report());
    }

    /// The part of the GPU time until the last submission that jobs held.
    #[expect(clippy::cast_precision_loss, reason = "a part of the whole")]
    fn busy_gpus(&self) -> f64 {
        let until = self.jobs.last().expect("jobs").submitted;
        let held = self.replay.jobs.iter().flatten().map(|at| {
            let gpus: usize = at.shares.iter().map(|share| share.gpus.len()).sum();
            gpus as u128 * at.ended.min(until).since(at.started).as_millis()
        });
        held.sum::<u128>() as f64 / (u64::from(self.gpus) * until.0) as f64
    }

    fn waits(&self, what: &str, counts: impl Fn(&Request) -> bool) -> String {
        let at = self.jobs.iter().zip(self.replay.jobs.iter().flatten());
        let waits = at.filter(|(job, _)| counts(&job.request));
        let mut waits: Vec<_> =
            waits.map(|(job, at)| at.started.since(job.submitted).as_secs()).collect();
        waits.sort_unstable();
        let rank = |percent: usize| waits[(waits.len() - 1) * percent / 100];
        format!("{} {what} waited {} s, {} s, {} s", waits.len(), rank(50), rank(90), rank(100))
    }

    /// Waits are the median, what nine of ten do not exceed, and the longest; lateness is the median
    /// and the largest of those that were late.
    fn report(&self) -> String {
        let Figures { promised, late, lateness_s, held, makespan_s, .. } = &self.figures;
        let gpus = match self.gpus {
            0 => String::new(),
            _ => format!(", {:.1} % of the GPUs", self.busy_gpus() * 100.0),
        };
        [
            self.waits("jobs on one node", |request| request.nodes == 1),
            self.waits("gangs", |request| request.nodes > 1),
            format!("{:.1} % held in {makespan_s} s", held * 100.0),
            format!("{:.1} % while jobs waited{gpus}", self.busy() * 100.0),
            format!("{promised} promised, {late} late"),
            format!("late by {:.0} s, {:.0} s", lateness_s.median, lateness_s.max),
        ]
        .join("\n")
    }
}

/// [`FIRST`], of which the figures are known, is always tried.
fn seeds() -> impl Iterator<Item = u64> {
    FIRST..=u64::from(ProptestConfig::default().cases).div_ceil(256)
}

const FIRST: u64 = 1;

/// More work than sixteen nodes can do, and a gang now and then.
fn endless(seed: u64) -> Vec<WorkloadJob> {
    jobs(seed, 3_000, 1..=14, |dice| match dice.percent(1) {
        true => Shape { nodes: dice.of(2..=12), cpus: 8, gpus: 0, seconds: dice.of(300..=900) },
        false => Shape { nodes: 1, cpus: dice.of(1..=4), gpus: 0, seconds: dice.of(60..=600) },
    })
}

#[test]
fn gangs_start_in_a_stream_that_never_lets_up() {
    let nodes = Nodes { count: 16, cpus: 8, gpus: 0 };
    for seed in seeds() {
        let outcome = play(&nodes, endless(seed), SortMethod::None);
        if seed == FIRST {
            assert_snapshot!(outcome.report(), @r"
            2974 jobs on one node waited 1060 s, 4211 s, 5096 s
            26 gangs waited 2336 s, 4768 s, 5082 s
            94.4 % held in 28001 s
            96.7 % while jobs waited
            658 promised, 0 late
            late by 0 s, 0 s
            ");
        }
        outcome.check_turns();
        outcome.check_busy(0.95);
        assert_eq!(outcome.figures.late, 0);
    }
}

/// Many short jobs and some that take hours.
fn bimodal(seed: u64) -> Vec<WorkloadJob> {
    jobs(seed, 3_000, 0..=14, |dice| Shape {
        nodes: if dice.percent(3) { dice.of(2..=6) } else { 1 },
        cpus: dice.of(1..=8),
        gpus: 0,
        seconds: if dice.percent(90) { dice.of(10..=60) } else { dice.of(3_600..=7_200) },
    })
}

#[test]
fn short_jobs_fill_what_long_ones_leave() {
    let nodes = Nodes { count: 24, cpus: 16, gpus: 0 };
    let play = |seed, declared| play(&nodes, declare(bimodal(seed), declared), SortMethod::None);
    for seed in seeds() {
        let exact = play(seed, Declared::Exactly);
        let generous = play(seed, Declared::Generously);
        let careless = play(seed, Declared::Carelessly);
        if seed == FIRST {
            assert_snapshot!(exact.report(), @r"
            2903 jobs on one node waited 0 s, 1115 s, 6708 s
            97 gangs waited 2805 s, 7475 s, 10060 s
            79.8 % held in 31639 s
            90.9 % while jobs waited
            50 promised, 0 late
            late by 0 s, 0 s
            ");
            assert_snapshot!(generous.report(), @r"
            2903 jobs on one node waited 0 s, 2163 s, 5810 s
            97 gangs waited 3519 s, 6862 s, 9602 s
            80.0 % held in 31558 s
            90.9 % while jobs waited
            30 promised, 0 late
            late by 0 s, 0 s
            ");
            assert_snapshot!(careless.report(), @r"
            2903 jobs on one node waited 0 s, 528 s, 2185 s
            97 gangs waited 7265 s, 13960 s, 18987 s
            78.0 % held in 32387 s
            87.6 % while jobs waited
            39 promised, 4 late
            late by 4 s, 11648 s
            ");
        }
        for kept in [&exact, &generous] {
            kept.check_turns();
            assert_eq!(kept.figures.late, 0, "nobody took longer than declared");
        }
        for outcome in [exact, generous, careless] {
            outcome.check_busy(0.8);
        }
    }
}

/// Half of the jobs want one GPU, some all of a node, a few those of several nodes.
fn all_gpu(seed: u64) -> Vec<WorkloadJob> {
    jobs(seed, 2_000, 5..=55, |dice| {
        let gpus = [1, 1, 1, 1, 2, 2, 4][dice.of(0..=6) as usize];
        let nodes = if gpus == 4 && dice.percent(20) { dice.of(2..=4) } else { 1 };
        Shape { nodes, cpus: gpus * dice.of(2..=8), gpus, seconds: dice.of(120..=1_500) }
    })
}

#[test]
fn gpus_are_kept_busy() {
    let nodes = Nodes { count: 12, cpus: 32, gpus: 4 };
    for seed in seeds() {
        let in_order = play(&nodes, all_gpu(seed), SortMethod::None);
        let sorted = play(&nodes, all_gpu(seed), SortMethod::GpusRuntimeMemory);
        if seed == FIRST {
            assert_snapshot!(in_order.report(), @r"
            1943 jobs on one node waited 1943 s, 3825 s, 5380 s
            57 gangs waited 2645 s, 4581 s, 5410 s
            65.9 % held in 64918 s
            68.0 % while jobs waited, 97.3 % of the GPUs
            398 promised, 0 late
            late by 0 s, 0 s
            ");
            assert_snapshot!(sorted.report(), @r"
            1943 jobs on one node waited 665 s, 20842 s, 58967 s
            57 gangs waited 547 s, 1091 s, 2895 s
            67.1 % held in 63737 s
            68.4 % while jobs waited, 97.9 % of the GPUs
            690 promised, 0 late
            late by 0 s, 0 s
            ");
        }
        in_order.check_turns();
        for outcome in [in_order, sorted] {
            assert!(outcome.busy_gpus() > 0.94, "{}", outcome.report());
            assert_eq!(outcome.figures.late, 0);
        }
    }
}

/// A gang may take half of a thousand nodes.
fn large(seed: u64) -> Vec<WorkloadJob> {
    jobs(seed, 4_000, 0..=2, |dice| match dice.percent(5) {
        true => Shape { nodes: dice.of(2..=500), cpus: 4, gpus: 0, seconds: dice.of(60..=300) },
        false => Shape { nodes: 1, cpus: dice.of(1..=4), gpus: 0, seconds: dice.of(60..=1_800) },
    })
}

#[test]
fn a_thousand_nodes_are_shared_with_wide_gangs() {
    let nodes = Nodes { count: 1_000, cpus: 4, gpus: 0 };
    for seed in seeds() {
        let outcome = play(&nodes, large(seed), SortMethod::None);
        if seed == FIRST {
            assert_snapshot!(outcome.report(), @r"
            3782 jobs on one node waited 122 s, 637 s, 789 s
            218 gangs waited 4967 s, 8399 s, 9462 s
            89.7 % held in 13723 s
            91.1 % while jobs waited
            122 promised, 0 late
            late by 0 s, 0 s
            ");
        }
        outcome.check_turns();
        outcome.check_busy(0.86);
        assert_eq!(outcome.figures.late, 0);
    }
}
