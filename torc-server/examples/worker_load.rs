//! How many short jobs a second one server runs on many workers, and how soon a worker that reported an
//! end is given its next step.
//!
//! `worker_load WORKERS JOBS`: the server is a real one, with its database and its connections; a
//! scheduler that grants at once and executors whose steps end at once stand for a cluster. Both share
//! this machine, in threads of their own.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use torc_core::governor::Limits;
use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::spec::{Context, Sources, load};
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Executor, ExecutorError, NodeShape,
    Outcome, Scheduler, SchedulerError, Shapes, Step, StepEvent, StepSignal, StepState, Usage,
};
use torc_core::wire::{RunState, SubmitRequest};
use torc_server::access::Access;
use torc_server::clock::now;
use torc_server::serve::{ServeOptions, Server};
use torc_server::state_dir::StateDir;
use torc_server::worker::{WorkerParts, work};

type Failure = Box<dyn Error + Send + Sync>;

const CPUS: u32 = 2;

/// Grants at once, and says to whom.
struct Cluster {
    granted: mpsc::UnboundedSender<u32>,
    count: Mutex<u32>,
}

#[async_trait]
impl Scheduler for Cluster {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        Ok(Shapes::Known(vec![NodeShape {
            cpus: CPUS,
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: 0,
            count: 100_000,
        }]))
    }

    async fn submit(
        &self,
        _: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let number = key.rsplit("al").next().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| SchedulerError::Refused(key.to_owned()))?;
        let _ = self.granted.send(number);
        Ok(AllocationHandle(number.to_string()))
    }

    async fn find(&self, _: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        Ok(None)
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        Ok(vec![AllocationState::Running { ends_at: None }; allocations.len()])
    }

    async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
        Ok(())
    }
}

/// Steps that end at once.
struct Steps {
    reports: mpsc::UnboundedSender<StepEvent>,
    /// When steps ended after which none was launched yet.
    ended: Mutex<VecDeque<Instant>>,
    pauses: mpsc::UnboundedSender<Duration>,
}

#[async_trait]
impl Executor for Steps {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(Vec::new())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = ended.pop_front() {
            let _ = self.pauses.send(at.elapsed());
        }
        let (step, at) = (step.id, now());
        let (outcome, usage) = (Outcome::Exited { code: 0 }, Usage::default());
        let _ = self.reports.send(StepEvent::Started { step, at });
        let _ = self.reports.send(StepEvent::Ended { step, at, outcome, usage });
        ended.push_back(Instant::now());
        Ok(())
    }

    async fn signal(&self, _: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

fn worker(dir: &Path, number: u32, pauses: mpsc::UnboundedSender<Duration>) -> WorkerParts {
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    // Nobody asks it to stop.
    std::mem::forget(stop);
    WorkerParts {
        dir: StateDir::at(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())),
        workflow: WorkflowId(1),
        allocation: AllocationId(number),
        handle: AllocationHandle(number.to_string()),
        nodes: vec![NodeInventory {
            name: format!("n{number}").into(),
            cores: (0..CPUS).collect(),
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: [].into(),
        }],
        ends_at: None,
        executor: Arc::new(Steps { reports: reports_in, ended: Mutex::default(), pauses }),
        reports,
        ask_end: Box::new(|| Box::pin(async { Ok(None) })),
        stop: stopped,
        patience: Duration::from_secs(60),
    }
}

fn spec(workers: u32, jobs: u32) -> String {
    format!(
        "name: load
slurm_schedulers: [{{name: cpu, account: a, walltime: '10:00:00'}}]
resource_requirements: [{{name: one, num_cpus: 1, memory: 1m, runtime: PT1M}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu,
    num_allocations: {workers}}}
jobs:
- {{name: 'j{{i}}', command: 'true', resource_requirements: one, parameters: {{i: '1:{jobs}'}}}}"
    )
}

/// Starts a server in a runtime of its own.
fn serve(
    dir: &Path,
    granted: mpsc::UnboundedSender<u32>,
) -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("server")
        .enable_all()
        .build()?;
    let limits =
        Limits { max_pending: usize::MAX, submit_pause: Duration::ZERO, ..Limits::default() };
    let server = runtime.block_on(Server::start(ServeOptions {
        dir: StateDir::at(dir)?,
        scheduler: Arc::new(Cluster { granted, count: Mutex::new(0) }),
        accounting: None,
        limits,
        program: PathBuf::from("/bin/torc"),
        port: 0,
        idle_exit: None,
    }))?;
    runtime.spawn(server.serve(std::future::pending()));
    Ok(runtime)
}

async fn run(
    dir: &Path,
    workers: u32,
    jobs: u32,
    grants: mpsc::UnboundedReceiver<u32>,
) -> Result<(), Failure> {
    let context = Context { user: None, sources: &NoSources };
    let loaded = load(spec(workers, jobs).as_bytes(), None, &context)?;
    let request = SubmitRequest {
        workflow: loaded.workflow,
        submission_dir: "/".to_owned(),
        spec_path: None,
        env: Vec::new(),
        umask: 0o022,
    };
    let state_dir = StateDir::at(dir)?;
    Access::submit(&state_dir, &request).await?;
    let (pauses_in, mut pauses) = mpsc::unbounded_channel();
    let started = Instant::now();
    let mut grants = grants;
    let folder = dir.to_path_buf();
    tokio::spawn(async move {
        while let Some(number) = grants.recv().await {
            tokio::spawn(work(worker(&folder, number, pauses_in.clone())));
        }
    });
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let report = loop {
        ticks.tick().await;
        let report = Access::open(&state_dir).await?.workflow(None).await?;
        if report.state != RunState::Running {
            break report;
        }
    };
    let seconds = Duration::from_millis(report.wall_ms).as_secs_f64();
    let mut all: Vec<Duration> = Vec::new();
    while let Ok(pause) = pauses.try_recv() {
        all.push(pause);
    }
    all.sort_unstable();
    let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "{workers} workers, {jobs} jobs: {seconds:.2} s, {:.0} jobs a second",
        f64::from(jobs) / seconds
    );
    println!(
        "  from an end to the next launch: median {:.1?}, 99 of 100 within {:.1?}",
        at(50),
        at(99)
    );
    println!("  all in all {:.1} s; {:?}", started.elapsed().as_secs_f64(), report.state);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let workers: u32 = args.next().map_or(Ok(1_000), |text| text.parse())?;
    let jobs: u32 = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let dir = tempfile::tempdir()?;
    let (granted, grants) = mpsc::unbounded_channel();
    let server = serve(dir.path(), granted)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("workers")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(dir.path(), workers, jobs, grants));
    runtime.shutdown_background();
    server.shutdown_background();
    outcome
}
