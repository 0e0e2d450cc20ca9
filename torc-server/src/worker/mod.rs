//! The worker: runs the steps of one allocation for a server that it connects out to.
//!
//! It decides nothing: the server says what is launched and signalled. It keeps its steps running
//! whatever becomes of the connection, writes each end into a journal before it reports it, and forgets
//! it only when the server has made it durable. It ends when the server says so, when it is told to by
//! a signal, or when nothing runs and no server has been there for too long; never before what its steps
//! came to is written down.

mod books;
mod happenings;
mod parting;
mod reach;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use torc_core::engine::ActionCommand;
use torc_core::ids::{AllocationId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, Executor, ExecutorError, StepEvent};
use torc_core::wire::PROTOCOL;
use torc_core::wire::link::{Hello, Parting, ToServer, ToWorker};

pub use crate::action_command::ActionProcess;
use crate::journal;
use crate::state_dir::StateDir;
use books::{Begun, Books};
use happenings::{Happening, Happenings};
pub use parting::WindUp;
use reach::{Link, Unreached, reach, say};

/// The first pause between two attempts to reach the server; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Asks when the allocation ends. `Err`: that is not known at the moment.
pub type AskEnd = Box<dyn Fn() -> BoxFuture<'static, Result<Option<Timestamp>, ()>> + Send + Sync>;

/// Tells whoever ends what runs in time that the allocation ends then.
pub type TellEnd = Box<dyn Fn(Timestamp) + Send + Sync>;

/// Runs a command on a node. Its exit code; 128 + n after signal n. `None`: the node's worker is lost.
pub type OnNode = Box<dyn Fn(&str, ActionProcess) -> BoxFuture<'static, Option<i32>> + Send + Sync>;

/// Has the worker of a node of the allocation end before the others.
pub type Release = Box<dyn Fn(&str, Parting) + Send + Sync>;

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
    /// When the allocation began.
    pub began_at: Option<Timestamp>,
    /// When the allocation ends.
    pub ends_at: Option<Timestamp>,
    /// What launches steps, and where its reports come from.
    pub executor: Arc<dyn Executor>,
    /// Its reports.
    pub reports: mpsc::UnboundedReceiver<StepEvent>,
    /// How commands are run on one of the nodes; `None`: this process is on the only one.
    pub on_node: Option<OnNode>,
    /// How the worker of a node is ended before the others; `None`: nodes have no workers of their own.
    pub release: Option<Release>,
    /// How it comes to its end, done at the end of the work.
    pub wind_up: WindUp,
    /// How the end is asked for again.
    pub ask_end: AskEnd,
    /// Where the end goes to that the server knows; `None`: it need not tell.
    pub tell_end: Option<TellEnd>,
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

/// Works until there is nothing more to do. The executor has ended then.
///
/// # Errors
/// When it could not go on; the server learns it from the end of the allocation.
pub async fn work(parts: WorkerParts) -> Result<WorkerEnd, WorkerError> {
    let path = journal::path(parts.dir.path(), parts.workflow, parts.allocation);
    let failed = |source| WorkerError::Journal { path: path.clone(), source };
    let journal = journal::Journal::open(&path).map_err(failed)?;
    let (commands, command_ends) = mpsc::unbounded_channel();
    let WorkerParts { reports, stop, ask_end, wind_up, .. } = parts;
    let mut worker = Worker {
        books: Books::new(journal),
        happenings: Happenings::new(reports, command_ends, stop, ask_end),
        me: Me {
            dir: parts.dir,
            workflow: parts.workflow,
            allocation: parts.allocation,
            handle: parts.handle,
            nodes: parts.nodes,
            began_at: parts.began_at,
        },
        ends_at: parts.ends_at,
        executor: parts.executor,
        on_node: parts.on_node,
        release: parts.release,
        tell_end: parts.tell_end,
        patience: parts.patience,
        commands,
        unsaid: Vec::new(),
        alone_since: Instant::now(),
    };
    let mut link = None;
    let ended = worker.go_on(&mut link).await;
    worker.part(link, wind_up, &ended).await;
    ended
}

/// Who this worker is.
struct Me {
    dir: StateDir,
    workflow: WorkflowId,
    allocation: AllocationId,
    handle: AllocationHandle,
    nodes: Vec<NodeInventory>,
    began_at: Option<Timestamp>,
}

struct Worker {
    me: Me,
    books: Books,
    happenings: Happenings,
    ends_at: Option<Timestamp>,
    executor: Arc<dyn Executor>,
    on_node: Option<OnNode>,
    release: Option<Release>,
    tell_end: Option<TellEnd>,
    patience: Duration,
    /// Where the ends of commands go to.
    commands: mpsc::UnboundedSender<(ActionCommand, Option<i32>)>,
    /// What happened since the first words of the attempt to connect that is under way.
    unsaid: Vec<ToServer>,
    alone_since: Instant,
}

impl Worker {
    /// Works until there is a reason to end. The connection that there is then is left in `link`.
    async fn go_on(&mut self, link: &mut Option<Link>) -> Result<WorkerEnd, WorkerError> {
        loop {
            *link = None;
            let Some(made) = self.connect().await? else { return Ok(WorkerEnd::Stopped) };
            if let Some(end) = self.serve(link.insert(made)).await? {
                return Ok(end);
            }
            self.alone_since = Instant::now();
        }
    }

    /// Tries to reach the server until it is there; `None`: somebody asked this process to end
    /// meanwhile. What happens meanwhile is written down.
    async fn connect(&mut self) -> Result<Option<Link>, WorkerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            // All of it is in the first words.
            self.unsaid.clear();
            let attempt = reach(self.me.dir.clone(), self.hello());
            let failure = match self.meanwhile(attempt).await {
                None => return Ok(None),
                Some(Ok((link, generation))) => {
                    self.books.welcome(generation);
                    return Ok(Some(link));
                }
                Some(Err(Unreached::Refused(reason))) => return Err(WorkerError::Refused(reason)),
                Some(Err(Unreached::Unknown(reason))) => reason,
            };
            tracing::warn!(failure, "the server cannot be reached; tried again");
            let after = self.alone_since.elapsed();
            if after >= self.patience && self.books.is_idle() {
                return Err(WorkerError::Alone { after, last: failure });
            }
            if self.meanwhile(tokio::time::sleep(pause)).await.is_none() {
                return Ok(None);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Does this while nobody is connected; `None`: somebody asked this process to end before.
    async fn meanwhile<T>(&mut self, task: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(task);
        loop {
            tokio::select! {
                done = &mut task => return Some(done),
                happening = self.happenings.next() => match happening {
                    Happening::AskedToEnd => return None,
                    other => {
                        let message = self.note(other);
                        self.unsaid.extend(message);
                    }
                },
            }
        }
    }

    /// Takes note of what happened. What the server is to be told of it, if it is there.
    fn note(&mut self, happening: Happening) -> Option<ToServer> {
        match happening {
            Happening::Reported(report) => {
                if let Err(error) = self.books.note(&report) {
                    tracing::error!(%error, "an end could not be written into the journal");
                }
                Some(ToServer::Report(report))
            }
            Happening::CommandEnded(command, Some(code)) => {
                self.books.end_command(command, code);
                Some(ToServer::CommandEnded(command, code))
            }
            // The server has another run it, since the node is down.
            Happening::CommandEnded(command, None) => {
                self.books.forget_command(command);
                None
            }
            Happening::EndKnown(ends_at) => {
                let is_news = ends_at != self.ends_at;
                self.ends_at = ends_at;
                is_news.then_some(ToServer::EndMoved(ends_at))
            }
            Happening::AskedToEnd => None,
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: nix::unistd::gethostname()
                .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned()),
            workflow: self.me.workflow,
            allocation: self.me.allocation,
            handle: self.me.handle.clone(),
            generation: self.books.generation(),
            nodes: self.me.nodes.clone(),
            node_states: self.books.node_states(),
            began_at: self.me.began_at,
            ends_at: self.ends_at,
            running: self.books.running(),
            ended: self.books.ended().to_vec(),
        }
    }

    /// Does what the server says until the connection ends (`None`) or the work does.
    async fn serve(&mut self, link: &mut Link) -> Result<Option<WorkerEnd>, WorkerError> {
        // What happened between the first words and here is not in them.
        for message in self.unsaid.drain(..) {
            say(&link.sender, &message);
        }
        loop {
            tokio::select! {
                order = link.receiver.next() => match order {
                    Ok(order) => {
                        if let Some(end) = self.obey(order, link).await? {
                            return Ok(Some(end));
                        }
                    }
                    Err(ended) => {
                        tracing::warn!(%ended, "the connection to the server is gone");
                        return Ok(None);
                    }
                },
                happening = self.happenings.next() => {
                    if happening == Happening::AskedToEnd {
                        return Ok(Some(WorkerEnd::Stopped));
                    }
                    if let Some(message) = self.note(happening) {
                        say(&link.sender, &message);
                    }
                }
            }
        }
    }

    async fn obey(
        &mut self,
        order: ToWorker,
        link: &Link,
    ) -> Result<Option<WorkerEnd>, WorkerError> {
        match order {
            ToWorker::Welcome { generation } => self.books.welcome(generation),
            ToWorker::Refused { reason } => return Err(WorkerError::Refused(reason)),
            ToWorker::Launch(step) => {
                if self.books.launch(step.id) {
                    self.executor.launch(*step).await?;
                }
            }
            ToWorker::Signal(step, signal) => self.executor.signal(step, signal).await?,
            ToWorker::Acknowledged(steps) => {
                if let Err(error) = self.books.acknowledge(&steps) {
                    tracing::warn!(%error, "the journal could not be shortened");
                }
            }
            ToWorker::RunCommand { command, text, output, env, working_dir, node } => {
                match self.books.begin_command(command) {
                    Begun::Now => {
                        let process = ActionProcess { text, env, working_dir, output };
                        self.run(command, process, node.as_deref());
                    }
                    Begun::Before => {}
                    Begun::Ended(code) => say(&link.sender, &ToServer::CommandEnded(command, code)),
                }
            }
            ToWorker::ReleaseNode { node, parting } => {
                if let Some(release) = &self.release {
                    release(&node, parting);
                }
            }
            ToWorker::EndsAt(at) => {
                if let Some(tell) = &self.tell_end {
                    self.ends_at = Some(at);
                    tell(at);
                }
            }
            ToWorker::Leave { reason } => return Ok(Some(WorkerEnd::Left(reason))),
        }
        Ok(None)
    }

    /// Runs a command: on this node of a crew, or here.
    fn run(&self, command: ActionCommand, process: ActionProcess, node: Option<&str>) {
        let ends = self.commands.clone();
        let end = match (&self.on_node, node) {
            (Some(on_node), Some(node)) => on_node(node, process),
            _ => Box::pin(async move { Some(process.run_on_top().await) }),
        };
        tokio::spawn(async move {
            let code = end.await;
            let _ = ends.send((command, code));
        });
    }
}

#[cfg(test)]
mod tests;
