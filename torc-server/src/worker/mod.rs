//! The worker: runs the steps of one allocation for a server that it connects out to.
//!
//! It decides nothing: the server says what is launched and signalled. It keeps its steps running
//! whatever becomes of the connection, writes each end into a journal before it reports it, and forgets
//! it only when the server has made it durable. It ends when the server says so, when it is told to by
//! a signal, or when nothing runs and no server has been there for too long.

mod books;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::HeaderMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use torc_core::engine::ActionCommand;
use torc_core::ids::{AllocationId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, Executor, ExecutorError, StepEvent};
use torc_core::wire::PROTOCOL;
use torc_core::wire::link::{Hello, ToServer, ToWorker};

use crate::action_command::ActionProcess;
use crate::journal;
use crate::link::channel::{Channel, Ended, Sender, Settings};
use crate::link::client::Client;
use crate::state_dir::{Owner, StateDir};
use books::Books;

/// The first pause between two attempts to reach the server; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the end of the allocation is asked for: it can be extended.
const ASK_END_EVERY: Duration = Duration::from_secs(60);
/// How long the server has for its answer to a worker's first words.
const WELCOME_WITHIN: Duration = Duration::from_secs(60);

/// Asks when the allocation ends. `Err`: that is not known at the moment.
pub type AskEnd = Box<dyn Fn() -> BoxFuture<'static, Result<Option<Timestamp>, ()>> + Send + Sync>;

/// What a worker is made of.
pub struct WorkerParts {
    /// The server's state directory.
    pub dir: StateDir,
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its allocation.
    pub allocation: AllocationId,
    /// The scheduler's name for that.
    pub handle: AllocationHandle,
    /// The nodes.
    pub nodes: Vec<NodeInventory>,
    /// When the allocation ends.
    pub ends_at: Option<Timestamp>,
    /// What launches steps, and where its reports come from.
    pub executor: Arc<dyn Executor>,
    /// Its reports.
    pub reports: mpsc::UnboundedReceiver<StepEvent>,
    /// How the end is asked for again.
    pub ask_end: AskEnd,
    /// Turns true when this process is asked to end.
    pub stop: watch::Receiver<bool>,
    /// How long to go on without a server while nothing runs.
    pub patience: Duration,
}

/// Why a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// The server said that there is nothing more to do.
    Left(String),
    /// Somebody asked this process to end.
    Stopped,
}

/// A worker could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The journal cannot be used.
    #[error("cannot use the journal {path}: {source}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The server does not want it.
    #[error("the server does not take this worker: {0}")]
    Refused(String),
    /// No server for too long.
    #[error(
        "no server could be reached for {} s, and nothing runs here; what had ended is in the \
         journal. The last attempt: {last}", .after.as_secs()
    )]
    Alone {
        /// How long.
        after: Duration,
        /// What happened last.
        last: String,
    },
    /// Nothing can be launched any more.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// Works until there is nothing more to do. Whatever still runs then is ended by the executor's end.
///
/// # Errors
/// When it could not go on; the server learns it from the end of the allocation.
pub async fn work(parts: WorkerParts) -> Result<WorkerEnd, WorkerError> {
    let path = journal::path(parts.dir.path(), parts.workflow, parts.allocation);
    let failed = |source| WorkerError::Journal { path: path.clone(), source };
    let journal = journal::Journal::open(&path).map_err(failed)?;
    let (commands, command_ends) = mpsc::unbounded_channel();
    let mut worker = Worker {
        books: Books::new(journal),
        ends_at: parts.ends_at,
        parts,
        commands,
        command_ends,
        alone_since: Instant::now(),
    };
    loop {
        let mut channel = worker.connect().await?;
        match channel {
            Connection::Made(ref mut channel) => {
                if let Some(end) = worker.serve(channel).await? {
                    return Ok(end);
                }
                worker.alone_since = Instant::now();
            }
            Connection::Stopped => return Ok(WorkerEnd::Stopped),
        }
    }
}

type Link = Channel<ToWorker, ToServer>;

enum Connection {
    Made(Link),
    /// Somebody asked this process to end meanwhile.
    Stopped,
}

struct Worker {
    parts: WorkerParts,
    books: Books,
    ends_at: Option<Timestamp>,
    commands: mpsc::UnboundedSender<(ActionCommand, i32)>,
    command_ends: mpsc::UnboundedReceiver<(ActionCommand, i32)>,
    alone_since: Instant,
}

impl Worker {
    /// Tries to reach the server until it is there. What happens to steps meanwhile is written down.
    async fn connect(&mut self) -> Result<Connection, WorkerError> {
        let mut pause = FIRST_PAUSE;
        let mut stop = self.parts.stop.clone();
        loop {
            // All of it is in the first words.
            self.books.take_unsaid();
            let attempt = reach(self.parts.dir.clone(), self.hello());
            tokio::pin!(attempt);
            let failure = loop {
                tokio::select! {
                    outcome = &mut attempt => match outcome {
                        Ok(channel) => return Ok(Connection::Made(channel)),
                        Err(Unreached::Refused(reason)) => return Err(WorkerError::Refused(reason)),
                        Err(Unreached::Unknown(reason)) => break reason,
                    },
                    Some(report) = self.parts.reports.recv() => self.note(&report),
                    () = asked_to_end(&mut stop) => return Ok(Connection::Stopped),
                }
            };
            tracing::warn!(failure, "the server cannot be reached; tried again");
            let after = self.alone_since.elapsed();
            if after >= self.parts.patience && self.books.is_idle() {
                return Err(WorkerError::Alone { after, last: failure });
            }
            if self.pass(pause).await {
                return Ok(Connection::Stopped);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets time pass; whether somebody asked this process to end.
    async fn pass(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut stop = self.parts.stop.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                Some(report) = self.parts.reports.recv() => self.note(&report),
                () = asked_to_end(&mut stop) => return true,
            }
        }
    }

    fn note(&mut self, report: &StepEvent) {
        if let Err(error) = self.books.note(report) {
            tracing::error!(%error, "an end could not be written into the journal");
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: nix::unistd::gethostname()
                .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned()),
            workflow: self.parts.workflow,
            allocation: self.parts.allocation,
            handle: self.parts.handle.clone(),
            generation: self.books.generation(),
            nodes: self.parts.nodes.clone(),
            failed_nodes: self.books.failed_nodes(),
            ends_at: self.ends_at,
            running: self.books.running(),
            ended: self.books.ended().to_vec(),
        }
    }

    /// Does what the server says until the connection ends (`None`) or the work does.
    async fn serve(&mut self, channel: &mut Link) -> Result<Option<WorkerEnd>, WorkerError> {
        let mut stop = self.parts.stop.clone();
        let mut ticks = interval(ASK_END_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        // What happened between the first words and here is not in them.
        for report in self.books.take_unsaid() {
            say(&channel.sender, &ToServer::Report(report));
        }
        loop {
            tokio::select! {
                order = channel.receiver.next() => match order {
                    Ok(order) => {
                        if let Some(end) = self.obey(order).await? {
                            channel.sender.close("as told");
                            return Ok(Some(end));
                        }
                    }
                    Err(ended) => {
                        tracing::warn!(%ended, "the connection to the server is gone");
                        return Ok(None);
                    }
                },
                Some(report) = self.parts.reports.recv() => {
                    self.note(&report);
                    self.books.take_unsaid();
                    say(&channel.sender, &ToServer::Report(report));
                }
                Some((command, code)) = self.command_ends.recv() => {
                    self.books.end_command(command);
                    say(&channel.sender, &ToServer::CommandEnded(command, code));
                }
                _ = ticks.tick() => {
                    if let Ok(ends_at) = (self.parts.ask_end)().await
                        && ends_at != self.ends_at
                    {
                        self.ends_at = ends_at;
                        say(&channel.sender, &ToServer::EndMoved(ends_at));
                    }
                }
                () = asked_to_end(&mut stop) => {
                    channel.sender.close("the worker was asked to end");
                    return Ok(Some(WorkerEnd::Stopped));
                }
            }
        }
    }

    async fn obey(&mut self, order: ToWorker) -> Result<Option<WorkerEnd>, WorkerError> {
        match order {
            ToWorker::Welcome { generation } => self.books.welcome(generation),
            ToWorker::Refused { reason } => return Err(WorkerError::Refused(reason)),
            ToWorker::Launch(step) => {
                if self.books.launch(step.id) {
                    self.parts.executor.launch(*step).await?;
                }
            }
            ToWorker::Signal(step, signal) => self.parts.executor.signal(step, signal).await?,
            ToWorker::Acknowledged(steps) => {
                if let Err(error) = self.books.acknowledge(&steps) {
                    tracing::warn!(%error, "the journal could not be shortened");
                }
            }
            ToWorker::RunCommand { command, text, output, env, working_dir } => {
                if self.books.begin_command(command) {
                    let env = std::env::vars().chain(env).collect();
                    let process = ActionProcess { text, env, working_dir, output };
                    let ends = self.commands.clone();
                    tokio::spawn(async move {
                        let code = process.run().await;
                        let _ = ends.send((command, code));
                    });
                }
            }
            ToWorker::Leave { reason } => return Ok(Some(WorkerEnd::Left(reason))),
        }
        Ok(None)
    }
}

/// Returns when somebody asks this process to end.
async fn asked_to_end(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}

fn say(sender: &Sender<ToServer>, message: &ToServer) {
    // A connection that has ended is noticed where it is read.
    if let Err(error) = sender.send(message) {
        tracing::debug!(%error, "a report will be made after the next connection");
    }
}

/// Why there is no connection.
enum Unreached {
    /// The server is there, and will not have this worker.
    Refused(String),
    /// Nobody answered as a server does.
    Unknown(String),
}

/// Connects to the server that the access file names now, and is taken in.
async fn reach(dir: StateDir, hello: Hello) -> Result<Link, Unreached> {
    let unknown = |reason: String| Unreached::Unknown(reason);
    let owner = Owner::read(dir.path())
        .ok_or_else(|| unknown(format!("no server owns {}", dir.path().display())))?;
    let remote = owner.remote.clone().ok_or_else(|| unknown(format!("{owner} has no port")))?;
    let client = Client::connect(&remote).await.map_err(|error| unknown(error.to_string()))?;
    let settings = Settings::default();
    let socket = client.websocket("/v1/worker", HeaderMap::new(), &settings).await;
    let socket = socket.map_err(|error| unknown(error.to_string()))?;
    let mut channel = Link::over(socket, settings);
    say(&channel.sender, &ToServer::Hello(Box::new(hello)));
    let answer = tokio::time::timeout(WELCOME_WITHIN, channel.receiver.next()).await;
    match answer {
        Ok(Ok(ToWorker::Welcome { .. })) => Ok(channel),
        Ok(Ok(ToWorker::Refused { reason })) => Err(Unreached::Refused(reason)),
        Ok(Ok(_)) => Err(unknown("it spoke out of turn".to_owned())),
        Ok(Err(ended)) => Err(unknown(Ended::to_string(&ended))),
        Err(_) => Err(unknown("it did not answer the worker's first words".to_owned())),
    }
}
