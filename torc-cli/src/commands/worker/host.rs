//! The worker of an allocation that is not Slurm's: one host, of which the scheduler's plugin says what is
//! given.
//!
//! Owns: what the plugin leaves in the environment. Does not know: which scheduler it is. Invariant: what runs
//! is asked to end before the scheduler kills it, whether there is a server or not.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torc_core::resources::NodeInventory;
use torc_core::traits::{AllocationHandle, Executor, StepEvents};
use torc_executors::host::{self, PerNode};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::local::{LocalConfig, LocalExecutor};
use torc_server::clock::now;

use super::{Means, launcher};
use crate::args::WorkerArgs;
use crate::exit::{Exit, Failure};

/// The scheduler's own name for the allocation; plugins set it for the command of a request.
const HANDLE: &str = "TORC_ALLOCATION_HANDLE";
/// How many CPUs of the host the allocation has; not set: all that this process may use.
const CPUS: &str = "TORC_ALLOCATION_CPUS";

impl Means {
    /// This process runs the steps.
    pub(super) fn of_host(
        args: &WorkerArgs,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
        let handle = std::env::var(HANDLE).map_err(|_| {
            let words = format!(
                "{HANDLE} is not set: the plugin of the scheduler must set it to the name of the allocation"
            );
            environment(&words)
        })?;
        let nodes = nodes()?;
        let folders = LaunchFolders::new(scratch.clone(), report);
        let config = LocalConfig::new(nodes, scratch, std::env::vars_os().collect());
        let local = LocalExecutor::start(config, folders.clone());
        let local = Arc::new(local.map_err(|error| environment(&error))?);
        let executor: Arc<dyn Executor> = match launcher(args)? {
            Some(launcher) => Arc::new(Launched::new(local.clone(), launcher, folders)),
            None => local.clone(),
        };
        let began_at = now();
        let ends_at = began_at + Duration::from_secs(args.walltime.unwrap_or_default());
        let (winding, closing) = (local.clone(), local);
        Ok(Self {
            executor,
            handle: AllocationHandle(handle),
            began_at: Some(began_at),
            ends_at: Some(ends_at),
            ask_end: Box::new(move || Box::pin(async move { Ok(Some(ends_at)) })),
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }
}

/// How long this process may work: what is left of the time then is for the end of what the server, if there
/// is one, has not ended.
pub(super) fn working_time(args: &WorkerArgs) -> Option<Duration> {
    let walltime = Duration::from_secs(args.walltime?);
    Some(walltime.saturating_sub(Duration::from_secs(args.headroom) / 2))
}

/// This host, as far as it is given.
fn nodes() -> Result<Vec<NodeInventory>, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let host = host::inventory().map_err(|error| environment(&error))?;
    let cpus = match std::env::var(CPUS) {
        Err(_) => None,
        Ok(text) => Some(text.parse().map_err(|_| {
            environment(&format!("{CPUS} is to be a number of CPUs, and is `{text}`"))
        })?),
    };
    let each = PerNode { cpus: cpus.map(|cpus: u32| cpus.min(host.cpus())), ..PerNode::default() };
    host::pretend(&host, NonZeroU32::MIN, each).map_err(|error| environment(&error))
}
