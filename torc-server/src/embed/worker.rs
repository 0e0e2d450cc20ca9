//! The worker that an embedding program is for its own allocations: one host, of which its scheduler says what is
//! given.
//!
//! Owns: how a program finds that it was started as a worker, and what it does then. Does not know: which scheduler
//! started it. Invariant: what runs is asked to end before the time of the allocation is up, whether there is a
//! server or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use torc_core::ids::{AllocationId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{AllocationHandle, AllocationRequest, Executor, Launcher, StepEvent};
use torc_core::workflow::LauncherSetting;
use torc_executors::host::{self, InventoryError, PerNode, PretendError};
use torc_executors::keeper;
use torc_executors::launched::{LaunchFolders, Launched};
use torc_executors::local::{LocalConfig, LocalExecutor, StartError};

use crate::allocation_request::WorkerLauncher;
use crate::clock::now;
use crate::state_dir::StateDir;
use crate::worker::{WorkerError, WorkerParts, work};

/// The variable in which a scheduler passes its own name for the allocation to the command of a request.
pub const HANDLE_VARIABLE: &str = "TORC_ALLOCATION_HANDLE";
/// The variable in which it says how many CPUs of the host the allocation has. Not set: all that the command may
/// use.
pub const CPUS_VARIABLE: &str = "TORC_ALLOCATION_CPUS";

/// The command of a request, to be started on this host as the allocation with this handle: with the request's
/// environment, working folder and output, and with [`HANDLE_VARIABLE`]. The file mode creation mask is this process's.
///
/// # Errors
/// When the request's output cannot be written, or it has no command.
pub fn worker_command(
    request: &AllocationRequest,
    handle: &AllocationHandle,
) -> std::io::Result<Command> {
    let [program, arguments @ ..] = request.command.as_slice() else {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "the request has no command"));
    };
    let output = File::create(&request.output)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&request.working_dir);
    command.env_clear().envs(request.env.iter().map(|(name, value)| (name, value)));
    command.env(HANDLE_VARIABLE, &handle.0);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(command)
}

/// A program was started as a worker, and could not be one.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedWorkerError {
    /// Its command line is not that of a request.
    #[error(
        "a worker needs the option {0}, with a value that makes sense; it is started by the command of a request"
    )]
    Option(&'static str),
    /// The scheduler left something out.
    #[error("{name} is {found}: the scheduler has to set it to {wanted}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it is to be.
        wanted: &'static str,
    },
    /// A launcher that is a plugin.
    #[error(
        "the launcher `{0}` is a plugin, and this program opens none; use a worker that does (with_worker)"
    )]
    Launcher(Box<str>),
    /// This host cannot be looked at.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// It has less than the scheduler says.
    #[error(transparent)]
    Given(#[from] PretendError),
    /// Nothing can be launched here.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operating system does not give what a process needs.
    #[error("a worker cannot begin: {0}")]
    System(#[from] std::io::Error),
    /// It could not go on.
    #[error(transparent)]
    Work(#[from] WorkerError),
}

/// Becomes what torc has started this process as: the worker of an allocation, or the process that watches over the
/// processes of jobs ([`keeper::run_if_asked`]). Returns once that has ended; `main` has to return it then, and to do
/// nothing else. Returns `None` at once in a process that somebody else started.
///
/// Every program whose allocations' worker is itself calls this first thing in its `main`, before it starts a thread or
/// a runtime, reads arguments or prints.
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
///     if let Some(ended) = torc_server::embed::run_if_asked() {
///         return Ok(ended?);
///     }
///     // What the program does.
///     Ok(ExitCode::SUCCESS)
/// }
/// ```
#[must_use = "main must return what this process came to, and do nothing else"]
pub fn run_if_asked() -> Option<Result<ExitCode, EmbeddedWorkerError>> {
    if let Some(code) = keeper::run_if_asked() {
        return Some(Ok(code));
    }
    let mut words = std::env::args().skip(1);
    if words.next()? != "worker" {
        return None;
    }
    let words: Vec<String> = words.collect();
    let options: BTreeMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1])).collect();
    // A program may have a command of this name itself.
    let is_ours = ["--output-dir", "--workflow", "--allocation"];
    is_ours.iter().all(|name| options.contains_key(name)).then(|| run(&options))
}

fn run(options: &BTreeMap<&str, &str>) -> Result<ExitCode, EmbeddedWorkerError> {
    let asked = Asked::read(options)?;
    tokio::runtime::Runtime::new()?.block_on(asked.work())?;
    Ok(ExitCode::SUCCESS)
}

/// What a worker is told on its command line.
struct Asked {
    dir: StateDir,
    workflow: WorkflowId,
    allocation: AllocationId,
    headroom: Duration,
    patience: Duration,
    walltime: Duration,
    launcher: Option<Arc<dyn Launcher>>,
}

impl Asked {
    fn read(options: &BTreeMap<&str, &str>) -> Result<Self, EmbeddedWorkerError> {
        let launcher = match options.get("--launcher") {
            Some(text) => Some(launcher(text)?),
            None => None,
        };
        Ok(Self {
            dir: StateDir::at(option::<String>(options, "--output-dir")?.as_ref())?,
            workflow: WorkflowId(option(options, "--workflow")?),
            allocation: AllocationId(option(options, "--allocation")?),
            headroom: Duration::from_secs(option(options, "--headroom")?),
            patience: Duration::from_secs(60 * option::<u64>(options, "--patience")?),
            walltime: Duration::from_secs(option(options, "--walltime")?),
            launcher,
        })
    }

    async fn work(self) -> Result<(), EmbeddedWorkerError> {
        // What is left of the time then is for the end of what the server, if there is one, has not ended.
        let stop = stop(self.walltime.saturating_sub(self.headroom / 2))?;
        let handle = std::env::var(HANDLE_VARIABLE).map_err(|_| EmbeddedWorkerError::Variable {
            name: HANDLE_VARIABLE,
            found: "not set".to_owned(),
            wanted: "the handle that it returned for the allocation",
        })?;
        let (events, reports) = mpsc::unbounded_channel::<StepEvent>();
        let scratch = self.dir.scratch().join(format!("wf{}_al{}", self.workflow, self.allocation));
        let report = Arc::new(move |event| drop(events.send(event)));
        let folders = LaunchFolders::new(scratch.clone(), report);
        let nodes = given_host()?;
        let config = LocalConfig::new(nodes.clone(), scratch, std::env::vars_os().collect());
        let local = Arc::new(LocalExecutor::start(config, folders.clone())?);
        let executor: Arc<dyn Executor> = match self.launcher {
            Some(launcher) => Arc::new(Launched::new(local.clone(), launcher, folders)),
            None => local.clone(),
        };
        let ends_at = now() + self.walltime;
        let winding = local.clone();
        let ended = work(WorkerParts {
            dir: self.dir,
            workflow: self.workflow,
            allocation: self.allocation,
            handle: AllocationHandle(handle),
            nodes,
            began_at: Some(now()),
            ends_at: Some(ends_at),
            executor,
            reports,
            on_node: None,
            release: None,
            wind_up: Box::new(move || Box::pin(async move { winding.wind_up().await })),
            tell_end: None,
            ask_end: Box::new(move || Box::pin(async move { Ok(Some(ends_at)) })),
            stop,
            patience: self.patience,
        })
        .await;
        local.shutdown().await;
        Ok(ended.map(drop)?)
    }
}

fn option<T: FromStr>(
    options: &BTreeMap<&str, &str>,
    name: &'static str,
) -> Result<T, EmbeddedWorkerError> {
    let value = options.get(name).and_then(|text| text.parse().ok());
    value.ok_or(EmbeddedWorkerError::Option(name))
}

fn launcher(text: &str) -> Result<Arc<dyn Launcher>, EmbeddedWorkerError> {
    let told: WorkerLauncher =
        serde_json::from_str(text).map_err(|_| EmbeddedWorkerError::Option("--launcher"))?;
    match told.launcher {
        LauncherSetting::Template { argv } => Ok(Arc::new(argv)),
        LauncherSetting::Plugin(name) => Err(EmbeddedWorkerError::Launcher(name)),
    }
}

/// Turns true when this process is asked to end, or has had its time.
fn stop(time: Duration) -> std::io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(time) => {}
        }
        let _ = stop.send(true);
        // The wish stands as long as the worker works.
        stop.closed().await;
    });
    Ok(stopped)
}

/// This host, as far as it is given.
fn given_host() -> Result<Vec<NodeInventory>, EmbeddedWorkerError> {
    let host = host::inventory()?;
    let cpus = match std::env::var(CPUS_VARIABLE) {
        Err(_) => None,
        Ok(text) => Some(text.parse().map_err(|_| EmbeddedWorkerError::Variable {
            name: CPUS_VARIABLE,
            found: format!("`{text}`"),
            wanted: "a number of CPUs",
        })?),
    };
    let each = PerNode { cpus: cpus.map(|cpus: u32| cpus.min(host.cpus())), ..PerNode::default() };
    Ok(host::pretend(&host, NonZeroU32::MIN, each)?)
}
