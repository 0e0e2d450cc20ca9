//! `torc worker`: what a batch script starts on the first node of its allocation.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use torc_core::ids::AllocationId;
use torc_core::traits::{AllocationHandle, Executor, StepEvent};
use torc_executors::slurm::{SlurmConfig, SlurmExecutor};
use torc_server::state_dir::StateDir;
use torc_server::worker::{WorkerEnd, WorkerParts, work};

use crate::args::WorkerArgs;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::out::errln;
use crate::settings::Settings;

pub(crate) async fn execute(args: &WorkerArgs, dir: StateDir) -> Result<Exit, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let Ok(job_id) = std::env::var("SLURM_JOB_ID") else {
        return Err(environment(&"a worker runs inside a Slurm allocation, and this is none"));
    };
    let allocation = AllocationId(args.allocation);
    let (events, reports) = mpsc::unbounded_channel::<StepEvent>();
    let report = Arc::new(move |event| drop(events.send(event)));
    let scratch = dir.scratch().join(format!("wf{}_al{allocation}", args.workflow));
    let mut config = SlurmConfig::new(allocation, scratch, std::env::vars_os().collect());
    config.max_parallel_steps = args.max_parallel_steps;
    config.headroom = Duration::from_secs(args.headroom);
    config.programs = programs();
    let executor =
        Arc::new(SlurmExecutor::start(config, report).await.map_err(|error| environment(&error))?);
    let nodes = executor.inventory().await.map_err(|error| environment(&error))?;
    let (began_at, ends_at) = (executor.began_at(), executor.ends_at());
    let (asked, wound_up) = (executor.clone(), executor.clone());
    let (stop, stopped) = watch::channel(false);
    let mut interrupts = Interrupts::listen()?;
    tokio::spawn(async move {
        interrupts.next().await;
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    });
    let ended = work(WorkerParts {
        dir,
        workflow: args.workflow,
        allocation,
        handle: AllocationHandle(job_id),
        nodes,
        began_at,
        ends_at,
        executor: executor.clone(),
        reports,
        wind_up: Box::new(move || Box::pin(async move { wound_up.wind_up().await })),
        ask_end: Box::new(move || {
            let asked = asked.clone();
            Box::pin(async move { asked.allocation().observe_end().await.map_err(drop) })
        }),
        stop: stopped,
        patience: Duration::from_secs(60 * args.patience),
    })
    .await;
    executor.shutdown().await;
    match ended {
        Ok(WorkerEnd::Left(reason)) => errln!("the worker leaves: {reason}"),
        Ok(WorkerEnd::Stopped) => errln!("the worker was asked to end"),
        Err(error) => return Err(environment(&error)),
    }
    Ok(Exit::Success)
}

/// The folder of Slurm's programs, as the settings of whoever submitted say; `None`: PATH. A folder that
/// only the host of the server has is of no use here.
fn programs() -> Option<PathBuf> {
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
