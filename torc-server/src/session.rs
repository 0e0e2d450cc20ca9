//! Running a workflow in this process: `torc run` and `torc restart`.
//!
//! A session owns a state directory from opening to the end of its run. However a run begins, new,
//! again, or where it was interrupted, the way is the same: load what the store has, find out what
//! became of the steps that were under way, and go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use torc_core::engine::{Conclusion, Engine, LaunchContext, Unstarted};
use torc_core::ids::{RunId, WorkflowId};
use torc_core::resources::Allocation;
use torc_core::traits::{Executor, ExecutorError, NeverReason, Placer};
use torc_core::wire::{AttemptReport, RestartRequest, WorkflowReport};
use torc_core::workflow::{ExecutionConfig, Workflow};

use crate::admission::{check_feasibility, check_inputs};
use crate::api::{Api, ApiError, Desk, router};
use crate::children::Children;
use crate::clock::now;
use crate::driver::{DriveError, Driver, DriverParts};
use crate::earlier::Earlier;
use crate::handle::{Handle, RequestError};
use crate::inherited::{self, Watch, WindUp};
use crate::link::identity::IdentityError;
use crate::link::listener::{ListenError, Listener};
use crate::placers::{self, PlacerError, Placers};
use crate::restarting::Restart;
use crate::state_dir::{Announcement, StateDir};
use crate::store::{Origin, Store, StoreError};
use crate::store_task::StoreTask;
use crate::stored::{StoredView, placer_for};
use crate::view::{NOTHING_HELD_BACK, NOTHING_OBSERVED, View};

mod beginning;
mod door;
mod options;
mod survivors;

use door::Door;
pub(crate) use options::slots;
pub use options::{Inside, Launching, RunOptions, StandInError, Start};

/// A state directory that this process owns.
pub struct Session {
    dir: StateDir,
    store: Store,
    placers: Placers,
}

/// The run did not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The nodes cannot stand for the scheduler that they should stand for.
    #[error(transparent)]
    StandIn(#[from] StandInError),
    /// The executor did not start.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// Nobody could reach this process.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No port can be had for jobs on other hosts.
    #[error("cannot listen for jobs on the other hosts of this allocation: {0}")]
    Port(std::io::Error),
    /// The same.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The key by which they know this process cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The placer that the spec names cannot be had.
    #[error(transparent)]
    Placer(#[from] PlacerError),
    /// These jobs can never run on these nodes.
    #[error("{} can never run here", jobs_words(.0))]
    NeverRuns(Vec<NeverRuns>),
    /// These files are read by jobs, written by none, and not there.
    #[error("input files are missing: {}", .0.join(", "))]
    MissingFiles(Vec<String>),
    /// Every job has completed.
    #[error("every job of workflow {0} has completed or is left out; there is nothing to restart")]
    NothingLeft(WorkflowId),
    /// It makes no sense as things stand.
    #[error("{0}")]
    Refused(String),
    /// It had begun but could not go on.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The loop itself failed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RunError {
    /// All of it, over several lines where there is more to say than fits one.
    pub fn full_text(&self) -> String {
        match self {
            Self::MissingFiles(files) => format!(
                "these input files are read by jobs, written by none, and missing:\n  {}",
                files.join("\n  ")
            ),
            Self::NeverRuns(classes) => {
                let lines: Vec<String> = classes
                    .iter()
                    .map(|class| match class.count {
                        1 => format!("\n  `{}`: {}", class.job, class.reason),
                        count => format!(
                            "\n  `{}` and {} like it: {}",
                            class.job,
                            count - 1,
                            class.reason
                        ),
                    })
                    .collect();
                format!("{self}:{}", lines.concat())
            }
            other => other.to_string(),
        }
    }
}

/// A class of jobs that can never run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverRuns {
    /// The first of them.
    pub job: String,
    /// How many there are.
    pub count: usize,
    /// Why.
    pub reason: NeverReason,
}

fn jobs_words(classes: &[NeverRuns]) -> String {
    match classes.iter().map(|class| class.count).sum::<usize>() {
        1 => "1 job".to_owned(),
        count => format!("{count} jobs"),
    }
}

type Driven = Result<(Engine, Conclusion), DriveError>;

/// A run that is under way in this process.
pub struct Running {
    /// The workflow.
    pub id: WorkflowId,
    /// The run.
    pub run: RunId,
    /// What the run began with.
    pub begun: Begun,
    /// The way in.
    pub handle: Handle,
    notices: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<Driven>,
    /// What the task returned, once it has.
    result: Option<Result<Driven, RunError>>,
    api: Api,
    /// For jobs on other hosts; it ends with this.
    _listener: Option<Listener>,
    dir: StateDir,
    submission_dir: Arc<str>,
    executor: Arc<dyn Executor>,
    wind_up: Option<WindUp>,
    _watch: Option<Watching>,
}

/// The task that watches the allocation of a run; it ends with this.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a person is told while a run is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of note: a full disk, for instance.
    Notice(String),
    /// It has ended; [`Running::wait`] says how.
    Ended,
}

/// What a run began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// An interrupted run goes on.
    pub is_resumed: bool,
    /// Jobs that had already completed and do not run again.
    pub completed: u32,
    /// Jobs that had completed and run again, since something has changed or it was wished.
    pub again: u32,
    /// Attempts that were under way when torc died, and whose jobs run again.
    pub lost: u32,
}

/// How a run ended.
pub struct RunOutcome {
    /// Why nothing more happens.
    pub conclusion: Conclusion,
    /// The workflow at the end.
    pub report: WorkflowReport,
    /// The last attempts of the jobs that failed or were terminated in this run.
    pub failed: Vec<AttemptReport>,
    /// The jobs that were ready and could not be started, by why.
    pub unstarted: Vec<Unstarted>,
}

impl RunOutcome {
    /// The end of a run, as it can be seen in its workflow.
    pub(crate) fn seen(view: &View<'_>, conclusion: Conclusion) -> Self {
        let engine = view.engine;
        let failed = engine
            .failed_jobs()
            .filter_map(|job| engine.latest_attempt(job))
            .map(|attempt| engine.attempt_report(attempt, view.now, view.output_dir))
            .collect();
        let unstarted = match conclusion {
            Conclusion::Stuck => engine.unstarted(view.now),
            _ => Vec::new(),
        };
        Self { conclusion, report: view.workflow(), failed, unstarted }
    }
}

impl Session {
    /// Takes a state directory over.
    ///
    /// # Errors
    /// When another process owns it or it cannot be used.
    pub async fn open(dir: StateDir) -> Result<Self, StoreError> {
        let store = Store::own(&dir).await?;
        crate::known_dirs::note(&dir);
        Ok(Self { dir, store, placers: Placers::none() })
    }

    /// With placers that are not torc's own.
    #[must_use]
    pub fn with_placers(self, placers: Placers) -> Self {
        Self { placers, ..self }
    }

    /// The latest workflow, if it is this very one, was submitted from the same place, and its run
    /// was interrupted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn interrupted_twin(
        &mut self,
        workflow: &Workflow,
        origin: &Origin,
    ) -> Result<Option<WorkflowId>, StoreError> {
        let earlier = Earlier::find(&mut self.store, workflow, origin).await?;
        Ok(earlier.filter(|earlier| earlier.is_interrupted).map(|earlier| earlier.id))
    }

    /// Whether a workflow can be run on these nodes, from this place.
    ///
    /// # Errors
    /// When a job can never run there, input files are missing, the spec has no such scheduler, or there is
    /// no such placer.
    pub fn check(
        &self,
        workflow: &Arc<Workflow>,
        origin: &Origin,
        options: &RunOptions,
    ) -> Result<(), RunError> {
        let engine = Engine::new(WorkflowId(0), workflow.clone(), placer_for(workflow));
        let allocation = options.allocation(&engine)?;
        check_feasibility(&engine, std::slice::from_ref(&allocation), now())?;
        check_inputs(workflow, Path::new(&origin.submission_dir))?;
        self.placers.open(&workflow.header)?;
        Ok(())
    }

    /// Stores a new workflow.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn add(
        &mut self,
        workflow: &Workflow,
        origin: &Origin,
    ) -> Result<WorkflowId, StoreError> {
        self.store.add_workflow(workflow, origin).await
    }

    /// Begins a run, or goes on with an interrupted one; the latest workflow when none is named.
    /// `executor` makes what launches steps.
    ///
    /// # Errors
    /// When there is nothing to do, when a job can never run on these nodes, when input files are missing,
    /// when there is no such placer, or when a part of torc does not start. Nothing was launched then.
    pub async fn begin(
        self,
        id: Option<WorkflowId>,
        options: RunOptions,
        executor: impl AsyncFnOnce(Start<'_>) -> Result<Launching, ExecutorError>,
    ) -> Result<Running, RunError> {
        self.begin_as((id, None), options, executor).await
    }

    /// Goes on with an interrupted run, or begins a new one of all jobs that have a reason to run again; of the
    /// latest workflow when none is named.
    ///
    /// # Errors
    /// As [`Self::begin`]. Nothing was launched then, and the workflow is as it was.
    pub async fn restart(
        self,
        (id, request): (Option<WorkflowId>, RestartRequest),
        options: RunOptions,
        executor: impl AsyncFnOnce(Start<'_>) -> Result<Launching, ExecutorError>,
    ) -> Result<Running, RunError> {
        self.begin_as((id, Some(request)), options, executor).await
    }

    async fn begin_as(
        mut self,
        (id, request): (Option<WorkflowId>, Option<RestartRequest>),
        options: RunOptions,
        executor: impl AsyncFnOnce(Start<'_>) -> Result<Launching, ExecutorError>,
    ) -> Result<Running, RunError> {
        let output_dir = self.dir.path().to_string_lossy().into_owned();
        let stored = StoredView::load(&mut self.store, id, &output_dir).await?;
        let StoredView { engine, origin, next_sequence, .. } = stored;
        let id = engine.id();
        let (mut engine, restart) = decided(engine, request, &origin).await?;
        // What is checked is what the run will be, before any part of it has begun.
        let admitted = self.admit_next(&engine, restart.as_ref(), &origin, &options).await?;
        let Admitted { workflow, allocation, placer } = admitted;
        let context = LaunchContext {
            output_dir: output_dir.as_str().into(),
            submission_dir: origin.submission_dir.into(),
        };
        let submission_dir = context.submission_dir.clone();
        self.dir.make_folders()?;
        let door = Door::of(&self.dir, &options)?;
        let (handle, outbox) = Handle::of_driver();
        let (notices_in, notices) = mpsc::unbounded_channel();
        let execution = &workflow.header.execution;
        let max_parallel_jobs = options.most_at_once(execution);
        let scratch = self.dir.scratch();
        let threshold = Threshold { options, allocation: &allocation, handle: &handle, scratch };
        let started = threshold.start(&context, execution, &notices_in, executor).await?;
        let (Launching { executor, wind_up, release, on_node }, watch) = started;
        let children = Children::of_run(handle.clone(), execution.termination(false).1);
        let found = survivors::found(&engine, &*executor).await?;
        let (events, begun) = beginning::begin(&mut engine, restart.as_ref(), found, allocation)?;
        placers::install(&mut engine, placer);
        let run = engine.run().ok_or(RunError::NothingLeft(id))?;
        let owner = door.owner()?;
        let instance = owner.instance.as_str().into();
        let store = StoreTask::spawn(self.store, output_dir);
        let (to_it, stored) = (handle.clone(), store.clone());
        let desk = Desk::One { handle: to_it, workflow: id, instance, store: stored };
        let (listener, api) = door.open(&self.dir, &owner, router(desk))?;
        let driver = Driver::new(DriverParts {
            engine,
            pending: events,
            next_sequence,
            store,
            executor: executor.clone(),
            context,
            inbox: outbox,
            handle: handle.clone(),
            notices: notices_in,
            max_parallel_jobs,
            served: None,
            release,
            on_node,
            children,
            begun: None,
            announcement: Some(Announcement::of(&self.dir, &owner)),
        });
        let task = tokio::spawn(driver.drive());
        Ok(Running {
            id,
            run,
            begun,
            handle,
            notices,
            task,
            result: None,
            api,
            _listener: listener,
            dir: self.dir,
            submission_dir,
            executor,
            wind_up,
            _watch: watch,
        })
    }
}

/// What a run begins with, once all is checked.
struct Admitted {
    workflow: Arc<Workflow>,
    allocation: Allocation,
    /// One that is not torc's own, if the workflow names one.
    placer: Option<Box<dyn Placer>>,
}

impl Session {
    /// Checks what the next run will be: as the workflow is, or as it will be when the restart has begun.
    async fn admit_next(
        &mut self,
        engine: &Engine,
        restart: Option<&Restart>,
        origin: &Origin,
        options: &RunOptions,
    ) -> Result<Admitted, RunError> {
        let Some(restart) = restart else { return self.admit(engine, origin, options) };
        let mut again = StoredView::load(&mut self.store, Some(engine.id()), "").await?;
        beginning::rehearse(&mut again.engine, restart)?;
        self.admit(&again.engine, origin, options)
    }

    fn admit(
        &self,
        engine: &Engine,
        origin: &Origin,
        options: &RunOptions,
    ) -> Result<Admitted, RunError> {
        let workflow = Arc::clone(engine.workflow());
        let allocation = options.allocation(engine)?;
        check_feasibility(engine, std::slice::from_ref(&allocation), now())?;
        check_inputs(&workflow, Path::new(&origin.submission_dir))?;
        let placer = self.placers.open(&workflow.header)?;
        Ok(Admitted { workflow, allocation, placer })
    }
}

impl Running {
    /// Has the run end, to go on later: nothing more starts, and what runs is asked to end.
    pub fn stop(&self) {
        inherited::stop(&self.handle, self.wind_up.as_ref());
    }

    /// Waits for news. After the end there is no other.
    pub async fn next(&mut self) -> News {
        if self.result.is_some() {
            return News::Ended;
        }
        tokio::select! {
            Some(notice) = self.notices.recv() => News::Notice(notice),
            joined = &mut self.task => {
                self.result = Some(joined.map_err(|error| RunError::Internal(error.to_string())));
                News::Ended
            }
        }
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// When it could not go on.
    pub async fn wait(mut self) -> Result<RunOutcome, RunError> {
        while self.next().await != News::Ended {}
        self.api.close();
        drop(self.executor);
        let gone = || Err(RunError::Internal("the run has no result".to_owned()));
        let (engine, conclusion) = self.result.unwrap_or_else(gone)??;
        let output_dir = self.dir.path().to_string_lossy().into_owned();
        let view = View {
            engine: &engine,
            planned: &[],
            now: now(),
            is_live: false,
            output_dir: &output_dir,
            submission_dir: &self.submission_dir,
            observed: &NOTHING_OBSERVED,
            held_back: &NOTHING_HELD_BACK,
        };
        Ok(RunOutcome::seen(&view, conclusion))
    }
}

/// What a run has where its executor is started.
struct Threshold<'a> {
    options: RunOptions,
    allocation: &'a Allocation,
    handle: &'a Handle,
    scratch: PathBuf,
}

impl Threshold<'_> {
    /// Starts what launches steps, and what watches over the allocation that they are in.
    async fn start(
        self,
        context: &LaunchContext,
        execution: &ExecutionConfig,
        notices: &mpsc::UnboundedSender<String>,
        executor: impl AsyncFnOnce(Start<'_>) -> Result<Launching, ExecutorError>,
    ) -> Result<(Launching, Option<Watching>), ExecutorError> {
        let Self { options, allocation: Allocation { id, ends_at, .. }, handle, scratch } = self;
        let (reports_in, reports) = mpsc::unbounded_channel();
        let events = match &options.inside {
            None => handle.step_events(),
            Some(_) => Arc::new(move |event| drop(reports_in.send(event))),
        };
        let launching =
            executor(Start { context, allocation: *id, execution, events, scratch }).await?;
        let (limit, margin) = (options.limit(execution), options.margin(execution));
        let watch = options.inside.map(|inside| Watch {
            allocation: *id,
            ends_at: *ends_at,
            limit,
            margin,
            observe: inside.observe,
            wind_up: launching.wind_up.clone(),
            reports,
            handle: handle.clone(),
            notices: notices.clone(),
        });
        Ok((launching, watch.map(|watch| Watching(tokio::spawn(watch.run())))))
    }
}

/// What a restart comes to; `None`: no more than to go on, or to begin with what is unfinished.
async fn decided(
    engine: Engine,
    request: Option<RestartRequest>,
    origin: &Origin,
) -> Result<(Engine, Option<Restart>), RunError> {
    let Some(request) = request else { return Ok((engine, None)) };
    let decided = Restart::decide(engine, request, &origin.submission_dir).await;
    let (engine, restart) = decided.map_err(|error| match error {
        RequestError::Refused(why) => RunError::Refused(why),
        other => RunError::Internal(other.to_string()),
    })?;
    if restart.plan.is_empty() {
        return Err(RunError::NothingLeft(engine.id()));
    }
    Ok((engine, Some(restart).filter(|restart| !restart.plan.goes_on)))
}
