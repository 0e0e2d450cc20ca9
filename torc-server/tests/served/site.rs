//! The place of these tests: a scheduler that grants at once, workers whose steps are pretended, a state
//! directory and its servers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use torc_core::engine::JobStatus;
use torc_core::governor::Limits;
use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::spec::{Context, Sources, load};
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationRequest, AllocationState, Executor, ExecutorError,
    NodeShape, NodeState, Outcome, Scheduler, SchedulerError, Shapes, Step, StepAccount, StepEvent,
    StepSignal, StepState, Usage,
};
use torc_core::wire::{AllocationStage, RunState, SubmitRequest, WorkflowReport};
use torc_server::access::{Access, AccessError};
use torc_server::accountant::{Accounting, Accounts, Question};
use torc_server::clock::now;
use torc_server::placers::Placers;
use torc_server::schedulers::Schedulers;
use torc_server::serve::{ServeEnd, ServeOptions, Server};
use torc_server::state_dir::StateDir;
use torc_server::worker::{WorkerEnd, WorkerParts, work};

/// How long a test waits for any one thing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A scheduler that grants at once, and what it was asked for.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) asked: Mutex<Vec<(String, AllocationRequest)>>,
    pub(crate) ended: Mutex<BTreeMap<AllocationHandle, AllocationEnd>>,
    /// Requests that are refused before others are taken.
    pub(crate) refusals: Mutex<u32>,
    /// Accounts whose requests are not taken for the moment.
    pub(crate) full: Mutex<BTreeSet<String>>,
    /// It takes requests, and its answers do not arrive.
    pub(crate) is_unheard: AtomicBool,
    /// It cannot be told that an allocation is to end.
    pub(crate) is_deaf: AtomicBool,
    /// It says what nodes it has while nobody holds this, and was asked so often.
    pub(crate) shapes: (tokio::sync::Mutex<()>, AtomicUsize),
    pub(crate) changed: tokio::sync::Notify,
}

impl Cluster {
    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Whether an answer about a request arrives.
    pub(crate) fn answer(&self) -> Result<(), SchedulerError> {
        if self.is_unheard.load(Ordering::Relaxed) {
            return Err(SchedulerError::Unavailable("no answer".to_owned()));
        }
        Ok(())
    }

    /// Ends an allocation.
    pub(crate) fn end(&self, handle: &str, cause: AllocationEnd) {
        self.ended.lock().unwrap().insert(AllocationHandle(handle.to_owned()), cause);
    }
}

#[async_trait]
impl Scheduler for Cluster {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        self.shapes.1.fetch_add(1, Ordering::Relaxed);
        let _ = self.shapes.0.lock().await;
        Ok(Shapes::Known(vec![NodeShape {
            cpus: 2,
            threads_per_core: 1,
            memory: 1 << 30,
            gpus: 0,
            count: 4,
        }]))
    }

    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(SchedulerError::Refused("no such account".to_owned()));
            }
        }
        let account = request.settings["account"].as_str().unwrap_or_default();
        if self.full.lock().unwrap().contains(account) {
            return Err(SchedulerError::NotNow("AssocMaxSubmitJobLimit".to_owned()));
        }
        let mut asked = self.asked.lock().unwrap();
        asked.push((key.to_owned(), request.clone()));
        let handle = AllocationHandle(asked.len().to_string());
        drop(asked);
        self.changed.notify_one();
        self.answer()?;
        Ok(handle)
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        self.answer()?;
        let asked = self.asked.lock().unwrap();
        let place = asked.iter().position(|(known, _)| known == key);
        Ok(place.map(|place| AllocationHandle((place + 1).to_string())))
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        let ended = self.ended.lock().unwrap();
        let state = |handle: &AllocationHandle| match ended.get(handle) {
            Some(cause) => AllocationState::Ended { cause: *cause, reason: "so it was".to_owned() },
            None => AllocationState::Running { ends_at: None },
        };
        Ok(allocations.iter().map(state).collect())
    }

    async fn cancel(&self, allocation: &AllocationHandle) -> Result<(), SchedulerError> {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Err(SchedulerError::Unavailable("it hears nothing".to_owned()));
        }
        self.end(&allocation.0, AllocationEnd::Cancelled);
        Ok(())
    }
}

/// An accounting that does not answer until it is open, and then knows all that it is asked.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) is_open: AtomicBool,
    pub(crate) asked: Mutex<Vec<Question>>,
}

#[async_trait]
impl Accounting for Ledger {
    async fn accounts(
        &self,
        question: &Question,
    ) -> Result<Vec<(StepId, StepAccount)>, SchedulerError> {
        self.asked.lock().unwrap().push(question.clone());
        if !self.is_open.load(Ordering::Relaxed) {
            return Err(SchedulerError::Unavailable("closed".to_owned()));
        }
        let usage = Usage { cpu_ms: 70, peak_memory: Some(9) };
        let account = StepAccount { usage, state: Some("COMPLETED".into()) };
        Ok(question.steps.values().flatten().map(|step| (*step, account.clone())).collect())
    }
}

/// Steps whose command is `hold` run until they are let go; all others end at once with code 0.
pub(crate) struct Steps {
    pub(crate) reports: mpsc::UnboundedSender<StepEvent>,
    pub(crate) held: Mutex<BTreeSet<StepId>>,
    pub(crate) launched: Mutex<Vec<StepId>>,
}

impl Steps {
    pub(crate) fn end(&self, step: StepId, outcome: Outcome) {
        self.held.lock().unwrap().remove(&step);
        let usage = Usage { cpu_ms: 1, peak_memory: None };
        let _ = self.reports.send(StepEvent::Ended { step, at: now(), outcome, usage });
    }

    /// The only node of the allocation is in this state from now on.
    pub(crate) fn change_node(&self, allocation: u32, state: NodeState) {
        let node = format!("n{allocation}").into();
        let (allocation, reason) = (AllocationId(allocation), String::new());
        let changed = StepEvent::NodeChanged { allocation, node, at: now(), state, reason };
        let _ = self.reports.send(changed);
    }

    pub(crate) fn cancel_all(&self) {
        let held: Vec<StepId> = self.held.lock().unwrap().iter().copied().collect();
        held.into_iter().for_each(|step| self.end(step, Outcome::Cancelled));
    }

    pub(crate) fn let_go(&self) {
        let held: Vec<StepId> = self.held.lock().unwrap().iter().copied().collect();
        for step in held {
            self.end(step, Outcome::Exited { code: 0 });
        }
    }
}

#[async_trait]
impl Executor for Steps {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(Vec::new())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        self.launched.lock().unwrap().push(step.id);
        let _ = self.reports.send(StepEvent::Started { step: step.id, at: now() });
        if step.argv.last().is_some_and(|command| command.contains("hold")) {
            self.held.lock().unwrap().insert(step.id);
        } else {
            self.end(step.id, Outcome::Exited { code: 0 });
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        if self.held.lock().unwrap().contains(&step) {
            self.end(step, Outcome::Cancelled);
        }
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}

/// A worker of an allocation.
pub(crate) struct Worker {
    pub(crate) steps: Arc<Steps>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<Result<WorkerEnd, String>>,
}

impl Worker {
    pub(crate) fn start(dir: &Path, allocation: u32, handle: &str) -> Self {
        Self::start_for(PATIENCE, dir, allocation, handle)
    }

    /// One that goes on for so long without a server while nothing runs.
    pub(crate) fn start_for(patience: Duration, dir: &Path, allocation: u32, handle: &str) -> Self {
        let (reports_in, reports) = mpsc::unbounded_channel();
        let steps = Arc::new(Steps {
            reports: reports_in,
            held: Mutex::default(),
            launched: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let node = NodeInventory {
            name: format!("n{allocation}").into(),
            cores: [0, 1].into(),
            threads_per_core: 1,
            slots: None,
            memory: 1 << 30,
            gpus: [].into(),
        };
        let parts = WorkerParts {
            dir: StateDir::at(dir).unwrap(),
            workflow: WorkflowId(1),
            allocation: AllocationId(allocation),
            handle: AllocationHandle(handle.to_owned()),
            nodes: vec![node],
            began_at: None,
            ends_at: None,
            executor: steps.clone(),
            reports,
            on_node: None,
            release: None,
            tell_end: None,
            wind_up: {
                let steps = steps.clone();
                Box::new(move || Box::pin(async move { steps.cancel_all() }))
            },
            ask_end: Box::new(|| Box::pin(async { Ok(None) })),
            stop: stopped,
            patience,
        };
        let task = tokio::spawn(async move { work(parts).await.map_err(|e| e.to_string()) });
        Self { steps, stop, task }
    }

    /// Waits until it has been given so many steps.
    pub(crate) async fn launched(&self, count: usize) -> Vec<StepId> {
        until(async || {
            let launched = self.steps.launched.lock().unwrap().clone();
            (launched.len() >= count).then_some(launched)
        })
        .await
    }

    pub(crate) async fn end(self) -> WorkerEnd {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap()
    }
}

/// Asks again until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it comes to pass in time")
}

/// A server in a folder of its own.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) ledger: Arc<Ledger>,
    /// Of the servers to come.
    pub(crate) placers: Placers,
}

/// A server in a runtime of its own, so that it can be killed.
pub(crate) struct Serving {
    pub(crate) runtime: Runtime,
    pub(crate) stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<ServeEnd>,
}

impl Serving {
    pub(crate) async fn stop(mut self) -> ServeEnd {
        // It listens no longer when it has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.wait().await
    }

    pub(crate) async fn wait(self) -> ServeEnd {
        let end = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.runtime.shutdown_background();
        end
    }

    /// As a kill does: nothing is written down, nobody is told.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

pub(crate) struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, cluster: Arc::default(), ledger: Arc::default(), placers: Placers::none() }
    }

    /// The cluster is Slurm; no plugin is there.
    fn schedulers(&self) -> Schedulers {
        let slurm: Arc<dyn Scheduler> = self.cluster.clone();
        let built_in = BTreeMap::from([("slurm".to_owned(), slurm)]);
        Schedulers::new(built_in, Arc::new(|kind| Err(format!("there is no plugin `{kind}`"))))
    }

    pub(crate) fn state_dir(&self) -> StateDir {
        StateDir::at(self.dir.path()).unwrap()
    }

    pub(crate) async fn serve(&self) -> Serving {
        self.serve_for(None).await
    }

    pub(crate) async fn serve_for(&self, idle_exit: Option<Duration>) -> Serving {
        let limits = Limits {
            submit_pause: Duration::ZERO,
            shortest_interval: Duration::from_millis(20),
            longest_interval: Duration::from_millis(20),
            ..Limits::default()
        };
        let accounts =
            Accounts { source: self.ledger.clone(), interval: Duration::from_millis(20) };
        let options = ServeOptions {
            dir: self.state_dir(),
            schedulers: Arc::new(self.schedulers()),
            accounts: Some(accounts),
            placers: self.placers.clone(),
            limits,
            program: PathBuf::from("/bin/torc"),
            port: 0,
            idle_exit,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = tokio::time::timeout(PATIENCE, runtime.spawn(Server::start(options))).await;
        let server = server.expect("it starts in time").unwrap();
        let server = server.expect("the server starts");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = runtime.spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            server.serve(stop).await.expect("the server ends cleanly")
        });
        Serving { runtime, stop: Some(stop), task }
    }

    pub(crate) async fn submit(&self, spec: &str) -> Result<WorkflowId, AccessError> {
        let context = Context { user: None, sources: &NoSources };
        let workflow = load(spec.as_bytes(), None, &context).expect("the spec is valid").workflow;
        let request = SubmitRequest {
            workflow,
            submission_dir: "/".to_owned(),
            spec_path: None,
            env: vec![
                ("PATH".into(), std::env::var("PATH").unwrap().into()),
                ("MINE".into(), "yes".into()),
            ],
            umask: 0o022,
        };
        Ok(Access::submit(&self.state_dir(), &request).await?.workflow)
    }

    pub(crate) async fn report(&self) -> WorkflowReport {
        Access::open(&self.state_dir()).await.unwrap().workflow(None).await.unwrap()
    }

    pub(crate) async fn stages(&self) -> Vec<AllocationStage> {
        let access = Access::open(&self.state_dir()).await.unwrap();
        let allocations = access.allocations(None).await.unwrap();
        allocations.iter().map(|allocation| allocation.stage).collect()
    }

    /// Waits until the run has come to its end.
    pub(crate) async fn ended(&self) -> WorkflowReport {
        until(async || {
            let report = self.report().await;
            matches!(report.state, RunState::Ended | RunState::Incomplete).then_some(report)
        })
        .await
    }

    /// Changes the database while nobody owns it.
    pub(crate) async fn change_database(&self, change: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.state_dir().database());
        let mut connection = options.connect().await.unwrap();
        sqlx::query(change).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) async fn requested(&self, count: usize) {
        until(async || (self.cluster.requests() >= count).then_some(())).await;
    }

    pub(crate) fn worker(&self, allocation: u32) -> Worker {
        Worker::start(self.dir.path(), allocation, &allocation.to_string())
    }
}

/// A workflow of these jobs whose action asks for so many allocations of one node.
pub(crate) fn spec(jobs: &str, allocations: u32) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: a, walltime: '01:00:00'}}]
resource_requirements: [{{name: one, num_cpus: 1, memory: 1m, runtime: PT1M}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu,
    num_allocations: {allocations}}}
compute_node_wait_for_new_jobs_seconds: 0
jobs: {jobs}"
    )
}

pub(crate) const TEN: &str =
    "[{name: 'j{i}', command: quick, resource_requirements: one, parameters: {i: '1:10'}}]";
pub(crate) const TWO_HELD: &str =
    "[{name: 'h{i}', command: hold, resource_requirements: one, parameters: {i: '1:2'}}]";

pub(crate) fn count(report: &WorkflowReport, status: JobStatus) -> u32 {
    report.counts.get(&status).copied().unwrap_or(0)
}

/// Nothing can be written as long as this server is there.
pub(crate) const THE_SECOND_CANNOT_WRITE: &str = "CREATE TRIGGER broken BEFORE INSERT ON log
    WHEN (SELECT generation FROM owner) = 2
    BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";
