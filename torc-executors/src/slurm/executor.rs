//! The Slurm executor: one worker inside an allocation launches every step with srun.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::unistd::gethostname;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch as signal;
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{
    Executor, ExecutorError, Step, StepEvent, StepEvents, StepSignal, StepState,
};
use torc_core::workflow::USUAL_PARALLEL_STEPS;

use super::allocation::{AllocationError, SlurmAllocation};
use super::books::Books;
use super::command::CommandError;
use super::launcher::SrunLauncher;
use super::nodes::Nodes;
use super::outcome::Standing;
use super::service::{Input, Parts, Service};
use super::survey::SlurmSurvey;
use super::terms::Terms;
use super::{sights, steps};
use crate::clock::now;
use crate::kept::{Audience, Custody, Hostfiles, Setup, StartError};
use crate::processes::Process;

/// What a Slurm executor is started with.
#[derive(Clone, Debug)]
pub struct SlurmConfig {
    /// The environment of the worker, by which the allocation is known and which all jobs start from; a
    /// step's own comes on top. What srun would take for options is left out.
    pub base_env: Vec<(OsString, OsString)>,
    /// The engine's number of the allocation.
    pub allocation: AllocationId,
    /// A folder for hostfiles, on a file system that all nodes share; made if it is missing. No other
    /// executor uses it.
    pub scratch_dir: PathBuf,
    /// The most sruns at once, at least 1; other steps wait for one to end.
    pub max_parallel_steps: u32,
    /// Slurm itself ends a step this long before the allocation ends, if torc has not done so by then.
    pub headroom: Duration,
    /// The folder that has Slurm's programs; `None`: the PATH of `base_env`.
    pub programs: Option<PathBuf>,
    /// The file mode creation mask of jobs; `None`: this process's.
    pub umask: Option<u32>,
    /// The program to start as the keeper of sruns; `None`: this program. Its `main` must call
    /// [`run_if_asked`](crate::keeper::run_if_asked) first.
    pub keeper_program: Option<PathBuf>,
}

impl SlurmConfig {
    /// A hundred steps at once, ended by Slurm a minute before the allocation.
    pub fn new(
        allocation: AllocationId,
        scratch_dir: PathBuf,
        base_env: Vec<(OsString, OsString)>,
    ) -> Self {
        Self {
            base_env,
            allocation,
            scratch_dir,
            max_parallel_steps: USUAL_PARALLEL_STEPS,
            headroom: Duration::from_secs(60),
            programs: None,
            umask: None,
            keeper_program: None,
        }
    }
}

/// A Slurm executor cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SlurmStartError {
    /// The allocation cannot be used or asked about.
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    /// The keeper of sruns.
    #[error(transparent)]
    Keeper(#[from] StartError),
    /// srun's path is no text, so it cannot be handed to the keeper.
    #[error("the path of srun, {0}, cannot be used: it is not valid UTF-8")]
    SrunPath(PathBuf),
}

impl From<CommandError> for SlurmStartError {
    fn from(error: CommandError) -> Self {
        Self::Allocation(error.into())
    }
}

impl From<SlurmStartError> for ExecutorError {
    fn from(error: SlurmStartError) -> Self {
        Self::NotStarted(error.to_string())
    }
}

/// Runs steps on the nodes of the Slurm allocation that this process is in.
///
/// Each step is a step of the Slurm job, started by an srun that is a child of a keeper. Dropping the
/// executor ends whatever still runs; so does the end of this program, however it comes about.
pub struct SlurmExecutor {
    allocation: SlurmAllocation,
    nodes: Vec<NodeInventory>,
    began_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    custody: Arc<Custody>,
    taken: Arc<Taken>,
    inputs: UnboundedSender<Input>,
    ended: signal::Receiver<()>,
}

impl fmt::Debug for SlurmExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = self.allocation.job();
        f.debug_struct("SlurmExecutor").field("job", &job).finish_non_exhaustive()
    }
}

/// The steps that were taken over and have not been reported as ended.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<HashSet<StepId>>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashSet<StepId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, step: StepId) -> bool {
        self.lock().insert(step)
    }

    /// A step was reported as ended.
    pub(super) fn remove(&self, step: StepId) {
        self.lock().remove(&step);
    }

    /// All that are left.
    pub(super) fn drain(&self) -> Vec<StepId> {
        self.lock().drain().collect()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn contains(&self, step: StepId) -> bool {
        self.lock().contains(&step)
    }
}

/// Passes on what the keeper reports of sruns.
struct Hub(UnboundedSender<Input>);

impl Audience for Hub {
    fn emit(&self, event: StepEvent) {
        // That an srun runs is no news about its step.
        if let StepEvent::Ended { step, at, outcome, .. } = event {
            // Nobody listens any more once all has been told.
            let _ = self.0.send(Input::SrunEnded(step, at, outcome));
        }
    }

    fn hear(&self, step: StepId, at: Timestamp, lines: Vec<String>) {
        let _ = self.0.send(Input::Heard(step, at, lines));
    }
}

impl SlurmExecutor {
    /// Looks at the allocation, starts a keeper, and a task on the current runtime that reports to
    /// `events`. Steps that an earlier executor of this host left behind in the allocation are killed.
    ///
    /// # Errors
    /// When this is not inside an allocation that torc can work with, or the keeper cannot be started.
    pub async fn start(
        config: SlurmConfig,
        events: Arc<dyn StepEvents>,
    ) -> Result<Self, SlurmStartError> {
        let survey = SlurmSurvey::of(&config.base_env, config.programs.clone()).await?;
        Self::start_in(survey, config, events).await
    }

    /// The same in an allocation that has been looked at.
    ///
    /// # Errors
    /// When the keeper cannot be started.
    pub async fn start_in(
        survey: SlurmSurvey,
        config: SlurmConfig,
        events: Arc<dyn StepEvents>,
    ) -> Result<Self, SlurmStartError> {
        let (began_at, ends_at) = (survey.began_at(), survey.ends_at());
        let nodes = survey.nodes().to_vec();
        let SlurmSurvey { allocation, dialect, srun, most_steps, shares_nodes_whole, .. } = survey;
        steps::clear(&allocation, &host_name(), is_alive).await;

        let hostfiles = Hostfiles::prepare(config.scratch_dir, &nodes)?;
        let env = sights::base(&config.base_env);
        let setup = Setup {
            env: &env,
            umask: config.umask,
            keeper_program: config.keeper_program.as_deref(),
        };
        let inventory: Arc<[NodeInventory]> = nodes.clone().into();
        let shared = shares_nodes_whole.then(|| Arc::clone(&inventory));
        let (inputs, outputs) = unbounded_channel();
        let custody = Custody::start(&setup, hostfiles, Arc::new(Hub(inputs.clone())))?;
        let (custody, taken) = (Arc::new(custody), Arc::new(Taken::default()));
        let parallel = usize::try_from(config.max_parallel_steps).unwrap_or(usize::MAX);
        let terms = Terms {
            launcher: SrunLauncher { program: srun, dialect, time_limit: None, shared },
            headroom: config.headroom,
            ends_at,
        };
        let mut books = Books::new(parallel, most_steps);
        books.end_steps_before(terms.limit_at());
        let service = Service::new(Parts {
            allocation: allocation.clone(),
            id: config.allocation,
            custody: Arc::clone(&custody),
            events,
            taken: Arc::clone(&taken),
            terms,
            books,
            nodes: Nodes::new(nodes.iter().map(|node| node.name.to_string())),
            inventory,
        });
        let (ending, ended) = signal::channel(());
        tokio::spawn(async move {
            service.run(outputs).await;
            // Its end is what tells.
            drop(ending);
        });
        Ok(Self { allocation, nodes, began_at, ends_at, custody, taken, inputs, ended })
    }

    /// The allocation, to ask about.
    pub fn allocation(&self) -> &SlurmAllocation {
        &self.allocation
    }

    /// When the allocation began, as Slurm counts.
    pub fn began_at(&self) -> Option<Timestamp> {
        self.began_at
    }

    /// When the allocation was to end at the start of the executor; `None`: it does not end. It may have
    /// been extended since: see [`SlurmAllocation::observe_end`].
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// Lets what runs come to an end of its own, and then shuts down. Steps are asked to end as by
    /// [`StepSignal::Cancel`], unless Slurm takes the allocation away: then it has asked them itself, and
    /// kills them in its own time. Ends are reported as they come; nothing is launched any more.
    pub async fn wind_up(&self) {
        // Slurm may be slow to answer, and nobody need wait for that where nothing runs.
        let is_asked =
            self.taken.is_empty() || self.allocation.standing(now()).await.0 != Standing::Lives;
        // It has ended already otherwise.
        let _ = self.inputs.send(Input::WindUp { is_asked });
        self.ended().await;
    }

    /// Ends whatever still runs, and returns when no step, no srun and no keeper is left. Steps that were
    /// running end as [`Cancelled`](torc_core::traits::Outcome::Cancelled); nothing is launched any more.
    pub async fn shutdown(&self) {
        self.close();
        self.ended().await;
    }

    async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: an error is the end of the task.
        while ended.changed().await.is_ok() {}
    }

    fn close(&self) {
        let _ = self.inputs.send(Input::Close);
        self.custody.close();
    }
}

impl Drop for SlurmExecutor {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Executor for SlurmExecutor {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(self.nodes.clone())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        self.custody.check()?;
        let id = step.id;
        if !self.taken.insert(id) {
            tracing::warn!(step = %id, "a step that runs was launched again; ignored");
            return Ok(());
        }
        self.send(Input::Launch(Box::new(step))).inspect_err(|_| self.taken.remove(id))
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.custody.check()?;
        self.send(Input::Signal(step, signal))
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        // Ends are reported and then forgotten; steps do not survive an earlier executor for long.
        let left = steps.iter().filter(|step| !self.taken.contains(**step));
        let names: Vec<String> = left.map(ToString::to_string).collect();
        steps::wait_for_end(&self.allocation, &names).await;
        let state = |&step: &StepId| {
            if self.taken.contains(step) { StepState::Running } else { StepState::Unknown }
        };
        Ok(steps.iter().map(state).collect())
    }
}

impl SlurmExecutor {
    fn send(&self, input: Input) -> Result<(), ExecutorError> {
        let gone = |_| ExecutorError::Gone("its task has ended".to_owned());
        self.inputs.send(input).map_err(gone)
    }
}

/// The host's name as srun tells it to Slurm: without a domain.
pub(crate) fn host_name() -> String {
    let name = gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Process::read).is_some_and(|process| !process.is_zombie)
}
