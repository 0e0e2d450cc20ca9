//! What a decision of the placer costs, in virtual time: one step of a simulation ends the job that
//! is due, plans, and queues a new job for each that started. The time of the placer alone is taken.
//!
//! With [`STEPS`] in its environment it runs so many steps, for whoever counts instructions.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group};
use torc_core::ids::{AllocationId, ClassId, JobId, NodeId};
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::time::Timestamp;
use torc_core::traits::{Delta, NodeState, Placer, WaitingJob};
use torc_core::workflow::SortMethod;

const GIB: u64 = 1 << 30;

fn request(cpus: u32, gpus: u32, nodes: u32, minutes: u64) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: Arc::from([]),
        cpus,
        memory: MemoryRequest::Bytes(u64::from(cpus) * GIB),
        gpus,
        nodes,
        ntasks_per_node: 1,
        runtime: (minutes > 0).then(|| Duration::from_secs(60 * minutes)),
    }
}

fn allocation(nodes: u32) -> Allocation {
    let node = |node: u32| {
        let gpus = if node.is_multiple_of(8) { 4 } else { 0 };
        let inventory = NodeInventory {
            name: format!("node{node}").into(),
            cores: (0..64).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 256 * GIB,
            gpus: (0..gpus).map(|gpu: u32| gpu.to_string().into()).collect(),
        };
        (NodeId(node), inventory)
    };
    Allocation {
        id: AllocationId(1),
        scheduler: None,
        labels: Arc::from([]),
        ends_at: None,
        nodes: (0..nodes).map(node).collect(),
        inherited: None,
    }
}

/// A generator of numbers that look random: xorshift (Marsaglia, 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A saturated cluster in virtual time.
struct Cluster {
    placer: WholeNodePlacer,
    classes: Vec<Request>,
    class_of: Vec<ClassId>,
    /// Jobs by the second at which they are due, around and around.
    due: Vec<Vec<JobId>>,
    now: Timestamp,
    dice: Dice,
}

impl Cluster {
    fn new(nodes: u32, classes: Vec<Request>, waiting: usize) -> Self {
        let mut cluster = Self {
            placer: WholeNodePlacer::new(SortMethod::None, Policy::Pack),
            classes,
            class_of: vec![ClassId(0)],
            due: vec![Vec::new(); AROUND],
            now: Timestamp(1_000_000),
            dice: Dice(0x5eed),
        };
        cluster.placer.apply(&[Delta::AllocationAdded(allocation(nodes))]);
        for (class, request) in (0..).map(ClassId).zip(&cluster.classes) {
            cluster.placer.apply(&[Delta::ClassAdded { class, request: request.clone() }]);
        }
        for index in 0..waiting {
            let class = u32::try_from(index % cluster.classes.len()).unwrap_or(0);
            cluster.submit(ClassId(class));
        }
        cluster.plan();
        cluster
    }

    fn submit(&mut self, class: ClassId) {
        let job = JobId(u32::try_from(self.class_of.len()).unwrap_or(u32::MAX));
        self.class_of.push(class);
        self.placer.apply(&[Delta::JobReady(WaitingJob { job, class })]);
    }

    /// Plans, and queues a job of the same class for each that started. How long the placer took to plan.
    fn plan(&mut self) -> Duration {
        let started = WallTime.start();
        let plan = black_box(self.placer.plan(self.now, usize::MAX));
        let took = WallTime.end(started);
        for start in &plan.starts {
            let class = self.begin(start.job);
            self.submit(class);
        }
        took
    }

    /// Notes when a job that started is due, and returns its class.
    fn begin(&mut self, job: JobId) -> ClassId {
        let class = self.class_of[job.index() + 1];
        let declared = self.classes[class.0 as usize].runtime;
        let longest = declared.unwrap_or(Duration::from_secs(600));
        let percent = u32::try_from(50 + self.dice.below(50)).unwrap_or(50);
        self.due[second(self.now + longest * percent / 100)].push(job);
        class
    }

    /// Ends the job that is due, and plans. How long the placer took for both.
    fn step(&mut self) -> Duration {
        self.end() + self.plan()
    }

    /// Ends the job that is due, and plans. How long the plan took.
    fn decision(&mut self) -> Duration {
        self.end();
        self.plan()
    }

    /// Ends the job that is due. How long the placer took to note it.
    fn end(&mut self) -> Duration {
        while self.due[second(self.now)].is_empty() {
            self.now = self.now + Duration::from_secs(1);
        }
        let Some(job) = self.due[second(self.now)].pop() else { return Duration::ZERO };
        let started = WallTime.start();
        self.placer.apply(&[Delta::StepEnded(job)]);
        WallTime.end(started)
    }
}

/// More seconds than any job takes.
const AROUND: usize = 1 << 16;

fn second(time: Timestamp) -> usize {
    usize::try_from(time.0 / 1000).unwrap_or(0) % AROUND
}

/// Ten classes of jobs for one node.
fn mixed(declared: bool) -> Vec<Request> {
    let shapes = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (4, 1), (8, 1), (16, 2), (3, 0), (6, 0)];
    let minutes = |index: u64| if declared { 10 + 7 * index } else { 0 };
    (0..).zip(shapes).map(|(index, (cpus, gpus))| request(cpus, gpus, 1, minutes(index))).collect()
}

fn starts_and_releases(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start_and_release");
    for nodes in [1_000, 100_000] {
        for (name, declared) in [("declared", true), ("undeclared", false)] {
            let mut cluster = Cluster::new(nodes, mixed(declared), nodes as usize * 70);
            group.bench_function(BenchmarkId::new(name, nodes), |bench| {
                bench.iter_custom(|count| (0..count).map(|_| cluster.step()).sum());
            });
            group.bench_function(BenchmarkId::new(format!("{name}_decision"), nodes), |bench| {
                bench.iter_custom(|count| (0..count).map(|_| cluster.decision()).sum());
            });
        }
    }
    for waiting in [1_000, 1_000_000] {
        let mut cluster = Cluster::new(100, mixed(true), 7_000 + waiting);
        group.bench_function(BenchmarkId::new("waiting_decision", waiting), |bench| {
            bench.iter_custom(|count| (0..count).map(|_| cluster.decision()).sum());
        });
    }
    group.finish();
}

fn many_classes(criterion: &mut Criterion) {
    let mut dice = Dice(7);
    let classes: Vec<_> = (0..10_000)
        .map(|_| {
            let cpus = 1 + u32::try_from(dice.below(64)).unwrap_or(0);
            let is_gang = dice.below(3) == 0;
            let nodes = if is_gang { 2 + u32::try_from(dice.below(60)).unwrap_or(0) } else { 1 };
            request(cpus, 0, nodes, 1 + dice.below(600))
        })
        .collect();
    let mut cluster = Cluster::new(1_000, classes, 20_000);
    criterion.bench_function("decision/10000_classes", |bench| {
        bench.iter_custom(|count| (0..count).map(|_| cluster.step()).sum());
    });
}

/// One blocked job, eight steps on each of 1,000 nodes, and a change that makes the forecast stale.
fn planned_start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planned_start/8000_steps");
    let wide = [("gang_of_100", 8, 100), ("gang_of_1000", 8, 1_000), ("whole_node", 64, 1)];
    for (name, cpus, nodes) in wide {
        let mut classes: Vec<_> = (0..50).map(|n| request(8, 0, 1, 20 + n)).collect();
        let class = ClassId(50);
        classes.push(request(cpus, 0, nodes, 60));
        let mut placer = WholeNodePlacer::new(SortMethod::None, Policy::Pack);
        placer.apply(&[Delta::AllocationAdded(allocation(1_000))]);
        for (class, request) in (0..).map(ClassId).zip(classes) {
            placer.apply(&[Delta::ClassAdded { class, request }]);
        }
        for job in 1..=8_000 {
            let class = ClassId((job * 31) % 50);
            placer.apply(&[Delta::JobReady(WaitingJob { job: JobId(job), class })]);
        }
        let now = Timestamp(1_000_000);
        assert_eq!(placer.plan(now, usize::MAX).starts.len(), 8_000);
        placer.apply(&[Delta::JobReady(WaitingJob { job: JobId(9_000), class })]);
        let change = Delta::NodeStateChanged { node: NodeId(5), state: NodeState::Up };
        group.bench_function(name, |bench| {
            bench.iter(|| {
                placer.apply(std::slice::from_ref(&change));
                black_box(placer.plan(now, usize::MAX))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .sample_size(20);
    targets = starts_and_releases, many_classes, planned_start
}

/// `NODES WAITING STEPS`: nodes of a cluster that is full, jobs that wait for them, and steps to run.
const STEPS: &str = "TORC_BENCH_STEPS";

#[expect(
    clippy::disallowed_methods,
    reason = "a bench is a program; criterion reads its arguments"
)]
fn main() {
    let Ok(words) = std::env::var(STEPS) else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let numbers: Vec<u32> = words.split(' ').map(|word| word.parse().expect("a number")).collect();
    let &[nodes, waiting, steps] = numbers.as_slice() else {
        panic!("{STEPS}: NODES WAITING STEPS")
    };
    let mut cluster = Cluster::new(nodes, mixed(true), (nodes * 70 + waiting) as usize);
    for _ in 0..steps {
        black_box(cluster.step());
    }
}
