//! A driver whose commits are answered by the test: what happens between a decision and its durability.

use torc_core::governor::Limits;
use torc_core::spec::{Context, Sources, load};
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Scheduler, SchedulerError, Shapes,
};
use torc_core::wire::PROTOCOL;
use torc_core::wire::link::Hello;

use super::*;
use crate::admission::offers;
use crate::allocator::Allocator;
use crate::handle::{Handle, KnownShapes, WorkerInput};
use crate::link::channel::Sender;
use crate::schedulers::tests::only;
use crate::store::Submitter;
use crate::stored::placer_for;
use crate::workers::Workers;

const SPEC: &str = "name: w
slurm_schedulers: [{name: cpu, account: a}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
jobs: [{name: a, command: x}]";

/// The allocation that it asks for.
const FIRST: AllocationId = AllocationId(1);

/// A scheduler that nobody hears.
pub(crate) struct Silent;

#[async_trait::async_trait]
impl Scheduler for Silent {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        Ok(Shapes::Unknown)
    }

    async fn submit(
        &self,
        _: &AllocationRequest,
        _: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        std::future::pending().await
    }

    async fn find(&self, _: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        std::future::pending().await
    }

    async fn observe(
        &self,
        _: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        std::future::pending().await
    }

    async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
        std::future::pending().await
    }
}

/// No tables beside the spec.
pub(crate) struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

/// A driver whose run begins, with the workers that it knows and the way into it.
fn driver(
    answer: impl FnMut() -> Result<(), StoreError> + Send + 'static,
) -> (Driver, Arc<Workers>, Handle) {
    let context = Context { user: None, sources: &NoSources };
    let workflow = Arc::new(load(SPEC.as_bytes(), None, &context).expect("is valid").workflow);
    let placer = placer_for(&workflow);
    let mut engine = Engine::new(WorkflowId(1), workflow, placer);
    let begins = engine.next_run(now(), engine.unfinished_jobs());
    engine.apply(&begins).expect("a run begins");
    let workers = Arc::new(Workers::default());
    let (handle, outbox) = Handle::of_driver();
    let submitter = Submitter { env: Vec::new(), umask: 0o022 };
    let children = Children::of_server(&submitter, handle.clone(), Duration::ZERO);
    let surroundings = Surroundings {
        workers: workers.clone(),
        allocator: Allocator::spawn(only("slurm", Arc::new(Silent)), Limits::default(), "/".into()),
        accountant: None,
        handle: handle.clone(),
        submitter,
        program: "torc".to_owned(),
        generation: 1,
        store_key: "key".into(),
    };
    let offers = offers(&engine.workflow().header, &KnownShapes::new());
    let served = Served::new(surroundings, Some(offers));
    let driver = Driver::new(DriverParts {
        engine,
        pending: vec![begins],
        next_sequence: 0,
        store: StoreTask::pretended(answer),
        executor: workers.clone(),
        context: LaunchContext { output_dir: "/".into(), submission_dir: "/".into() },
        inbox: outbox,
        handle: handle.clone(),
        notices: mpsc::unbounded_channel().0,
        max_parallel_jobs: usize::MAX,
        served: Some(served),
        release: None,
        on_node: None,
        children,
        begun: None,
        announcement: None,
    });
    (driver, workers, handle)
}

impl Driver {
    fn takes(&mut self, inputs: impl IntoIterator<Item = WorkerInput>) {
        let mut inputs = inputs.into_iter().map(Input::Worker).collect();
        self.decide(&mut inputs, now());
        self.begin_commit();
    }

    /// Waits until all that is known is durable, and done.
    async fn commits(&mut self) {
        while let Some(CommitState::Writing(done)) =
            self.commit.as_mut().map(|commit| &mut commit.state)
        {
            let (commit, result) = done.await.expect("the store answers");
            self.end_commit(commit, result).await.expect("it is written");
            self.begin_commit();
        }
    }

    fn is_reachable(&self) -> bool {
        self.engine.allocation_book(FIRST).is_some_and(|book| book.is_reachable)
    }
}

/// A worker joins over a connection of this number.
fn joins(connection: u64) -> WorkerInput {
    let hello = Hello {
        protocol: PROTOCOL,
        version: String::new(),
        host: "n1".to_owned(),
        workflow: WorkflowId(1),
        allocation: FIRST,
        handle: AllocationHandle("7".to_owned()),
        generation: 1,
        nodes: Vec::new(),
        node_states: Vec::new(),
        began_at: None,
        ends_at: None,
        running: Vec::new(),
        ended: Vec::new(),
    };
    let link = WorkerLink { id: connection, sender: Sender::pretended() };
    WorkerInput::Joined(Box::new(hello), link)
}

fn leaves(connection: u64) -> WorkerInput {
    WorkerInput::Left(FIRST, connection)
}

#[tokio::test]
async fn only_the_newest_connection_of_a_worker_says_that_it_is_gone() {
    let (mut driver, workers, _) = driver(|| Ok(()));
    let connection = || workers.get(FIRST).map(|link| link.id);
    driver.takes([]);
    driver.takes([joins(1)]);
    driver.commits().await;
    assert_eq!((driver.is_reachable(), connection()), (true, Some(1)));
    // The end of the old connection is noticed before the new one is durable.
    driver.takes([joins(2)]);
    driver.takes([leaves(1)]);
    driver.commits().await;
    assert_eq!((driver.is_reachable(), connection()), (true, Some(2)));
    // One that ends before it was durable is nobody's.
    driver.takes([joins(3)]);
    driver.takes([leaves(3)]);
    driver.commits().await;
    assert!(!driver.is_reachable());
    assert_ne!(connection(), Some(3));
    driver.takes([leaves(2), joins(4)]);
    driver.commits().await;
    assert_eq!((driver.is_reachable(), connection()), (true, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_keep_a_server_from_ending() {
    let (driver, _, handle) = driver(|| Err(StoreError::Full("/".into())));
    let driven = tokio::spawn(driver.drive());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!driven.is_finished(), "it waits for space");
    handle.detach();
    let ended = tokio::time::timeout(Duration::from_secs(60), driven).await;
    let ended = ended.expect("it ends").expect("it does not panic");
    assert!(matches!(ended, Err(DriveError::GaveUp(StoreError::Full(_)))));
}
