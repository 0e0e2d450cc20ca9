//! How a workflow gets a driver: when it is submitted, when a server begins, when it is restarted, and
//! again after its driver could not go on.
//!
//! A workflow that is under way, or whose allocations have not ended, has a driver or will have one: while
//! the server is there, nothing but the end of a run takes it away for good.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::Instant;
use torc_core::engine::{Engine, Event, LaunchContext, Misconduct, Phase};
use torc_core::ids::WorkflowId;
use torc_core::workflow::Workflow;

use super::admission;
use super::runs::{Driven, Runs};
use crate::admission::offers;
use crate::children::Children;
use crate::clock::now;
use crate::driver::{DriveError, Driver, DriverParts, Served, Surroundings};
use crate::handle::{Handle, Input, KnownShapes, RequestError};
use crate::restarting::Restart;
use crate::store::StoreError;
use crate::stored::StoredView;
use crate::workers::Workers;

/// Resolves once a run's beginning is durable; with an error if that fails.
pub(super) type Begun = oneshot::Receiver<()>;

/// The first pause before a workflow whose driver could not go on gets another; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A driver that lasted longer begins with the first pause again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Runs {
    /// Takes up what an earlier server left.
    ///
    /// # Errors
    /// When the store cannot be read. One workflow that makes no sense does not hold up the others.
    pub(crate) async fn resume_all(self: &Arc<Self>) -> Result<(), StoreError> {
        for id in self.store.submitted().await.unwrap_or_else(|| Ok(Vec::new()))? {
            if let Err(unresumed) = self.resume_stored(id).await {
                self.rest(id, 0, unresumed);
            }
        }
        Ok(())
    }

    /// Gives a workflow a driver if it is to have one.
    async fn resume_stored(self: &Arc<Self>, id: WorkflowId) -> Result<(), Unresumed> {
        let stored = self.store.load(Some(id)).await.ok_or(Unresumed::NoStore)??;
        self.resume(stored).map_err(Unresumed::Senseless)
    }

    /// The same once it is loaded.
    pub(super) fn resume(self: &Arc<Self>, stored: StoredView) -> Result<(), RequestError> {
        self.ask_again(&stored.engine);
        let engine = &stored.engine;
        if !needs_driver(&stored) {
            self.driven().remove(&engine.id());
            self.changed.notify_waiters();
            return Ok(());
        }
        if engine.phase() == Phase::New {
            // Its server was gone before its run had begun.
            return self.begin_run(stored, None).map(|_| ());
        }
        let at = now();
        let mut events = Vec::new();
        if is_under_way(engine) {
            events.push(Event::RunResumed { at });
        }
        let live = engine.live_allocations().map(|allocation| allocation.id);
        events.extend(live.map(|allocation| Event::AllocationReachable {
            at,
            allocation,
            reachable: false,
        }));
        self.drive(stored, events, None).map(|_| ())
    }

    /// A workflow is without a driver that is to have one. It gets another after a pause.
    fn rest(self: &Arc<Self>, id: WorkflowId, failures: u32, why: Unresumed) {
        if self.is_ending() || !why.may_pass() {
            tracing::error!(workflow = %id, %why, "cannot be gone on with");
            self.driven().remove(&id);
            self.changed.notify_waiters();
            return;
        }
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(failures.min(16))).min(LONGEST_PAUSE);
        let seconds = pause.as_secs_f32();
        tracing::error!(workflow = %id, %why, "cannot go on; tried again in {seconds} s");
        self.driven().insert(id, Driven { handle: None, failures: failures + 1 });
        self.changed.notify_waiters();
        tokio::spawn(self.clone().revive(id, pause));
    }

    fn revive(self: Arc<Self>, id: WorkflowId, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let _only_one = self.beginning.lock().await;
            // Somebody who asked for it may have been faster.
            let Some(failures) = self.resting(id) else { return };
            if let Err(unresumed) = self.resume_stored(id).await {
                self.rest(id, failures, unresumed);
            }
        })
    }

    /// How often the driver of a workflow failed that rests now.
    fn resting(&self, id: WorkflowId) -> Option<u32> {
        self.driven().get(&id).filter(|driven| driven.handle.is_none()).map(|one| one.failures)
    }

    /// Begins a run of all jobs that have not completed, and says how many those are.
    pub(super) fn begin_run(
        self: &Arc<Self>,
        stored: StoredView,
        shapes: Option<KnownShapes>,
    ) -> Result<(u32, Begun), RequestError> {
        let reset = stored.engine.unfinished_jobs();
        let count = reset.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let events = vec![stored.engine.next_run(now(), reset)];
        self.allocator.forgive(stored.engine.id());
        Ok((count, self.drive(stored, events, shapes)?))
    }

    /// Begins the run that a restart has decided on, and says how many jobs run again.
    pub(super) fn begin_restart(
        self: &Arc<Self>,
        stored: StoredView,
        restart: &Restart,
        shapes: Option<KnownShapes>,
    ) -> Result<(u32, Begun), RequestError> {
        let events = restart.events(&stored.engine, now());
        self.allocator.forgive(stored.engine.id());
        Ok((restart.count(), self.drive(stored, events, shapes)?))
    }

    /// Starts a driver, with the events that its run begins or goes on with. `shapes`: what is known of
    /// the nodes of its schedulers; they are asked, beside it, where that was not done yet.
    fn drive(
        self: &Arc<Self>,
        mut stored: StoredView,
        events: Vec<Event>,
        shapes: Option<KnownShapes>,
    ) -> Result<Begun, RequestError> {
        for event in &events {
            stored
                .engine
                .apply(event)
                .map_err(|refused| RequestError::Store(refused.to_string()))?;
        }
        self.entrust(&mut stored.engine);
        let id = stored.engine.id();
        let submitter = stored.origin.submitter.take().ok_or_else(|| {
            RequestError::Refused(format!(
                "workflow {id} was run by `torc run`; `torc restart {id}` without a server goes on \
                 with it"
            ))
        })?;
        let (handle, outbox) = Handle::of_driver();
        if shapes.is_none() {
            self.ask_shapes(stored.engine.workflow().clone(), handle.clone());
        }
        let (notices, told) = mpsc::unbounded_channel();
        tokio::spawn(log_notices(id, told));
        let (is_begun, begun) = oneshot::channel();
        let workers = Arc::new(Workers::default());
        let header = &stored.engine.workflow().header;
        let lead = header.execution.termination(false).1;
        let children = Children::of_server(&submitter, handle.clone(), lead);
        let surroundings = Surroundings {
            workers: workers.clone(),
            allocator: self.allocator.clone(),
            accountant: self.accountant.get().cloned(),
            handle: handle.clone(),
            submitter,
            program: self.program.clone(),
            generation: self.store.generation,
            store_key: self.store.key.clone(),
        };
        let offers = shapes.map(|shapes| offers(header, &shapes));
        let served = Served::new(surroundings, offers);
        let driver = Driver::new(DriverParts {
            engine: stored.engine,
            pending: events,
            next_sequence: stored.next_sequence,
            store: self.store.clone(),
            executor: workers,
            context: LaunchContext {
                output_dir: self.output_dir.to_string_lossy().into(),
                submission_dir: stored.origin.submission_dir.as_str().into(),
            },
            inbox: outbox,
            handle: handle.clone(),
            notices,
            max_parallel_jobs: usize::MAX,
            served: Some(served),
            release: None,
            on_node: None,
            children,
            begun: Some(is_begun),
            announcement: None,
        });
        self.watch(driver, id, handle);
        Ok(begun)
    }

    /// Gives a workflow its placer. It was there when the run began; what is under way does not stop because
    /// it is not there now.
    fn entrust(&self, engine: &mut Engine) {
        let Err(error) = self.placers.entrust(engine) else { return };
        engine.dismiss_placer(&error.name, Misconduct::Failed(error.reason));
        if let Some(dismissal) = engine.dismissal() {
            tracing::warn!(workflow = %engine.id(), "{dismissal}");
        }
    }

    /// Has a driver drive its workflow to the end, or to where it cannot go on.
    fn watch(self: &Arc<Self>, driver: Driver, id: WorkflowId, handle: Handle) {
        let failures = self.resting(id).unwrap_or(0);
        self.driven().insert(id, Driven { handle: Some(handle), failures });
        self.changed.notify_waiters();
        let runs = self.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let why = match tokio::spawn(driver.drive()).await {
                Ok(Ok((_, conclusion))) => {
                    tracing::info!(workflow = %id, ?conclusion, "is over");
                    runs.driven().remove(&id);
                    runs.changed.notify_waiters();
                    return;
                }
                Ok(Err(error)) => error.into(),
                Err(error) => Unresumed::Panicked(error),
            };
            let failures = if began.elapsed() > LONGEST_PAUSE { 0 } else { failures };
            runs.rest(id, failures, why);
        });
    }

    /// Has a driver told what nodes its schedulers have. Nothing else waits for that: not even a
    /// scheduler that hangs holds up what runs.
    fn ask_shapes(self: &Arc<Self>, workflow: Arc<Workflow>, driver: Handle) {
        let runs = self.clone();
        tokio::spawn(async move {
            let Ok(_permit) = runs.asking.acquire().await else { return };
            driver.tell(Input::Shapes(admission::shapes(&workflow, &runs.schedulers).await));
        });
    }
}

pub(super) fn is_under_way(engine: &Engine) -> bool {
    matches!(engine.phase(), Phase::Running | Phase::Stopping)
}

/// Whether a workflow that has no driver is to have one. Those that were not submitted are another's.
pub(super) fn needs_driver(stored: &StoredView) -> bool {
    let engine = &stored.engine;
    stored.origin.submitter.is_some()
        && (engine.phase() == Phase::New
            || is_under_way(engine)
            || engine.commands_under_way().next().is_some()
            || engine.allocation_books().any(|book| book.is_open_request()))
}

/// Why a workflow has no driver that is to have one.
#[derive(Debug, thiserror::Error)]
enum Unresumed {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is nothing that a server could drive.
    #[error(transparent)]
    Senseless(RequestError),
    /// Its driver ended.
    #[error(transparent)]
    Driver(#[from] DriveError),
    /// Its driver broke off.
    #[error("internal error: {0}")]
    Panicked(JoinError),
    /// The server has let go of its state directory.
    #[error("the database is closed")]
    NoStore,
}

impl Unresumed {
    /// Whether it makes sense to try again.
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) | Self::Driver(DriveError::Store(error)) => !matches!(
                error,
                StoreError::TakenOver(_)
                    | StoreError::Missing(_)
                    | StoreError::Damaged { .. }
                    | StoreError::Newer { .. }
                    | StoreError::UnknownWorkflow { .. }
            ),
            Self::Driver(DriveError::Executor(_) | DriveError::GaveUp(_)) => true,
            Self::Panicked(error) => error.is_panic(),
            Self::Driver(DriveError::StoreTask) | Self::Senseless(_) | Self::NoStore => false,
        }
    }
}

async fn log_notices(workflow: WorkflowId, mut notices: mpsc::UnboundedReceiver<String>) {
    while let Some(notice) = notices.recv().await {
        tracing::warn!(%workflow, "{notice}");
    }
}
