//! `torc node-worker`: what the worker of an allocation starts on each of its nodes, in mode direct and where the
//! allocation is not Slurm's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use torc_core::traits::{StepEvent, StepEvents};
use torc_executors::direct::{NodeConfig, NodeExecutor};
use torc_executors::host;
use torc_executors::hosts::{Granted, HostConfig, HostExecutor};
use torc_server::crew::{Access, NodeEnd, NodeError, NodeParts, work_on_node};

use super::stop;
use crate::args::NodeWorkerArgs;
use crate::exit::{Exit, Failure};
use crate::led_hosts::AGENT;
use crate::out::errln;

/// How far apart the workers of two nodes come, on average: their leader takes in so many a second, and more.
const APART: Duration = Duration::from_millis(2);

pub(crate) async fn execute(args: &NodeWorkerArgs) -> Result<Exit, Failure> {
    let access = Access::read(&args.access).map_err(|error| environment(&error))?;
    let ended = match (&args.srun, &args.host) {
        (Some(srun), _) => work_in_slurm(args, access, srun.clone()).await?,
        (None, Some(name)) => {
            let granted = Granted { name: name.as_str().into(), cpus: args.cpus };
            work_on_host(args, access, granted).await?
        }
        // The command line has one of them.
        _ => return Err(Failure::new(Exit::Usage, "--srun or --host is needed")),
    };
    match ended {
        Ok(NodeEnd::Left | NodeEnd::Stopped) => Ok(Exit::Success),
        Err(error) => {
            errln!("what ran here was ended");
            Err(environment(&error))
        }
    }
}

fn environment(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, error)
}

/// In the task of an srun, which names the node.
async fn work_in_slurm(
    args: &NodeWorkerArgs,
    access: Access,
    srun: PathBuf,
) -> Result<Result<NodeEnd, NodeError>, Failure> {
    let Ok(name) = std::env::var("SLURMD_NODENAME") else {
        return Err(environment(&"a node's worker is started by srun, which names the node"));
    };
    let stopped = stop(None::<std::future::Ready<()>>)?;
    let node = access.node(&name).map_err(|error| environment(&error))?.clone();
    let (report, reports) = reports();
    let config = NodeConfig {
        base_env: std::env::vars_os().collect(),
        node,
        crew_dir: args.scratch.clone(),
        srun,
        // Steps come without a limit where they are not to be held to one.
        enforce_memory: true,
        umask: None,
        keeper_program: None,
    };
    let started = NodeExecutor::start(config, report);
    let executor = Arc::new(started.map_err(|error| environment(&error))?);
    let (winding, leasing, surrounding) = (executor.clone(), executor.clone(), executor.clone());
    let ended = work_on_node(NodeParts {
        delay: if args.staggered { APART * place(&access, &name) } else { Duration::ZERO },
        access,
        node: name.into(),
        has: None,
        executor: executor.clone(),
        reports,
        lease: Box::new(move |time| leasing.lease(time)),
        surround: Box::new(move |own| surrounding.surround(own)),
        wind_up: Box::new(move |is_taken| Box::pin(async move { winding.wind_up(is_taken).await })),
        stop: stopped,
    })
    .await;
    executor.shutdown().await;
    Ok(ended)
}

/// On a host that the allocation has so much of.
async fn work_on_host(
    args: &NodeWorkerArgs,
    access: Access,
    granted: Granted,
) -> Result<Result<NodeEnd, NodeError>, Failure> {
    let stopped = stop(None::<std::future::Ready<()>>)?;
    let host = granted.of(host::inventory().map_err(|error| environment(&error))?);
    let (report, reports) = reports();
    let config = HostConfig {
        base_env: std::env::vars_os().collect(),
        host: host.clone(),
        crew_dir: args.scratch.clone(),
        agent: args.scratch.join(AGENT),
    };
    let started = HostExecutor::start(config, report);
    let executor = Arc::new(started.map_err(|error| environment(&error))?);
    let (winding, leasing, surrounding) = (executor.clone(), executor.clone(), executor.clone());
    let ended = work_on_node(NodeParts {
        delay: Duration::ZERO,
        access,
        node: granted.name,
        has: Some(host),
        executor: executor.clone(),
        reports,
        lease: Box::new(move |time| leasing.lease(time)),
        surround: Box::new(move |own| surrounding.surround(own)),
        wind_up: Box::new(move |_| Box::pin(async move { winding.wind_up().await })),
        stop: stopped,
    })
    .await;
    executor.shutdown().await;
    Ok(ended)
}

fn reports() -> (Arc<dyn StepEvents>, mpsc::UnboundedReceiver<StepEvent>) {
    let (events, reports) = mpsc::unbounded_channel::<StepEvent>();
    (Arc::new(move |event| drop(events.send(event))), reports)
}

/// The node's place in the allocation.
fn place(access: &Access, name: &str) -> u32 {
    let place = access.nodes().iter().position(|node| &*node.name == name);
    place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
}
