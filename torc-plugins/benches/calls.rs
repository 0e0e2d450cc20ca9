//! What the boundary costs: decisions of a placer in virtual time, torc's own behind the boundary and without
//! it, and single calls of a launcher. The libraries are those that Cargo built beside this program.
//!
//! With [`STEPS`] in its environment it runs so many decisions, for whoever counts instructions.

use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use serde_json::Map;
use torc_core::ids::{AllocationId, ClassId, JobId, NodeId};
use torc_core::placer::{Policy, WholeNodePlacer};
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::time::Timestamp;
use torc_core::traits::{Delta, Launcher, Placer, Step, WaitingJob};
use torc_core::workflow::SortMethod;
use torc_plugins::{Plugin, PluginLauncher, PluginPlacer, Shelf, Trust};

const GIB: u64 = 1 << 30;
const NODES: u32 = 1_000;

fn plugin(name: &str) -> Plugin {
    let exe = std::env::current_exe().expect("this program is a file");
    let folder = exe.parent().and_then(Path::parent).expect("target/<profile>").join("examples");
    let groups = folder.ancestors().filter_map(|path| Some(path.metadata().ok()?.gid())).collect();
    let shelf = Shelf::new(vec![folder], Trust { groups }, Default::default());
    shelf
        .plugin(name)
        .unwrap_or_else(|error| panic!("{error}; cargo build --release -p torc-plugins --examples"))
}

fn wrapped() -> Box<dyn Placer> {
    let settings = serde_json::json!({ "sort": "none" });
    let settings = settings.as_object().expect("an object");
    Box::new(PluginPlacer::open(&plugin("wrapped"), settings).expect("it opens"))
}

fn own() -> Box<dyn Placer> {
    Box::new(WholeNodePlacer::new(SortMethod::None, Policy::Pack))
}

fn allocation() -> Allocation {
    let node = |node: u32| {
        let inventory = NodeInventory {
            name: format!("node{node}").into(),
            cores: (0..64).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 256 * GIB,
            gpus: [].into(),
        };
        (NodeId(node), inventory)
    };
    Allocation {
        id: AllocationId(1),
        scheduler: None,
        labels: Arc::from([]),
        ends_at: None,
        nodes: (0..NODES).map(node).collect(),
        inherited: None,
    }
}

/// Of seven classes of jobs for one node.
fn request(class: u32) -> Request {
    let cpus = [1, 2, 4, 8, 16, 3, 6][class as usize % 7];
    Request {
        priority: 0,
        scheduler: None,
        labels: Arc::from([]),
        cpus,
        memory: MemoryRequest::Bytes(u64::from(cpus) * GIB),
        gpus: 0,
        nodes: 1,
        ntasks_per_node: 1,
        runtime: Some(Duration::from_secs(u64::from(600 + 420 * class))),
    }
}

/// A saturated cluster: jobs end in the order in which they started.
struct Cluster {
    placer: Box<dyn Placer>,
    running: std::collections::VecDeque<JobId>,
    jobs: u32,
    now: Timestamp,
}

impl Cluster {
    fn new(mut placer: Box<dyn Placer>) -> Self {
        placer.apply(&[Delta::AllocationAdded(allocation())]);
        for class in 0..7 {
            placer.apply(&[Delta::ClassAdded { class: ClassId(class), request: request(class) }]);
        }
        let (jobs, now) = (0, Timestamp(1_000_000));
        let mut cluster = Self { placer, running: Default::default(), jobs, now };
        for _ in 0..NODES * 40 {
            cluster.submit();
        }
        cluster.plan();
        cluster
    }

    fn submit(&mut self) {
        self.jobs += 1;
        let class = ClassId(self.jobs % 7);
        self.placer.apply(&[Delta::JobReady(WaitingJob { job: JobId(self.jobs), class })]);
    }

    /// Plans, and queues a job for each that started. How many those were.
    fn plan(&mut self) -> u32 {
        let plan = self.placer.plan(self.now, usize::MAX);
        assert_eq!(plan.failure, None);
        for start in &plan.starts {
            self.running.push_back(start.job);
            self.submit();
        }
        u32::try_from(plan.starts.len()).expect("few")
    }

    /// So many jobs end, and what then can start does.
    fn decision(&mut self, ends: u32) -> u32 {
        self.now = self.now + Duration::from_secs(1);
        for _ in 0..ends {
            let job = self.running.pop_front().expect("it is full");
            self.placer.apply(&[Delta::StepEnded(job)]);
        }
        self.plan()
    }

    /// How long so many starts take, in decisions after so many ends each.
    fn starts(&mut self, count: u64, ends: u32) -> Duration {
        let (mut started, began) = (0, Instant::now());
        while started < count {
            started += u64::from(black_box(self.decision(ends)));
        }
        // The last decision may have started more.
        began.elapsed().mul_f64(count as f64 / started as f64)
    }
}

fn placers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("starts");
    group.throughput(Throughput::Elements(1));
    for (name, placer) in [("own", own as fn() -> Box<dyn Placer>), ("wrapped", wrapped)] {
        let mut cluster = Cluster::new(placer());
        for ends in [1, 64] {
            group.bench_function(BenchmarkId::new(name, ends), |bench| {
                bench.iter_custom(|count| cluster.starts(count, ends));
            });
        }
    }
    group.finish();
}

fn step() -> Step {
    serde_json::from_value(serde_json::json!({
        "id": {"workflow": 1, "job": 1, "run": 1, "attempt": 1}, "job_name": "simulate_17",
        "argv": ["bash", "-c", "./simulate --case 17 > out"], "env": {"TORC_JOB_ID": "17", "TORC_RUN_ID": "1"},
        "working_dir": "/scratch/project/run", "stdio": {"stdout": "/scratch/o", "stderr": "/scratch/e",
        "delete_on_success": false}, "allocation": 1,
        "nodes": [{"name": "node17", "cores": [0, 1, 2, 3, 4, 5, 6, 7], "gpus": ["0"], "memory": 8_589_934_592u64}],
        "layout": {"ntasks_per_node": 1, "cpus_per_node": 8, "mpi": null, "cpu_bind": null},
        "limits": {"memory": 8_589_934_592u64, "runtime": 3_600_000, "termination_signal": 15,
        "termination_lead": 30_000}, "expected_files": []
    }))
    .expect("a step")
}

fn launchers(criterion: &mut Criterion) {
    let launcher = PluginLauncher::open(&plugin("nice"), &Map::new()).expect("it opens");
    let step = step();
    criterion.bench_function("launcher_call", |bench| {
        bench.iter(|| launcher.plan(black_box(&step), "/files").expect("a plan"));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .sample_size(20);
    targets = placers, launchers
}

/// `own|wrapped ENDS DECISIONS`: whose placer, ends before each decision, and decisions.
/// `launcher CALLS`: calls of a launcher.
const STEPS: &str = "TORC_BENCH_STEPS";

fn main() {
    let Ok(words) = std::env::var(STEPS) else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let words: Vec<&str> = words.split(' ').collect();
    let number = |word: &str| word.parse::<u32>().expect("a number");
    match words.as_slice() {
        ["launcher", calls] => {
            let launcher = PluginLauncher::open(&plugin("nice"), &Map::new()).expect("it opens");
            let step = step();
            for _ in 0..number(calls) {
                black_box(launcher.plan(&step, "/files")).expect("a plan");
            }
        }
        [whose, ends, decisions] => {
            let placer = if *whose == "own" { own() } else { wrapped() };
            let mut cluster = Cluster::new(placer);
            for _ in 0..number(decisions) {
                black_box(cluster.decision(number(ends)));
            }
        }
        _ => panic!("{STEPS} makes no sense"),
    }
}
