//! `torc worker`: what a batch script starts on the first node of its allocation.

mod host;
mod node;
mod plugin;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, Executor, Launcher, StepEvent, StepEvents};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::slurm::{SlurmAllocation, SlurmConfig, SlurmExecutor, SlurmSurvey};
use torc_server::allocation_request::WorkerLauncher;
use torc_server::crew::Crew;
use torc_server::state_dir::StateDir;
use torc_server::worker::{AskEnd, OnNode, Release, TellEnd, WindUp, WorkerEnd, WorkerParts, work};

use crate::args::{PluginArgs, WorkerArgs, WorkerMode};
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::launchers;
use crate::led_crew::{Leading, lead_crew};
use crate::out::errln;
use crate::settings::Settings;

use host::End;
pub(crate) use node::execute as execute_on_node;
pub(crate) use start::execute as start_on_host;

pub(crate) async fn execute(args: &WorkerArgs, dir: StateDir) -> Result<Exit, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let end = (args.mode == WorkerMode::Host).then(|| End::of(args));
    let stopped = stop(end.as_ref().map(|end| end.work_time(args)))?;
    let allocation = AllocationId(args.allocation);
    let (events, reports) = mpsc::unbounded_channel::<StepEvent>();
    let report = Arc::new(move |event| drop(events.send(event)));
    let means = match args.mode {
        WorkerMode::Slurm => {
            let name = format!("wf{}_al{allocation}", args.workflow);
            Means::of_slurm(args, dir.scratch().join(name), report).await?
        }
        WorkerMode::Direct => Means::of_crew(args, dir.scratch(), report).await?,
        WorkerMode::Host => {
            let name = format!("wf{}_al{allocation}", args.workflow);
            let end = end.unwrap_or_else(|| End::of(args));
            Means::of_host(args, dir.scratch().join(name), report, &end).await?
        }
        WorkerMode::Plugin => Means::of_plugin(args, dir.scratch(), report).await?,
    };
    let nodes = means.executor.inventory().await.map_err(|error| environment(&error))?;
    let ended = work(WorkerParts {
        dir,
        workflow: args.workflow,
        allocation,
        handle: means.handle,
        nodes,
        began_at: means.began_at,
        ends_at: means.ends_at,
        executor: means.executor,
        reports,
        on_node: means.on_node,
        release: means.release,
        wind_up: means.wind_up,
        ask_end: means.ask_end,
        tell_end: means.tell_end,
        stop: stopped,
        patience: Duration::from_secs(60 * args.patience),
    })
    .await;
    (means.shutdown)().await;
    match ended {
        Ok(WorkerEnd::Left(reason)) => errln!("the worker leaves: {reason}"),
        Ok(WorkerEnd::Stopped) => errln!("the worker was asked to end"),
        Err(error) => return Err(environment(&error)),
    }
    Ok(Exit::Success)
}

/// Turns true when this process is asked to end, or has had its time.
fn stop(
    time: Option<impl Future<Output = ()> + Send + 'static>,
) -> Result<watch::Receiver<bool>, Failure> {
    let (stop, stopped) = watch::channel(false);
    let mut interrupts = Interrupts::listen()?;
    tokio::spawn(async move {
        let interrupted = interrupts.next();
        match time {
            Some(time) => tokio::select! {
                () = time => {}
                () = interrupted => {}
            },
            None => interrupted.await,
        }
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}

/// What launches the steps of the allocation, and how that comes to its end.
struct Means {
    executor: Arc<dyn Executor>,
    handle: AllocationHandle,
    ask_end: AskEnd,
    tell_end: Option<TellEnd>,
    began_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    on_node: Option<OnNode>,
    release: Option<Release>,
    wind_up: WindUp,
    shutdown: WindUp,
}

impl Means {
    /// Each step is started by an srun of its own.
    async fn of_slurm(
        args: &WorkerArgs,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let handle = job()?;
        let allocation = AllocationId(args.allocation);
        let mut config = SlurmConfig::new(allocation, scratch, std::env::vars_os().collect());
        config.max_parallel_steps = args.max_parallel_steps;
        config.headroom = Duration::from_secs(args.headroom);
        config.programs = programs();
        let started = SlurmExecutor::start(config, report).await;
        let executor = Arc::new(started.map_err(|error| Failure::new(Exit::Environment, &error))?);
        let (winding, closing) = (executor.clone(), executor.clone());
        Ok(Self {
            handle,
            ask_end: end_of(executor.allocation().clone()),
            tell_end: None,
            began_at: executor.began_at(),
            ends_at: executor.ends_at(),
            executor,
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }

    /// A worker on each node runs that node's steps.
    async fn of_crew(
        args: &WorkerArgs,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
        let handle = job()?;
        let leading = Leading {
            allocation: AllocationId(args.allocation),
            scratch,
            srun_mpi: args.srun_mpi.clone(),
            staggered: args.staggered,
            headroom: Duration::from_secs(args.headroom),
        };
        let env: Vec<_> = std::env::vars_os().collect();
        let survey =
            SlurmSurvey::of(&env, programs()).await.map_err(|error| environment(&error))?;
        let allocation = survey.allocation().clone();
        let (began_at, ends_at) = (survey.began_at(), survey.ends_at());
        let started_by = launcher(args)?.map(|launcher| {
            (launcher, LaunchFolders::new(leading.scratch.clone(), report.clone()))
        });
        let report = match &started_by {
            Some((_, folders)) => folders.clone(),
            None => report,
        };
        let crew = lead_crew(survey, env, leading, report).await;
        let crew = crew.map_err(|error| environment(&error))?;
        let executor: Arc<dyn Executor> = match started_by {
            Some((launcher, folders)) => Arc::new(Launched::new(crew.clone(), launcher, folders)),
            None => crew.clone(),
        };
        let (winding, closing) = (crew.clone(), crew.clone());
        let (on_node, giving) = (on_node(crew.clone()), crew.clone());
        Ok(Self {
            executor,
            handle,
            ask_end: end_of(allocation),
            tell_end: None,
            began_at,
            ends_at,
            on_node: Some(on_node),
            release: Some(Box::new(move |node, parting| giving.release(node, parting))),
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }
}

/// Runs commands by the workers of a crew.
pub(crate) fn on_node(crew: Arc<Crew>) -> OnNode {
    Box::new(move |node, process| {
        let (crew, node) = (crew.clone(), node.to_owned());
        Box::pin(async move { crew.run_on(&node, process).await })
    })
}

/// The Slurm job that this process is in.
fn job() -> Result<AllocationHandle, Failure> {
    let words = "a worker runs inside a Slurm allocation, and this is none";
    let id = std::env::var("SLURM_JOB_ID").map_err(|_| Failure::new(Exit::Environment, words))?;
    Ok(AllocationHandle(id))
}

/// Asks Slurm when its allocation ends.
fn end_of(allocation: SlurmAllocation) -> AskEnd {
    Box::new(move || {
        let asked = allocation.clone();
        Box::pin(async move { asked.observe_end().await.map_err(drop) })
    })
}

/// What starts the commands of jobs.
fn launcher(args: &WorkerArgs) -> Result<Option<Arc<dyn Launcher>>, Failure> {
    let Some(told) = &args.launcher else { return Ok(None) };
    let WorkerLauncher { launcher, settings } = serde_json::from_str(told)
        .map_err(|error| Failure::new(Exit::Usage, format!("--launcher: {error}")))?;
    launchers::open(&launcher, &settings, &PluginArgs::default()).map(Some)
}

/// The folder of Slurm's programs inside an allocation, as the settings of whoever has it say; `None`: PATH. A
/// folder that
/// only the host of the server has is of no use here.
pub(crate) fn programs() -> Option<PathBuf> {
    match Settings::load() {
        Ok(settings) => {
            settings.slurm_programs.value.filter(|folder| folder.join("srun").is_file())
        }
        Err(failure) => {
            errln!("{}; Slurm's programs are looked for in PATH", failure.message);
            None
        }
    }
}
