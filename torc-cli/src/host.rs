//! What of this machine a run may use, from the command line's options.

use std::num::NonZeroU32;
use std::sync::Arc;

use torc_core::engine::LaunchContext;
use torc_core::time::Timestamp;
use torc_core::traits::{Executor, ExecutorError, StepEvents};
use torc_executors::host::{self, PerNode};
use torc_executors::local::{LocalConfig, LocalExecutor};
use torc_server::clock::now;
use torc_server::session::RunOptions;
use torc_server::state_dir::StateDir;

use crate::args::ResourceArgs;
use crate::exit::{Exit, Failure};

/// The nodes to run on: this host, or what it pretends to be.
pub(crate) fn run_options(args: &ResourceArgs) -> Result<RunOptions, Failure> {
    let inventory = host::inventory().map_err(|error| Failure::new(Exit::Environment, error))?;
    let per_node = PerNode { cpus: args.num_cpus, memory: args.memory_gb, gpus: args.num_gpus };
    let count = args.nodes.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let nodes = host::pretend(&inventory, count, per_node)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut labels: Vec<Box<str>> = args.labels.iter().map(|label| label.as_str().into()).collect();
    labels.sort_unstable();
    labels.dedup();
    let ends_at: Option<Timestamp> = args.end_time.or(args.time_limit.map(|limit| now() + limit));
    Ok(RunOptions {
        nodes,
        labels: labels.into(),
        ends_at,
        max_parallel_jobs: args.max_parallel_jobs,
    })
}

/// Starts what launches jobs on this machine.
pub(crate) fn local_executor(
    args: &ResourceArgs,
    options: &RunOptions,
    dir: &StateDir,
) -> impl FnOnce(&LaunchContext, Arc<dyn StepEvents>) -> Result<Arc<dyn Executor>, ExecutorError> + use<>
{
    let mut config =
        LocalConfig::new(options.nodes.clone(), dir.scratch(), std::env::vars_os().collect());
    config.pin = args.pin;
    move |_, events| Ok(Arc::new(LocalExecutor::start(config, events)?))
}
