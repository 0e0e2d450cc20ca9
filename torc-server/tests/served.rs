//! A server with real connections and a real database, between a scheduler that grants at once and
//! workers whose steps are pretended.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper::HeaderMap;
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
use torc_core::wire::link::{Hello, ToServer, ToWorker};
use torc_core::wire::{AllocationStage, PROTOCOL, RunState, SubmitRequest, WorkflowReport};
use torc_server::access::{Access, AccessError};
use torc_server::accountant::{Accounting, Accounts, Question};
use torc_server::clock::now;
use torc_server::link::channel::{Channel, Ended, Settings};
use torc_server::link::client::Client;
use torc_server::serve::{ServeEnd, ServeOptions, Server};
use torc_server::state_dir::{Owner, StateDir};
use torc_server::worker::{WorkerEnd, WorkerParts, work};

/// How long a test waits for any one thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scheduler that grants at once, and what it was asked for.
#[derive(Default)]
struct Cluster {
    asked: Mutex<Vec<(String, AllocationRequest)>>,
    ended: Mutex<BTreeMap<AllocationHandle, AllocationEnd>>,
    /// Requests that are refused before others are taken.
    refusals: Mutex<u32>,
    /// It takes requests, and its answers do not arrive.
    is_unheard: AtomicBool,
    /// It says what nodes it has while nobody holds this, and was asked so often.
    shapes: (tokio::sync::Mutex<()>, AtomicUsize),
    changed: tokio::sync::Notify,
}

impl Cluster {
    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Whether an answer about a request arrives.
    fn answer(&self) -> Result<(), SchedulerError> {
        if self.is_unheard.load(Ordering::Relaxed) {
            return Err(SchedulerError::Unavailable("no answer".to_owned()));
        }
        Ok(())
    }

    /// Ends an allocation.
    fn end(&self, handle: &str, cause: AllocationEnd) {
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
        self.end(&allocation.0, AllocationEnd::Cancelled);
        Ok(())
    }
}

/// An accounting that does not answer until it is open, and then knows all that it is asked.
#[derive(Default)]
struct Ledger {
    is_open: AtomicBool,
    asked: Mutex<Vec<Question>>,
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
struct Steps {
    reports: mpsc::UnboundedSender<StepEvent>,
    held: Mutex<BTreeSet<StepId>>,
    launched: Mutex<Vec<StepId>>,
}

impl Steps {
    fn end(&self, step: StepId, outcome: Outcome) {
        self.held.lock().unwrap().remove(&step);
        let usage = Usage { cpu_ms: 1, peak_memory: None };
        let _ = self.reports.send(StepEvent::Ended { step, at: now(), outcome, usage });
    }

    /// The only node of the allocation is in this state from now on.
    fn change_node(&self, allocation: u32, state: NodeState) {
        let node = format!("n{allocation}").into();
        let (allocation, reason) = (AllocationId(allocation), String::new());
        let changed = StepEvent::NodeChanged { allocation, node, at: now(), state, reason };
        let _ = self.reports.send(changed);
    }

    fn cancel_all(&self) {
        let held: Vec<StepId> = self.held.lock().unwrap().iter().copied().collect();
        held.into_iter().for_each(|step| self.end(step, Outcome::Cancelled));
    }

    fn let_go(&self) {
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
struct Worker {
    steps: Arc<Steps>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<WorkerEnd, String>>,
}

impl Worker {
    fn start(dir: &Path, allocation: u32, handle: &str) -> Self {
        Self::start_for(PATIENCE, dir, allocation, handle)
    }

    /// One that goes on for so long without a server while nothing runs.
    fn start_for(patience: Duration, dir: &Path, allocation: u32, handle: &str) -> Self {
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
            memory: 1 << 30,
            gpus: [].into(),
        };
        let parts = WorkerParts {
            dir: StateDir::at(dir).unwrap(),
            workflow: WorkflowId(1),
            allocation: AllocationId(allocation),
            handle: AllocationHandle(handle.to_owned()),
            nodes: vec![node],
            ends_at: None,
            executor: steps.clone(),
            reports,
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
    async fn launched(&self, count: usize) -> Vec<StepId> {
        until(async || {
            let launched = self.steps.launched.lock().unwrap().clone();
            (launched.len() >= count).then_some(launched)
        })
        .await
    }

    async fn end(self) -> WorkerEnd {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap()
    }
}

/// Asks again until there is an answer.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
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
struct Place {
    dir: tempfile::TempDir,
    cluster: Arc<Cluster>,
    ledger: Arc<Ledger>,
}

/// A server in a runtime of its own, so that it can be killed.
struct Serving {
    runtime: Runtime,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: JoinHandle<ServeEnd>,
}

impl Serving {
    async fn stop(mut self) -> ServeEnd {
        // It listens no longer when it has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.wait().await
    }

    async fn wait(self) -> ServeEnd {
        let end = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.runtime.shutdown_background();
        end
    }

    /// As a kill does: nothing is written down, nobody is told.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, cluster: Arc::default(), ledger: Arc::default() }
    }

    fn state_dir(&self) -> StateDir {
        StateDir::at(self.dir.path()).unwrap()
    }

    async fn serve(&self) -> Serving {
        self.serve_for(None).await
    }

    async fn serve_for(&self, idle_exit: Option<Duration>) -> Serving {
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
            scheduler: self.cluster.clone(),
            accounts: Some(accounts),
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

    async fn submit(&self, spec: &str) -> Result<WorkflowId, AccessError> {
        let context = Context { user: None, sources: &NoSources };
        let workflow = load(spec.as_bytes(), None, &context).expect("the spec is valid").workflow;
        let request = SubmitRequest {
            workflow,
            submission_dir: "/".to_owned(),
            spec_path: None,
            env: vec![
                ("PATH".to_owned(), std::env::var("PATH").unwrap()),
                ("MINE".to_owned(), "yes".to_owned()),
            ],
            umask: 0o022,
        };
        Ok(Access::submit(&self.state_dir(), &request).await?.workflow)
    }

    async fn report(&self) -> WorkflowReport {
        Access::open(&self.state_dir()).await.unwrap().workflow(None).await.unwrap()
    }

    async fn stages(&self) -> Vec<AllocationStage> {
        let access = Access::open(&self.state_dir()).await.unwrap();
        let allocations = access.allocations(None).await.unwrap();
        allocations.iter().map(|allocation| allocation.stage).collect()
    }

    /// Waits until the run has come to its end.
    async fn ended(&self) -> WorkflowReport {
        until(async || {
            let report = self.report().await;
            matches!(report.state, RunState::Ended | RunState::Incomplete).then_some(report)
        })
        .await
    }

    /// Changes the database while nobody owns it.
    async fn change_database(&self, change: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.state_dir().database());
        let mut connection = options.connect().await.unwrap();
        sqlx::query(change).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn requested(&self, count: usize) {
        until(async || (self.cluster.requests() >= count).then_some(())).await;
    }

    fn worker(&self, allocation: u32) -> Worker {
        Worker::start(self.dir.path(), allocation, &allocation.to_string())
    }
}

/// A workflow of these jobs whose action asks for so many allocations of one node.
fn spec(jobs: &str, allocations: u32) -> String {
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

const TEN: &str =
    "[{name: 'j{i}', command: quick, resource_requirements: one, parameters: {i: '1:10'}}]";
const TWO_HELD: &str =
    "[{name: 'h{i}', command: hold, resource_requirements: one, parameters: {i: '1:2'}}]";

fn count(report: &WorkflowReport, status: JobStatus) -> u32 {
    report.counts.get(&status).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_workflow_runs_from_submission_to_its_end() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TEN, 1)).await.unwrap();
    place.requested(1).await;
    let (_, request) = place.cluster.asked.lock().unwrap()[0].clone();
    assert_eq!(request.command[..2], ["/bin/torc", "worker"]);
    assert!(request.env.contains(&("MINE".to_owned(), "yes".to_owned())));
    let worker = place.worker(1);
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 10);
    assert!(matches!(worker.end().await, WorkerEnd::Left(_)));
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (place.stages().await == [AllocationStage::Ended]).then_some(())).await;
    assert_eq!(serving.stop().await, ServeEnd::Stopped);
}

#[tokio::test]
async fn a_killed_server_takes_its_worker_back_and_nothing_runs_twice() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    serving.kill();
    // One ends while nobody is there.
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    let serving = place.serve().await;
    until(async || {
        let report = place.report().await;
        (count(&report, JobStatus::Completed) == 1 && count(&report, JobStatus::Running) == 1)
            .then_some(())
    })
    .await;
    worker.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    assert_eq!(worker.steps.launched.lock().unwrap().len(), 2, "nothing ran twice");
    assert_eq!(place.cluster.requests(), 1, "nothing was asked for twice");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn what_both_had_known_is_in_the_journal() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 2)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    serving.kill();
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    let journal = place.dir.path().join("journal/wf1_al1.jsonl");
    until(async || std::fs::read(&journal).is_ok_and(|text| !text.is_empty()).then_some(())).await;
    worker.task.abort();
    place.cluster.end("1", AllocationEnd::NodeFailed);
    let serving = place.serve().await;
    // The other one goes to the other allocation, and no retry is spent.
    place.requested(2).await;
    let second = place.worker(2);
    let again = second.launched(1).await;
    assert_eq!((again[0].job, again[0].attempt.0), (launched[1].job, 2));
    second.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    // The accounting may tell more of the one that was lost.
    let is_asked = |step: StepId| {
        let asked = place.ledger.asked.lock().unwrap();
        asked.iter().any(|question| question.steps.values().any(|steps| steps.contains(&step)))
    };
    until(async || is_asked(launched[1]).then_some(())).await;
    second.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_cleanly_leaves_what_runs_alone() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    let stored = place.report().await;
    assert_eq!(stored.state, RunState::Interrupted);
    let serving = place.serve().await;
    until(async || (place.stages().await == [AllocationStage::Active]).then_some(())).await;
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_gone_is_unreachable_until_the_scheduler_says_it_ended() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.task.abort();
    until(async || (place.stages().await == [AllocationStage::Unreachable]).then_some(())).await;
    let report = place.report().await;
    assert_eq!(count(&report, JobStatus::Running), 2, "unreachable is not lost");
    place.cluster.end("1", AllocationEnd::Failed);
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(count(&report, JobStatus::Ready), 2, "the jobs are back in the queue");
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_whose_allocation_is_called_ended_is_told_so() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    place.cluster.end("1", AllocationEnd::Failed);
    let told = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap().unwrap_err();
    assert!(told.contains("allocation 1 is over: so it was"), "{told}");
    assert_eq!(count(&place.ended().await, JobStatus::Ready), 2, "they can run elsewhere");
    serving.stop().await;
}

#[tokio::test]
async fn an_allocation_that_only_its_worker_tells_of_is_followed_to_its_end() {
    let place = Place::new();
    place.cluster.is_unheard.store(true, Ordering::Relaxed);
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.task.abort();
    place.cluster.end("1", AllocationEnd::NodeFailed);
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Ready), 2, "the jobs are back in the queue");
    assert_eq!(place.stages().await, [AllocationStage::Ended]);
    serving.stop().await;
}

#[tokio::test]
async fn allocations_that_are_of_no_use_are_not_asked_for() {
    let place = Place::new();
    let serving = place.serve().await;
    let jobs = "[{name: a, command: hold, resource_requirements: one}]";
    place.submit(&spec(jobs, 3)).await.unwrap();
    place.requested(3).await;
    let worker = place.worker(2);
    worker.launched(1).await;
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.cluster.end("2", AllocationEnd::Completed);
    until(async || {
        place.stages().await.iter().all(|stage| *stage == AllocationStage::Ended).then_some(())
    })
    .await;
    let ended = place.cluster.ended.lock().unwrap().clone();
    assert_eq!(ended.values().filter(|cause| **cause == AllocationEnd::Cancelled).count(), 2);
    serving.stop().await;
}

#[tokio::test]
async fn a_wish_that_nothing_can_come_of_keeps_no_run_alive() {
    let place = Place::new();
    let serving = place.serve().await;
    let two_stages = "name: w
slurm_schedulers: [{name: first, account: a}, {name: second, account: a}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: second}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}
jobs:
- {name: a, command: quick, scheduler: first}
- {name: b, command: quick, scheduler: second, depends_on: [a]}";
    place.submit(two_stages).await.unwrap();
    place.requested(1).await;
    place.cluster.end("1", AllocationEnd::Cancelled);
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(count(&report, JobStatus::Ready), 1);
    until(async || (place.stages().await == [AllocationStage::Ended; 2]).then_some(())).await;
    assert_eq!(place.cluster.requests(), 1);
    serving.stop().await;
}

#[tokio::test]
async fn a_scheduler_that_refuses_is_given_up_and_the_run_ends() {
    let place = Place::new();
    *place.cluster.refusals.lock().unwrap() = 99;
    let serving = place.serve().await;
    place.submit(&spec(TEN, 9)).await.unwrap();
    let report = place.ended().await;
    assert_eq!(report.state, RunState::Incomplete);
    assert_eq!(
        *place.cluster.refusals.lock().unwrap(),
        96,
        "after three refusals none is asked for"
    );
    let access = Access::open(&place.state_dir()).await.unwrap();
    let allocations = access.allocations(None).await.unwrap();
    assert!(allocations[0].reason.contains("no such account"), "{}", allocations[0].reason);
    assert!(allocations[8].reason.contains("came to nothing"), "{}", allocations[8].reason);
    serving.stop().await;
}

#[tokio::test]
async fn what_can_never_run_is_refused_with_numbers_and_nothing_is_stored() {
    let place = Place::new();
    let serving = place.serve().await;
    let wide = spec("[{name: a, command: x, resource_requirements: big}]", 1)
        .replace("resource_requirements: [", "resource_requirements: [{name: big, num_cpus: 3}, ");
    let refused = place.submit(&wide).await.unwrap_err();
    let AccessError::NeverRuns(words) = &refused else { panic!("{refused}") };
    assert!(words.contains("needs 3 CPUs per node; the largest node has 2"), "{words}");
    let no_nodes = "name: w\njobs: [{name: a, command: x}]";
    let refused = place.submit(no_nodes).await.unwrap_err().to_string();
    assert!(refused.contains("no action of this workflow asks for nodes"), "{refused}");
    assert!(Access::open(&place.state_dir()).await.unwrap().workflow(None).await.is_err());
    serving.stop().await;
}

#[tokio::test]
async fn a_strange_worker_is_refused() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    let other_handle = Worker::start(place.dir.path(), 1, "99");
    let refused = other_handle.task.await.unwrap().unwrap_err();
    assert!(refused.contains("allocation 1 is 1, not 99"), "{refused}");
    let no_such = place.worker(7).task.await.unwrap().unwrap_err();
    assert!(no_such.contains("allocation 7 is over"), "{no_such}");
    assert_eq!(place.stages().await, [AllocationStage::Active]);
    worker.stop.send(true).unwrap();
    assert_eq!(worker.end().await, WorkerEnd::Stopped);
    serving.stop().await;
}

/// The first report of an end cannot be written, nor anything else before the run has been resumed.
const WRITES_FAIL_ONCE: &str = "CREATE TRIGGER broken BEFORE INSERT ON log
    WHEN NEW.events LIKE '%_e_:_x_%' AND NOT EXISTS
        (SELECT 1 FROM log WHERE events LIKE '%run_resumed%')
    BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";

#[tokio::test]
async fn a_write_that_fails_costs_no_step() {
    let place = Place::new();
    place.serve().await.stop().await;
    place.change_database(WRITES_FAIL_ONCE).await;
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    let launched = worker.launched(2).await;
    worker.steps.end(launched[0], Outcome::Exited { code: 0 });
    until(async || {
        let report = place.report().await;
        (count(&report, JobStatus::Completed) == 1 && count(&report, JobStatus::Running) == 1)
            .then_some(())
    })
    .await;
    worker.steps.let_go();
    let report = place.ended().await;
    assert_eq!(count(&report, JobStatus::Completed), 2);
    assert_eq!(worker.steps.launched.lock().unwrap().len(), 2, "nothing ran twice");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

/// Nothing can be written as long as this server is there.
const THE_SECOND_CANNOT_WRITE: &str = "CREATE TRIGGER broken BEFORE INSERT ON log
    WHEN (SELECT generation FROM owner) = 2
    BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";

#[tokio::test]
async fn a_server_that_cannot_go_on_sends_no_worker_away() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    place.change_database(THE_SECOND_CANNOT_WRITE).await;
    let serving = place.serve().await;
    let late = worker.steps.clone();
    let stranger = place.worker(7);
    let refused = stranger.task.await.unwrap().unwrap_err();
    assert!(refused.contains("allocation 7 is over"), "{refused}");
    let restarted = Access::restart_live(&place.state_dir(), None).await.unwrap_err();
    assert!(restarted.to_string().contains("could not be recorded"), "{restarted}");
    assert!(!worker.task.is_finished());
    serving.stop().await;
    let serving = place.serve().await;
    until(async || (place.stages().await == [AllocationStage::Active]).then_some(())).await;
    late.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_submission_is_taken_in_though_nobody_waits_for_it_any_more() {
    let place = Place::new();
    let serving = place.serve().await;
    let late = place.cluster.shapes.0.lock().await;
    let text = spec(TEN, 1);
    let waits_in_vain = async {
        until(async || (place.cluster.shapes.1.load(Ordering::Relaxed) > 0).then_some(())).await;
    };
    tokio::select! {
        submitted = place.submit(&text) => panic!("{submitted:?}"),
        () = waits_in_vain => {}
    }
    drop(late);
    place.requested(1).await;
    let worker = place.worker(1);
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 10);
    assert_eq!(place.cluster.shapes.1.load(Ordering::Relaxed), 1, "it is asked once");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn what_was_stored_and_not_begun_begins_with_the_next_server() {
    let place = Place::new();
    place.serve().await.stop().await;
    place.change_database(THE_SECOND_CANNOT_WRITE).await;
    let serving = place.serve().await;
    let not_begun = place.submit(&spec(TEN, 1)).await.unwrap_err();
    assert!(not_begun.to_string().contains("workflow 1 was taken"), "{not_begun}");
    serving.kill();
    let serving = place.serve().await;
    place.requested(1).await;
    let worker = place.worker(1);
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 10);
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_restart_that_waits_for_allocations_holds_nobody_up() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    for step in worker.launched(2).await {
        worker.steps.end(step, Outcome::Exited { code: 1 });
    }
    place.ended().await;
    worker.end().await;
    let dir = place.state_dir();
    let text = spec(TEN, 1);
    let mut restarted = std::pin::pin!(Access::restart_live(&dir, Some(WorkflowId(1))));
    tokio::select! {
        early = &mut restarted => panic!("its allocation has not ended: {early:?}"),
        second = place.submit(&text) => assert_eq!(second.unwrap(), WorkflowId(2)),
    }
    place.cluster.end("1", AllocationEnd::Completed);
    let report = restarted.await.unwrap().unwrap();
    assert_eq!((report.put_back, report.is_new_run), (2, true));
    serving.stop().await;
}

#[tokio::test]
async fn a_scheduler_that_hangs_holds_up_no_server() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 2)).await.unwrap();
    place.requested(2).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    serving.stop().await;
    let late = place.cluster.shapes.0.lock().await;
    let serving = place.serve().await;
    worker.steps.let_go();
    assert_eq!(count(&place.ended().await, JobStatus::Completed), 2);
    worker.end().await;
    drop(late);
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn figures_come_after_the_end_and_over_a_restart_of_the_server() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&spec(TEN, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    place.ended().await;
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    until(async || (!place.ledger.asked.lock().unwrap().is_empty()).then_some(())).await;
    serving.kill();
    place.ledger.asked.lock().unwrap().clear();
    place.ledger.is_open.store(true, Ordering::Relaxed);
    let serving = place.serve().await;
    let attempts = until(async || {
        let access = Access::open(&place.state_dir()).await.unwrap();
        let attempts = access.attempts(None).await.unwrap();
        attempts.iter().all(|attempt| attempt.scheduler_state.is_some()).then_some(attempts)
    })
    .await;
    assert_eq!(attempts.len(), 10);
    for attempt in attempts {
        assert_eq!(attempt.scheduler_state.as_deref(), Some("COMPLETED"));
        assert_eq!((attempt.cpu_ms, attempt.peak_memory), (Some(70), Some(9)));
    }
    let asked = place.ledger.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "one question for all");
    assert_eq!(asked[0].steps[&AllocationHandle("1".to_owned())].len(), 10);
    serving.stop().await;
}

#[tokio::test]
async fn a_stale_server_does_not_end_a_worker_that_has_served_a_newer_one() {
    let place = Place::new();
    let serving = place.serve().await;
    let owner = Owner::find(place.dir.path()).unwrap().unwrap();
    let client = Client::connect(&owner.remote.unwrap()).await.unwrap();
    let settings = Settings::default();
    let socket = client.websocket("/v1/worker", HeaderMap::new(), &settings).await.unwrap();
    let mut channel: Channel<ToWorker, ToServer> = Channel::over(socket, settings);
    let hello = Hello {
        protocol: PROTOCOL,
        version: String::new(),
        host: String::new(),
        workflow: WorkflowId(1),
        allocation: AllocationId(1),
        handle: AllocationHandle("1".to_owned()),
        generation: 99,
        nodes: Vec::new(),
        node_states: Vec::new(),
        ends_at: None,
        running: Vec::new(),
        ended: Vec::new(),
    };
    channel.sender.send(&ToServer::Hello(Box::new(hello))).unwrap();
    let Err(Ended::Closed { reason }) = channel.receiver.next().await else {
        panic!("it is neither taken in nor refused");
    };
    assert_eq!(reason, "the worker has served generation 99, this server is only 1");
    serving.stop().await;
}

#[tokio::test]
async fn an_idle_server_ends_by_itself() {
    let place = Place::new();
    let serving = place.serve_for(Some(Duration::from_millis(50))).await;
    assert_eq!(serving.wait().await, ServeEnd::Idle);
    assert!(!place.dir.path().join("server.json").exists());
}

#[tokio::test]
async fn commands_of_actions_run_with_the_submitters_environment() {
    let place = Place::new();
    let serving = place.serve().await;
    let with_commands = spec(TEN, 1).replace(
        "compute_node",
        "- {trigger_type: on_workflow_start, action_type: run_commands,
   commands: ['echo $MINE $TORC_WORKFLOW_ID > said', 'exit 7', 'echo never > said']}
- {trigger_type: on_workflow_complete, action_type: run_commands, commands: ['echo done >> said']}
- {trigger_type: on_worker_start, action_type: run_commands, commands: ['echo worker > worked']}
- {trigger_type: on_worker_complete, action_type: run_commands, persistent: true,
   commands: ['sleep 0.2', 'echo left >> worked']}
compute_node",
    );
    place.submit(&with_commands).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    place.ended().await;
    let read = |name: &str| std::fs::read_to_string(place.dir.path().join(name)).unwrap();
    assert_eq!(read("said"), "yes 1\ndone\n");
    assert_eq!(read("worked"), "worker\nleft\n");
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

/// A workflow whose worker first runs a command that waits for the file `go`, and then another.
fn with_slow_command() -> String {
    spec("[{name: a, command: hold, resource_requirements: one}]", 1).replace(
        "compute_node",
        "- {trigger_type: on_worker_start, action_type: run_commands,
   commands: ['echo began >> said; until test -e go; do sleep 0.01; done; echo ended >> said',
              'echo next >> said']}
compute_node",
    )
}

impl Place {
    async fn said(&self, words: &str) {
        let file = self.dir.path().join("said");
        until(async || {
            std::fs::read_to_string(&file).is_ok_and(|said| said == words).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_command_that_ends_while_nobody_is_there_does_not_run_again() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&with_slow_command()).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(1).await;
    place.said("began\n").await;
    serving.kill();
    std::fs::write(place.dir.path().join("go"), "").unwrap();
    place.said("began\nended\n").await;
    let serving = place.serve().await;
    place.said("began\nended\nnext\n").await;
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.said("began\nended\nnext\n").await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}

#[tokio::test]
async fn a_worker_whose_last_command_ends_while_nobody_is_there_gives_up() {
    let place = Place::new();
    let serving = place.serve().await;
    place.submit(&with_slow_command()).await.unwrap();
    place.requested(1).await;
    let worker = Worker::start_for(Duration::ZERO, place.dir.path(), 1, "1");
    worker.launched(1).await;
    place.said("began\n").await;
    serving.kill();
    worker.steps.let_go();
    std::fs::write(place.dir.path().join("go"), "").unwrap();
    let ended = tokio::time::timeout(PATIENCE, worker.task).await.unwrap().unwrap();
    let error = ended.unwrap_err();
    assert!(error.contains("no server could be reached"), "{error}");
}

#[tokio::test]
async fn nodes_are_what_they_became_while_nobody_was_there() {
    let place = Place::new();
    let mut serving = place.serve().await;
    place.submit(&spec(TWO_HELD, 1)).await.unwrap();
    place.requested(1).await;
    let worker = place.worker(1);
    worker.launched(2).await;
    worker.steps.change_node(1, NodeState::Down);
    let is = async |state| {
        until(async || {
            let access = Access::open(&place.state_dir()).await.unwrap();
            let first = access.allocations(None).await.unwrap().remove(0);
            let is_so = first.stage == AllocationStage::Active && first.nodes[0].state == state;
            is_so.then_some(())
        })
        .await;
    };
    is(NodeState::Down).await;
    for state in [NodeState::Up, NodeState::Draining, NodeState::Up] {
        serving.kill();
        worker.steps.change_node(1, state);
        serving = place.serve().await;
        is(state).await;
    }
    worker.steps.let_go();
    place.ended().await;
    worker.end().await;
    place.cluster.end("1", AllocationEnd::Completed);
    serving.stop().await;
}
