//! The worker of an allocation of Slurm's in which a plugin launches the steps.
//!
//! Owns: that the plugin's nodes are the allocation's, and that what runs is asked to end before that does. Does not
//! know: how the plugin launches anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torc_core::time::Timestamp;
use torc_core::traits::{Executor, StepEvents};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::slurm::{SlurmAllocation, SlurmSurvey};
use torc_server::allocation_request::WorkerExecutor;
use torc_server::clock::now;

use super::{Means, end_of, job, launcher, programs};
use crate::args::{PluginArgs, WorkerArgs};
use crate::executors::Guest;
use crate::exit::{Exit, Failure};

/// Between two questions about the end of the allocation where the last was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Opens the plugin that this worker was told of; `None`: it was told of none.
pub(super) async fn guest(args: &WorkerArgs) -> Result<Option<Guest>, Failure> {
    let Some(told) = &args.executor else { return Ok(None) };
    let executor: WorkerExecutor = serde_json::from_str(told)
        .map_err(|error| Failure::new(Exit::Usage, format!("--executor: {error}")))?;
    Guest::open(&executor, &PluginArgs::default()).await.map(Some)
}

/// What launches the steps by a plugin that reports to `report`, through the launcher if there is one.
pub(super) fn launching(
    guest: &Arc<Guest>,
    args: &WorkerArgs,
    scratch: PathBuf,
    report: Arc<dyn StepEvents>,
) -> Result<Arc<dyn Executor>, Failure> {
    let executor: Arc<dyn Executor> = guest.clone();
    let Some(launcher) = launcher(args)? else {
        guest.report_to(report);
        return Ok(executor);
    };
    let folders = LaunchFolders::new(scratch, report);
    guest.report_to(folders.clone());
    Ok(Arc::new(Launched::new(executor, launcher, folders)))
}

impl Means {
    /// The plugin launches each step on the nodes of the allocation that it has.
    pub(super) async fn of_plugin(
        args: &WorkerArgs,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let handle = job()?;
        let env: Vec<_> = std::env::vars_os().collect();
        let survey = SlurmSurvey::of(&env, programs()).await;
        let survey = survey.map_err(|error| Failure::new(Exit::Environment, error))?;
        let guest = guest(args).await?.ok_or_else(|| {
            Failure::new(Exit::Usage, "a worker of mode plugin has to be told of one")
        })?;
        let guest = Arc::new(guest.within(survey.nodes())?);
        let executor = launching(&guest, args, scratch, report)?;
        let (allocation, ends_at) = (survey.allocation().clone(), survey.ends_at());
        if let Some(ends_at) = ends_at {
            let headroom = Duration::from_secs(args.headroom) / 2;
            tokio::spawn(end_in_time(guest.clone(), allocation.clone(), ends_at, headroom));
        }
        let (winding, closing) = (guest.clone(), guest);
        Ok(Self {
            executor,
            handle,
            ask_end: end_of(allocation),
            tell_end: None,
            began_at: survey.began_at(),
            ends_at,
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }
}

/// Has what the server, if there is one, has not ended by then come to its end.
async fn end_in_time(
    guest: Arc<Guest>,
    allocation: SlurmAllocation,
    mut ends_at: Timestamp,
    headroom: Duration,
) {
    loop {
        let left = ends_at.since(now()).saturating_sub(headroom);
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
        match allocation.observe_end().await {
            Ok(None) => return,
            Ok(Some(later)) if later > ends_at => ends_at = later,
            Ok(Some(_)) => return guest.wind_up().await,
            // Where nobody answers, what was known last counts.
            Err(_) if ends_at.since(now()) <= headroom / 2 => return guest.wind_up().await,
            Err(_) => tokio::time::sleep(ASK_AGAIN.min(headroom / 4)).await,
        }
    }
}
