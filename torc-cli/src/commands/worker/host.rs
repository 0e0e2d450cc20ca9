//! The worker of an allocation that is not Slurm's: one host or several, of which the scheduler's plugin says what is
//! given.
//!
//! Owns: what the plugin leaves in the environment. Does not know: which scheduler it is. Invariant: what runs
//! is asked to end before the scheduler kills it, whether there is a server or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use torc_core::ids::AllocationId;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, Executor, Launcher, StepEvents};
use torc_core::wire::link::Parting;
use torc_executors::host;
use torc_executors::hosts::{Granted, StartTemplate};
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::local::{LocalConfig, LocalExecutor};
use torc_server::clock::now;
use torc_server::worker::{OnNode, Release, WindUp};

use super::{Means, launcher, on_node, plugin};
use crate::args::WorkerArgs;
use crate::executors::Guest;
use crate::exit::{Exit, Failure};
use crate::led_hosts::{HostLeading, lead_hosts};

/// The scheduler's own name for the allocation; plugins set it for the command of a request.
const HANDLE: &str = "TORC_ALLOCATION_HANDLE";
/// How many CPUs of the host the allocation has; not set: all that this process may use.
const CPUS: &str = "TORC_ALLOCATION_CPUS";
/// The hosts of the allocation, this one first; not set: this one.
const HOSTS: &str = "TORC_ALLOCATION_HOSTS";
/// How a command is started on another host.
const START: &str = "TORC_ALLOCATION_START";

/// When the allocation ends, as far as is known. It may move.
pub(super) struct End {
    known: Arc<watch::Sender<Timestamp>>,
    began_at: Timestamp,
}

impl End {
    /// As was asked for, from now on.
    pub(super) fn of(args: &WorkerArgs) -> Self {
        let began_at = now();
        let ends_at = began_at + Duration::from_secs(args.walltime.unwrap_or_default());
        Self { known: Arc::new(watch::Sender::new(ends_at)), began_at }
    }

    /// Returns when this process has had its time: what is left of it then is for the end of what the server, if
    /// there is one, has not ended.
    pub(super) fn work_time(&self, args: &WorkerArgs) -> impl Future<Output = ()> + use<> {
        let (mut ends_at, margin) =
            (self.known.subscribe(), Duration::from_secs(args.headroom) / 2);
        async move {
            loop {
                let left = ends_at.borrow_and_update().since(now()).saturating_sub(margin);
                tokio::select! {
                    () = tokio::time::sleep(left) => return,
                    Ok(()) = ends_at.changed() => {}
                }
            }
        }
    }
}

impl Means {
    /// This process runs the steps, a plugin that is loaded here, or those that this one leads on several hosts.
    pub(super) async fn of_host(
        args: &WorkerArgs,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
        end: &End,
    ) -> Result<Self, Failure> {
        let handle = variable(HANDLE).ok_or_else(|| {
            environment(&format!(
                "{HANDLE} is not set: the plugin of the scheduler must set it to the name of the allocation"
            ))
        })?;
        let folders = LaunchFolders::new(scratch.clone(), report);
        let hosts = hosts()?;
        check_count(hosts.len(), args.hosts)?;
        let started_by = launcher(args)?;
        let guest = plugin::guest(args).await?;
        let works = match (guest, hosts.as_slice()) {
            (Some(guest), hosts) => Works::of_plugin(guest, hosts, folders.clone())?,
            (None, [host]) => Works::on_one(host, scratch, folders.clone())?,
            (None, _) => {
                let leading = HostLeading {
                    allocation: AllocationId(args.allocation),
                    handle: handle.clone(),
                    start: start(hosts.len())?,
                    hosts,
                    scratch,
                    headroom: Duration::from_secs(args.headroom),
                    ends_at: end.known.subscribe(),
                };
                Works::on_several(leading, folders.clone())?
            }
        };
        let (asked, told) = (Arc::clone(&end.known), Arc::clone(&end.known));
        Ok(Self {
            executor: launched(works.executor, started_by, folders),
            handle: AllocationHandle(handle),
            began_at: Some(end.began_at),
            ends_at: Some(*end.known.borrow()),
            ask_end: Box::new(move || {
                let ends_at = *asked.borrow();
                Box::pin(async move { Ok(Some(ends_at)) })
            }),
            tell_end: Some(Box::new(move |at| told.send_modify(|known| *known = at))),
            on_node: works.on_node,
            release: works.release,
            wind_up: works.wind_up,
            shutdown: works.shutdown,
        })
    }
}

/// What launches steps, and how that comes to its end.
struct Works {
    executor: Arc<dyn Executor>,
    on_node: Option<OnNode>,
    release: Option<Release>,
    wind_up: WindUp,
    shutdown: WindUp,
}

impl Works {
    fn on_one(
        granted: &Granted,
        scratch: PathBuf,
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let host = granted.of(host::inventory().map_err(|error| environment(&error))?);
        let config = LocalConfig::new(vec![host], scratch, std::env::vars_os().collect());
        let local =
            Arc::new(LocalExecutor::start(config, report).map_err(|error| environment(&error))?);
        let (winding, closing) = (local.clone(), local.clone());
        Ok(Self {
            executor: local,
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }

    /// A plugin launches each step on the hosts that it has, and no more of each than is given.
    fn of_plugin(
        guest: Guest,
        hosts: &[Granted],
        report: Arc<dyn StepEvents>,
    ) -> Result<Self, Failure> {
        let given = |host: &Granted| {
            let found = guest.nodes().iter().find(|node| node.name == host.name);
            found.map_or_else(|| host.unseen(), |node| host.of(node.clone()))
        };
        let given: Vec<_> = hosts.iter().map(given).collect();
        let guest = Arc::new(guest.within(&given)?);
        guest.report_to(report);
        let (winding, closing) = (guest.clone(), guest.clone());
        Ok(Self {
            executor: guest,
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }

    /// A worker on each host.
    fn on_several(leading: HostLeading, report: Arc<dyn StepEvents>) -> Result<Self, Failure> {
        let env = std::env::vars_os().collect();
        let crew = lead_hosts(leading, env, report).map_err(|error| environment(&error))?;
        let (winding, closing, giving) = (crew.clone(), crew.clone(), crew.clone());
        Ok(Self {
            on_node: Some(on_node(crew.clone())),
            executor: crew,
            // Nobody was told how a host is given back.
            release: Some(Box::new(move |node, _| giving.release(node, Parting::Stays))),
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            shutdown: Box::new(move || Box::pin(async move { closing.shutdown().await })),
        })
    }
}

/// What launches steps, with what starts their commands.
fn launched(
    executor: Arc<dyn Executor>,
    launcher: Option<Arc<dyn Launcher>>,
    folders: Arc<LaunchFolders>,
) -> Arc<dyn Executor> {
    match launcher {
        Some(launcher) => Arc::new(Launched::new(executor, launcher, folders)),
        None => executor,
    }
}

fn environment(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, error)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The hosts that the allocation has, this one first.
fn hosts() -> Result<Vec<Granted>, Failure> {
    if let Some(list) = variable(HOSTS) {
        return Granted::parse(&list).map_err(|error| {
            environment(&format!(
                "{HOSTS} is `{list}`, which the plugin of the scheduler must set right: {error}"
            ))
        });
    }
    let cpus = match variable(CPUS) {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|cpus| *cpus > 0).ok_or_else(|| {
            environment(&format!("{CPUS} is to be a number of CPUs, and is `{text}`"))
        })?),
    };
    let host = host::inventory().map_err(|error| environment(&error))?;
    Ok(vec![Granted { name: host.name, cpus }])
}

/// What was asked for is what the plugin has to tell of.
fn check_count(found: usize, wanted: u32) -> Result<(), Failure> {
    if found >= wanted as usize {
        return Ok(());
    }
    let words = format!(
        "the allocation is to have {wanted} hosts, and this worker knows {found}: the plugin of the scheduler must \
         ask for them, and name them in {HOSTS}, with commas between them"
    );
    Err(environment(&words))
}

/// How a command is started on the other hosts.
fn start(hosts: usize) -> Result<StartTemplate, Failure> {
    let text = variable(START).ok_or_else(|| {
        environment(&format!(
            "the allocation has {hosts} hosts, and {START} is not set: the plugin of the scheduler must say how a \
             command is started on the others, as [\"rsh\", \"{{host}}\", \"{{shell_command}}\"]"
        ))
    })?;
    StartTemplate::parse(&text)
        .map_err(|error| environment(&format!("{START} is `{text}`: {error}")))
}
