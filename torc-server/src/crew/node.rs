//! The worker of one node: runs what the leader of its crew says, until that says farewell.
//!
//! It decides nothing, and remembers nothing: what it reports is heard, or the connection is lost, and then all
//! that it runs is ended. So it is, too, when this process hangs: while it is connected it renews a lease, without
//! which the keeper of its jobs ends them. Invariant: it returns only when its executor runs nothing any more.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::HeaderMap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use torc_core::resources::NodeInventory;
use torc_core::traits::{Executor, ExecutorError, StepEvent};
use torc_core::wire::crew::{FromNode, ToNode};

use super::post::{Access, ROUTE};
use crate::action_command::ActionProcess;
use crate::link::channel::{Channel, Ended, Sender, Settings};
use crate::link::client::Client;
use crate::stop::asked_to_end;

/// How long to try to reach the leader: less than it waits.
const REACHED_WITHIN: Duration = Duration::from_secs(120);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what runs may go on while this process does not renew the lease: less than the leader waits before it
/// gives the jobs to others ([`LEASE`](super::books::LEASE)).
const LEASE: Duration = Duration::from_secs(45);
/// How often it is renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(10);
/// How long the last words may take to be heard.
const FAREWELL: Duration = Duration::from_secs(10);

type Link = Channel<ToNode, FromNode>;

/// Asks what runs in an executor to end, and returns when all has been reported. Whether the scheduler takes the
/// allocation away.
pub type NodeWindUp = Box<dyn FnOnce(bool) -> BoxFuture<'static, ()> + Send>;

/// Has all that runs in an executor ended, however this process fares, unless it is called again within that time.
pub type NodeLease = Box<dyn Fn(Duration) + Send + Sync>;

/// Makes the whole environment of a command of what it sets itself.
pub type Surround = Box<dyn Fn(Vec<(String, String)>) -> Vec<(OsString, OsString)> + Send + Sync>;

/// What the worker of a node is made of.
pub struct NodeParts {
    /// How the leader is reached.
    pub access: Access,
    /// The node, as the scheduler calls it.
    pub node: Box<str>,
    /// What it has, where the leader was not told by the scheduler.
    pub has: Option<NodeInventory>,
    /// How long to wait before the first attempt: all nodes begin at once.
    pub delay: Duration,
    /// What launches steps, and where its reports come from.
    pub executor: Arc<dyn Executor>,
    /// Its reports.
    pub reports: mpsc::UnboundedReceiver<StepEvent>,
    /// How long it goes on.
    pub lease: NodeLease,
    /// What commands of actions find in their environment.
    pub surround: Surround,
    /// How it comes to its end.
    pub wind_up: NodeWindUp,
    /// Turns true when this process is asked to end.
    pub stop: watch::Receiver<bool>,
}

/// Why the worker of a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEnd {
    /// The leader said that there is nothing more to do.
    Left,
    /// Somebody asked this process to end.
    Stopped,
}

/// The worker of a node could not go on. What it ran must be ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nobody leads.
    #[error("the leader of the crew could not be reached within {} s: {last}", .after.as_secs())]
    Alone {
        /// How long it was tried.
        after: Duration,
        /// What happened last.
        last: String,
    },
    /// It is not wanted.
    #[error("the leader of the crew does not take this worker: {0}")]
    Refused(String),
    /// The connection was lost.
    #[error("the leader of the crew is gone: {0}")]
    Lost(Ended),
    /// Nothing can be launched any more.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// Works until there is nothing more to do; what ran has come to its end then.
///
/// # Errors
/// When it could not go on: what still runs is to be killed.
pub async fn work_on_node(parts: NodeParts) -> Result<NodeEnd, NodeError> {
    let NodeParts {
        access,
        node,
        has,
        delay,
        executor,
        mut reports,
        lease,
        surround,
        wind_up,
        mut stop,
    } = parts;
    tokio::time::sleep(delay).await;
    let hello = FromNode::Hello { node, has: has.map(Box::new) };
    let mut link = reach(&access, &hello).await?;
    let mut renewing = JoinSet::new();
    renewing.spawn(renew(lease, link.sender.clone()));
    let mut commands = JoinSet::new();
    let is_taken = loop {
        tokio::select! {
            // Slurm asks this process alone to end: its jobs have process groups of their own.
            () = asked_to_end(&mut stop) => break true,
            order = link.receiver.next() => match order.map_err(NodeError::Lost)? {
                ToNode::Launch(step) => executor.launch(*step).await?,
                ToNode::Signal(step, signal) => executor.signal(step, signal).await?,
                ToNode::RunCommand { number, text, output, env, working_dir } => {
                    let around = surround(env);
                    let process = ActionProcess { text, env: Vec::new(), working_dir, output };
                    commands.spawn(async move { (number, process.run_in(around).await) });
                }
                ToNode::Probe(step) => tell(&link, &FromNode::Present(step)),
                ToNode::WindUp => break false,
                ToNode::Welcome
                | ToNode::Refused { .. }
                | ToNode::HelperStarted { .. }
                | ToNode::HelperEnded(_) => {}
            },
            Some(report) = reports.recv() => tell(&link, &FromNode::Report(report)),
            Some(Ok((number, code))) = commands.join_next() => {
                tell(&link, &FromNode::CommandEnded(number, code));
            }
        }
    };
    let mut ending = wind_up(is_taken);
    loop {
        tokio::select! {
            () = &mut ending => break,
            Some(report) = reports.recv() => tell(&link, &FromNode::Report(report)),
            order = link.receiver.next() => match order.map_err(NodeError::Lost)? {
                // One that does not end when it is asked to may have to be killed.
                ToNode::Signal(step, signal) => executor.signal(step, signal).await?,
                ToNode::Probe(step) => tell(&link, &FromNode::Present(step)),
                _ => {}
            }
        }
    }
    reports.close();
    while let Some(report) = reports.recv().await {
        tell(&link, &FromNode::Report(report));
    }
    link.sender.close("all has ended here");
    let heard = async { while link.receiver.next().await.is_ok() {} };
    // The leader finds out by itself otherwise.
    let _ = tokio::time::timeout(FAREWELL, heard).await;
    Ok(if is_taken { NodeEnd::Stopped } else { NodeEnd::Left })
}

/// Renews the lease for as long as the connection lasts. A task of its own: a file system that does not answer may keep
/// the others waiting, who hear the leader all the same.
async fn renew(lease: NodeLease, link: Sender<FromNode>) {
    while !link.has_ended() {
        lease(LEASE);
        tokio::time::sleep(RENEWED_EVERY).await;
    }
}

fn tell(link: &Link, what: &FromNode) {
    if let Err(error) = link.sender.send(what) {
        tracing::debug!(%error, "a report is not heard");
    }
}

/// Connects to the leader, and is taken in.
async fn reach(access: &Access, hello: &FromNode) -> Result<Link, NodeError> {
    let since = Instant::now();
    loop {
        let last = match enter(access, hello).await {
            Ok(link) => return Ok(link),
            Err(Outside::ForGood(reason)) => return Err(NodeError::Refused(reason)),
            Err(Outside::Still(reason)) => reason,
        };
        let after = since.elapsed();
        if after >= REACHED_WITHIN {
            return Err(NodeError::Alone { after, last });
        }
        tracing::debug!(last, "the leader cannot be reached; tried again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why this worker is not taken in.
enum Outside {
    /// It is to be tried again.
    Still(String),
    ForGood(String),
}

impl<E: std::error::Error> From<E> for Outside {
    fn from(error: E) -> Self {
        Self::Still(error.to_string())
    }
}

async fn enter(access: &Access, hello: &FromNode) -> Result<Link, Outside> {
    let client = Client::connect(&access.remote).await?;
    let settings = Settings::default();
    let socket = client.websocket(ROUTE, HeaderMap::new(), &settings).await?;
    let mut link = Link::over(socket, settings);
    link.sender.send(hello)?;
    match link.receiver.next().await? {
        ToNode::Welcome => Ok(link),
        ToNode::Refused { reason, may_ask_again: true } => Err(Outside::Still(reason)),
        ToNode::Refused { reason, .. } => Err(Outside::ForGood(reason)),
        other => Err(Outside::Still(format!("the leader spoke before its welcome: {other:?}"))),
    }
}
