//! The workflows that a server drives: finding, changing and ending them.
//!
//! Owns which workflows have a driver. Does not know who asks, or over what connection.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};
use torc_core::engine::Event;
use torc_core::ids::{AllocationId, WorkflowId};
use torc_core::wire::{CancelReport, CancelRequest, RestartReport, RestartRequest};
use torc_core::workflow::Workflow;

use super::admission;
use super::beginning::{Begun, is_under_way, needs_driver};
use crate::accountant::Accountant;
use crate::allocator::Allocator;
use crate::change::{Change, Moment};
use crate::clock::now;
use crate::driver::find_jobs;
use crate::handle::{Handle, KnownShapes, RequestError};
use crate::placers::Placers;
use crate::restarting::Restart;
use crate::schedulers::Schedulers;
use crate::state_dir::StateDir;
use crate::store::StoreError;
use crate::store_task::{Commit, StoreTask};
use crate::stored::StoredView;
use crate::view::View;

/// How many workflows at most have their schedulers asked at the same time what nodes these have.
const QUESTIONS_AT_ONCE: usize = 4;

/// The workflows of a server.
pub(crate) struct Runs {
    pub(crate) store: StoreTask,
    pub(super) allocator: Allocator,
    pub(super) accountant: OnceLock<Accountant>,
    pub(super) schedulers: Arc<Schedulers>,
    pub(super) placers: Placers,
    pub(super) output_dir: PathBuf,
    pub(super) program: String,
    instance: String,
    driven: Mutex<BTreeMap<WorkflowId, Driven>>,
    /// Beginning a run is one thing at a time.
    pub(crate) beginning: tokio::sync::Mutex<()>,
    /// Schedulers that are asked at once what nodes they have, where nobody waits for it.
    pub(super) asking: Semaphore,
    /// Submissions that are being taken in.
    submissions: AtomicUsize,
    /// A driver or a submission began or ended.
    pub(super) changed: Notify,
    /// The server ends: no driver begins any more.
    is_ending: AtomicBool,
    next_link: AtomicU64,
}

/// What a server's runs are made of.
pub(crate) struct RunsParts {
    pub(crate) store: StoreTask,
    pub(crate) allocator: Allocator,
    pub(crate) schedulers: Arc<Schedulers>,
    pub(crate) placers: Placers,
    pub(crate) dir: StateDir,
    pub(crate) program: String,
    pub(crate) instance: String,
}

/// A workflow that has a driver, or is to have one.
pub(super) struct Driven {
    /// The way into its driver; `None`: that could not go on, and another follows.
    pub(super) handle: Option<Handle>,
    /// Drivers in a row that could not go on.
    pub(super) failures: u32,
}

impl Runs {
    pub(crate) fn new(parts: RunsParts) -> Arc<Self> {
        Arc::new(Self {
            store: parts.store,
            allocator: parts.allocator,
            accountant: OnceLock::new(),
            schedulers: parts.schedulers,
            placers: parts.placers,
            output_dir: parts.dir.path().to_path_buf(),
            program: parts.program,
            instance: parts.instance,
            driven: Mutex::default(),
            beginning: tokio::sync::Mutex::new(()),
            asking: Semaphore::new(QUESTIONS_AT_ONCE),
            submissions: AtomicUsize::new(0),
            changed: Notify::new(),
            is_ending: AtomicBool::new(false),
            next_link: AtomicU64::new(1),
        })
    }

    pub(super) async fn append(
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

    pub(super) fn driven(&self) -> MutexGuard<'_, BTreeMap<WorkflowId, Driven>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest workflow that is driven now.
    pub(crate) fn latest(&self) -> Option<WorkflowId> {
        self.driven().last_key_value().map(|(id, _)| *id)
    }

    /// The way into a workflow's driver, if it has one.
    pub(crate) fn handle(&self, id: WorkflowId) -> Option<Handle> {
        self.driven().get(&id)?.handle.clone()
    }

    /// Returns once a driver has begun or ended after this was called.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Returns once a workflow is not driven, nor is to be: its run is over, and so are its allocations.
    pub(crate) async fn ended(&self, id: WorkflowId) {
        loop {
            let changed = self.changed();
            if !self.driven().contains_key(&id) {
                return;
            }
            changed.await;
        }
    }

    pub(super) async fn load(&self, id: Option<WorkflowId>) -> Result<StoredView, RequestError> {
        Ok(self.store.load(id).await.ok_or(RequestError::Over)??)
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

    /// Why a worker is not wanted that comes to a workflow without a driver; `None`: it is to try again.
    /// What its allocation runs is lost with a refusal: only what is stored can lead to one.
    pub(crate) async fn refusal(
        &self,
        workflow: WorkflowId,
        allocation: AllocationId,
    ) -> Option<String> {
        match self.store.load(Some(workflow)).await? {
            Ok(stored) => {
                let book = stored.engine.allocation_book(allocation);
                let is_open = book.is_some_and(|book| book.is_open_request());
                (!is_open).then(|| format!("allocation {allocation} is over"))
            }
            Err(error @ StoreError::UnknownWorkflow { .. }) => Some(error.to_string()),
            Err(_) => None,
        }
    }

    /// Ends jobs of a workflow.
    pub(crate) async fn cancel(
        self: &Arc<Self>,
        id: Option<WorkflowId>,
        request: CancelRequest,
    ) -> Result<CancelReport, RequestError> {
        let chosen = id.or_else(|| self.latest());
        if let Some(handle) = chosen.and_then(|id| self.handle(id)) {
            return handle.cancel(request).await;
        }
        let only_one = self.beginning.lock().await;
        let stored = self.load(chosen).await?;
        if needs_driver(&stored) {
            let handle = self.driver_of(stored)?;
            drop(only_one);
            return handle.cancel(request).await.map_err(unrecorded);
        }
        let StoredView { mut engine, next_sequence, .. } = stored;
        let jobs = request.jobs.map(|names| find_jobs(&engine, &names)).transpose()?;
        let ended_before = engine.counts().ended();
        let events = engine
            .cancel_without_steps(now(), jobs)
            .map_err(|refused| RequestError::Refused(refused.to_string()))?;
        self.append(engine.id(), next_sequence, events).await?;
        Ok(CancelReport { canceled: engine.counts().ended() - ended_before, signaled: 0 })
    }

    /// Changes a workflow, driven or not.
    pub(crate) async fn change<C: Change>(
        self: &Arc<Self>,
        id: Option<WorkflowId>,
        change: C,
    ) -> Result<C::Report, RequestError> {
        let chosen = id.or_else(|| self.latest());
        if let Some(handle) = chosen.and_then(|id| self.handle(id)) {
            return handle.change(change).await;
        }
        let only_one = self.beginning.lock().await;
        let stored = self.load(chosen).await?;
        if needs_driver(&stored) {
            let handle = self.driver_of(stored)?;
            drop(only_one);
            return handle.change(change).await.map_err(unrecorded);
        }
        let StoredView { mut engine, next_sequence, .. } = stored;
        let (report, events) = change.make(&mut engine, Moment { now: now(), is_driven: false })?;
        self.append(engine.id(), next_sequence, events).await?;
        Ok(report)
    }

    /// Has a workflow driven that was not, although it is to be: its driver could not go on, or another
    /// one has begun meanwhile.
    fn driver_of(self: &Arc<Self>, stored: StoredView) -> Result<Handle, RequestError> {
        let id = stored.engine.id();
        if self.handle(id).is_none() {
            self.resume(stored)?;
        }
        self.handle(id).ok_or(RequestError::Over)
    }

    /// Runs again what did not complete: in the run under way, or in a new one, with whatever else has a
    /// reason to.
    pub(crate) async fn restart(
        self: &Arc<Self>,
        id: Option<WorkflowId>,
        request: RestartRequest,
    ) -> Result<RestartReport, RequestError> {
        let chosen = id.or_else(|| self.latest());
        let is_plain = request.is_plain();
        let shapes = match &request.spec {
            Some(spec) => Some(self.admit(chosen, spec).await?),
            None => None,
        };
        loop {
            while let Some(handle) = chosen.and_then(|id| self.handle(id)) {
                match handle.put_back(is_plain).await {
                    // The run is over, and its allocations are being given back.
                    Err(RequestError::Over) => handle.closed().await,
                    answer => return answer,
                }
                tokio::task::yield_now().await;
            }
            let only_one = self.beginning.lock().await;
            if chosen.is_some_and(|id| self.handle(id).is_some()) {
                continue;
            }
            let stored = self.load(chosen).await?;
            if is_under_way(&stored.engine) {
                let handle = self.driver_of(stored)?;
                drop(only_one);
                return handle.put_back(is_plain).await.map_err(unrecorded);
            }
            let (put_back, begun) = self.begin_again(stored, request, shapes).await?;
            drop(only_one);
            // Nobody is told of a run that could be forgotten.
            begun.await.map_err(|_| unrecorded(RequestError::Over))?;
            return Ok(RestartReport { put_back, is_new_run: true });
        }
    }

    /// Whether a workflow can be run as its spec says now.
    async fn admit(
        &self,
        id: Option<WorkflowId>,
        spec: &Workflow,
    ) -> Result<KnownShapes, RequestError> {
        let submission_dir = self.load(id).await?.origin.submission_dir;
        admission::check_itself(spec, Path::new(&submission_dir))?;
        let shapes = admission::ask_schedulers(spec, &self.schedulers).await?;
        admission::check_fit(&Arc::new(spec.clone()), &shapes)?;
        self.placers.open(&spec.header)?;
        Ok(shapes)
    }

    async fn begin_again(
        self: &Arc<Self>,
        stored: StoredView,
        request: RestartRequest,
        shapes: Option<KnownShapes>,
    ) -> Result<(u32, Begun), RequestError> {
        let folder = &stored.origin.submission_dir;
        let decided = Restart::decide(stored.engine, request, folder).await;
        let (engine, restart) = decided?;
        let stored = StoredView { engine, ..stored };
        if restart.plan.is_empty() {
            return Err(RequestError::nothing_left(stored.engine.id()));
        }
        if shapes.is_none() {
            self.placers.open(&stored.engine.workflow().header)?;
        }
        self.begin_restart(stored, &restart, shapes)
    }

    /// Has all drivers end, with all that is known made durable, and closes the store. What runs in
    /// allocations goes on.
    pub(crate) async fn detach(&self) -> Result<(), StoreError> {
        self.is_ending.store(true, Ordering::Relaxed);
        loop {
            let changed = self.changed.notified();
            let handles: Vec<Handle> =
                self.driven().values().filter_map(|driven| driven.handle.clone()).collect();
            if handles.is_empty() {
                return self.store.close().await;
            }
            handles.iter().for_each(Handle::detach);
            changed.await;
        }
    }

    /// Whether the server ends.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Whether no workflow is driven, nor is to be.
    pub(crate) fn is_idle(&self) -> bool {
        self.submissions.load(Ordering::SeqCst) == 0 && self.driven().is_empty()
    }

    /// A submission is being taken in, until this is let go of.
    pub(super) fn busy(&self) -> Busy<'_> {
        self.submissions.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Busy(self)
    }
}

/// Keeps a server from having nothing to do.
pub(super) struct Busy<'r>(&'r Runs);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.submissions.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// A driver that was begun for a wish ended before that was durable.
fn unrecorded(error: RequestError) -> RequestError {
    match error {
        RequestError::Over => RequestError::Store(
            "this could not be recorded, since the database cannot be written at the moment; the \
             server's log says why. What runs goes on, and the server tries again by itself"
                .to_owned(),
        ),
        other => other,
    }
}
