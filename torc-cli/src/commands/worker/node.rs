//! `torc node-worker`: what the worker of an allocation starts on each of its nodes in mode direct.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use torc_core::traits::StepEvent;
use torc_executors::direct::{NodeConfig, NodeExecutor};
use torc_server::crew::{Access, NodeEnd, NodeParts, work_on_node};

use super::stop;
use crate::args::NodeWorkerArgs;
use crate::exit::{Exit, Failure};
use crate::out::errln;

/// How far apart the workers of two nodes come, on average: their leader takes in so many a second, and more.
const APART: Duration = Duration::from_millis(2);

pub(crate) async fn execute(args: &NodeWorkerArgs) -> Result<Exit, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let Ok(name) = std::env::var("SLURMD_NODENAME") else {
        return Err(environment(&"a node's worker is started by srun, which names the node"));
    };
    let stopped = stop(None)?;
    let access = Access::read(&args.access).map_err(|error| environment(&error))?;
    let node = access.node(&name).map_err(|error| environment(&error))?.clone();
    let (events, reports) = mpsc::unbounded_channel::<StepEvent>();
    let config = NodeConfig {
        base_env: std::env::vars_os().collect(),
        node,
        crew_dir: args.scratch.clone(),
        srun: args.srun.clone(),
        // Steps come without a limit where they are not to be held to one.
        enforce_memory: true,
        umask: None,
        keeper_program: None,
    };
    let report = Arc::new(move |event| drop(events.send(event)));
    let started = NodeExecutor::start(config, report);
    let executor = Arc::new(started.map_err(|error| environment(&error))?);
    let (winding, leasing, surrounding) = (executor.clone(), executor.clone(), executor.clone());
    let ended = work_on_node(NodeParts {
        delay: if args.staggered { APART * place(&access, &name) } else { Duration::ZERO },
        access,
        node: name.into(),
        executor: executor.clone(),
        reports,
        lease: Box::new(move |time| leasing.lease(time)),
        surround: Box::new(move |own| surrounding.surround(own)),
        wind_up: Box::new(move |is_taken| Box::pin(async move { winding.wind_up(is_taken).await })),
        stop: stopped,
    })
    .await;
    executor.shutdown().await;
    match ended {
        Ok(NodeEnd::Left | NodeEnd::Stopped) => Ok(Exit::Success),
        Err(error) => {
            errln!("what ran here was ended");
            Err(environment(&error))
        }
    }
}

/// The node's place in the allocation.
fn place(access: &Access, name: &str) -> u32 {
    let place = access.nodes().iter().position(|node| &*node.name == name);
    place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
}
