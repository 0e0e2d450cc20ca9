//! The workflows that a server drives: beginning, finding, changing and ending them.
//!
//! Owns which workflows have a driver. Does not know who asks, or over what connection.

mod accounts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, mpsc};
use torc_core::engine::{Event, LaunchContext, Phase};
use torc_core::ids::WorkflowId;
use torc_core::traits::{NodeShape, Scheduler};
use torc_core::wire::{CancelReport, CancelRequest, RestartReport, SubmitRequest};
use torc_core::workflow::Workflow;

use super::admission::{self, SubmitError};
use crate::accountant::Accountant;
use crate::allocator::Allocator;
use crate::clock::now;
use crate::driver::{Driver, DriverParts, Served, Surroundings, find_jobs};
use crate::handle::{Handle, RequestError};
use crate::state_dir::StateDir;
use crate::store::{Origin, StoreError, Submitter};
use crate::store_task::{Commit, StoreTask};
use crate::stored::StoredView;
use crate::view::View;
use crate::workers::Workers;

/// The workflows of a server.
pub(crate) struct Runs {
    store: StoreTask,
    allocator: Allocator,
    accountant: OnceLock<Accountant>,
    scheduler: Arc<dyn Scheduler>,
    output_dir: PathBuf,
    program: String,
    instance: String,
    driven: Mutex<BTreeMap<WorkflowId, Driven>>,
    /// Beginning a run is one thing at a time.
    beginning: tokio::sync::Mutex<()>,
    /// A driver began or ended.
    changed: Notify,
    next_link: AtomicU64,
}

/// What a server's runs are made of.
pub(crate) struct RunsParts {
    pub(crate) store: StoreTask,
    pub(crate) allocator: Allocator,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    pub(crate) dir: StateDir,
    pub(crate) program: String,
    pub(crate) instance: String,
}

struct Driven {
    handle: Handle,
}

impl Runs {
    pub(crate) fn new(parts: RunsParts) -> Arc<Self> {
        Arc::new(Self {
            store: parts.store,
            allocator: parts.allocator,
            accountant: OnceLock::new(),
            scheduler: parts.scheduler,
            output_dir: parts.dir.path().to_path_buf(),
            program: parts.program,
            instance: parts.instance,
            driven: Mutex::default(),
            beginning: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            next_link: AtomicU64::new(1),
        })
    }

    async fn append(
        &self,
        workflow: WorkflowId,
        sequence: i64,
        events: Vec<Event>,
    ) -> Result<(), RequestError> {
        if events.is_empty() {
            return Ok(());
        }
        let commit = Commit { workflow, sequence, events };
        let (_, stored) = self.store.append(commit).await.map_err(|_| RequestError::Over)?;
        Ok(stored?)
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// How often this state directory was taken over, this time included.
    pub(crate) fn generation(&self) -> i64 {
        self.store.generation
    }

    /// A number for a connection that no other has.
    pub(crate) fn next_link(&self) -> u64 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    fn driven(&self) -> MutexGuard<'_, BTreeMap<WorkflowId, Driven>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest workflow that is driven now.
    pub(crate) fn latest(&self) -> Option<WorkflowId> {
        self.driven().last_key_value().map(|(id, _)| *id)
    }

    /// The way into a workflow's driver, if it has one.
    pub(crate) fn handle(&self, id: WorkflowId) -> Option<Handle> {
        self.driven().get(&id).map(|driven| driven.handle.clone())
    }

    /// Returns once a driver has begun or ended.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes up what an earlier server left.
    ///
    /// # Errors
    /// When the store cannot be read. One workflow that makes no sense does not hold up the others.
    pub(crate) async fn resume_all(self: &Arc<Self>) -> Result<(), StoreError> {
        for id in self.store.submitted().await.unwrap_or_else(|| Ok(Vec::new()))? {
            match self.load(Some(id)).await {
                Ok(stored) => {
                    if let Err(error) = self.resume(stored).await {
                        tracing::error!(workflow = %id, %error, "cannot be gone on with");
                    }
                }
                Err(error) => tracing::error!(workflow = %id, %error, "cannot be read"),
            }
        }
        Ok(())
    }

    async fn resume(self: &Arc<Self>, mut stored: StoredView) -> Result<(), RequestError> {
        self.ask_again(&stored.engine);
        let engine = &mut stored.engine;
        let is_under_way = matches!(engine.phase(), Phase::Running | Phase::Stopping);
        let has_open = engine.allocation_books().any(|book| book.is_open_request());
        if !is_under_way && !has_open {
            return Ok(());
        }
        let at = now();
        let mut events = Vec::new();
        if is_under_way {
            events.push(Event::RunResumed { at });
        }
        let live = engine.live_allocations().map(|allocation| allocation.id);
        events.extend(live.map(|allocation| Event::AllocationReachable {
            at,
            allocation,
            reachable: false,
        }));
        self.drive(stored, events).await
    }

    async fn load(&self, id: Option<WorkflowId>) -> Result<StoredView, RequestError> {
        Ok(self.store.load(id).await.ok_or(RequestError::Over)??)
    }

    /// Stores a workflow and begins its first run.
    ///
    /// # Errors
    /// When it cannot be run here, or not be stored; nothing was done then.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        request: SubmitRequest,
    ) -> Result<WorkflowId, SubmitError> {
        let workflow = Arc::new(request.workflow);
        admission::check(&workflow, Path::new(&request.submission_dir), &*self.scheduler).await?;
        let workflow = Arc::try_unwrap(workflow).unwrap_or_else(|shared| (*shared).clone());
        let origin = Origin {
            submission_dir: request.submission_dir,
            spec_path: request.spec_path,
            submitted_at: now(),
            submitter: Some(Submitter { env: request.env, umask: request.umask }),
        };
        let id = self.store.add(workflow, origin).await.ok_or(RequestError::Over)??;
        let stored = self.load(Some(id)).await?;
        self.begin_run(stored).await?;
        Ok(id)
    }

    async fn begin_run(self: &Arc<Self>, stored: StoredView) -> Result<u32, RequestError> {
        let reset = stored.engine.unfinished_jobs();
        let count = reset.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let events = vec![stored.engine.next_run(now(), reset)];
        self.allocator.forgive(stored.engine.id());
        self.drive(stored, events).await?;
        Ok(count)
    }

    /// Starts a driver, with the events that its run begins or goes on with.
    async fn drive(
        self: &Arc<Self>,
        mut stored: StoredView,
        events: Vec<Event>,
    ) -> Result<(), RequestError> {
        for event in &events {
            stored
                .engine
                .apply(event)
                .map_err(|refused| RequestError::Store(refused.to_string()))?;
        }
        let id = stored.engine.id();
        let shapes = self.shapes(stored.engine.workflow().clone()).await;
        let submitter = stored.origin.submitter.take().ok_or_else(|| {
            RequestError::Refused(format!(
                "workflow {id} was run by `torc run`; `torc restart {id}` without a server goes on \
                 with it"
            ))
        })?;
        let (inbox, outbox) = mpsc::unbounded_channel();
        let handle = Handle::new(inbox);
        let (notices, told) = mpsc::unbounded_channel();
        tokio::spawn(log_notices(id, told));
        let workers = Arc::new(Workers::default());
        let driver = Driver::new(DriverParts {
            engine: stored.engine,
            pending: events,
            next_sequence: stored.next_sequence,
            store: self.store.clone(),
            executor: workers.clone(),
            context: LaunchContext {
                output_dir: self.output_dir.to_string_lossy().into(),
                submission_dir: stored.origin.submission_dir.as_str().into(),
            },
            inbox: outbox,
            notices,
            max_parallel_jobs: usize::MAX,
            served: Some(Served::new(Surroundings {
                workers,
                allocator: self.allocator.clone(),
                accountant: self.accountant.get().cloned(),
                handle: handle.clone(),
                submitter,
                program: self.program.clone(),
                generation: self.store.generation,
                store_key: self.store.key.clone(),
                shapes,
            })),
        });
        self.driven().insert(id, Driven { handle });
        self.changed.notify_waiters();
        let runs = self.clone();
        tokio::spawn(async move {
            match driver.drive().await {
                Ok((_, conclusion)) => tracing::info!(workflow = %id, ?conclusion, "is over"),
                Err(error) => tracing::error!(workflow = %id, %error, "cannot go on"),
            }
            runs.driven().remove(&id);
            runs.changed.notify_waiters();
        });
        Ok(())
    }

    /// What is known of the nodes of each scheduler.
    async fn shapes(&self, workflow: Arc<Workflow>) -> BTreeMap<u32, Vec<NodeShape>> {
        let mut known = BTreeMap::new();
        for (settings, index) in workflow.header.schedulers.iter().zip(0u32..) {
            if let Some(shapes) = admission::shapes(settings, &*self.scheduler).await {
                known.insert(index, shapes);
            }
        }
        known
    }

    /// Looks at a workflow: the latest that is driven, else the latest there is, when none is named.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        id: Option<WorkflowId>,
        answer: impl FnOnce(&View<'_>) -> T + Clone + Send + 'static,
    ) -> Result<T, RequestError> {
        let chosen = id.or_else(|| self.latest());
        if let Some(handle) = chosen.and_then(|id| self.handle(id)) {
            match handle.look(chosen, answer.clone()).await {
                // Its driver has ended since; all is stored.
                Err(RequestError::Over) => {}
                looked => return looked,
            }
        }
        let stored = self.load(chosen).await?;
        Ok(answer(&stored.view(now())))
    }

    /// Ends jobs of a workflow.
    pub(crate) async fn cancel(
        &self,
        id: Option<WorkflowId>,
        request: CancelRequest,
    ) -> Result<CancelReport, RequestError> {
        let chosen = id.or_else(|| self.latest());
        if let Some(handle) = chosen.and_then(|id| self.handle(id)) {
            return handle.cancel(request).await;
        }
        let _only_one = self.beginning.lock().await;
        let StoredView { mut engine, next_sequence, .. } = self.load(chosen).await?;
        let jobs = request.jobs.map(|names| find_jobs(&engine, &names)).transpose()?;
        let ended_before = engine.counts().ended();
        let events = engine
            .cancel_without_steps(now(), jobs)
            .map_err(|refused| RequestError::Refused(refused.to_string()))?;
        self.append(engine.id(), next_sequence, events).await?;
        Ok(CancelReport { canceled: engine.counts().ended() - ended_before, signaled: 0 })
    }

    /// Runs again what did not complete: in the run under way, or in a new one.
    pub(crate) async fn restart(
        self: &Arc<Self>,
        id: Option<WorkflowId>,
    ) -> Result<RestartReport, RequestError> {
        let _only_one = self.beginning.lock().await;
        let chosen = id.or_else(|| self.latest());
        while let Some(handle) = chosen.and_then(|id| self.handle(id)) {
            match handle.put_back().await {
                // The run is over, and its allocations are being given back.
                Err(RequestError::Over) => handle.closed().await,
                answer => return answer,
            }
            tokio::task::yield_now().await;
        }
        let stored = self.load(chosen).await?;
        if stored.engine.unfinished_jobs().is_empty() {
            let id = stored.engine.id();
            let why =
                format!("every job of workflow {id} has completed; there is nothing to restart");
            return Err(RequestError::Refused(why));
        }
        Ok(RestartReport { put_back: self.begin_run(stored).await?, is_new_run: true })
    }

    /// Has all drivers end, with all that is known made durable, and closes the store. What runs in
    /// allocations goes on.
    pub(crate) async fn detach(&self) -> Result<(), StoreError> {
        loop {
            let changed = self.changed.notified();
            let handles: Vec<Handle> =
                self.driven().values().map(|driven| driven.handle.clone()).collect();
            if handles.is_empty() {
                return self.store.close().await;
            }
            handles.iter().for_each(Handle::detach);
            changed.await;
        }
    }

    /// Whether no workflow is driven.
    pub(crate) fn is_idle(&self) -> bool {
        self.driven().is_empty()
    }
}

async fn log_notices(workflow: WorkflowId, mut notices: mpsc::UnboundedReceiver<String>) {
    while let Some(notice) = notices.recv().await {
        tracing::warn!(%workflow, "{notice}");
    }
}
