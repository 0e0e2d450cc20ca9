//! The worker of one node: runs what the leader of its crew says, until that says farewell.
//!
//! It decides nothing, and remembers nothing: what it reports is heard, or the connection is lost, and then all
//! that it runs is ended. Invariant: it returns only when its executor runs nothing any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::HeaderMap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use torc_core::traits::{Executor, ExecutorError, StepEvent};
use torc_core::wire::crew::{FromNode, ToNode};

use super::post::{Access, ROUTE};
use crate::action_command::ActionProcess;
use crate::link::channel::{Channel, Ended, Settings};
use crate::link::client::Client;

/// How long to try to reach the leader: less than it waits.
const REACHED_WITHIN: Duration = Duration::from_secs(120);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the last words may take to be heard.
const FAREWELL: Duration = Duration::from_secs(10);

type Link = Channel<ToNode, FromNode>;

/// Asks what runs in an executor to end, and returns when all has been reported. Whether the scheduler takes the
/// allocation away.
pub type NodeWindUp = Box<dyn FnOnce(bool) -> BoxFuture<'static, ()> + Send>;

/// What the worker of a node is made of.
pub struct NodeParts {
    /// How the leader is reached.
    pub access: Access,
    /// The node, as the scheduler calls it.
    pub node: Box<str>,
    /// How long to wait before the first attempt: all nodes begin at once.
    pub delay: Duration,
    /// What launches steps, and where its reports come from.
    pub executor: Arc<dyn Executor>,
    /// Its reports.
    pub reports: mpsc::UnboundedReceiver<StepEvent>,
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
    let NodeParts { access, node, delay, executor, mut reports, wind_up, mut stop } = parts;
    tokio::time::sleep(delay).await;
    let mut link = reach(&access, &node).await?;
    let mut commands = JoinSet::new();
    let told = loop {
        tokio::select! {
            // Slurm asks this process alone to end: its jobs have process groups of their own.
            () = asked_to_end(&mut stop) => break None,
            order = link.receiver.next() => match order.map_err(NodeError::Lost)? {
                ToNode::Launch(step) => executor.launch(*step).await?,
                ToNode::Signal(step, signal) => executor.signal(step, signal).await?,
                ToNode::RunCommand { number, text, output, env, working_dir } => {
                    let process = ActionProcess { text, env, working_dir, output };
                    commands.spawn(async move { (number, process.run_on_top().await) });
                }
                ToNode::WindUp { is_taken } => break Some(is_taken),
                ToNode::Refused { reason } => return Err(NodeError::Refused(reason)),
                ToNode::Welcome => {}
            },
            Some(report) = reports.recv() => tell(&link, &FromNode::Report(report)),
            Some(Ok((number, code))) = commands.join_next() => {
                tell(&link, &FromNode::CommandEnded(number, code));
            }
        }
    };
    let mut ending = wind_up(told.unwrap_or(true));
    loop {
        tokio::select! {
            () = &mut ending => break,
            Some(report) = reports.recv() => tell(&link, &FromNode::Report(report)),
            // One that does not end when it is asked to may have to be killed.
            order = link.receiver.next() => {
                if let ToNode::Signal(step, signal) = order.map_err(NodeError::Lost)? {
                    executor.signal(step, signal).await?;
                }
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
    Ok(if told.is_some() { NodeEnd::Left } else { NodeEnd::Stopped })
}

fn tell(link: &Link, what: &FromNode) {
    if let Err(error) = link.sender.send(what) {
        tracing::debug!(%error, "a report is not heard");
    }
}

/// Connects to the leader.
async fn reach(access: &Access, node: &str) -> Result<Link, NodeError> {
    let since = Instant::now();
    loop {
        let last = match enter(access, node).await {
            Ok(link) => return Ok(link),
            Err(reason) => reason,
        };
        let after = since.elapsed();
        if after >= REACHED_WITHIN {
            return Err(NodeError::Alone { after, last });
        }
        tracing::debug!(last, "the leader cannot be reached; tried again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn enter(access: &Access, node: &str) -> Result<Link, String> {
    let client = Client::connect(&access.remote).await.map_err(|error| error.to_string())?;
    let settings = Settings::default();
    let socket = client.websocket(ROUTE, HeaderMap::new(), &settings).await;
    let link = Link::over(socket.map_err(|error| error.to_string())?, settings);
    let hello = FromNode::Hello(node.into());
    link.sender.send(&hello).map_err(|error| error.to_string())?;
    Ok(link)
}

/// Returns when somebody asks this process to end.
async fn asked_to_end(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}
